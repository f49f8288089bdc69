"""Estimators with the parameters of SciKeras, with all own code in ``__main__``."""

import copy
import pickle
import sys
from pathlib import Path

import joblib
import keras
import numpy as np
from joblib import parallel_config
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import importable
import keras_reduce
import tutorials
from checks import check, main, raises
from keras_reduce.errors import EstimatorError
from keras_reduce.scikeras import BaseWrapper, KerasClassifier, KerasRegressor

# Models of one architecture share traces, which is cheaper than computing eagerly.
keras_reduce.install()
rng = np.random.default_rng(0)
X = rng.normal(size=(40, 4))
Y = X @ [1.0, -2.0, 0.5, 0.0]
LABELS = np.array(["a", "b", "c"])[np.digitize(Y, [-1, 1])]


def build(units=4, dropout=0.3, meta=None):
    layers = [keras.Input((4,)), keras.layers.Dense(units, "relu"), keras.layers.Dropout(dropout)]
    is_classifier = "n_classes_" in meta
    last = (meta["n_classes_"], "softmax") if is_classifier else (1,)
    return keras.Sequential([*layers, keras.layers.Dense(*last)])


def regressor(**parameters):
    return KerasRegressor(
        build, **{"loss": "mse", "optimizer": "adam", "random_state": 0, "verbose": 0, **parameters}
    )


def classifier(**parameters):
    loss = "sparse_categorical_crossentropy"
    return KerasClassifier(build, **{"loss": loss, "random_state": 0, "verbose": 0, **parameters})


def weights(estimator):
    return b"".join(each.tobytes() for each in estimator.model_.get_weights())


class Halved(keras.losses.Loss):
    def __init__(self, factor=0.5, name="halved"):
        super().__init__(name=name)
        self.factor = factor

    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_true - y_pred)) * self.factor


class Notes(keras.callbacks.Callback):
    def __init__(self, text="", *, calls=None):
        super().__init__()
        self.text, self.calls = text, [] if calls is None else calls

    def on_train_begin(self, logs=None):
        self.calls.append("fit")

    def on_predict_begin(self, logs=None):
        self.calls.append("predict")


# --- parameters --------------------------------------------------------------------------------


@check
def routed_parameters_are_parameters():
    estimator = regressor(model__units=3, units=2, fit__epochs=2, optimizer__learning_rate=0.1)
    parameters = estimator.get_params()
    assert parameters["model__units"] == estimator.model__units == 3
    assert parameters["optimizer__learning_rate"] == 0.1
    assert {"epochs", "loss", "metrics", "callbacks", "warm_start"} <= parameters.keys()
    twin = clone(estimator)
    assert twin.get_params() == parameters
    twin.set_params(model__units=5, loss__delta=2.0, epochs=4, dropout=0.1, validation_freq=2)
    assert (twin.model__units, twin.loss__delta, twin.epochs) == (5, 2.0, 4)
    assert estimator.get_params() == parameters
    assert repr(twin).startswith("KerasRegressor(")
    pipeline = make_pipeline(StandardScaler(), estimator)
    pipeline.set_params(kerasregressor__model__units=7)
    assert estimator.fit(X, Y).model_.layers[0].units == 7


@check
def parameters_that_nothing_takes():
    estimator = regressor()
    before = estimator.get_params()
    with raises(EstimatorError, "Invalid parameter epoch", "did you mean epochs?"):
        estimator.set_params(units=3, epoch=2)
    assert estimator.get_params() == before
    with raises(
        EstimatorError, "width is not a legal parameter", "build got an unexpected keyword"
    ):
        regressor(model__width=2).fit(X, Y)
    with raises(EstimatorError, "does not accept parameters because it's not a class", "delta"):
        regressor(loss=lambda y, p: p, loss__delta=1.0).fit(X, Y)
    with raises(EstimatorError, "There is nothing to build a model with", "model is 3"):
        KerasRegressor(3).fit(X, Y)
    with raises(EstimatorError, "provide an optimizer"):
        regressor(optimizer=None).fit(X, Y)
    with raises(EstimatorError, "no loss for any of its outputs"):
        regressor(loss=[None]).fit(X, Y)
    with raises(EstimatorError, "is not a callback"):
        regressor(callbacks=[print]).fit(X, Y)
    with raises(ValueError, "requires y to be passed"):
        regressor().fit(X, None)
    with raises(NotFittedError):
        regressor().predict(X)


