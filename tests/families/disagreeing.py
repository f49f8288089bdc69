"""A worker that has imported Keras with another backend than the program's says so."""

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


def have_another(_=None):
    """Have what looks like a Keras with another backend: few environments have two."""
    keras = sys.modules["keras"] = types.ModuleType("keras")
    keras.config = types.SimpleNamespace(backend=lambda: "another")
    return os.getpid()


def count(network):
    return network.count_params()


def told(error):
    """Return all that an error says, with what it came from."""
    found = []
    while error is not None:
        found.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(found)


@check
def under_loky():
    with joblib.parallel_config("loky", n_jobs=2), raises(Exception) as demand:
        joblib.Parallel(batch_size=1)(joblib.delayed(have_another)(i) for i in range(2))
        joblib.Parallel()(joblib.delayed(count)(model) for _ in range(2))
    assert "computes with 'another'" in told(demand.error), told(demand.error)
    assert "os.environ['KERAS_BACKEND']" in told(demand.error), told(demand.error)
    # Others take it.
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)
    with joblib.parallel_config("loky", n_jobs=2):
        assert joblib.Parallel()([joblib.delayed(count)(model)]) == [9]


@contextlib.contextmanager
def as_if_on_another():
    """Let what is pickled say that the program computes with a backend which workers don't have."""
    with mock.patch.object(keras_backend, "chosen", return_value="another"):
        yield


def count_in_a_file(path):
    """Return the parameters of a model in a file, and how this process is set up after that."""
    found = pickle.loads(Path(path).read_bytes()).count_params()
    return found, os.environ.get("KERAS_BACKEND")


@functools.cache
def spawned():
    """Return a pool for all checks: its worker imports Keras."""
    return multiprocessing.get_context("spawn").Pool(1)


@check
def a_model_that_is_sent_is_refused_and_one_in_a_file_is_not():
    said = "of its program"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pickle")
        with as_if_on_another():
            path.write_bytes(pickle.dumps(model))
            # An error while it is read would end the pool's worker, and nobody would hear of it.
            with raises(keras_reduce.FrameworkError, said, "'another'", "process "):
                spawned().apply_async(count, (model,)).get(120)
            with raises(Exception) as demand:
                get_reusable_executor(1).submit(count, model).result(120)
            assert said in told(demand.error), told(demand.error)
        expected = 9, os.environ.get("KERAS_BACKEND")
        assert spawned().apply_async(count_in_a_file, (path,)).get(120) == expected
        assert get_reusable_executor(1).submit(count_in_a_file, path).result(120) == expected
        with joblib.parallel_config("keras", n_jobs=2):
            found = joblib.Parallel()(joblib.delayed(count_in_a_file)(path) for _ in range(2))
        assert found == [expected] * 2


@check
def a_file_changes_nothing_in_a_worker():
    """Nor is anything installed there by what others have installed."""
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
