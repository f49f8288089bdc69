"""Models with several outputs or inputs, in estimators with parameters by name."""

import sys
from pathlib import Path

import joblib
import keras
import numpy as np
import pandas as pd
from joblib import parallel_config
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import keras_reduce
from checks import check, main, raises
from keras_reduce.errors import EstimatorError

# Models of one architecture share traces, which is cheaper than computing eagerly.
keras_reduce.install()
rng = np.random.default_rng(0)
X = rng.normal(size=(40, 4)).astype("float32")
Y = np.column_stack([X[:, 0], X[:, 1] - 1, X[:, 2] * 2])
YES = np.where(X[:, 0] > 0, "yes", "no")
KINDS = np.array(["low", "mean", "high"])[np.digitize(X[:, 1], [-0.5, 0.5])]
BOTH = np.column_stack([YES, KINDS])
WEIGHTS = (np.arange(40) % 3).astype(float)


def dense(shapes, loss, form="list"):
    """Return a model with an output for each number of units."""
    inputs = keras.Input((4,))
    outputs = {
        name: keras.layers.Dense(units, activation, name=name)(inputs)
        for name, (units, activation) in shapes.items()
    }
    model = keras.Model(inputs, outputs if form == "dict" else list(outputs.values()))
    model.compile("sgd", loss)
    return model


def two_numbers(form="list", dropped=False):
    shapes = {"first": (1, None), "second": (1 if dropped else 2, None)}
    return dense(shapes, {"first": "mse", "second": "mae"} if form == "dict" else "mse", form)


def two_heads(form="list", logits=False):
    losses = keras.losses
    binary = losses.BinaryCrossentropy(from_logits=logits)
    shapes = {"one": (1, None if logits else "sigmoid"), "many": (3, "softmax")}
    categorical = "categorical_crossentropy"
    loss = {"one": binary, "many": categorical} if form == "dict" else [binary, categorical]
    return dense(shapes, loss, form)


def regressor(**parameters):
    return keras_reduce.KerasRegressor(two_numbers, random_state=0, **parameters)


def classifier(**parameters):
    return keras_reduce.KerasClassifier(two_heads, random_state=0, **parameters)


def weights(estimator):
    return weights_of(estimator.model_)


def weights_of(model):
    """Return the weights; Keras orders the layers of outputs in a dict by their names."""
    ordered = sorted(model.weights, key=lambda weight: weight.path)
    return b"".join(keras.ops.convert_to_numpy(each).tobytes() for each in ordered)


def split(columns):
    return [columns[:, :1], columns[:, 1:]]


@check
def numbers_for_several_outputs():
    for form in ("list", "dict"):
        whole = regressor(form=form, epochs=2).fit(X, Y)
        assert (whole.n_outputs_, whole.target_type_) == (3, "continuous-multioutput")
        predicted = whole.predict(X)
        assert predicted.shape == Y.shape
        raw = whole.model_.predict(X, verbose=0)
        raw = list(raw.values()) if form == "dict" else raw
        assert np.array_equal(predicted, np.column_stack(raw))
        assert whole.score(X, Y) == r2_score(Y, predicted)
        first, second = split(Y)
        # In another order, and a column as one dimension, or as a series.
        for y in ({"second": second, "first": pd.Series(first[:, 0])}, [first[:, 0], second]):
            parts = regressor(form=form, epochs=2).fit(X, y)
            assert weights(parts) == weights(whole)
            answers = parts.predict(X)
            assert type(answers) is type(y)
            answers = [answers["first"], answers["second"]] if type(y) is dict else answers
            assert [each.shape for each in answers] == [(40,), (40, 2)]
            expected = [r2_score(first, answers[0]), r2_score(second, answers[1])]
            assert np.isclose(parts.score(X, y), np.mean(expected))
            assert weights(parts.partial_fit(X, y)) == weights(
                clone(whole).fit(X, Y).partial_fit(X, Y)
            )
            whole.fit(X, Y)
    equal = regressor(dropped=True).fit(X, Y[:, :2])
    assert equal.predict(X).shape == (40, 2)
    assert equal.predict(X[:1]).shape == (1, 2)
    held_out = {"validation_data": (X, Y)}
    assert "val_first_loss" in regressor().fit(X, Y, **held_out).history_.history


@check
def what_native_keras_learns():
    whole = regressor(shuffle=False, epochs=2).fit(X, Y, WEIGHTS)
    keras.utils.set_random_seed(0)
    native = two_numbers()
    native.fit(X, split(Y), sample_weight=[WEIGHTS, WEIGHTS], shuffle=False, epochs=2, verbose=0)
    assert weights(whole) == weights_of(native)
    # Weights of one output; the other one has none.
    weighted = regressor(shuffle=False).fit(X, Y, [None, WEIGHTS])
    keras.utils.set_random_seed(0)
    native = two_numbers()
    native.fit(X, split(Y), sample_weight=[np.ones(40), WEIGHTS], shuffle=False, verbose=0)
    assert weights(weighted) == weights_of(native)