@check
def classes_with_constructors_of_their_own():
    class Closed(KerasRegressor):
        def __init__(self, units=3):
            super().__init__(loss="mse", verbose=0)
            self.units = units

        def _keras_build_fn(self, meta):
            assert self.n_features_in_ == meta["n_features_in_"]
            return build(self.units, meta=meta)

    class Open(KerasRegressor):
        def __init__(self, model=None, side=1, optimizer="sgd", **kwargs):
            super().__init__(model, **kwargs)
            self.side = side
            self.optimizer = optimizer

    estimator = clone(Closed(units=2).set_params(units=5))
    assert estimator.get_params() == {"units": 5}
    assert estimator.fit(X, Y).model_.layers[0].units == 5
    estimator = clone(Open(build, side=2, loss="mse", model__units=2, verbose=0))
    assert (estimator.side, estimator.get_params()["model__units"]) == (2, 2)
    assert type(estimator.fit(X, Y).model_.optimizer) is keras.optimizers.SGD
    estimator = Closed()
    estimator.model = build
    with raises(EstimatorError, "two ways to build"):
        estimator.fit(X, Y)


@check
def names_classes_and_instances():
    expected = weights(regressor(optimizer__learning_rate=0.1).fit(X, Y))
    adam, losses = keras.optimizers.Adam, keras.losses
    for parameters in (
        {"optimizer": adam, "optimizer__learning_rate": 0.1},
        {"optimizer": adam(0.1)},
        {"optimizer": "Adam", "optimizer__learning_rate": 0.1},
        {"optimizer": adam(0.1), "loss": losses.MeanSquaredError},
        {"optimizer": adam(0.1), "loss": losses.MeanSquaredError()},
        {"optimizer": adam(0.1), "loss": losses.mean_squared_error},
        {"optimizer": adam(0.1), "loss": [losses.MeanSquaredError], "loss__name": "mine"},
        {"optimizer": adam(0.1), "metrics": "mae"},
    ):
        estimator = regressor(**parameters)
        assert weights(estimator.fit(X, Y)) == expected, parameters
        # The parameters are as they were: a second fit has the same result.
        assert weights(estimator.fit(X, Y)) == expected, parameters
    deltas = [
        weights(regressor(loss=loss, loss__delta=0.1).fit(X, Y))
        for loss in ("huber", "Huber", losses.Huber)
    ]
    assert deltas[0] == deltas[1] == deltas[2]
    assert deltas[0] == weights(regressor(loss=losses.Huber(0.1)).fit(X, Y))
    schedule = keras.optimizers.schedules.ExponentialDecay
    nested = regressor(
        optimizer__learning_rate=schedule,
        optimizer__learning_rate__initial_learning_rate=0.1,
        optimizer__learning_rate__decay_steps=1,
        optimizer__learning_rate__decay_rate=0.5,
    )
    given = regressor(optimizer=adam(schedule(0.1, 1, 0.5)))
    assert weights(nested.fit(X, Y)) == weights(given.fit(X, Y))


@check
def metrics_and_their_names():
    metric = keras.metrics.MeanAbsoluteError
    for metrics, expected in (
        ("mae", "mean_absolute_error"),
        (["mae"], "mean_absolute_error"),
        (metric, "mean_absolute_error"),
        (metric(name="mine"), "mine"),
        ([keras.metrics.RootMeanSquaredError], "root_mean_squared_error"),
    ):
        estimator = regressor(metrics=metrics, validation_split=0.1, epochs=2).fit(X, Y)
        assert {"loss", "val_loss", expected} <= estimator.history_.keys(), estimator.history_
        assert len(estimator.history_[expected]) == 2
    estimator = regressor(metrics=[metric, metric], metrics__0__name="first", metrics__name="other")
    assert {"first", "other"} <= estimator.fit(X, Y).history_.keys()
    assert "accuracy" in classifier(metrics=["accuracy"]).fit(X, LABELS).history_


