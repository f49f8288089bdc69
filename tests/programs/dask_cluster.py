"""Dask's clusters: one with two processes of its own, one of commands that know each other by port.

Whatever comes back is compared with what the same program does alone, bit for bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import types
import warnings
from pathlib import Path

import dask
import dask.array
import joblib
import keras
import numpy as np
from dask.sizeof import sizeof
from dask_ml.wrappers import ParallelPostFit
from distributed import Client, KilledWorker, LocalCluster
from distributed.protocol.serialize import dask_serialize, serialize
from scikeras.wrappers import KerasRegressor as SciKerasRegressor
from sklearn.ensemble import BaggingRegressor
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_reduce
from checks import bits, check, main, raises
from keras_reduce import registry, tensors

rng = np.random.default_rng(0)
X = rng.normal(size=(24, 5)).astype("float32")
Y = X.sum(1)

DISGUISES = Path(__file__).parent / "disguises"
PATIENCE = 120  # seconds after which something is said to hang


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
    return build(units)


def trained(units=4, seed=1):
    keras.utils.set_random_seed(seed)
    model = build(units)
    model.fit(X, Y, batch_size=6, verbose=0)
    return model


def regressor(**parameters):
    # Batches of one size: where it has met others, TensorFlow goes on with a graph for any size,
    # which rounds differently from the one for this size that a model that has come back gets.
    options = {"epochs": 2, "batch_size": 6, "random_state": 0, **parameters}
    return make_pipeline(StandardScaler(), keras_reduce.KerasRegressor(build, **options))


def life(model):
    """Return what a model answers, and what becomes of it."""
    answer = model.predict(X, verbose=0)
    history = model.fit(X, Y, batch_size=6, shuffle=False, verbose=0).history
    return bits(
        [answer, history, *model.get_weights(), *map(np.asarray, model.optimizer.variables)]
    )


def scores(search):
    return bits({name: v for name, v in search.cv_results_.items() if "time" not in name})


# --- by way of joblib ------------------------------------------------------------------------


@contextlib.contextmanager
def on_dask():
    with joblib.parallel_config("dask"):
        yield


def grid_search(pipeline, grid, **options):
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise", **options)
    return search.fit(X, Y)


@check
def searches_find_what_they_find_alone():
    grid = {"kerasregressor__units": [3, 4]}
    alone = grid_search(regressor(), grid)
    with on_dask():
        found = grid_search(regressor(), grid)
    assert scores(found) == scores(alone)
    assert life(found.best_estimator_[-1].model_) == life(alone.best_estimator_[-1].model_)


@check
def wrappers_of_others_are_searched():
    others = (
        SciKerasRegressor(build, units=4, epochs=1, verbose=0, random_state=0),
        keras.wrappers.SKLearnRegressor(build_for_keras, fit_kwargs={"epochs": 1, "verbose": 0}),
    )
    grids = {"units": [3, 4]}, {"model_kwargs": [{"units": 3}, {"units": 4}]}
    for wrapper, grid in zip(others, grids, strict=True):
        pipeline = make_pipeline(StandardScaler(), wrapper)
        name = type(wrapper).__name__.lower()
        with on_dask():
            found = grid_search(pipeline, {f"{name}__{key}": v for key, v in grid.items()})
        assert found.predict(X).shape == (24,) or found.predict(X).shape == (24, 1)
        assert np.isfinite(found.cv_results_["mean_test_score"]).all()


@check
def estimators_that_workers_have_fitted_come_back_whole():
    options = {"cv": 2, "return_estimator": True, "error_score": "raise"}
    alone = cross_validate(regressor(), X, Y, **options)
    with on_dask():
        found = cross_validate(regressor(), X, Y, **options)
    assert bits(found["test_score"]) == bits(alone["test_score"])
    for theirs, ours in zip(found["estimator"], alone["estimator"], strict=True):
        assert bits(theirs[-1].history_.history) == bits(ours[-1].history_.history)
        assert type(theirs[-1].model_.layers[1]).__qualname__ == "Scaled"
        assert life(theirs[-1].model_) == life(ours[-1].model_)


@check
def ensembles_come_back_whole():
    def ensemble():
        return BaggingRegressor(regressor(), n_estimators=2, random_state=0)

    alone = ensemble().fit(X, Y)
    with on_dask():
        found = ensemble().fit(X, Y)
    assert bits(found.predict(X)) == bits(alone.predict(X))


@check
def a_search_outlives_a_worker():
    """Dask starts another in its place, and gives it the tasks of the one that was killed."""
    grid = {"kerasregressor__units": [3, 4, 5, 6], "kerasregressor__epochs": [4]}
    alone = grid_search(regressor(), grid)
    marks = Path(os.environ.get("TMPDIR", "/tmp")) / f"marks-{os.getpid()}"
    marks.mkdir()
    before = set(CLIENT.run(os.getpid).values())

    def killing(units=4, rate=0.2):
        with contextlib.suppress(FileExistsError):
            (marks / "killed").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        return build(units, rate)

    with on_dask():
        found = grid_search(regressor().set_params(kerasregressor__build_fn=killing), grid)
    assert (marks / "killed").exists()
    assert scores_of_one(found) == scores_of_one(alone)
    assert found.best_params_ == alone.best_params_
    CLIENT.wait_for_workers(2, timeout=PATIENCE)
    assert set(CLIENT.run(os.getpid).values()) != before


def scores_of_one(search):
    return bits(search.cv_results_["mean_test_score"])


# --- tasks of the program's own --------------------------------------------------------------


@dataclasses.dataclass
class Parts:
    """A model in something that is not Keras's."""

    model: keras.Model
    others: tuple


