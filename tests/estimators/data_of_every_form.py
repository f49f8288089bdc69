"""Models with several inputs and outputs in estimators, and tutorials; all code in ``__main__``."""

import functools
import sys
from pathlib import Path

import joblib
import keras
import numpy as np
import pandas as pd
from joblib import parallel_config
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder

import keras_reduce
import tutorials
from checks import check, main, raises
from keras_reduce import scikeras
from keras_reduce.errors import EstimatorError
from tutorials import BOTH, IMAGES, KINDS, TUTORIALS, YES, X, Y

# Models of one architecture share traces, which is cheaper than computing eagerly.
keras_reduce.install()
rng = np.random.default_rng(0)


def answers(estimator, data):
    """Return the bits of all that an estimator answers."""
    found_methods = ("predict", "predict_proba", "transform")
    results = [getattr(estimator, name)(data) for name in found_methods if hasattr(estimator, name)]
    flat = [each for result in results for each in (result if type(result) is list else [result])]
    return b"".join(np.asarray(each).tobytes() for each in flat)


def carried(estimator):
    """Return an estimator after a round trip, of which classes of a function are a part."""
    return keras_reduce.loads(keras_reduce.dumps(estimator))


@check
def tutorials_answer_as_with_scikeras():
    from scikeras import wrappers as theirs

    differ = {}
    for name, (make, data, targets) in TUTORIALS.items():
        results = {}
        for wrappers in (theirs, scikeras):
            with tutorials.deterministic_operations():
                estimator = make(wrappers).fit(data, targets)
            results[wrappers] = answers(estimator, data)
        if results[theirs] != results[scikeras]:
            differ[name] = len(results[theirs]), len(results[scikeras])
    assert not differ


@check
def tutorials_are_carried():
    written = {}
    for name, (make, data, targets) in TUTORIALS.items():
        estimator = make(scikeras).fit(data, targets)
        twin = clone(estimator).fit(data, targets)
        assert answers(twin, data) == answers(estimator, data), name
        written[name] = (estimator, data, targets, answers(estimator, data))
    joblib.dump(written, FOLDER / "tutorials.joblib")


SEARCHES = {
    "two_heads": {"epochs": [1, 2]},
    "autoencoder": {"size": [2, 3]},
    "self_contained": {"sizes": [(4,), (3, 2)]},
}


@check
def tutorials_in_searches_over_two_workers():
    for name, grid in SEARCHES.items():
        make, data, targets = TUTORIALS[name]
        scores = []
        for n_jobs in (1, 2):
            search = GridSearchCV(make(scikeras), grid, cv=2, n_jobs=n_jobs, error_score="raise")
            with parallel_config("keras"):
                scores.append(search.fit(data, targets).cv_results_["mean_test_score"].tobytes())
        assert scores[0] == scores[1], name


@check
def an_autoencoder_transforms():
    estimator = tutorials.autoencoder(scikeras).fit(IMAGES)
    code = estimator.transform(IMAGES)
    assert code.shape == (24, 3)
    assert np.array_equal(estimator.inverse_transform(code), estimator.predict(IMAGES))
    # Its parts share layers, here and after a round trip.
    loaded = carried(estimator).partial_fit(IMAGES, IMAGES)
    assert not np.array_equal(loaded.transform(IMAGES), code)
    code = loaded.transform(IMAGES)
    assert np.array_equal(loaded.inverse_transform(code), loaded.predict(IMAGES))
    pipeline = make_pipeline(MinMaxScaler(), tutorials.autoencoder(scikeras), LogisticRegression())
    assert np.isfinite(cross_val_score(pipeline, IMAGES, KINDS[:24] > 0, cv=2)).all()