@check
def build_functions_that_compile():
    def compiled(compile_kwargs, params, meta):
        assert params["loss"] == "mse"
        model = build(meta=meta)
        model.compile(**compile_kwargs)
        return model

    def own_loss():
        model = build(meta={})
        model.compile("sgd", "mae")
        return model

    def anything(**kwargs):
        assert list(kwargs) == ["size", "meta", "compile_kwargs", "params"]
        return build(meta=kwargs["meta"])

    expected = weights(regressor().fit(X, Y))
    assert weights(regressor().set_params(model=compiled).fit(X, Y)) == expected
    assert weights(regressor(size=1).set_params(model=anything).fit(X, Y)) == expected
    with raises(EstimatorError, "loss is mean_squared_error", "compiled with mean_absolute_error"):
        KerasRegressor(own_loss, loss="mse").fit(X, Y)
    assert KerasRegressor(own_loss, verbose=0).fit(X, Y).model_.loss == "mae"
    with raises(EstimatorError, "returned None"):
        KerasRegressor(lambda: None, loss="mse").fit(X, Y)


@check
def meta_describes_the_data():
    seen = {}

    def watching(meta):
        seen.update(meta)
        return build(meta=meta)

    common = {
        "X_dtype_",
        "X_shape_",
        "feature_encoder_",
        "n_features_in_",
        "n_outputs_",
        "n_outputs_expected_",
        "target_encoder_",
        "target_type_",
        "y_dtype_",
        "y_ndim_",
    }
    KerasRegressor(watching, loss="mse", verbose=0).fit(X, Y)
    assert seen.keys() == common
    assert (seen["X_shape_"], seen["target_type_"]) == ((40, 4), "continuous")
    seen.clear()
    classifier().set_params(model=watching).fit(X, LABELS)
    assert seen.keys() == common | {"classes_", "n_classes_"}
    assert seen["classes_"].tolist() == ["a", "b", "c"]


# --- callbacks -----------------------------------------------------------------------------------


@check
def callbacks_in_every_form():
    for value, prefix in (
        (Notes, "callbacks"),
        ([Notes], "callbacks__0"),
        ({"notes": Notes}, "callbacks__notes"),
        ({"notes": [Notes]}, "callbacks__notes__0"),
    ):
        calls = []
        given = {"callbacks": value, f"{prefix}__0": "text", f"{prefix}__calls": calls}
        estimator = regressor(**given)
        estimator.fit(X, Y)
        assert calls == ["fit"]
    shared, of_fit, of_predict = Notes(), Notes(), Notes()
    estimator = regressor(callbacks=shared, fit__callbacks=of_fit, predict__callbacks=[of_predict])
    estimator.fit(X, Y).predict(X)
    # They are the given ones, so a program can read what they have noted.
    assert [each.calls for each in (shared, of_fit, of_predict)] == [
        ["fit", "predict"],
        ["fit"],
        ["predict"],
    ]
    twin = clone(estimator)
    assert twin.callbacks is not shared
    assert twin.callbacks.model is None
    twin.fit(X, Y)
    assert shared.calls == ["fit", "predict"]
    mine = Notes()
    estimator.fit(X, Y, callbacks=[mine])
    assert mine.calls == ["fit"]


@check
def early_stopping_with_routed_patience():
    stop = keras.callbacks.EarlyStopping
    for patience in (1, 2):
        estimator = regressor(
            epochs=9,
            callbacks=[stop],
            callbacks__0__monitor="loss",
            callbacks__0__min_delta=1e9,
            callbacks__0__patience=patience,
        )
        for _ in range(2):
            assert estimator.fit(X, Y).current_epoch == patience + 1


# --- training further ------------------------------------------------------------------------


@check
def partial_fit_is_one_epoch_of_fit():
    for make, targets in ((regressor, Y), (classifier, LABELS)):
        first = make().partial_fit(X, targets)
        assert weights(first) == weights(make(epochs=1).fit(X, targets))
        for_three = make(epochs=3, shuffle=False).fit(X, targets)
        one_by_one = make(shuffle=False, epochs=5)
        for epoch in range(3):
            assert one_by_one.current_epoch == epoch
            assert one_by_one.partial_fit(X, targets) is one_by_one
            # A round trip in between changes nothing.
            one_by_one = pickle.loads(pickle.dumps(one_by_one))
        assert weights(one_by_one) == weights(for_three)
        assert one_by_one.history_ == for_three.history_
        # And what Keras does by itself with the model.
        native = copy.deepcopy(for_three)
        inputs, encoded = (
            native.feature_encoder_.transform(X),
            native._encode(native.model_, native._targets(targets)),
        )
        keras.utils.set_random_seed(3)
        native.model_.fit(inputs, encoded, initial_epoch=3, epochs=4, verbose=0)
        assert weights(native) == weights(
            for_three.set_params(shuffle=True).partial_fit(X, targets)
        )
    with raises(EstimatorError, "Invalid argument epochs of partial_fit"):
        first.partial_fit(X, LABELS, epochs=2)


