"""What the programs of clusters train and search, and how they compare what comes back."""

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

# Those are the program's that takes them from here: no worker can import them.
__name__ = "__main__"

rng = np.random.default_rng(0)
X = rng.normal(size=(24, 5)).astype("float32")
Y = X.sum(1)
# Divides what a fold has as well. For a model that meets a second size of batches, TensorFlow
# traces a function for any size, which computes other last bits than one for a certain size.
BATCH = 6

DISGUISES = Path(__file__).parent / "disguises"
PATIENCE = 120  # seconds after which something is said to hang
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
    keras.utils.set_random_seed(3)  # Keras's own wrapper has no random_state.
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
    """Return a function that builds a model; but once the worker that calls it is killed."""

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
    """A model in something that is not Keras's."""

    model: keras.Model
    others: tuple


def answers(parts):
    model = parts.model if isinstance(parts, Parts) else parts
    return np.asarray(model.predict(X, verbose=0))


def read(path):
    """Return what a model in a file answers, and whether reading it has changed this process."""
    import pickle

    before = os.environ.get("KERAS_BACKEND"), keras_reduce.is_installed()
    model = pickle.loads(Path(path).read_bytes())
    after = os.environ.get("KERAS_BACKEND"), keras_reduce.is_installed()
    return answers(model), after == before


@contextlib.contextmanager
def as_if_on(backend):
    """Let what is pickled say that the program computes with another backend."""
    with mock.patch.object(keras_backend, "chosen", return_value=backend):
        yield


# What is said then of a worker that computes with TensorFlow.
OTHERS = "computes with 'tensorflow', that of its program with 'jax'"


# --- comparing -------------------------------------------------------------------------------


def life(model):
    """Return what a model answers, and what becomes of it."""
    keras.utils.set_random_seed(2)  # The order of rows is the program's, and none of the model's.
    answer = model.predict(X, verbose=0)
    history = model.fit(X, Y, batch_size=BATCH, verbose=0).history
    return bits(
        [answer, history, *model.get_weights(), *map(np.asarray, model.optimizer.variables)]
    )


def scores(search):
    return bits({name: v for name, v in search.cv_results_.items() if "_test_score" in name})


def assert_same_estimators(found, alone):
    """Compare what `validated` returned: scores, histories, classes, and the models' lives."""
    assert bits(found["test_score"]) == bits(alone["test_score"])
    for pair in zip(found["estimator"], alone["estimator"], strict=True):
        theirs, ours = (each[-1] if hasattr(each, "steps") else each for each in pair)
        assert type(theirs.model_.layers[1]) is Scaled
        histories = [getattr(each.history_, "history", each.history_) for each in (theirs, ours)]
        assert bits(histories[0]) == bits(histories[1])
        assert life(theirs.model_) == life(ours.model_)


def assert_same_ensembles(found, alone):
    for theirs, ours in zip(found.estimators_, alone.estimators_, strict=True):
        assert life(theirs[-1].model_) == life(ours[-1].model_)