@check
def labels_for_several_outputs():
    whole = classifier(epochs=2).fit(X, BOTH)
    assert [each.tolist() for each in whole.classes_] == [["no", "yes"], ["high", "low", "mean"]]
    assert (whole.n_classes_, whole.target_type_) == ([2, 3], "multiclass-multioutput")
    predicted = whole.predict(X)
    assert predicted.shape == (40, 2)
    assert set(predicted[:, 0]) <= {"no", "yes"}
    probabilities = whole.predict_proba(X)
    assert [each.shape for each in probabilities] == [(40, 2), (40, 3)]
    assert all(np.allclose(each.sum(axis=1), 1) for each in probabilities)
    mean = np.mean([accuracy_score(BOTH[:, i], predicted[:, i]) for i in range(2)])
    assert np.isclose(whole.score(X, BOTH), mean)
    first = accuracy_score(YES, predicted[:, 0], sample_weight=WEIGHTS)
    second = accuracy_score(KINDS, predicted[:, 1], sample_weight=WEIGHTS)
    assert np.isclose(whole.score(X, BOTH, WEIGHTS), np.mean([first, second]))
    one_hot = np.eye(3)[np.searchsorted(["high", "low", "mean"], KINDS)]
    for y in ({"many": KINDS, "one": YES}, [YES, KINDS], {"one": YES, "many": one_hot}):
        parts = classifier(epochs=2, form="dict").fit(X, y)
        assert weights(parts) == weights(whole)
        answers, likely = parts.predict(X), parts.predict_proba(X)
        assert type(answers) is type(likely) is type(parts.classes_) is type(y)
        key = "many" if type(y) is dict else 1
        assert likely[key].tobytes() == probabilities[1].tobytes()
        assert np.isclose(parts.score(X, y), mean)
    # Labels that are numbers, of which the rows don't tell that they are labels of two outputs.
    numbers = np.column_stack([YES == "yes", YES == "no"]).astype(int)
    sigmoids = {"a": (1, "sigmoid"), "b": (1, "sigmoid")}
    binary = keras_reduce.KerasClassifier(lambda: dense(sigmoids, "binary_crossentropy"))
    assert [len(each) for each in binary.fit(X, numbers).classes_] == [2, 2]
    assert binary.predict(X).shape == (40, 2)
    assert [each.shape for each in binary.predict_proba(X)] == [(40, 2), (40, 2)]
    logits = classifier(logits=True).fit(X, BOTH)
    raw = logits.model_.predict(X, verbose=0)[0][:, 0]
    assert np.array_equal(logits.predict(X)[:, 0] == "yes", raw > 0)


@check
def class_weights_of_each_output():
    factors = np.array([2.0, 0.0, 1.0])[np.searchsorted(["high", "low", "mean"], KINDS)]
    expected = weights(classifier().fit(X, BOTH, [None, factors]))
    assert expected != weights(classifier().fit(X, BOTH))
    given = {"high": 2.0, "low": 0.0}
    assert weights(classifier(class_weight=[None, given]).fit(X, BOTH)) == expected
    as_dict = {"one": YES, "many": KINDS}
    by_name = classifier(class_weight={"one": None, "many": given})
    assert weights(by_name.fit(X, as_dict)) == expected
    both = classifier(class_weight=[None, given]).fit(X, BOTH, WEIGHTS)
    assert weights(both) == weights(classifier().fit(X, BOTH, [WEIGHTS, WEIGHTS * factors]))
    balanced = classifier(class_weight="balanced").fit(X, BOTH)
    each = classifier(class_weight=["balanced", "balanced"]).fit(X, BOTH)
    assert weights(balanced) == weights(each) != weights(classifier().fit(X, BOTH))
    with raises(EstimatorError, "class_weight is for high, low", "the model has 2 outputs"):
        classifier(class_weight=given).fit(X, BOTH)


@check
def rows_of_several_labels():
    several = np.column_stack([X[:, 0] > 0, X[:, 1] > 0, X[:, 0] > -1]).astype(int)

    def build(meta, activation="sigmoid", loss="binary_crossentropy"):
        assert meta["target_type_"] == "multilabel-indicator"
        model = keras.Sequential([keras.layers.Dense(meta["n_classes_"], activation)])
        model.compile("sgd", loss)
        return model

    estimator = keras_reduce.KerasClassifier(build, random_state=0).fit(X, several)
    assert estimator.classes_.tolist() == [0, 1, 2]
    likely = estimator.predict_proba(X)
    assert likely.shape == (40, 3)
    assert np.array_equal(estimator.predict(X), (likely > 0.5).astype(int))
    assert estimator.score(X, several) == accuracy_score(several, estimator.predict(X))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    logits = clone(estimator).set_params(activation=None, loss=loss).fit(X, several)
    assert np.array_equal(logits.predict(X), (logits.model_.predict(X, verbose=0) > 0).astype(int))
    weighted = clone(estimator).set_params(class_weight=[{1: 2.0}, None, {0: 3.0}])
    factors = np.where(several[:, 0], 2.0, 1.0) * np.where(several[:, 2], 1.0, 3.0)
    assert weights(weighted.fit(X, several)) == weights(clone(estimator).fit(X, several, factors))
    assert np.isfinite(cross_val_score(estimator, X, several, cv=2)).all()