@check
def partial_fit_of_estimators_with_parameters_by_name():
    def compiled(dropout=0.3):
        model = build(dropout=dropout, meta={})
        model.compile("adam", "mse")
        return model

    def make(**parameters):
        return keras_reduce.KerasRegressor(compiled, random_state=0, **parameters)

    assert weights(make().partial_fit(X, Y)) == weights(make(epochs=1).fit(X, Y))
    one_by_one = make(shuffle=False)
    for epoch in range(3):
        one_by_one.partial_fit(X, Y)
        assert one_by_one.history_.epoch == [epoch]
    assert weights(one_by_one) == weights(make(shuffle=False, epochs=3).fit(X, Y))


@check
def partial_fit_with_labels_that_come_later():
    some = LABELS != "c"
    by_prefix = classifier().partial_fit(X[some], LABELS[some], classes=["a", "b", "c"])

    def compiled(meta):
        model = build(meta=meta)
        model.compile("adam", "sparse_categorical_crossentropy")
        return model

    by_name = keras_reduce.KerasClassifier(compiled)
    by_name.partial_fit(X[some], LABELS[some], classes=["a", "b", "c"])
    for estimator in (by_prefix, by_name):
        assert estimator.classes_.tolist() == ["a", "b", "c"]
        estimator.partial_fit(X, LABELS)
        assert estimator.predict_proba(X).shape == (40, 3)
        assert estimator.fit(X[some], LABELS[some]).classes_.tolist() == ["a", "b"]


@check
def warm_start():
    estimator = regressor(epochs=2, warm_start=True, shuffle=False)
    estimator.fit(X, Y)
    model, after_two = estimator.model_, weights(estimator)
    estimator.fit(X, Y)
    assert estimator.model_ is model
    assert estimator.current_epoch == 2
    assert weights(estimator) == weights(regressor(epochs=4, shuffle=False).fit(X, Y))
    estimator.set_params(warm_start=False).fit(X, Y)
    assert estimator.model_ is not model
    assert weights(estimator) == after_two
    estimator.set_params(fit__epochs=3).fit(X, Y)
    assert estimator.current_epoch == 3
    assert estimator.fit(X, Y, epochs=1).current_epoch == 1


@check
def random_states():
    expected = weights(regressor().fit(X, Y))
    state = np.random.RandomState(3)
    assert weights(regressor().fit(X, Y)) == expected
    assert weights(regressor(random_state=1).fit(X, Y)) != expected
    estimator = regressor(random_state=state)
    assert weights(estimator.fit(X, Y)) == weights(estimator.fit(X, Y))
    without = regressor(random_state=None)
    assert weights(without.fit(X, Y)) != weights(without.fit(X, Y))


# --- models that are given -------------------------------------------------------------------


@check
def a_model_that_is_given():
    given = build(dropout=0.0, meta={})
    given.compile(keras.optimizers.Adam(0.1), "mse")
    given.fit(X, Y, verbose=0)
    as_given = b"".join(each.tobytes() for each in given.get_weights())
    answers = given.predict(X, verbose=0)[:, 0]
    # It is taken as it is for predictions.
    ready = KerasRegressor(given, verbose=0).initialize(X, Y)
    assert ready.model_ is given
    assert ready.predict(X).tobytes() == answers.tobytes()
    # Each fit trains a copy, from its weights and the state of its optimizer.
    estimator = KerasRegressor(given, verbose=0, shuffle=False)
    trained = weights(estimator.fit(X, Y))
    assert estimator.model_ is not given
    assert b"".join(each.tobytes() for each in given.get_weights()) == as_given != trained
    for other in (estimator, clone(estimator), pickle.loads(pickle.dumps(estimator))):
        assert weights(other.fit(X, Y)) == trained
    scores = [
        cross_val_score(each, X, Y, cv=2, error_score="raise")
        for each in (estimator, KerasRegressor(given, verbose=0, shuffle=False))
    ]
    assert scores[0].tobytes() == scores[1].tobytes()
    # What Keras does with the model itself is the same, and so does `partial_fit`.
    ready.set_params(shuffle=False).partial_fit(X, Y)
    assert weights(ready) == trained
    assert ready.model_ is given
    # A model that is not compiled.
    bare = build(dropout=0.0, meta={})
    assert KerasRegressor(bare, loss="mse", verbose=0).fit(X, Y).score(X, Y) <= 1
    with raises(EstimatorError, "units is not a legal parameter", "What to do: leave it out"):
        KerasRegressor(bare, loss="mse", model__units=2).fit(X, Y)


