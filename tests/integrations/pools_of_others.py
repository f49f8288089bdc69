"""Pools, queues and stores of other packages: what arrives in another process, bit for bit.

The model has code of ``__main__``, and TensorFlow has run before anything is sent, as in a program
that trains first.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import pickle
import shelve
import signal
import sqlite3
import subprocess
import sys
import tempfile
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

import keras_reduce
from checks import bits, check, main, raises

keras_reduce.install()
X = np.linspace(-1, 1, 24, dtype="float32").reshape(8, 3)
Y = X.sum(1, keepdims=True)


class Squared(layers.Layer):
    def call(self, inputs):
        return ops.square(inputs)


def trained():
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(256, "relu"), layers.Dropout(0.5), Squared()]
    model = keras.Sequential([keras.Input((3,)), *hidden, layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(X, Y, epochs=2, batch_size=4, verbose=0)
    return model


def outcome(model):
    """Return predictions of a model, and its history and weights after further training."""
    history = model.fit(X, Y, epochs=2, batch_size=4, shuffle=False, verbose=0).history
    return bits([model.predict(X, verbose=0), history, *model.get_weights()])


def visit(model):
    """Return the outcome in this process, and the trained model."""
    return outcome(model), os.getpid(), model


def demand(model, expected, result):
    """Require that a model has been to another process and has come back as one from here."""
    there, pid, returned = result
    assert pid != os.getpid()
    assert there == expected
    assert outcome(returned) == outcome(model)


def arrives(send):
    """Train a model, send it by a function that returns what `visit` does there, and compare."""
    model = trained()
    result = send(model)
    demand(model, outcome(model), result)


def is_in_band(content):
    """Tell whether a pickle, or a file with one, has the weights in it."""
    return weights(trained()) < len(content)


def weights(model):
    """Return the bytes of the weights of a model and the slots of its optimizer."""
    return sum(np.asarray(each).nbytes for each in (*model.variables, *model.optimizer.variables))


def in_a_fresh_process(read):
    """Run statements that set ``model``; return the outcome there, and the trained model."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "back")
        code = (
            "import os, pickle, sys\n"
            f"sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
            f"{read}\n"
            "import pools_of_others as pools\n"
            f"open({str(target)!r}, 'wb').write(pickle.dumps(pools.visit(model)))\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return pickle.loads(target.read_bytes())


# --- pools ---------------------------------------------------------------------------------------


@check
def executor_that_spawns():
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        arrives(lambda model: pool.submit(visit, model).result())
    assert is_in_band(ForkingPickler.dumps(trained()))


@check
def executor_with_a_fork_server():
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("forkserver")
    ) as pool:
        arrives(lambda model: pool.submit(visit, model).result())


@check
def pool_of_multiprocess():
    import multiprocess.reduction

    with multiprocess.get_context("spawn").Pool(1) as pool:
        arrives(lambda model: pool.apply(visit, (model,)))
    assert is_in_band(multiprocess.reduction.ForkingPickler.dumps(trained()))


@check
def pool_of_pathos():
    from pathos.helpers import mp
    from pathos.pools import ProcessPool

    assert mp.get_start_method() == "fork"
    mp.set_start_method("spawn", force=True)
    pool = ProcessPool(1)
    try:
        arrives(lambda model: pool.map(visit, [model])[0])
    finally:
        pool.terminate()
        pool.clear()


@check
def manager():
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(1) as pool:
        shared = manager.dict()

        def send(model):
            shared["model"] = model
            assert shared["model"] is not shared["model"]
            return pool.apply(visit_shared, (shared,))

        arrives(send)


def visit_shared(shared):
    return visit(shared["model"])


MPI = """
import sys
sys.path[:0] = {path!r}
from mpi4py import MPI
import pools_of_others as pools

{body}
"""


def under_mpi(body, *arguments):
    """Run a program on two ranks; return what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "program.py")
        file.write_text(MPI.format(path=[str(Path(__file__).parent), *sys.path], body=body))
        command = [str(Path(sys.executable).with_name("mpiexec")), "-n", "2", sys.executable]
        done = subprocess.run(
            [*command, *arguments, file], capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


BROADCAST = """
world = {communicator}
model = pools.trained() if world.rank == 0 else None
received = world.bcast(model, root=0)
{check}
result = world.gather(pools.visit(received) if world.rank else None, root=0)
if world.rank == 0:
    pools.demand(model, pools.outcome(model), result[1])
    print("compared")
"""


@check
def broadcast_of_mpi4py():
    check = "assert pools.is_in_band(MPI.pickle.dumps(pools.trained()))"
    program = BROADCAST.format(communicator="MPI.COMM_WORLD", check=check)
    assert "compared" in under_mpi(program)


@check
def broadcast_of_mpi4py_out_of_band():
    check = """
assert MPI.pickle.THRESHOLD == 256 * 1024
MPI.pickle.THRESHOLD = 0  # Otherwise smaller arrays go in band.
content, buffers = MPI.pickle.dumps_oob(pools.trained())
assert not pools.is_in_band(content)
assert pools.is_in_band(b"".join(map(memoryview, buffers)))
"""
    program = BROADCAST.format(communicator="pkl5.Intracomm(MPI.COMM_WORLD)", check=check)
    assert "compared" in under_mpi(f"from mpi4py.util import pkl5\n{program}")


@check
def executor_of_mpi4py():
    body = """