@check
def targets_that_match_no_output():
    with raises(EstimatorError, "The model has 2 outputs, and y is an array of shape (40, 2)"):
        regressor().fit(X, Y[:, :2])
    with raises(EstimatorError, "the model has first, second, and y has first, third"):
        regressor().fit(X, {"first": Y[:, 0], "third": Y[:, 1:]})
    with raises(EstimatorError, "The model has 2 outputs, and y is an array of shape (40,)"):
        classifier().fit(X, YES)
    with raises(ValueError, "inconsistent numbers of samples"):
        regressor().fit(X, [Y[:, 0], Y[:30, 1:]])
    with raises(EstimatorError, "y has targets of the outputs 0, 1", "pass targets of the form"):
        regressor().fit(X, Y).partial_fit(X, split(Y))
    with raises(ValueError, "y has labels that fit has not seen: ['maybe']"):
        classifier().fit(X, BOTH).partial_fit(X, np.where(BOTH == "yes", "maybe", BOTH))
    # After a fit with targets of several outputs, targets of one are that again.
    estimator = regressor().fit(X, Y)
    estimator.set_params(build_fn=lambda: dense({"a": (1, None)}, "mse")).fit(X, Y[:, 0])
    assert estimator.predict(X).shape == (40,)


@check
def a_search_over_two_workers():
    for make, y in ((regressor, Y), (classifier, BOTH)):
        pipeline = make_pipeline(StandardScaler(), make())
        name = pipeline.steps[-1][0]
        scores = []
        for n_jobs in (1, 2):
            grid = {f"{name}__form": ["list", "dict"], f"{name}__epochs": [1, 2]}
            search = GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs, error_score="raise")
            with parallel_config("keras"):
                scores.append(search.fit(X, y).cv_results_["mean_test_score"].tobytes())
        assert scores[0] == scores[1]
        best = search.best_estimator_
        carried = keras_reduce.loads(keras_reduce.dumps(search)).best_estimator_
        assert carried.predict(X).tobytes() == best.predict(X).tobytes()
        expected = {"X": X, "y": y, "predicted": best.predict(X)}
        joblib.dump((best, expected), FOLDER / f"{name}.joblib")
        scaled = best[0].transform(X)
        expected["trained_further"] = weights(best[-1].partial_fit(scaled, y))
        joblib.dump(expected, FOLDER / f"{name}_expected.joblib")


def two_inputs():
    left, right = keras.Input((1,), name="left"), keras.Input((3,), name="right")
    outputs = keras.layers.Dense(1)(keras.layers.Concatenate()([left, right]))
    model = keras.Model([left, right], outputs)
    model.compile("sgd", "mse")
    return model


class Parts(TransformerMixin, BaseEstimator):
    """A transformer of an array or frame into two inputs."""

    def fit(self, X, y=None):  # noqa: N803
        self.fitted_ = True
        return self

    def transform(self, X):  # noqa: N803
        array = np.asarray(X)
        return {"left": array[:, :1], "right": array[:, 1:]}


class OfParts(keras_reduce.KerasRegressor):
    @property
    def feature_encoder(self):
        return Parts()


@check
def several_inputs():
    frame, target = pd.DataFrame(X, columns=list("abcd")), Y[:, 0]
    plain = keras_reduce.KerasRegressor(two_inputs, random_state=0, epochs=2)
    left, right = split(X)
    expected = clone(plain).fit([left, right], target).predict([left, right])
    named = {"left": left, "right": right}
    assert clone(plain).fit(named, target).predict(named).tobytes() == expected.tobytes()
    assert isinstance(plain.fit(named, target).score(named, target), float)
    # scikit-learn can't slice a dict: the estimator gets an array or frame, and a hook splits it.
    hooked = OfParts(two_inputs, random_state=0, epochs=2)
    for data in (X, frame):
        assert hooked.fit(data, target).predict(data).tobytes() == expected.tobytes()
    assert hooked.feature_names_in_.tolist() == list("abcd")
    with raises(ValueError, "feature names"):
        hooked.predict(frame[list("dcba")])
    assert hooked.fit(X, target, validation_data=(X, target)).history_.history["val_loss"]
    assert keras_reduce.loads(keras_reduce.dumps(hooked)).predict(X).tobytes() == expected.tobytes()
    piped = make_pipeline(FunctionTransformer(split), plain)
    for estimator, prefix in ((hooked, ""), (piped, "kerasregressor__")):
        scores = []
        for n_jobs in (1, 2):
            search = GridSearchCV(
                estimator, {f"{prefix}epochs": [1, 2]}, cv=2, n_jobs=n_jobs, error_score="raise"
            )
            with parallel_config("keras"):
                scores.append(search.fit(frame.to_numpy(), target).cv_results_["mean_test_score"])
        assert scores[0].tobytes() == scores[1].tobytes()


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    main(*sys.argv[2:])