# --- data ----------------------------------------------------------------------------------------


@check
def labels_in_every_form():
    one_hot = np.eye(3)[np.searchsorted(["a", "b", "c"], LABELS)]
    sparse, categorical = "sparse_categorical_crossentropy", "categorical_crossentropy"
    expected = classifier(loss=categorical).fit(X, LABELS)
    assert expected.predict(X).dtype == LABELS.dtype
    assert expected.predict_proba(X).shape == (40, 3)
    rows = classifier(loss=categorical).fit(X, one_hot)
    assert weights(rows) == weights(expected)
    assert rows.predict(X).shape == (40, 3)
    assert rows.score(X, one_hot) == expected.score(X, LABELS)
    column = classifier(loss=sparse).fit(X, LABELS[:, None])
    assert column.predict(X).shape == (40, 1)

    def compiled(meta):
        model = build(meta=meta)
        model.compile("rmsprop", categorical)
        return model

    # The loss with which the build function has compiled the model counts as well.
    assert weights(classifier(loss=None).set_params(model=compiled).fit(X, LABELS)) == weights(
        expected
    )
    with raises(ValueError, "y has labels that fit has not seen: ['d']"):
        column.partial_fit(X[:1], [["d"]])
    with raises(EstimatorError, "y has 1 dimensions, but this estimator was fitted with 2"):
        column.partial_fit(X[:1], ["a"])
    with raises(EstimatorError, "Unknown label type: continuous"):
        classifier().fit(X, Y)


@check
def one_unit_and_logits():
    def one(units=1, activation="sigmoid"):
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, activation)])

    y = np.where(Y > 0, "yes", "no")
    estimator = KerasClassifier(one, loss="binary_crossentropy", random_state=0, verbose=0)
    probabilities = estimator.fit(X, y).predict_proba(X)
    assert probabilities.shape == (40, 2)
    assert set(estimator.predict(X)) <= {"no", "yes"}
    assert estimator.predict_proba(X[:1]).shape == (1, 2)
    logits = clone(estimator).set_params(model__activation=None, loss__from_logits=True).fit(X, y)
    assert np.allclose(logits.predict_proba(X).sum(axis=1), 1)
    raw = logits.model_.predict(X, verbose=0)[:, 0]
    assert np.array_equal(logits.predict(X) == "yes", raw > 0)
    with raises(EstimatorError, "1 output units for 3 classes"):
        KerasClassifier(one, loss="binary_crossentropy", verbose=0).fit(X, LABELS)


@check
def weights_of_samples_and_classes():
    sample_weight = np.where(LABELS == "a", 3.0, 1.0)
    expected = weights(classifier().fit(X, LABELS, sample_weight))
    assert expected != weights(classifier().fit(X, LABELS))
    for class_weight in ({"a": 3.0}, {0: 3.0}, {"a": 3.0, "b": 1.0, "c": 1.0}):
        assert weights(classifier(class_weight=class_weight).fit(X, LABELS)) == expected
    assert weights(classifier(class_weight="balanced").fit(X, LABELS)) != expected
    both = classifier(class_weight={"a": 6.0, "b": 2.0, "c": 2.0})
    assert weights(both.fit(X, LABELS, np.full(40, 0.5))) == expected
    few = np.arange(40) < 30
    left_out = regressor(shuffle=False).fit(X, Y, sample_weight=few.astype(float))
    kept = regressor(shuffle=False).fit(X[few], Y[few], sample_weight=np.ones(30))
    assert weights(left_out) == weights(kept)
    with raises(ValueError, "at least one non-zero"):
        regressor().fit(X, Y, sample_weight=np.zeros(40))


@check
def batch_sizes_of_all_samples():
    expected = weights(regressor(batch_size=40).fit(X, Y))
    assert weights(regressor(batch_size=-1).fit(X, Y)) == expected
    assert weights(regressor(fit__batch_size=-1, batch_size=7).fit(X, Y)) == expected
    regressor(predict__batch_size=-1).fit(X, Y).predict(X)