@check
def inputs_by_hook_dict_and_list():
    expected = tutorials.regressor_with_two_inputs(scikeras).fit(X, Y).predict(X)
    assert expected.shape == (48,)
    left, right = tutorials.split(X)
    plain = scikeras.KerasRegressor(tutorials.two_inputs, **tutorials.OPTIONS)
    for data in ([left, right], {"left": left, "right": right}):
        estimator = clone(plain).fit(data, Y, sample_weight=np.ones(48))
        assert estimator.predict(data).tobytes() == expected.tobytes()
        assert isinstance(estimator.score(data, Y), float)
        weight = (np.arange(48) > 9).astype(float)
        assert clone(plain).fit(data, Y, sample_weight=weight).partial_fit(data, Y)

    with raises(ValueError, "inconsistent numbers of samples"):
        clone(plain).fit([left, right[:3]], Y)


class Columns(TransformerMixin, BaseEstimator):
    """An encoder of a frame with a column of categories as two inputs."""

    def fit(self, frame):
        self.encoder_ = OrdinalEncoder().fit(frame[["kind"]])
        return self

    def transform(self, frame):
        return {
            "kind": self.encoder_.transform(frame[["kind"]]),
            "numbers": frame[["a", "b"]].to_numpy(),
        }


def kinds_and_numbers():
    kind, numbers = keras.Input((1,), name="kind"), keras.Input((2,), name="numbers")
    embedded = keras.layers.Flatten()(keras.layers.Embedding(3, 2)(kind))
    outputs = keras.layers.Dense(1)(keras.layers.Concatenate()([embedded, numbers]))
    return keras.Model({"kind": kind, "numbers": numbers}, outputs)


@check
def frames_with_categories():
    class OfFrames(scikeras.KerasRegressor):
        @property
        def feature_encoder(self):
            return Columns()

    frame = pd.DataFrame(X[:, :2], columns=["a", "b"])
    frame["kind"] = pd.Categorical(np.array(["low", "mean", "high"])[KINDS])
    estimator = OfFrames(kinds_and_numbers, loss="mse", **tutorials.OPTIONS)
    weight = (np.arange(48) > 9).astype(float)
    expected = estimator.fit(frame, Y, sample_weight=weight).predict(frame)
    assert expected.shape == (48,)
    assert estimator.feature_names_in_.tolist() == ["a", "b", "kind"]
    loaded = carried(estimator)
    assert loaded.predict(frame).tobytes() == expected.tobytes()
    scores = []
    for n_jobs in (1, 2):
        search = GridSearchCV(estimator, {"epochs": [1, 2]}, cv=2, n_jobs=n_jobs)
        with parallel_config("keras"):
            scores.append(search.fit(frame, Y).cv_results_["mean_test_score"].tobytes())
    assert scores[0] == scores[1]
    with raises(ValueError, "feature names"):
        estimator.predict(frame[["b", "a", "kind"]])


def named(kind, compiled, **parameters):
    """Return an estimator whose build function compiles the model."""
    return getattr(keras_reduce, kind)(compiled, random_state=0, **parameters)


def routed(kind, compiled, **parameters):
    """Return an estimator with the parameters of SciKeras."""
    return getattr(scikeras, kind)(compiled, random_state=0, verbose=0, **parameters)


def wide(meta):
    is_classifier = "n_classes_" in meta
    units, activation = (meta["n_classes_"], "softmax") if is_classifier else (1, None)
    model = keras.Sequential(
        [keras.Input((meta["n_features_in_"],)), keras.layers.Dense(units, activation)]
    )
    model.compile("sgd", "sparse_categorical_crossentropy" if is_classifier else "mse")
    return model


