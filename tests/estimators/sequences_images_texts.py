"""Sequences with targets for each step, values that are missing, images and texts in searches.

Each search runs on two workers. It is written, and read by a test in another process.
"""

import sys
from pathlib import Path

import joblib
import keras
import numpy as np
from joblib import parallel_config
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import keras_reduce
from checks import check, main, raises
from keras_reduce import scikeras
from keras_reduce.errors import EstimatorError

# Models of one architecture share traces.
keras_reduce.install()
layers = keras.layers
rng = np.random.default_rng(0)
N = 24
Y = rng.normal(size=N)
LABELS = np.array(["low", "mean", "high"])[np.digitize(Y, [-0.4, 0.4])]
LENGTHS = rng.integers(1, 6, size=N)
OPTIONS = {"random_state": 0, "batch_size": 8, "verbose": 0}


def compiled(model, meta, *, run_eagerly=False):
    """Return a model with an output layer for the targets, compiled."""
    is_classifier = "n_classes_" in meta
    units, activation = (meta["n_classes_"], "softmax") if is_classifier else (1, None)
    model.add(layers.Dense(units, activation))
    loss = "sparse_categorical_crossentropy" if is_classifier else "mse"
    model.compile("adam", loss, run_eagerly=run_eagerly)
    return model


def estimators(build):
    """Yield an estimator of each kind, one of them with routed parameters."""
    yield "regressor", keras_reduce.KerasRegressor(build, **OPTIONS), Y
    yield "classifier", scikeras.KerasClassifier(build, **OPTIONS), LABELS


def weights_of(estimator):
    return b"".join(each.tobytes() for each in estimator.model_.get_weights())


def in_searches(kind, build, data, *steps, tried=None, sample_weight=None):
    """Search with estimators over two workers, and write them for a reader."""
    for name, estimator, y in tried or estimators(build):
        pipeline = make_pipeline(*steps, estimator)
        grid = {f"{pipeline.steps[-1][0]}__epochs": [1, 2]}
        search = GridSearchCV(pipeline, grid, cv=2, error_score="raise")
        weights = {f"{pipeline.steps[-1][0]}__sample_weight": sample_weight}
        scores = []
        for n_jobs in (1, 2):
            with parallel_config("keras", n_jobs=n_jobs):
                fitted = clone(search).fit(data, y, **weights if sample_weight is not None else {})
            scores.append(fitted.cv_results_["mean_test_score"].tobytes())
        assert scores[0] == scores[1], name
        assert np.isfinite(np.frombuffer(scores[0])).all()
        predicted = fitted.predict(data)
        assert predicted.shape == np.shape(y)[: predicted.ndim]
        path = FOLDER / f"{kind}_{name}.joblib"
        joblib.dump((fitted, data, y), path)
        further = fitted.best_estimator_
        further[-1].partial_fit(further[:-1].transform(data) if steps else data, y)
        joblib.dump((predicted, weights_of(further[-1])), FOLDER / f"{path.stem}.expected")


# --- sequences -----------------------------------------------------------------------------------

WORDS = np.empty(N, object)
WORDS[:] = [rng.integers(1, 9, size=length).tolist() for length in LENGTHS]


def ragged(rows):
    """Return rows of different lengths as a ragged tensor."""
    import tensorflow as tf

    return tf.ragged.constant(list(rows), dtype="int32")


def mean_of_words(meta):
    words = keras.Input((None,), dtype="int32", ragged=True)
    return compiled(
        keras.Sequential([words, layers.Embedding(10, 3), layers.GlobalAveragePooling1D()]), meta
    )


@check
def ragged_rows():
    in_searches("ragged", mean_of_words, WORDS, FunctionTransformer(ragged))
    # Padding makes no part of a mean of a ragged tensor.
    model = keras_reduce.KerasRegressor(mean_of_words, **OPTIONS).fit(ragged(WORDS), Y)
    assert model.X_shape_ == (N, None)
    alone = np.concatenate([model.predict(ragged(WORDS[i : i + 1])) for i in range(N)])
    assert np.allclose(alone, model.predict(ragged(WORDS)))
    named = clone(model).set_params(validation_data=(ragged(WORDS[:3]), Y[:3]))
    assert "val_loss" in named.fit(ragged(WORDS), Y, sample_weight=np.ones(N)).history_.history


@check
def ragged_rows_for_models_that_need_one_length():
    def dense(meta):
        return compiled(keras.Sequential([keras.Input((4,)), layers.Dense(2)]), meta)

    class Tagger(keras.Model):
        def call(self, inputs):
            return inputs

    for _, estimator, y in estimators(dense):
        for given in (WORDS, ragged(WORDS)):
            with raises(EstimatorError, "Samples have different lengths", "pad_sequences") as told:
                estimator.fit(given, y)
            assert told.error.where == "X"
        assert "tf.RaggedTensor" in str(told.error)
    tagging = keras_reduce.KerasRegressor(dense)
    tagging.model = Tagger()
    with raises(EstimatorError, "predicts samples of different lengths"):
        tagging.predict(ragged(WORDS))


