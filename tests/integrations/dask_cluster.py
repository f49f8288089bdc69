"""Clusters of Dask: a local cluster with two processes, and one of commands connected by ports.

All results are compared with those of the same program alone, bit for bit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
from pathlib import Path

import dask
import dask.array
import dask.sizeof
import joblib
import joblib._dask
import keras
import numpy as np
from dask.sizeof import sizeof
from dask_ml.model_selection import HyperbandSearchCV
from dask_ml.wrappers import Incremental, ParallelPostFit
from distributed import Client, KilledWorker, LocalCluster, fire_and_forget
from distributed.protocol.serialize import Serialized, ToPickle, dask_serialize, serialize
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_reduce
from checks import bits, check, main, raises
from cluster_models import (
    BATCH,
    DISGUISES,
    OTHERS,
    PATIENCE,
    PROGRAM,
    Parts,
    Scaled,
    X,
    Y,
    answers,
    as_if_on,
    assert_same_ensembles,
    assert_same_estimators,
    behaviour,
    build,
    ensemble,
    grid_search,
    keras_regressor,
    killing,
    read,
    regressor,
    scikeras_regressor,
    scores,
    trained,
    validated,
)
from keras_reduce import scikeras
from keras_reduce.core import array_backends
from keras_reduce.integrations import dask_admission

# --- through joblib --------------------------------------------------------------------------


def on_dask(**options):
    return joblib.parallel_config("dask", **options)


@check
def tasks_run_in_other_processes():
    with on_dask():
        processes = joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(4))
    assert set(processes) <= set(CLIENT.run(os.getpid).values())
    assert PROGRAM not in processes


@check
def searches_find_what_they_find_alone():
    grid = {"kerasregressor__units": [3, 4]}
    alone = grid_search(regressor(), grid)
    with on_dask():
        search = grid_search(regressor(), grid)
    assert scores(search) == scores(alone)
    assert behaviour(search.best_estimator_[-1].model_) == behaviour(
        alone.best_estimator_[-1].model_
    )


@check
def wrappers_of_others_are_searched():
    grids = {"units": [3, 4]}, {"model_kwargs": [{"units": 3}, {"units": 4}]}
    for wrapper, grid in zip((scikeras_regressor(), keras_regressor()), grids, strict=True):
        pipeline = make_pipeline(StandardScaler(), wrapper)
        grid = {f"{type(wrapper).__name__.lower()}__{name}": v for name, v in grid.items()}
        alone = grid_search(pipeline, grid)
        with on_dask():
            search = grid_search(pipeline, grid)
        assert scores(search) == scores(alone)


@check
def estimators_that_workers_have_fitted_come_back_whole():
    for estimator in (regressor(), scikeras_regressor()):
        alone = validated(estimator)
        with on_dask():
            distributed = validated(estimator)
        assert_same_estimators(distributed, alone)


@check
def ensembles_come_back_whole():
    alone = ensemble()
    with on_dask():
        distributed = ensemble()
    assert_same_ensembles(distributed, alone)


@check
def what_a_task_is_given_twice_is_one_there():
    def are_one(first, more, **named):
        return first[0] is more["again"] is named["last"][0]

    model = trained()
    with on_dask():
        identical = joblib.Parallel()(
            joblib.delayed(are_one)([model], {"again": model}, last=(model,)) for _ in range(2)
        )
    assert identical == [True, True]


@check
def futures_among_arguments_are_what_they_stand_for():
    model = trained()
    future = CLIENT.scatter(model)
    # Also in an object that Dask does not traverse.
    given = (future, [future], {"model": future}, Parts(future, ()))

    def all_answers(first, second, third, fourth):
        return [answers(each) for each in (first, *second, *third.values(), fourth)]

    with on_dask():
        results = joblib.Parallel()(joblib.delayed(all_answers)(*given) for _ in range(2))
    expected = bits(answers(model))
    assert [bits(each) for each in results[0] + results[1]] == [expected] * 8


@check
def a_search_outlives_a_worker():
    """Kill a worker: Dask starts another one, which gets its tasks."""
    grid = {"kerasregressor__units": [3, 4, 5, 6], "kerasregressor__epochs": [4]}
    alone = grid_search(regressor(), grid)
    mark = Path(FOLDER, "killed")
    before = set(CLIENT.run(os.getpid).values())
    with on_dask():
        search = grid_search(regressor(build_fn=killing(mark)), grid)
    assert mark.exists()
    assert scores(search) == scores(alone)
    assert search.best_params_ == alone.best_params_
    CLIENT.wait_for_workers(2, timeout=PATIENCE)
    assert set(CLIENT.run(os.getpid).values()) != before


# --- tasks of the program --------------------------------------------------------------------


def assert_arguments_may_be_models(client):
    model = trained()
    expected = bits(model.predict(X, verbose=0))
    inside = Parts(model, (model, {"again": model}))
    futures = [
        client.submit(answers, model),
        client.submit(answers, inside),
        client.submit(model.predict, X, verbose=0),
        client.compute(dask.delayed(answers)(dask.delayed(trained)(4, 1))),
        client.submit(lambda pair: answers(pair[1]), ("a pair", model)),
    ]
    for number, future in enumerate(futures):
        assert bits(np.asarray(future.result(PATIENCE))) == expected, number

    def shared(parts):
        return parts.others[0] is parts.model is parts.others[1]["again"]

    assert client.submit(shared, inside).result(PATIENCE)


@check
def arguments_may_be_models_and_hold_some():
    assert_arguments_may_be_models(CLIENT)


@check
def workers_within_the_program_get_the_objects_themselves():
    """Require that a scheduler that sends to no other process hands over no placeholders."""
    options = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": None}
    with Client(processes=False, set_as_default=False, **options) as client:
        assert_arguments_may_be_models(client)
        estimator = keras_reduce.KerasRegressor(built_in_steps, random_state=1)
        copied = client.submit(clone, estimator)
        fitted = client.submit(lambda regressor: regressor.fit(X, Y), copied).result(PATIENCE)
        assert bits(fitted.predict(X)) == fitted_with(1)


class Named(keras.Sequential):
    """A model with methods whose names are also used inside this package."""

    def arguments(self):
        return "arguments"

    def rebuild(self):
        return "rebuild"

    def state(self):
        return "state"

    def _private(self):
        return "_private"


@check
def methods_pass_a_scheduler_whatever_they_are_called():
    model = Named([keras.Input((2,)), keras.layers.Dense(1)])
    names = ("arguments", "rebuild", "state", "_private")
    futures = [CLIENT.submit(getattr(model, name)) for name in names]
    assert tuple(each.result(PATIENCE) for each in futures) == names


@check
def a_file_of_another_backend_is_read_but_not_a_message():
    """Try a small and a large model: Dask unpickles large messages in another thread."""
    large = keras.Sequential([keras.Input((5,)), keras.layers.Dense(600_000)])
    for number, model in enumerate((trained(), large)):
        expected = answers(model)
        with as_if_on("jax"):
            path = Path(FOLDER, f"{number}.pickle")
            path.write_bytes(pickle.dumps(model))
            for argument in (model, Parts(model, ())):
                with raises(keras_reduce.FrameworkError, OTHERS, "Dask worker tcp://"):
                    CLIENT.submit(answers, argument).result(PATIENCE)
        predictions, is_unchanged = CLIENT.submit(read, path).result(PATIENCE)
        assert is_unchanged
        assert bits(predictions) == bits(expected)
    assert len(CLIENT.scheduler_info()["workers"]) == 2


@check
def what_tasks_return_comes_back_whole():
    CLIENT.register_plugin(keras_reduce.dask.plugin())
    expected = trained()
    future = CLIENT.submit(trained)
    returned = future.result(PATIENCE)
    assert isinstance(returned.layers[1], Scaled)
    assert behaviour(returned) == behaviour(expected)
    # No worker has used Dask's own serializer, which would have failed.
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
    predictions = ParallelPostFit(fitted).predict(blocks).compute()
    assert bits(predictions) == bits(
        np.concatenate([fitted.predict(X[:12]), fitted.predict(X[12:])])
    )


@check
def blocks_of_an_array_are_epochs():
    CLIENT.register_plugin(keras_reduce.dask.plugin())
    blocks, targets = (dask.array.from_array(each, chunks=12) for each in (X, Y))
    for module in (keras_reduce, scikeras):
        estimator = module.KerasRegressor(build, batch_size=BATCH, random_state=0, verbose=0)
        incremental = Incremental(estimator, shuffle_blocks=False)
        incremental.fit(blocks, targets)
        alone = clone(estimator)
        for rows in (slice(12), slice(12, None)):
            alone.partial_fit(X[rows], Y[rows])
        assert behaviour(incremental.estimator_.model_) == behaviour(alone.model_)
        assert bits(incremental.predict(blocks).compute()) == bits(
            np.concatenate([alone.predict(X[:12]), alone.predict(X[12:])])
        )


@check
def hyperband_searches_epoch_by_epoch():
    CLIENT.register_plugin(keras_reduce.dask.plugin())
    blocks, targets = (dask.array.from_array(each, chunks=8) for each in (X, Y))
    for module, name in ((keras_reduce, "units"), (scikeras, "model__units")):
        estimator = module.KerasRegressor(build, batch_size=4, random_state=0, verbose=0)
        search = HyperbandSearchCV(estimator, {name: [2, 3, 4]}, max_iter=3, random_state=0)
        # dask-ml calls dask.persist within the client's loop, which Dask refuses otherwise.
        with dask.config.set(scheduler=CLIENT.get):
            search.fit(blocks, targets)
        assert search.best_params_[name] in (2, 3, 4)
        best = search.best_estimator_
        assert best.model_.layers[0].units == search.best_params_[name]
        # Two of the three blocks are for training; each call of partial_fit is an epoch of one.
        calls = search.cv_results_["partial_fit_calls"][search.best_index_]
        assert best.model_.optimizer.iterations.numpy() == 2 * calls
        twin = keras_reduce.loads(keras_reduce.dumps(search))
        assert bits(twin.best_estimator_.predict(X)) == bits(best.predict(X))


@check
def weights_are_frames_of_their_own():
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256)])
    kernel = array_backends.read(model.layers[0].kernel, "tensorflow")
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


BACKEND = joblib._dask.DaskDistributedBackend


def is_changed():
    """Return for each patch True if it is applied."""
    model = trained(64)
    try:
        adapter = dask_serialize.dispatch(keras.Sequential).__module__
    except TypeError:
        adapter = ""
    names = ("_to_func_args", "submit")
    methods = [vars(BACKEND)[name].__module__ != "joblib._dask" for name in names]
    names = ("_send_to_scheduler_safe", "_scatter", "_close")
    methods += [vars(Client)[n].__globals__["__name__"].startswith("keras_reduce") for n in names]
    own_numbers = dask.sizeof.random is not random
    return [*methods, own_numbers, sizeof(model) > 1000, adapter != "distributed.protocol.keras"]


@check
def uninstalling_puts_back_what_was_there():
    assert is_changed() == [True] * 8
    keras_reduce.uninstall()
    try:
        assert is_changed() == [False] * 8
    finally:
        keras_reduce.install()
    assert is_changed() == [True] * 8


@check
def a_version_without_a_private_name_is_left_alone():
    keras_reduce.uninstall()
    method = BACKEND._to_func_args
    del BACKEND._to_func_args
    try:
        keras_reduce.install()
        assert not hasattr(BACKEND, "_to_func_args")
        keras_reduce.uninstall()
        assert not hasattr(BACKEND, "_to_func_args")
    finally:
        BACKEND._to_func_args = method
        keras_reduce.install()
    assert is_changed() == [True] * 8


@check
def a_program_hears_of_what_can_not_be_sent_and_of_workers_that_keep_dying():
    """Require errors where joblib would wait for ever. Must be last: it kills workers."""
    with (
        raises(keras_reduce.ReduceError, "can't be pickled: a task for len", "lock"),
        on_dask(),
    ):
        joblib.Parallel()(joblib.delayed(len)((threading.Lock(),)) for _ in range(2))
    model = trained(64)  # large enough for joblib to scatter it
    model.guard = threading.Lock()
    with raises(keras_reduce.ReduceError, "lock"), on_dask():
        joblib.Parallel()(joblib.delayed(answers)(model) for _ in range(2))
    with raises(KilledWorker, "died"), on_dask():
        joblib.Parallel()(joblib.delayed(os._exit)(status) for status in (1,))


# --- commands on ports -----------------------------------------------------------------------


@contextlib.contextmanager
def running(command, *arguments, stderr=subprocess.DEVNULL, **environment):
    """Run one of Dask's commands in its own process."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{command}", *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=stderr,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)