@check
def sparse_rows():
    data = sparse.random_array((48, 90), density=0.05, rng=np.random.default_rng(0), format="csr")
    for kind, targets in (("KerasRegressor", Y), ("KerasClassifier", KINDS)):
        for make in (
            named,
            lambda k, *a, **b: getattr(scikeras, k)(*a, **b, verbose=0, random_state=0),
        ):
            estimator = make(kind, wide, epochs=2)
            expected = clone(estimator).fit(data.toarray(), targets)
            for form in (sparse.coo_matrix(data), data.todok()):
                fitted = clone(estimator).fit(form, targets)
                assert np.allclose(fitted.predict(form), expected.predict(data.toarray()))
                assert np.isclose(fitted.score(form, targets), expected.score(form, targets))
            fitted.partial_fit(data, targets, sample_weight=(np.arange(48) > 9).astype(float))
            fitted.set_params(validation_split=0.25).fit(data, targets)
            with raises(ValueError, "89 features, but"):
                fitted.predict(data[:, :89])
    letters = np.array(list("abcdefgh") * 6)[:, None]
    scores = []
    pipeline = make_pipeline(OneHotEncoder(), named("KerasRegressor", wide))
    for n_jobs in (1, 2):
        search = GridSearchCV(pipeline, {"kerasregressor__epochs": [1, 2]}, cv=2, n_jobs=n_jobs)
        with parallel_config("keras"):
            scores.append(search.fit(letters, Y).cv_results_["mean_test_score"].tobytes())
    assert scores[0] == scores[1]
    assert np.isfinite(np.frombuffer(scores[0])).all()
    texts = [" ".join(row) for row in letters.reshape(8, 6)]
    make_pipeline(TfidfVectorizer(token_pattern=r"\w"), named("KerasClassifier", wide)).fit(
        texts, [0, 1] * 4
    )


STEPS = rng.normal(size=(20, 6, 2)).astype("float32")
LENGTHS = rng.integers(2, 7, size=20)
WEIGHTS = (np.arange(6) < LENGTHS[:, None]).astype(float)


def tagger(meta=None, units=1, activation=None, loss="mse"):
    if meta and "n_classes_" in meta:
        units, activation = meta["n_classes_"], "softmax"
        loss = "sparse_categorical_crossentropy"
    model = keras.Sequential(
        [keras.Input((None, 2)), keras.layers.Masking(), keras.layers.Dense(units, activation)]
    )
    model.compile("sgd", loss)
    return model


@check
def targets_of_three_dimensions():
    targets = STEPS.sum(axis=2, keepdims=True)
    names = np.array(["O", "B", "I"])[np.digitize(targets, [-1, 1])]
    rows = np.eye(3)[np.digitize(targets[..., 0], [-1, 1])]
    for make in (
        named,
        lambda k, *a, **b: getattr(scikeras, k)(*a, **b, verbose=0, random_state=0),
    ):
        regressor = make("KerasRegressor", tagger).fit(STEPS, targets, sample_weight=WEIGHTS)
        predicted = regressor.predict(STEPS)
        assert predicted.shape == targets.shape
        flat = (targets.reshape(-1), predicted.reshape(-1))
        assert np.isclose(regressor.score(STEPS, targets), r2_score(*flat))
        weighted = r2_score(*flat, sample_weight=WEIGHTS.reshape(-1))
        assert np.isclose(regressor.score(STEPS, targets, sample_weight=WEIGHTS), weighted)
        classifier = make("KerasClassifier", tagger).fit(STEPS, names, sample_weight=WEIGHTS)
        assert classifier.classes_.tolist() == ["B", "I", "O"]
        assert classifier.predict_proba(STEPS).shape == (20, 6, 3)
        predicted = classifier.predict(STEPS)
        assert set(predicted.reshape(-1)) <= {"B", "I", "O"}
        flat = (names.reshape(-1), predicted.reshape(-1))
        assert np.isclose(classifier.score(STEPS, names), accuracy_score(*flat))
        weighted = accuracy_score(*flat, sample_weight=WEIGHTS.reshape(-1))
        assert np.isclose(classifier.score(STEPS, names, sample_weight=WEIGHTS), weighted)
        # Sequences of another length; and class weights of steps.
        assert classifier.predict(STEPS[:, :3]).shape[:2] == (20, 3)
        balanced = clone(classifier).set_params(class_weight="balanced").fit(STEPS, names)
        assert balanced.predict(STEPS).shape == predicted.shape
        assert carried(classifier).score(STEPS, names) == accuracy_score(*flat)
        scores = cross_val_score(classifier, STEPS, names, cv=2, error_score="raise")
        assert np.isfinite(scores).all()
        binary = make(
            "KerasClassifier", lambda: tagger(activation="sigmoid", loss="binary_crossentropy")
        ).fit(STEPS, targets > 0, sample_weight=WEIGHTS)
        assert binary.predict_proba(STEPS).shape == (20, 6, 2)
    one_hot = named("KerasClassifier", tagger).fit(STEPS, rows)
    assert one_hot.predict(STEPS).shape == (20, 6)
    assert 0 <= one_hot.score(STEPS, rows) <= 1
    with raises(ValueError, "y[..., None]"):
        named("KerasClassifier", lambda: tagger({"n_classes_": 3})).fit(STEPS, names[..., 0])


