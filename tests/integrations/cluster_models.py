"""Models, searches and comparisons for the programs about clusters."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from unittest import mock

import keras
import numpy as np
from scikeras.wrappers import KerasRegressor as SciKerasRegressor
from sklearn.ensemble import BaggingRegressor
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_reduce
from checks import bits
from keras_reduce.core import keras_backend

# Classes and functions pickle as those of the program that imports them; workers can't import them.
__name__ = "__main__"

rng = np.random.default_rng(0)
X = rng.normal(size=(24, 5)).astype("float32")
Y = X.sum(1)
# A divisor of the size of a fold as well. At a second batch size, TensorFlow traces a function for
# any size, which computes other last bits than the function for one size.
BATCH = 6

DISGUISES = Path(__file__).parent / "disguises"
PATIENCE = 120  # seconds before a task counts as hanging
PROGRAM = os.getpid()


class Scaled(keras.layers.Layer):
    """A layer that no worker can import."""

    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def build(units=4, rate=0.2):
    hidden = [keras.layers.Dense(units, "relu"), Scaled(1.5), keras.layers.Dropout(rate)]
    model = keras.Sequential([keras.Input((5,)), *hidden, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def build_for_keras(X, y, units=4):  # noqa: N803
    keras.utils.set_random_seed(3)  # Keras's wrapper has no random_state.
    return build(units)


def trained(units=4, seed=1):
    keras.utils.set_random_seed(seed)
    model = build(units)
    model.fit(X, Y, batch_size=BATCH, verbose=0)
    return model


def regressor(build_fn=build, **parameters):
    options = {"epochs": 2, "batch_size": BATCH, "random_state": 0, **parameters}
    return make_pipeline(StandardScaler(), keras_reduce.KerasRegressor(build_fn, **options))


def scikeras_regressor():
    options = {"epochs": 1, "batch_size": BATCH, "verbose": 0, "random_state": 0}
    return SciKerasRegressor(build, units=4, **options)


def keras_regressor():
    options = {"epochs": 1, "batch_size": BATCH, "verbose": 0}
    return keras.wrappers.SKLearnRegressor(build_for_keras, fit_kwargs=options)


def grid_search(pipeline, grid, **options):
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise", **options)
    return search.fit(X, Y)


def ensemble(**options):
    return BaggingRegressor(regressor(), n_estimators=2, random_state=0, **options).fit(X, Y)


def validated(estimator, **options):
    options |= {"cv": 2, "return_estimator": True, "error_score": "raise"}
    return cross_validate(estimator, X, Y, **options)


def killing(mark):
    """Return a build function that kills the first worker that calls it."""

    def build_or_be_killed(units=4, rate=0.2):
        import signal

        if os.getpid() != PROGRAM:
            with contextlib.suppress(FileExistsError):
                mark.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return build(units, rate)

    return build_or_be_killed


@dataclasses.dataclass
class Parts:
    """A model inside an object that is not a Keras object."""

    model: keras.Model
    others: tuple


def answers(parts):
    model = parts.model if isinstance(parts, Parts) else parts
    return np.asarray(model.predict(X, verbose=0))


def read(path):
    """Return the predictions of a model in a file, and True if loading changed no setting."""
    import pickle

    before = os.environ.get("KERAS_BACKEND"), keras_reduce.is_installed()
    model = pickle.loads(Path(path).read_bytes())
    after = os.environ.get("KERAS_BACKEND"), keras_reduce.is_installed()
    return answers(model), after == before


@contextlib.contextmanager
def as_if_on(backend):
    """Write payloads for a block as if the program used another backend."""
    with mock.patch.object(keras_backend, "chosen", return_value=backend):
        yield


# The error message then, for a worker with the TensorFlow backend.
OTHERS = "computes with 'tensorflow', that of its program with 'jax'"


# --- comparing -------------------------------------------------------------------------------


def behaviour(model):
    """Return the predictions of a model, and the outcome of more training."""
    keras.utils.set_random_seed(2)  # The order of rows depends on the program's seed.
    answer = model.predict(X, verbose=0)
    history = model.fit(X, Y, batch_size=BATCH, verbose=0).history
    return bits(
        [answer, history, *model.get_weights(), *map(np.asarray, model.optimizer.variables)]
    )


def scores(search):
    return bits({name: v for name, v in search.cv_results_.items() if "_test_score" in name})


def assert_same_estimators(distributed, alone):
    """Compare two results of `validated`: scores, histories, classes, and models."""
    assert bits(distributed["test_score"]) == bits(alone["test_score"])
    for pair in zip(distributed["estimator"], alone["estimator"], strict=True):
        theirs, ours = (each[-1] if hasattr(each, "steps") else each for each in pair)
        assert type(theirs.model_.layers[1]) is Scaled
        histories = [getattr(each.history_, "history", each.history_) for each in (theirs, ours)]
        assert bits(histories[0]) == bits(histories[1])
        assert behaviour(theirs.model_) == behaviour(ours.model_)


def assert_same_ensembles(distributed, alone):
    for theirs, ours in zip(distributed.estimators_, alone.estimators_, strict=True):
        assert behaviour(theirs[-1].model_) == behaviour(ours[-1].model_)