def answers(parts):
    first = parts.model if isinstance(parts, Parts) else parts
    return np.asarray(first.predict(X, verbose=0))


@check
def arguments_may_be_models_and_hold_some():
    model = trained()
    expected = bits(model.predict(X, verbose=0))
    inside = Parts(model, (model, {"again": model}))
    found = [
        CLIENT.submit(answers, model),
        CLIENT.submit(answers, inside),
        CLIENT.submit(model.predict, X, verbose=0),
        CLIENT.compute(dask.delayed(answers)(dask.delayed(trained)(4, 1))),
        CLIENT.submit(lambda pair: answers(pair[1]), ("a pair", model)),
    ]
    for number, future in enumerate(found):
        assert bits(np.asarray(future.result(PATIENCE))) == expected, number

    def shared(parts):
        return parts.others[0] is parts.model is parts.others[1]["again"]

    assert CLIENT.submit(shared, inside).result(PATIENCE)


@check
def what_tasks_return_comes_back_whole():
    CLIENT.register_plugin(keras_reduce.dask.plugin())
    expected = trained()
    future = CLIENT.submit(trained)
    found = future.result(PATIENCE)
    assert isinstance(found.layers[1], Scaled)
    assert life(found) == life(expected)
    # Nor has any worker gone to Dask's adapter, which would have failed.
    assert bits(future.result(PATIENCE).get_weights()) == bits(trained().get_weights())


@check
def a_scattered_model_is_on_every_worker():
    model = trained()
    future = CLIENT.scatter(model, broadcast=True)
    assert len(CLIENT.who_has(future)[future.key]) == 2
    asked = [CLIENT.submit(answers, future, workers=[w], pure=False) for w in CLIENT.nthreads()]
    assert {bits(each.result(PATIENCE)) for each in asked} == {bits(model.predict(X, verbose=0))}


@check
def a_pipeline_predicts_the_blocks_of_an_array():
    fitted = regressor().fit(X, Y)
    blocks = dask.array.from_array(X, chunks=(12, 5))
    found = ParallelPostFit(fitted).predict(blocks).compute()
    assert bits(found) == bits(np.concatenate([fitted.predict(X[:12]), fitted.predict(X[12:])]))


@check
def weights_are_frames_of_their_own():
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256)])
    kernel = tensors.read(model.layers[0].kernel, "tensorflow")
    header, frames = serialize(model)
    assert header["serializer"] == "pickle"
    arrays = [np.frombuffer(frame, "float32") for frame in frames[1:] if len(frame) % 4 == 0]
    assert any(np.shares_memory(array, kernel) for array in arrays)


@check
def sizes_are_those_of_the_variables():
    model = trained()
    least = sum(
        v.nbytes for v in [*model.get_weights(), *map(np.asarray, model.optimizer.variables)]
    )
    assert least < sizeof(model) < least + 1000
    assert least < sizeof(regressor().fit(X, Y))
    assert sizeof(regressor()) == sys.getsizeof(regressor())
    assert sizeof(StandardScaler()) == sys.getsizeof(StandardScaler())


@check
def tokens_tell_models_apart():
    model = trained()
    token = dask.tokenize.tokenize(model)
    assert token == dask.tokenize.tokenize(model)
    model.layers[0].kernel.assign(model.layers[0].kernel + 1)
    assert token != dask.tokenize.tokenize(model)


@check
def uninstalling_puts_back_what_was_there():
    keras_reduce.uninstall()
    try:
        assert dask_serialize.dispatch(keras.Sequential).__module__ == "distributed.protocol.keras"
        assert sizeof(trained(64)) < 1000
    finally:
        keras_reduce.install()
    with raises(TypeError):
        dask_serialize.dispatch(keras.Sequential)
    assert sizeof(trained(64)) > 1000