def worker(address, name, *, path="", threads=2, **environment):
    search = os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH", "")]))
    # joblib computes in the program if a cluster has one thread.
    options = ("--no-nanny", "--nthreads", threads, "--no-dashboard", "--name", name)
    return running("worker", address, *options, PYTHONPATH=search, **environment)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def commands():
    """Yield a client of a scheduler without Keras and without workers, and its address."""
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
        while name not in (numbers := names(client)):
            assert process.poll() is None, "the worker has ended"
            assert time.monotonic() < deadline, "no worker has come"
            time.sleep(0.1)
        yield numbers[name]
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
        with on_dask(client=client):
            search = grid_search(regressor(), {"kerasregressor__units": [3]})
        assert scores(search) == scores(alone)
        answer = client.submit(answers, Parts(model, ())).result(PATIENCE)
        assert bits(answer) == bits(model.predict(X, verbose=0))
        imported = client.run_on_scheduler(
            lambda: sorted({"keras", "tensorflow"} & set(sys.modules))
        )
        assert imported == []
        workers_that_are_not_fit(client, address)


UNFIT = {
    "without": ({"HIDDEN": "keras_reduce"}, "keras_reduce is missing here"),
    "older": ({"KERAS_VERSION": "3.1.0"}, f"keras 3.1.0 here, {keras.__version__} there"),
    "other": (
        {"IMPORTED_WITH": "numpy"},
        "computes with 'numpy', that of its program with 'tensorflow'",
    ),
}