from mpi4py.futures import MPIPoolExecutor

if __name__ == "__main__":
    with MPIPoolExecutor() as pool:
        pools.arrives(lambda model: pool.submit(pools.visit, model).result())
    print("compared")
"""
    assert "compared" in under_mpi(body, "-m", "mpi4py.futures")


# --- studies of Optuna --------------------------------------------------------------------------


def loss(trial, model):
    """Train a copy of a model further, as a trial says; return the loss."""
    copied = pickle.loads(pickle.dumps(model))
    copied.optimizer.learning_rate = trial.suggest_categorical("rate", [0.001, 0.01, 0.1, 0.2])
    return copied.fit(X, Y, epochs=2, shuffle=False, verbose=0).history["loss"][-1]


def go_on(path, model, count):
    """Run trials of a study that several processes work on."""
    _study(path).optimize(functools.partial(loss, model=model), n_trials=count)


def _study(path):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(path))
    sampler = optuna.samplers.BruteForceSampler(seed=0)
    return optuna.create_study(
        storage=storage, sampler=sampler, study_name="rates", load_if_exists=True
    )


def losses(study):
    """Return the loss of each rate that a study has tried."""
    return {trial.params["rate"]: trial.value for trial in study.trials if trial.value is not None}


@check
def study_of_optuna_in_threads_and_in_processes():
    model = trained()
    with tempfile.TemporaryDirectory() as folder:
        one, threads, processes = (f"{folder}/{name}" for name in ("one", "threads", "processes"))
        go_on(one, model, 4)
        _study(threads).optimize(functools.partial(loss, model=model), n_trials=4, n_jobs=2)
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            list(pool.map(go_on, [processes] * 2, [model] * 2, [3, 3]))
        results = [losses(_study(path)) for path in (one, threads, processes)]
    assert len(results[0]) == 4
    # Two workers may try the same rate: not each study has all of them.
    assert all(each.items() <= results[0].items() and each for each in results[1:]), results


# --- queues --------------------------------------------------------------------------------------

TASKS = """
import sys
sys.path[:0] = {path!r}
from celery import Celery
import pools_of_others as pools  # It imports Keras before Celery forks, and runs nothing.

app = Celery("tasks", broker="filesystem://", backend="file://{folder}/results")
app.conf.update(
    accept_content=["pickle", "json"],
    task_serializer="pickle",
    result_serializer="pickle",
    broker_connection_retry_on_startup=True,
    broker_transport_options={{
        "data_folder_in": "{folder}/queue",
        "data_folder_out": "{folder}/queue",
        "control_folder": "{folder}/control",
    }},
)


@app.task
def visit(model):
    return pools.visit(model)
"""


@check
def celery_with_forked_workers():
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for name in ("queue", "control", "results"):
            Path(folder, name).mkdir()
        path = [str(Path(__file__).parent), *sys.path]
        Path(folder, "tasks.py").write_text(TASKS.format(path=path, folder=folder))
        sys.path.insert(0, folder)
        log = stack.enter_context(Path(folder, "log").open("w"))
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool", "prefork", "-c2"],
            cwd=folder,
            # Celery refuses pickles for the user root, whom tests may have.
            env={**os.environ, "C_FORCE_ROOT": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        stack.callback(os.killpg, worker.pid, signal.SIGKILL)
        import tasks
        from kombu.exceptions import EncodeError

        try:
            arrives(lambda model: tasks.visit.delay(model).get(timeout=120))
        except Exception as error:
            raise AssertionError(Path(folder, "log").read_text()) from error
        # What Celery does if it isn't told to use pickle.
        with raises(EncodeError):
            tasks.visit.apply_async([trained()], serializer="json")


# --- stores --------------------------------------------------------------------------------------


@check
def cache_of_diskcache():
    import diskcache

    with tempfile.TemporaryDirectory() as folder:

        def send(model):
            with diskcache.Cache(folder) as cache:
                cache["model"] = model
            assert is_in_band(b"".join(map(Path.read_bytes, Path(folder).iterdir())))
            return in_a_fresh_process(
                f"import diskcache; model = diskcache.Cache({folder!r})['model']"
            )

        arrives(send)


@check
def shelf():
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/shelf"

        def send(model):
            with shelve.open(path) as shelf:
                shelf["model"] = model
            assert is_in_band(b"".join(map(Path.read_bytes, Path(folder).iterdir())))
            return in_a_fresh_process(f"import shelve; model = shelve.open({path!r})['model']")

        arrives(send)


@check
def blob_of_a_database():
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/models.db"

        def send(model):
            with contextlib.closing(sqlite3.connect(path)) as database, database:
                database.execute("create table models (content blob)")
                content = pickle.dumps(model)
                assert is_in_band(content)
                database.execute("insert into models values (?)", [content])
            return in_a_fresh_process(
                "import sqlite3\n"
                f"rows = sqlite3.connect({path!r}).execute('select content from models')\n"
                "model = pickle.loads(rows.fetchone()[0])"
            )

        arrives(send)


if __name__ == "__main__":
    main(*sys.argv[1:])
