"""Models in forked processes: when a warning is logged, and the ways that work.

Methods that would wait for ever are replaced by one that answers, so that only the warning is
tested; that they do wait is a check of its own.
"""

from __future__ import annotations

import concurrent.futures
import functools
import logging
import multiprocessing
import os
import pickle
import signal
import tempfile
import time
from pathlib import Path

import joblib
import keras
import numpy as np

import keras_reduce
from checks import check, main

X = np.ones((4, 3), "float32")
WARNING = "forked after TensorFlow had run"
FOLDER = tempfile.TemporaryDirectory()
FILE = Path(FOLDER.name, "model.joblib")


@functools.cache
def model():
    keras.utils.set_random_seed(0)
    sequential = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    sequential.compile("sgd", "mse")
    return sequential


class Remembering(logging.Handler):
    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def noted(function, *arguments):
    """Return the warnings of this package during a call, and its result."""
    handler = Remembering()
    logging.getLogger("keras_reduce").addHandler(handler)
    try:
        return handler.messages, function(*arguments)
    finally:
        logging.getLogger("keras_reduce").removeHandler(handler)


def in_a_fork(function, *arguments):
    """Return the warnings, and the result, of a function in a forked child."""
    source, target = os.pipe()
    child = os.fork()
    if not child:
        try:
            with os.fdopen(target, "wb") as file:
                pickle.dump(noted(function, *arguments), file)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(target)
    with os.fdopen(source, "rb") as file:
        content = file.read()
    assert os.waitpid(child, 0)[1] == 0
    return pickle.loads(content)


def load_twice(data):
    return [pickle.loads(data).count_params() for _ in range(2)]


def predicted(loaded):
    return loaded.predict(X, verbose=0).tolist()


@check
def unpickling_in_a_child_warns_once():
    data = pickle.dumps(model())
    messages, counts = in_a_fork(load_twice, data)
    assert counts == [4, 4]
    (message,) = messages
    assert message.startswith("A model, or a part of one, is unpickled in process ")
    assert WARNING in message
    assert f"in process {os.getpid()}." in message
    for cure in ("backend 'keras'", "get_context('spawn')", "load the model after the fork"):
        assert cure in message, message


@check
def each_method_that_runs_graphs_warns_once():
    for name in ("evaluate", "fit", "predict", "predict_on_batch", "train_on_batch"):
        original = getattr(keras.Model, name)

        def attempt(name=name):
            # Private: the original would wait for ever, so it is one that returns.
            wrapped = vars(keras.Model)[name]
            wrapped.__closure__[1].cell_contents = lambda *_, **__: "called"
            return getattr(model(), name)(X), getattr(keras.Model, name).__qualname__

        messages, (answer, restored) = in_a_fork(attempt)
        assert answer == "called"
        assert [each.partition(" in process")[0] for each in messages] == [
            f"Sequential.{name}() is called"
        ]
        assert restored == original.__qualname__
        assert getattr(keras.Model, name) is original


@check
def predict_in_a_child_does_wait_for_ever():
    model().predict(X, verbose=0)
    child = os.fork()
    if not child:
        logging.disable()
        model().predict(X, verbose=0)
        os._exit(0)
    time.sleep(3)
    ended, _ = os.waitpid(child, os.WNOHANG)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    # If this fails, TensorFlow has been mended, and the warning can go.
    assert not ended


@check
def parents_and_uses_without_graphs_do_not_warn():
    messages, _ = noted(load_twice, pickle.dumps(model()))
    assert messages == []
    messages, answer = in_a_fork(lambda: np.asarray(model()(X)).tolist())
    assert messages == []
    assert answer == np.asarray(model()(X)).tolist()


@check
def pools_that_fork_warn():
    data = pickle.dumps(model())
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        messages, _ = pool.submit(noted, load_twice, data).result(60)
    assert [WARNING in each for each in messages] == [True]
    with joblib.parallel_config("multiprocessing", n_jobs=2):
        results = joblib.Parallel()(joblib.delayed(noted)(load_twice, data) for _ in range(2))
    assert all(WARNING in each for messages, _ in results for each in messages)
    assert any(messages for messages, _ in results)


@check
def the_cures_work_and_do_not_warn():
    expected = predicted(model())
    with joblib.parallel_config("keras", n_jobs=2):
        results = joblib.Parallel()(joblib.delayed(noted)(predicted, model()) for _ in range(2))
    assert results == [([], expected)] * 2


@check
def without_an_installation_the_methods_are_untouched():
    keras_reduce.uninstall()
    try:
        original = keras.Model.predict
        _, name = in_a_fork(lambda: keras.Model.predict.__code__.co_filename)
        assert name == original.__code__.co_filename
    finally:
        keras_reduce.install()


if __name__ == "__main__":
    keras_reduce.install()
    main()