@check
def a_program_hears_of_what_can_not_be_sent_and_of_workers_that_keep_dying():
    """joblib would wait for ever in either case. Comes last, as it costs the cluster workers."""
    with (
        raises(keras_reduce.ReduceError, "can't be pickled: tuple", "lock"),
        joblib.parallel_config("dask"),
    ):
        joblib.Parallel()(joblib.delayed(len)((threading.Lock(),)) for _ in range(2))
    model = trained(64)  # is large enough for joblib to send it by itself
    model.guard = threading.Lock()
    with raises(keras_reduce.ReduceError, "lock"), joblib.parallel_config("dask"):
        joblib.Parallel()(joblib.delayed(answers)(model) for _ in range(2))
    with raises(KilledWorker, "died"), joblib.parallel_config("dask"):
        joblib.Parallel()(joblib.delayed(os._exit)(status) for status in (1,))


# --- commands on ports -----------------------------------------------------------------------


@contextlib.contextmanager
def running(command, *arguments, **environment):
    """Run one of Dask's commands as a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{command}", *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)


def worker(address, name, *, path="", threads=2, **environment):
    search = os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH", "")]))
    # joblib sends nothing to a cluster of one thread.
    options = ("--no-nanny", "--nthreads", threads, "--no-dashboard", "--name", name)
    return running("worker", address, *options, PYTHONPATH=search, **environment)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def commands():
    """Give a client of a scheduler, which is a process without Keras, and has no workers yet."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    options = ("--host", "127.0.0.1", "--port", port, "--no-dashboard")
    hidden = {"HIDDEN": "keras", "PYTHONPATH": f"{DISGUISES}:{os.environ['PYTHONPATH']}"}
    with running("scheduler", *options, **hidden), Client(address, timeout=60) as client:
        yield client, address


@contextlib.contextmanager
def joined(client, address, name, **options):
    with worker(address, name, **options) as process:
        deadline = time.monotonic() + 60
        while name not in (found := names(client)):
            assert process.poll() is None, "the worker has ended"
            assert time.monotonic() < deadline, "no worker has come"
            time.sleep(0.1)
        yield found[name]
    while name in names(client):
        time.sleep(0.1)


def names(client):
    return {each["id"]: where for where, each in client.scheduler_info()["workers"].items()}


@check
def a_scheduler_needs_no_keras():
    model = trained()
    alone = grid_search(regressor(), {"kerasregressor__units": [3]})
    with (
        commands() as (client, address),
        joined(client, address, "first", threads=1),
        joined(client, address, "second", threads=1),
    ):
        with joblib.parallel_config("dask", client=client):
            found = grid_search(regressor(), {"kerasregressor__units": [3]})
        assert scores(found) == scores(alone)
        answer = client.submit(answers, Parts(model, ())).result(PATIENCE)
        assert bits(answer) == bits(model.predict(X, verbose=0))
        imported = client.run_on_scheduler(
            lambda: sorted({"keras", "tensorflow"} & set(sys.modules))
        )
        assert imported == []
        workers_that_are_not_fit(client, address)


def workers_that_are_not_fit(client, address):
    """Each is named, and what it lacks, to a program that sends a batch or registers the plugin."""
    unfit = {
        "without": ({"HIDDEN": "keras_reduce"}, "keras_reduce is missing here"),
        "older": ({"KERAS_VERSION": "3.1.0"}, f"keras 3.1.0 here, {keras.__version__} there"),
    }
    with contextlib.ExitStack() as stack:
        for name, (environment, said) in unfit.items():
            worker = joined(client, address, name, path=str(DISGUISES), **environment)
            where = stack.enter_context(worker)
            with (
                raises(ImportError, said, f"Dask worker {where}", "What to do"),
                joblib.parallel_config("dask", client=client, workers=[where]),
            ):
                grid_search(regressor(), {"kerasregressor__units": [3]})
        # The scheduler passes on what was said by one of them, but not as what.
        with raises(Exception, "can't take Keras objects", "Dask worker tcp://", "What to do"):
            client.register_plugin(keras_reduce.dask.plugin())


@check
def a_worker_with_another_backend_says_so():
    with commands() as (client, address), joined(client, address, "other") as where:

        def compute_with_another():
            sys.modules["keras"] = keras = types.ModuleType("keras")
            keras.config = types.SimpleNamespace(backend=lambda: "numpy")
            keras.__version__ = "0"  # none that this package has anything to do with

        client.run(compute_with_another)
        said = "computes with 'numpy', that of its program with 'tensorflow'"
        with (
            raises(keras_reduce.FrameworkError, said, f"Dask worker {where}"),
            joblib.parallel_config("dask", client=client),
        ):
            grid_search(regressor(), {"kerasregressor__units": [3]})
        with raises(Exception, said, f"Dask worker {where}"):
            client.register_plugin(keras_reduce.dask.plugin())

        async def unpickle(blob):
            """Do as the worker does with messages that it gets."""
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                pickle.loads(blob)
            return [str(each.message) for each in seen]

        (warned,) = client.run(unpickle, pickle.dumps(registry.current()))[where]
        assert said in warned


if __name__ == "__main__":
    keras_reduce.install()
    OPTIONS = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(2, **OPTIONS) as cluster, Client(cluster) as CLIENT:
        main()