def workers_that_are_not_fit(client, address):
    """Require errors with worker and cause when a batch is sent or the plugin is registered."""
    with contextlib.ExitStack() as stack:
        for name, (environment, said) in UNFIT.items():
            worker = joined(client, address, name, path=str(DISGUISES), **environment)
            where = stack.enter_context(worker)
            with (
                raises(Exception, said, f"Dask worker {where}", "What to do"),
                on_dask(client=client, workers=[where]),
            ):
                grid_search(regressor(), {"kerasregressor__units": [3]})
        # The error is that of one of them.
        with raises(Exception, "Dask worker tcp://", "What to do"):
            client.register_plugin(keras_reduce.dask.plugin())


@check
def tasks_are_not_sent_to_workers_that_are_not_fit():
    """Require an error: such a worker would exit, and the task would wait for ever."""
    model = trained()
    expected = bits(model.predict(X, verbose=0))
    with commands() as (client, address), joined(client, address, "fit") as fit:
        assert bits(client.submit(answers, model).result(PATIENCE)) == expected
        for name in ("without", "older"):
            environment, said = UNFIT[name]
            with joined(client, address, name, path=str(DISGUISES), **environment) as where:
                time.sleep(1)  # as long as a client keeps its list of workers
                assert_not_sent(client, model, (said, f"Dask worker {where}", "What to do"))
                # The worker still runs: other tasks can use it.
                assert client.submit(os.getpid, workers=[where]).result(PATIENCE)
                for place in (fit, "fit"):
                    future = client.submit(answers, model, workers=[place], pure=False)
                    assert bits(future.result(PATIENCE)) == expected
        assert bits(client.submit(answers, model, pure=False).result(PATIENCE)) == expected
        asyncio.run(futures_tell_one_that_can_not_wait(client, address, model))
        what_is_sent_last_arrives(address, model)