STEPS = np.zeros((N, 6, 2), "float32")
for sample, length in zip(STEPS, LENGTHS, strict=True):
    sample[:length] = rng.normal(size=(length, 2))


def without_padding(meta, units=2):
    steps = keras.Input((None, 2))
    return compiled(keras.Sequential([steps, layers.Masking(), layers.LSTM(units)]), meta)


@check
def masked_steps():
    in_searches("masked", without_padding, STEPS)
    # The steps behind the mask change nothing.
    longer = np.concatenate([STEPS, np.zeros((N, 3, 2), "float32")], axis=1)
    for _, estimator, y in estimators(without_padding):
        fitted = estimator.fit(STEPS, y)
        answers = getattr(fitted, "predict_proba", fitted.predict)
        assert np.allclose(answers(longer), answers(STEPS), atol=1e-6)


def tagger(meta):
    steps = [keras.Input((None, 2)), layers.Masking()]
    return compiled(keras.Sequential([*steps, layers.Dense(3, "relu")]), meta)


@check
def targets_and_weights_of_each_step():
    targets = STEPS.sum(axis=2, keepdims=True)
    names = np.array(["O", "B", "I"])[np.digitize(targets, [-0.5, 0.5])]
    tried = [
        ("regressor", scikeras.KerasRegressor(tagger, **OPTIONS), targets),
        ("classifier", keras_reduce.KerasClassifier(tagger, **OPTIONS), names),
    ]
    weights = (STEPS != 0).any(axis=2).astype("float32")
    in_searches("steps", tagger, STEPS, tried=tried, sample_weight=weights)


class WithoutNaN(layers.Layer):
    def call(self, inputs):
        return keras.ops.where(keras.ops.isnan(inputs), 0.0, inputs)


def observed(y_true, y_pred):
    is_known = ~keras.ops.isnan(y_true)
    difference = keras.ops.where(is_known, y_true - y_pred, 0.0)
    return keras.ops.mean(keras.ops.square(difference), axis=-1)


def allowing_nan(meta):
    model = keras.Sequential([keras.Input((2,)), WithoutNaN(), layers.Dense(1)])
    model.compile("adam", observed)
    return model


class Allowing(keras_reduce.KerasRegressor):
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def score(self, X, y):  # noqa: N803 - of scikit-learn
        is_known = ~np.isnan(y)
        return -float(np.abs(self.predict(X) - y)[is_known].mean())


@check
def values_that_are_missing():
    samples, targets = STEPS[:, 0].copy(), Y.copy()
    samples[::5, 0] = targets[::7] = np.nan
    tried = [("regressor", Allowing(allowing_nan, **OPTIONS), targets)]
    in_searches("missing", allowing_nan, samples, tried=tried)


@check
def masked_arrays_of_numpy():
    behind = np.ma.masked_array(STEPS, mask=STEPS == 0)
    for _, estimator, y in estimators(without_padding):
        with raises(EstimatorError, "X is a masked array", "filled(0.0)", "Masking"):
            estimator.fit(behind, y)
        with raises(EstimatorError, "y is a masked array"):
            estimator.fit(STEPS, np.ma.masked_array(y, mask=LENGTHS > 4))
        # A mask that hides nothing is none.
        estimator.fit(np.ma.masked_array(STEPS), y)


# --- images and texts ----------------------------------------------------------------------------

IMAGES = rng.random((N, 6, 5, 3)).astype("float32")


def convolution(meta):
    images = keras.Input((6, 5, 3))
    pooled = layers.GlobalMaxPooling2D()
    return compiled(
        keras.Sequential([images, layers.Conv2D(3, 2, activation="relu"), pooled]), meta
    )


@check
def images():
    in_searches("images", convolution, IMAGES)


SYLLABLES = np.array(["ba", "du", "ké", "lo", "mi"])
TEXTS = np.array([" ".join(rng.choice(SYLLABLES, size=length)) for length in LENGTHS])


def counts_of_words(meta, units=3):
    words = layers.TextVectorization(vocabulary=SYLLABLES.tolist(), output_mode="count")
    # Models that read text share no traces.
    return compiled(keras.Sequential([words, layers.Dense(units)]), meta, run_eagerly=True)


def sequences_of_words(meta):
    words = layers.TextVectorization(output_sequence_length=5)
    words.adapt(TEXTS)
    embedded = layers.Embedding(words.vocabulary_size(), 3, mask_zero=True)
    model = keras.Sequential([words, embedded, layers.GlobalAveragePooling1D()])
    return compiled(model, meta, run_eagerly=True)


@check
def texts():
    in_searches("counts", counts_of_words, TEXTS)
    # A column of a frame.
    in_searches("words", sequences_of_words, TEXTS[:, None].astype(object))


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    FOLDER.mkdir(exist_ok=True)
    main(*sys.argv[2:])