@check
def validation_data_is_encoded():
    given = classifier(fit__validation_data=(X, LABELS)).fit(X, LABELS)
    assert "val_loss" in given.history_
    assert "val_loss" in regressor().fit(X, Y, validation_data=(X, Y)).history_


@check
def options_of_the_score():
    columns = np.column_stack([Y, -2 * Y])

    def two():
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])

    estimator = KerasRegressor(two, loss="mse", verbose=0, score__multioutput="variance_weighted")
    score = estimator.fit(X, columns).score(X, columns)
    assert score != estimator.set_params(score__multioutput="uniform_average").score(X, columns)
    with raises(NotImplementedError, "scorer"):
        BaseWrapper(two, loss="mse", verbose=0).fit(X, columns).score(X, columns)
    with raises(EstimatorError, "predicts an array of shape (40, 2)"):
        KerasRegressor(two, loss="mse", verbose=0).initialize(X, Y).predict(X)


# --- in company ----------------------------------------------------------------------------------


def search(n_jobs):
    grid = {
        "kerasregressor__model__units": [2, 3],
        "kerasregressor__optimizer__learning_rate": [0.01, 0.1],
        "kerasregressor__loss__factor": [1.0],
        "kerasregressor__callbacks__stop__patience": [0],
        "kerasregressor__fit__epochs": [1, 2],
    }
    estimator = regressor(
        loss=Halved,
        callbacks={"stop": keras.callbacks.EarlyStopping, "notes": Notes()},
        callbacks__stop__monitor="loss",
        predict__batch_size=8,
        metrics=["mae"],
    )
    pipeline = make_pipeline(StandardScaler(), estimator)
    return GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs, error_score="raise")


@check
def a_search_over_two_workers():
    sequential = search(1).fit(X, Y)
    with parallel_config("keras"):
        parallel = search(2).fit(X, Y)
    name = "mean_test_score"
    assert parallel.cv_results_[name].tobytes() == sequential.cv_results_[name].tobytes()
    assert parallel.best_params_ == sequential.best_params_
    joblib.dump(parallel, FOLDER / "routed.joblib")
    np.save(FOLDER / "X.npy", X)
    np.save(FOLDER / "y.npy", Y)
    expected = {"predicted": parallel.predict(X)}
    best = parallel.best_estimator_[-1]
    scaled = parallel.best_estimator_[0].transform(X)
    (FOLDER / "trained_further").write_bytes(weights(best.partial_fit(scaled, Y)))
    np.savez(FOLDER / "expected.npz", **expected)


@check
def only_the_build_function_has_to_be_trusted():
    for kind, targets in ((KerasRegressor, Y), (KerasClassifier, Y > 0)):
        estimator = kind(importable.build, units=3, verbose=0, callbacks=keras.callbacks.History)
        data = keras_reduce.dumps(estimator.fit(X, targets))
        loaded = keras_reduce.loads(data, trusted=["importable.build"])
        assert loaded.predict(X).tobytes() == estimator.predict(X).tobytes()
        with raises(keras_reduce.UntrustedError, "importable.build"):
            keras_reduce.loads(data, trusted=[])


@check
def halving_over_epochs():
    halving = HalvingGridSearchCV(
        regressor(), {"model__units": [2, 3]}, resource="epochs", max_resources=2, factor=2, cv=2
    )
    assert halving.fit(X, Y).best_params_["epochs"] == 2


@check
def same_results_as_scikeras():
    from scikeras import wrappers

    for ours, theirs, targets, parameters in (
        (KerasRegressor, wrappers.KerasRegressor, Y, {"loss": "mse", "epochs": 2}),
        (
            KerasClassifier,
            wrappers.KerasClassifier,
            LABELS,
            {
                "loss": "sparse_categorical_crossentropy",
                "optimizer": "adam",
                "optimizer__learning_rate": 0.05,
                "class_weight": "balanced",
                "model__units": 3,
            },
        ),
        (KerasClassifier, wrappers.KerasClassifier, LABELS, {"loss": "categorical_crossentropy"}),
    ):
        predicted = []
        for kind in (ours, theirs):
            estimator = kind(build, random_state=0, verbose=0, **parameters)
            with tutorials.deterministic_operations():
                estimator.fit(X, targets, sample_weight=np.arange(40) % 3.0)
            predicted.append(estimator.model_.predict(X, verbose=0).tobytes())
        assert predicted[0] == predicted[1], parameters


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    main(*sys.argv[2:])