def assert_not_sent(client, model, said):
    """Require that every way to send a task raises the error."""
    for submit in (
        lambda: client.submit(answers, model, pure=False),
        lambda: client.map(answers, [Parts(model, ())], pure=False)[0],
        lambda: client.submit(lambda: keras_reduce.is_installed(), pure=False),
        lambda: client.compute(dask.delayed(answers)(model)),
        lambda: client.scatter([1, model], broadcast=True)[0],
    ):
        with raises(keras_reduce.FrameworkError, *said):
            submit().result(PATIENCE)


async def futures_tell_one_that_can_not_wait(client, address, model):
    environment, said = UNFIT["without"]
    async with Client(address, asynchronous=True) as early:
        with joined(client, address, "late", path=str(DISGUISES), **environment) as where:
            futures = [early.submit(answers, model, workers=where, pure=False) for _ in range(2)]
            for future in futures:
                with raises(keras_reduce.FrameworkError, said, f"Dask worker {where}"):
                    await asyncio.wait_for(future, PATIENCE)
            assert await early.submit(os.getpid, workers=where)


@check
def a_silent_worker_does_not_delay_a_call():
    model = trained()
    expected = bits(model.predict(X, verbose=0))
    with (
        commands() as (client, address),
        joined(client, address, "fit") as fit,
        worker(address, "silent") as process,
    ):
        client.wait_for_workers(2, timeout=PATIENCE)
        process.send_signal(signal.SIGSTOP)
        try:
            for patience in (
                PATIENCE,
                4,
                4,
            ):  # The first call waits until the worker counts as silent.
                future = client.submit(answers, model, workers=[fit], pure=False)
                assert bits(future.result(patience)) == expected
            client.scatter(model, workers=[fit])
        finally:
            process.send_signal(signal.SIGCONT)