class WithoutNaN(keras.layers.Layer):
    def call(self, inputs):
        return keras.ops.where(keras.ops.isnan(inputs), 0.0, inputs)


def observed(y_true, y_pred):
    is_known = ~keras.ops.isnan(y_true)
    difference = keras.ops.where(is_known, y_true - y_pred, 0.0)
    return keras.ops.mean(keras.ops.square(difference), axis=-1)


@check
def values_that_are_missing():
    def build():
        model = keras.Sequential([keras.Input((4,)), WithoutNaN(), keras.layers.Dense(2)])
        model.compile("sgd", observed)
        return model

    def allowing(kind):
        class Allowing(kind):
            def __sklearn_tags__(self):
                tags = super().__sklearn_tags__()
                tags.input_tags.allow_nan = True
                return tags

        return Allowing

    data, targets = X.copy(), np.column_stack([Y, -Y])
    data[::5, 0] = targets[::7, 1] = np.nan
    for kind, options in (
        (keras_reduce.KerasRegressor, {}),
        (scikeras.KerasRegressor, {"verbose": 0}),
    ):
        estimator = allowing(kind)(build, **options).fit(data, targets)
        assert np.isfinite(estimator.predict(data)).all()
        estimator.partial_fit(data, targets)
        with raises(ValueError, "Input X contains NaN"):
            kind(build, **options).fit(data, Y)
        with raises(ValueError, "Input y contains NaN"):
            kind(build, **options).fit(X, targets)


@check
def models_that_compute_in_bfloat16():
    def build(units=1, activation=None, loss="mse"):
        dense = [
            keras.layers.Dense(n, a, dtype="mixed_bfloat16")
            for n, a in ((3, "relu"), (units, activation))
        ]
        model = keras.Sequential([keras.Input((4,)), *dense])
        model.compile("sgd", loss)
        return model

    labels = {"units": 2, "activation": "softmax", "loss": "sparse_categorical_crossentropy"}
    for module in (keras_reduce, scikeras):
        regressor = module.KerasRegressor(build, verbose=0)
        assert np.isfinite(cross_val_score(regressor, X, Y, cv=2, error_score="raise")).all()
        classifier = module.KerasClassifier(functools.partial(build, **labels), verbose=0)
        scores = cross_val_score(
            classifier, X, YES, cv=2, scoring="neg_brier_score", error_score="raise"
        )
        assert np.isfinite(scores).all()
        fitted = regressor.fit(X, Y)
        assert fitted.predict(X).dtype == "float32"
        assert fitted.model_.predict(X, verbose=0).dtype == "bfloat16"
    coder = keras_reduce.KerasTransformer(build)
    assert np.isfinite(make_pipeline(coder, LinearRegression()).fit(X, Y).score(X, Y))


@check
def outputs_of_unequal_shapes():
    estimator = tutorials.classifier_with_two_heads(scikeras).fit(X, BOTH)
    assert estimator.predict(X).shape == BOTH.shape
    one, many = estimator.predict_proba(X)
    assert (one.shape, many.shape) == ((48, 1), (48, 3))
    assert 0 <= estimator.score(X, BOTH) <= 1
    assert estimator.partial_fit(X, BOTH).current_epoch == 3
    # Weights of each output: one of weight 0 learns nothing.
    weights = [np.zeros(48), np.ones(48)]
    alone = tutorials.classifier_with_two_heads(scikeras, epochs=1)
    alone.fit(X, BOTH, sample_weight=weights)
    before = tutorials.classifier_with_two_heads(scikeras).initialize(X, BOTH)
    heads = [
        [each.model_.get_layer(name).get_weights()[0].tobytes() for each in (alone, before)]
        for name in ("one", "many")
    ]
    assert heads[0][0] == heads[0][1]
    assert heads[1][0] != heads[1][1]
    # Class weights of each output.
    of_classes = [None, {0: 0.0, 1: 2.0, 2: 1.0}]
    weighted = tutorials.classifier_with_two_heads(scikeras, class_weight=of_classes, epochs=1)
    same = tutorials.classifier_with_two_heads(scikeras, epochs=1)
    same.fit(X, BOTH, sample_weight=[np.ones(48), np.array([0.0, 2.0, 1.0])[KINDS]])
    assert answers(weighted.fit(X, BOTH), X) == answers(same, X)


