"""Errors of workers that have imported Keras with another backend than the program's."""

import contextlib
import functools
import multiprocessing
import os
import pickle
import sys
import tempfile
import types
from pathlib import Path
from unittest import mock

import joblib
import keras
from joblib.externals.loky import get_reusable_executor

import keras_reduce
from checks import check, main, raises
from keras_reduce.core import keras_backend

keras_reduce.install()
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
os.environ["KERAS_BACKEND"] = keras.config.backend()  # for all workers


def fake_another_backend(_=None):
    """Replace Keras by a stub with another backend; few environments have two backends."""
    keras = sys.modules["keras"] = types.ModuleType("keras")
    keras.config = types.SimpleNamespace(backend=lambda: "another")
    return os.getpid()


def count(network):
    return network.count_params()


def full_message(error):
    """Return the message of an error and of all its causes."""
    messages = []
    while error is not None:
        messages.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(messages)


@check
def under_loky():
    with joblib.parallel_config("loky", n_jobs=2), raises(Exception) as demand:
        joblib.Parallel(batch_size=1)(joblib.delayed(fake_another_backend)(i) for i in range(2))
        joblib.Parallel()(joblib.delayed(count)(model) for _ in range(2))
    assert "computes with 'another'" in full_message(demand.error), full_message(demand.error)
    assert "os.environ['KERAS_BACKEND']" in full_message(demand.error), full_message(demand.error)
    # New workers accept it.
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)
    with joblib.parallel_config("loky", n_jobs=2):
        assert joblib.Parallel()([joblib.delayed(count)(model)]) == [9]


@contextlib.contextmanager
def as_if_on_another():
    """Write payloads for a block as if the program used a backend that workers don't have."""
    with mock.patch.object(keras_backend, "chosen", return_value="another"):
        yield


def count_in_a_file(path):
    """Return the parameter count of a model in a file, and KERAS_BACKEND after loading it."""
    number = pickle.loads(Path(path).read_bytes()).count_params()
    return number, os.environ.get("KERAS_BACKEND")


@functools.cache
def spawned():
    """Return the pool for all checks, whose worker imports Keras only once."""
    return multiprocessing.get_context("spawn").Pool(1)


@check
def a_model_that_is_sent_is_refused_and_one_in_a_file_is_not():
    said = "of its program"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pickle")
        with as_if_on_another():
            path.write_bytes(pickle.dumps(model))
            # An error during unpickling ends the worker, and a call of the pool would never return.
            with raises(keras_reduce.FrameworkError, said, "'another'", "process "):
                spawned().apply_async(count, (model,)).get(120)
            with raises(Exception) as demand:
                get_reusable_executor(1).submit(count, model).result(120)
            assert said in full_message(demand.error), full_message(demand.error)
        expected = 9, os.environ.get("KERAS_BACKEND")
        assert spawned().apply_async(count_in_a_file, (path,)).get(120) == expected
        assert get_reusable_executor(1).submit(count_in_a_file, path).result(120) == expected
        with joblib.parallel_config("keras", n_jobs=2):
            counts = joblib.Parallel()(joblib.delayed(count_in_a_file)(path) for _ in range(2))
        assert counts == [expected] * 2


@check
def a_file_changes_nothing_in_a_worker():
    """Require that a file neither sets a backend nor installs anything in a worker."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pickle")
        path.write_bytes(pickle.dumps(model))
        keras_reduce.uninstall()
        try:
            spawned().apply(keras_reduce.uninstall)
            spawned().apply(count_in_a_file, (path,))
            assert not spawned().apply(keras_reduce.is_installed)
        finally:
            keras_reduce.install()


if __name__ == "__main__":
    main()
    spawned().terminate()