@check
def messages_are_sent_whatever_befalls_the_asking():
    asyncio.run(messages_that_wait())


class Scripted:
    """A client without a connection, which records its messages."""

    status, scheduler = "running", None

    def __init__(self):
        self.sent = []
        self.scheduler_comm = types.SimpleNamespace(send=self.sent.append)

    def send(self, message):
        Client._send_to_scheduler_safe(self, message)


async def messages_that_wait():
    graph = {"op": "update-graph", "expr_ser": Serialized({}, [b"keras_reduce"]), "keys": {"a"}}
    # For the first there are no workers to ask; the third has an unknown form.
    messages = [
        {**graph, "annotations": ToPickle({})},
        {"op": "another"},
        {"op": "update-graph"},
        {"op": "last"},
    ]
    asking, closing = Scripted(), Scripted()
    for client in (asking, closing):
        for message in messages:
            client.send(message)
        assert client.sent == []
    # Private: queues of messages must end with their client.
    dask_admission._QUEUES[closing].dissolve()
    assert closing.sent == messages
    await asyncio.sleep(0.1)
    for client in (asking, closing):
        assert client.sent == messages
        assert client not in dask_admission._QUEUES


def what_is_sent_last_arrives(address, model):
    mark = Path(FOLDER, "last")
    with Client(address) as client:
        fire_and_forget(client.submit(lambda: mark.write_text(str(answers(model)))))
    deadline = time.monotonic() + PATIENCE
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert mark.exists()


def built_in_steps():
    """Build a model in two steps, between which other threads have time to draw."""
    layers = [keras.Input((X.shape[1],)), keras.layers.Dense(3)]
    time.sleep(0.2)
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def fitted_with(seed):
    estimator = keras_reduce.KerasRegressor(built_in_steps, random_state=seed)
    return bits(estimator.fit(X, Y).predict(X))


@check
def threads_of_one_worker_find_what_they_find_alone():
    alone = [fitted_with(seed) for seed in range(3)]
    options = {**OPTIONS, "threads_per_worker": 3}
    with LocalCluster(1, **options) as one, Client(one, set_as_default=False) as client:
        assert client.gather(client.map(fitted_with, range(3))) == alone


@check
def workers_that_come_later_are_set_up_or_refused():
    with commands() as (client, address):
        with joined(client, address, "first"):
            client.register_plugin(keras_reduce.dask.plugin())
        with joined(client, address, "second") as where:
            assert client.run(keras_reduce.is_installed) == {where: True}
        for name, (environment, said) in UNFIT.items():
            log = Path(FOLDER, name)
            with (
                log.open("wb") as file,
                worker(address, name, path=str(DISGUISES), stderr=file, **environment) as process,
            ):
                process.wait(PATIENCE)
            assert said in log.read_text(), log.read_text()
            assert "Dask worker tcp://" in log.read_text()
            assert name not in names(client)


if __name__ == "__main__":
    keras_reduce.install()
    OPTIONS = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with (
        tempfile.TemporaryDirectory(prefix="dask-") as FOLDER,
        LocalCluster(2, **OPTIONS) as cluster,
        Client(cluster) as CLIENT,
    ):
        main()