class PairedColumns(tutorials.Heads):
    """Targets of two outputs of equal shapes, in a dict."""

    def transform(self, y):
        return {"first": y[:, :1].astype("float32"), "second": y[:, 1:].astype("float32")}

    def inverse_transform(self, y, return_proba=False):
        return np.column_stack([y["first"], y["second"]])

    def get_metadata(self):
        return {"n_outputs_expected_": 2}


def pair():
    inputs = keras.Input((4,))
    return keras.Model(
        inputs, {name: keras.layers.Dense(1, name=name)(inputs) for name in ("first", "second")}
    )


@check
def outputs_of_equal_shapes():
    class Paired(scikeras.KerasRegressor):
        @property
        def target_encoder(self):
            return PairedColumns()

    targets = np.column_stack([Y, -Y])
    losses = {"first": "mse", "second": "mae"}
    estimator = Paired(pair, loss=losses, **tutorials.OPTIONS).fit(X, targets)
    assert estimator.predict(X).shape == (48, 2)
    assert isinstance(estimator.score(X, targets), float)
    assert {"first_loss", "second_loss"} <= estimator.history_.keys()
    loaded = carried(estimator)
    assert loaded.predict(X).tobytes() == estimator.predict(X).tobytes()
    # Outputs are never joined by accident.
    for kind, y in ((scikeras.KerasRegressor, targets), (scikeras.KerasClassifier, YES)):
        with raises(EstimatorError, "The model has 2 outputs, and there are targets for 1"):
            kind(pair, loss=losses, verbose=0).fit(X, y)
    raw = scikeras.BaseWrapper(pair, loss=losses, verbose=0).initialize(X).predict(X)
    assert {name: each.shape for name, each in raw.items()} == {
        "first": (48, 1),
        "second": (48, 1),
    }
    ready = scikeras.KerasRegressor(pair, loss=losses, verbose=0).initialize(X, targets)
    with raises(EstimatorError, "The model has 2 outputs"):
        ready.predict(X)


@check
def labels_of_several_columns():
    def build(meta):
        return keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(meta["n_classes_"], "sigmoid")]
        )

    several = np.column_stack([X[:, 0] > 0, X[:, 1] > 0, X[:, 0] > -1]).astype(int)
    estimator = scikeras.KerasClassifier(
        build, loss="binary_crossentropy", class_weight="balanced", **tutorials.OPTIONS
    ).fit(X, several)
    assert estimator.target_type_ == "multilabel-indicator"
    assert estimator.predict(X).shape == estimator.predict_proba(X).shape == (48, 3)
    assert np.array_equal(estimator.predict(X), estimator.predict_proba(X) > 0.5)
    assert cross_val_score(estimator, X, several, cv=2, error_score="raise").shape == (2,)
    logits = clone(estimator).set_params(loss__from_logits=True).fit(X, several)
    assert logits.predict_proba(X).min() > 0.5  # A sigmoid of a sigmoid.


@check
def ensembles_over_two_workers():
    moons = tutorials.moons_classifier(scikeras)
    with parallel_config("keras", n_jobs=2):
        for ensemble in (
            StackingClassifier([("a", moons), ("b", clone(moons))], cv=2, n_jobs=2),
            CalibratedClassifierCV(moons, cv=2, n_jobs=2, ensemble=True),
        ):
            fitted = ensemble.fit(X, YES)
            assert fitted.predict_proba(X).shape == (48, 2)


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    main(*sys.argv[2:])
