"""The backend ``"keras"`` within one program, without a guard around its main part."""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import logging
import multiprocessing
import os
import pickle
import random
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

import joblib
import numpy as np
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import process_executor, reusable_executor
from joblib.parallel import BACKENDS

import checks
import keras_reduce
from checks import check, main, raises
from keras_reduce.parallel import backend, limits, process, server, warm

keras_reduce.install()
MARK = "set in __main__"
# See `processes.UNIMPORTABLE`.
UNIMPORTABLE = Path(checks.__file__).parent / "unimportable"


def pid(_=None):
    return os.getpid()


def eventually(condition, seconds=10.0):
    """Wait for `condition`; return True if it came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def entries(folder):
    return sum(1 for _ in Path(folder).iterdir())


def children():
    """Return the process numbers of the running workers that the server has forked."""
    server = warm.server().pid
    numbers = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
        except (OSError, ValueError):
            continue
        if fields["PPid"].strip() == str(server) and not fields["State"].startswith("Z"):
            numbers.add(int(fields["Pid"]))
    return numbers


# --- as under joblib's own backend ------------------------------------------------------------


@check
def it_is_the_default():
    assert joblib.parallel.DEFAULT_BACKEND == "keras-if-used"
    assert set(Parallel(2)(delayed(pid)(i) for i in range(20))) <= children()
    assert len(children()) == 2


@check
def nothing_of_joblib_or_multiprocessing_is_touched():
    Parallel(2)(delayed(pid)(i) for i in range(4))
    # joblib asks for the default start method itself, and so sets it.
    assert multiprocessing.get_start_method() == multiprocessing.get_all_start_methods()[0]
    forkserver = sys.modules.get("multiprocessing.forkserver")  # if not imported, it is unchanged
    if forkserver is not None:
        assert forkserver._forkserver._forkserver_pid is None
        assert forkserver._forkserver._preload_modules == ["__main__"]
    assert reusable_executor._executor is None
    assert process_executor._ExecutorManagerThread.__module__ == process_executor.__name__
    assert process_executor._MAX_MEMORY_LEAK_SIZE == 3e8


@check
def workers_have_keras_but_not_what_this_program_ran():
    def look():
        main = sys.modules["__main__"]
        return "keras" in sys.modules, hasattr(main, "eventually"), MARK

    assert Parallel(2)(delayed(look)() for _ in range(2)) == [(True, False, MARK)] * 2


@check
def workers_have_the_recursion_limit_of_the_program():
    limit = sys.getrecursionlimit()
    # Private: the state of the backend between calls has no public name.
    backend._pool.shutdown()
    sys.setrecursionlimit(limit + 1234)
    try:
        limits_of_workers = Parallel(2)(delayed(sys.getrecursionlimit)() for _ in range(2))
    finally:
        sys.setrecursionlimit(limit)
        # Private, as above.
        backend._pool.shutdown()
    assert limits_of_workers == [limit + 1234] * 2


@check
def results_may_come_as_they_are_ready():
    ordered = Parallel(2, return_as="generator")(delayed(abs)(-i) for i in range(10))
    assert list(ordered) == list(range(10))
    unordered = Parallel(2, return_as="generator_unordered")(delayed(abs)(-i) for i in range(10))
    assert sorted(unordered) == list(range(10))


@check
def large_arrays_are_mapped_as_the_user_says():
    def kind(array):
        return type(array).__name__, getattr(array, "mode", None), float(array.sum())

    array = np.ones(300_000)
    assert Parallel(2)(delayed(kind)(array) for _ in range(2)) == [("memmap", "r", 3e5)] * 2
    with parallel_config("keras", mmap_mode="c"):
        assert Parallel(2)(delayed(kind)(array) for _ in range(2)) == [("memmap", "c", 3e5)] * 2
    with parallel_config("keras", max_nbytes=None):
        assert Parallel(2)(delayed(kind)(array) for _ in range(2)) == [("ndarray", None, 3e5)] * 2
    with tempfile.TemporaryDirectory() as folder, parallel_config("keras", temp_folder=folder):
        names = Parallel(2)(delayed(lambda a: str(a.filename))(array) for _ in range(2))
        assert all(name.startswith(folder) for name in names)


@check
def calls_may_be_nested():
    def inner(i):
        return i, threading.current_thread() is threading.main_thread()

    def outer():
        return Parallel(2)(delayed(inner)(i) for i in range(3)), os.getpid()

    for results, worker in Parallel(2)(delayed(outer)() for _ in range(4)):
        assert results == [(0, False), (1, False), (2, False)]
        assert worker != os.getpid()

    def outer_with_processes():
        with parallel_config("keras", n_jobs=2):
            return os.getpid(), *Parallel()(delayed(os.getpid)() for _ in range(2))

    for outside, *inside in Parallel(2)(delayed(outer_with_processes)() for _ in range(2)):
        assert outside not in inside


@check
def who_prefers_threads_gets_threads():
    assert set(Parallel(2, prefer="threads")(delayed(pid)() for _ in range(4))) == {os.getpid()}
    shared = []
    Parallel(2, require="sharedmem")(delayed(shared.append)(i) for i in range(4))
    assert sorted(shared) == [0, 1, 2, 3]


@check
def a_call_within_a_thread_works():
    results = []
    thread = threading.Thread(
        target=lambda: results.extend(Parallel(2)(delayed(abs)(-i) for i in range(4)))
    )
    thread.start()
    thread.join()
    assert results == [0, 1, 2, 3]


@check
def idle_workers_end():
    with parallel_config("keras", idle_worker_timeout=0.5):
        workers = set(Parallel(2)(delayed(pid)() for _ in range(4)))
    assert eventually(lambda: not workers & children())
    assert Parallel(2)(delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]
    with raises(ValueError, "idle_worker_timeout"):
        Parallel(2, backend=backend.KerasBackend(timeout=3))(delayed(abs)(1) for _ in range(2))


@check
def workers_may_be_prepared():
    def say(what):
        import os

        os.environ["SAID"] = what

    with parallel_config("keras", initializer=say, initargs=("so",)):
        settings = Parallel(2)(delayed(os.getenv)("SAID") for _ in range(4))
    assert settings == ["so"] * 4
    assert Parallel(2)(delayed(os.getenv)("SAID") for _ in range(2)) == [None] * 2


@check
def a_pool_may_grow_and_shrink():
    for n_jobs in (2, 3, 2):
        Parallel(n_jobs)(delayed(time.sleep)(0.05) for _ in range(8))
        assert eventually(lambda n=n_jobs: len(children()) == n), children()


# --- failures ---------------------------------------------------------------------------------


class FailsToPickle:
    def __reduce__(self):
        raise RuntimeError("not to be pickled")


def fail_to_unpickle():
    raise RuntimeError("not to be unpickled")


class FailsToUnpickle:
    def __reduce__(self):
        return fail_to_unpickle, ()


class ExitsWhenUnpickled:
    def __reduce__(self):
        return os._exit, (3,)


class OddError(Exception):
    """An exception that can't be pickled: ``args`` lacks an argument of its constructor."""

    def __init__(self, one, two):
        super().__init__(one)
        self.lock = threading.Lock()


def raise_it(error, *arguments):
    raise error(*arguments)


def segfault():
    os.kill(os.getpid(), signal.SIGSEGV)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


ENDS = {
    "task does not pickle": delayed(abs)(FailsToPickle()),
    "task does not unpickle": delayed(abs)(FailsToUnpickle()),
    "task ends the worker as it unpickles": delayed(abs)(ExitsWhenUnpickled()),
    "task raises": delayed(raise_it)(ZeroDivisionError, "by zero"),
    "task raises an error of ours": delayed(raise_it)(keras_reduce.ReduceError, "what", "where"),
    "task raises what does not pickle": delayed(raise_it)(OddError, 1, 2),
    "task raises SystemExit": delayed(sys.exit)(3),
    "result does not pickle": delayed(FailsToPickle)(),
    "result does not unpickle": delayed(FailsToUnpickle)(),
    "worker exits": delayed(os._exit)(3),
    "worker faults": delayed(segfault)(),
    "worker is killed": delayed(kill)(),
}


@check
def all_ends_are_as_under_loky():
    for name, task in ENDS.items():
        ends = []
        for which in ("loky", "keras"):
            with parallel_config(which):
                try:
                    Parallel(2)([delayed(abs)(1), task, delayed(abs)(2)])
                    ends.append(None)
                except BaseException as error:
                    ends.append((type(error).__name__, str(error).splitlines()[0]))
                assert Parallel(2)(delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3], name
        assert ends[0] is not None, name
        assert ends[0] == ends[1], (name, ends)
    reusable_executor._executor.shutdown(kill_workers=True)


class Log(logging.Handler):
    """A handler that collects the messages that the package logs within a block."""

    def __enter__(self):
        logging.getLogger("keras_reduce").addHandler(self)
        self.lines = []
        return self.lines

    def __exit__(self, *_):
        logging.getLogger("keras_reduce").removeHandler(self)

    def emit(self, record):
        self.lines.append(record.getMessage())


def die_once(folder, number):
    """Kill this process in the first call; in later calls, return the number."""
    try:
        (Path(folder) / "died").touch(exist_ok=False)
    except FileExistsError:
        return number
    return kill()


@check
def lost_tasks_are_sent_again():
    with tempfile.TemporaryDirectory() as folder, Log() as lines:
        with parallel_config("keras", retries=1):
            results = Parallel(2)(delayed(die_once)(folder, i) for i in range(30))
        assert results == list(range(30))
    assert len(lines) == 1, lines
    assert "SIGKILL" in lines[0]


@check
def unknown_options_are_refused_where_the_backend_is_asked_for():
    tasks = [delayed(abs)(-number) for number in range(2)]
    assert Parallel(2, retrys=1)(tasks) == [0, 1]  # Like loky, the default that this replaces.
    with parallel_config("keras", n_jobs=2), raises(TypeError, "did you mean 'retries'"):
        Parallel(retrys=1)(tasks)
    with raises(TypeError, "did you mean 'retries'"):
        Parallel(2, backend="keras", retrys=1)(tasks)


@check
def deaths_are_counted():
    dies = raises(process_executor.TerminatedWorkerError)
    with parallel_config("keras", retries=2), Log() as lines, dies:
        Parallel(2)(delayed(kill)() for _ in range(4))
    assert len(lines) == 2, lines
    with parallel_config("keras", retries=2), raises(ZeroDivisionError):
        Parallel(2)(delayed(raise_it)(ZeroDivisionError) for _ in range(4))
    assert Parallel(2)(delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]


@check
def tasks_that_cannot_be_sent_again_end_the_call():
    """Require that errors in threads of the backend also end the call."""
    refused = raises(keras_reduce.WorkerError, "no more")
    with parallel_config("keras", retries=1), Log(), refused, no_more_workers():
        Parallel(2)(delayed(kill)() for _ in range(4))
    assert Parallel(2)(delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]


@check
def a_call_ends_when_no_worker_is_left():
    refused = raises(keras_reduce.WorkerError, "no more")
    with parallel_config("keras", max_worker_growth=40 * 2**20), refused, no_more_workers():
        Parallel(2)(delayed(grow)(i) for i in range(40))
    assert Parallel(2)(delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]


@contextlib.contextmanager
def no_more_workers():
    """Refuse to fork more workers for a block."""
    Parallel(2)(delayed(abs)(1) for _ in range(2))
    ours = warm.server()

    def refuse(fds):
        raise keras_reduce.WorkerError("no more")

    ours.fork = refuse
    try:
        yield
    finally:
        del ours.fork


@check
def a_worker_that_cannot_be_forked_closes_no_file_of_others():
    with no_more_workers():
        try:
            process.Context(warm.server()).Process(target=abs, args=(1,)).start()
        except keras_reduce.WorkerError as error:
            kept = error  # keeps alive, by its traceback, all objects involved
    numbers = [
        os.open(os.devnull, os.O_RDONLY) for _ in range(50)
    ]  # the freed descriptors, and more
    del kept
    gc.collect()
    for number in numbers:
        os.close(number)


@check
def a_refused_fork_is_said():
    ours, theirs = socket.socketpair()

    def refuse():
        _, (status, *_), _, _ = socket.recv_fds(theirs, 1, 10)
        os.write(status, struct.pack("q", -errno.EAGAIN))
        os.close(status)

    thread = threading.Thread(target=refuse)
    thread.start()
    fake = server.Server(())
    fake._socket = ours
    with raises(keras_reduce.WorkerError, os.strerror(errno.EAGAIN)):
        fake._ask([])
    thread.join()
    for end in (ours, theirs):
        end.close()


@check
def where_a_fork_is_not_safe_joblibs_own_backend_runs():
    def limit():
        return os.environ["TF_NUM_INTRAOP_THREADS"], os.getppid()

    # Private: the real obstacles exist on no machine of the tests.
    obstacle = backend._obstacle
    backend._obstacle = lambda: "a test forbids it"
    try:
        with Log() as lines, parallel_config("keras", retries=1, inner_max_num_threads=3):
            for _ in range(2):
                outcomes = Parallel(2)(delayed(limit)() for _ in range(2))
                assert outcomes == [("3", os.getpid())] * 2
    finally:
        backend._obstacle = obstacle
        reusable_executor._executor.shutdown(kill_workers=True)
    assert len(lines) == 1, lines
    assert "a test forbids it" in lines[0]
    before = os.environ.get("KERAS_BACKEND")
    hidden = sys.modules.pop("keras", None)
    os.environ["KERAS_BACKEND"] = "abacus"
    try:
        assert "abacus" in backend._obstacle()
    finally:
        del os.environ["KERAS_BACKEND"]
        if before is not None:
            os.environ["KERAS_BACKEND"] = before
        if hidden is not None:
            sys.modules["keras"] = hidden
    assert backend._obstacle() is None


@check
def a_forked_copy_of_the_program_has_workers_of_its_own():
    Parallel(2)(delayed(pid)() for _ in range(4))
    here = children()  # all workers, as one may have run all tasks
    ours, theirs = os.pipe()
    copy = os.fork()
    if not copy:
        try:
            sys.path.insert(0, str(UNIMPORTABLE))
            workers = set(Parallel(2)(delayed(pid)() for _ in range(4)))
            os.write(theirs, b" ".join(b"%d" % worker for worker in workers))
            backend.shutdown()
        finally:
            os._exit(0)
    os.close(theirs)
    workers = {int(worker) for worker in os.read(ours, 4096).split()}
    os.close(ours)
    os.waitpid(copy, 0)
    assert workers
    assert not workers & here
    assert set(Parallel(2)(delayed(pid)() for _ in range(4))) <= here


@check
def an_array_survives_the_death_of_a_worker():
    def total(folder, array, number):
        die_once(folder, number)
        return float(array.sum())

    array = np.ones(300_000)
    with tempfile.TemporaryDirectory() as folder, parallel_config("keras", retries=1), Log():
        assert set(Parallel(2)(delayed(total)(folder, array, i) for i in range(9))) == {3e5}


# --- threads, GPUs, memory --------------------------------------------------------------------


def variables(*names):
    return tuple(os.environ.get(name) for name in names)


@check
def threads_are_shared_out():
    def limits():
        import threadpoolctl

        sizes = {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
        return sizes, *variables("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")

    cores = joblib.cpu_count()
    for wanted in (None, 1, 3):
        number = wanted or max(cores // 2, 1)
        with parallel_config("keras", inner_max_num_threads=wanted):
            for pool_sizes, *names in Parallel(2)(delayed(limits)() for _ in range(2)):
                assert pool_sizes <= {number}, pool_sizes
                assert names == [str(number)] * 2


@check(needs="tensorflow")
def tensorflow_starts_no_more_threads_than_it_may():
    def started():
        import tensorflow as tf

        def count():
            return entries("/proc/self/task")

        before = count()
        tf.linalg.matmul(tf.ones((300, 300)), tf.ones((300, 300))).numpy()
        return count() - before

    threads = {}
    for wanted in (1, 6):
        with parallel_config("keras", inner_max_num_threads=wanted):
            threads[wanted] = max(Parallel(2)(delayed(started)() for _ in range(2)))
    assert threads[6] - threads[1] >= 4, threads


@check
def gpus_are_assigned_in_turn():
    def cards():
        time.sleep(0.2)
        return os.getpid(), *variables("CUDA_VISIBLE_DEVICES", "TF_FORCE_GPU_ALLOW_GROWTH")

    def seen(n_jobs, gpus):
        with parallel_config("keras", gpus=gpus):
            tasks = (delayed(cards)() for _ in range(3 * n_jobs))
            card_by_worker = {w: c for w, *c in Parallel(n_jobs, pre_dispatch="all")(tasks)}
        assert len(card_by_worker) == n_jobs
        return sorted(map(tuple, card_by_worker.values()), key=str)

    assert seen(2, ["0", "GPU-f00"]) == [("0", "true"), ("GPU-f00", "true")]
    assert seen(3, [4, 7]) == [("4", "true"), ("4", "true"), ("7", "true")]
    assert seen(2, None) == [(os.environ.get("CUDA_VISIBLE_DEVICES"), None)] * 2
    os.environ["CUDA_VISIBLE_DEVICES"] = "5,6"
    try:
        assert seen(2, "auto") == [("5", "true"), ("6", "true")]
    finally:
        del os.environ["CUDA_VISIBLE_DEVICES"]
    with raises(ValueError, "gpus"):
        seen(2, "all")


def grow(_):
    vars(threading).setdefault("kept", []).append(np.ones(2_000_000))  # 16 MB
    time.sleep(0.25)
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


@check
def a_worker_that_has_grown_makes_room_for_another():
    import warnings

    with warnings.catch_warnings(), parallel_config("keras", max_worker_growth=40 * 2**20):
        warnings.simplefilter("error")
        workers = [worker for worker, _ in Parallel(2)(delayed(grow)(i) for i in range(40))]
    assert len(workers) == 40
    assert len(set(workers)) > 4, set(workers)
    with parallel_config("keras", max_worker_growth=None):
        assert len(set(Parallel(2)(delayed(grow)(i) for i in range(12)))) <= 2


@check
def gpus_are_assigned_again_when_a_worker_has_grown():
    with parallel_config("keras", gpus=["4", "7"], max_worker_growth=40 * 2**20):
        workers = dict(Parallel(2)(delayed(grow)(i) for i in range(30)))
    assert len(workers) > 2, workers
    assert set(workers.values()) == {"4", "7"}


@check
def nothing_grows_over_many_calls():
    def state():
        gc.collect()
        return (
            entries("/proc/self/fd"),
            entries("/proc/self/task"),
            # Only files with the number of this process in their names.
            sum(1 for path in Path("/dev/shm").iterdir() if f"{os.getpid()}" in path.name),
        )

    def memory():
        return limits.private_memory() / 2**20

    def work(net, array):
        return net.count_params() + array.sum()

    array, net = np.ones(200_000), model()
    # Private: the state of the backend between calls has no public name.
    backend._pool.shutdown()
    for _ in range(20):
        Parallel(2)(delayed(work)(net, array) for _ in range(4))
    before, megabytes = state(), memory()
    for _ in range(80):
        Parallel(2)(delayed(work)(net, array) for _ in range(4))
    assert memory() - megabytes < 10, (megabytes, memory())
    Parallel(2)(delayed(abs)(i) for i in range(1000))
    assert eventually(lambda: all(map(lambda n, o: n <= o + 1, state(), before))), (before, state())


# --- models -----------------------------------------------------------------------------------


@functools.cache
def model():
    import keras

    keras.utils.set_random_seed(1)
    sequential = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(512, "relu"), keras.layers.Dense(1)]
    )
    sequential.compile("adam", "mse")
    sequential.fit(np.ones((8, 64)), np.ones(8), verbose=0)
    return sequential


INPUTS = np.linspace(0, 1, 640).reshape(10, 64)


def predict(net):
    return net.predict(INPUTS, verbose=0)


class Notes:
    """A scikit-learn callback that writes a file for each event."""

    def __init__(self, folder):
        self.folder = folder

    def setup(self, estimator, context):
        self.note("setup")

    def teardown(self, estimator, context):
        self.note("teardown")

    def on_fit_task_begin(self, estimator, context, **_):
        self.note("begin")

    def on_fit_task_end(self, estimator, context, **_):
        self.note("end")

    def note(self, what):
        tempfile.mkstemp(prefix=f"{what}-", dir=self.folder)


@check
def callbacks_of_scikit_learn_hear_of_each_task():
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV

    if not hasattr(GridSearchCV, "set_callbacks"):
        return  # new in 1.9
    heard = []
    for which in ("loky", "keras"):
        with tempfile.TemporaryDirectory() as folder, parallel_config(which):
            search = GridSearchCV(Ridge(), {"alpha": [1, 2, 3]}, cv=2, n_jobs=2)
            search.set_callbacks(Notes(folder)).fit(INPUTS, INPUTS[:, 0])
            heard.append(sorted(file.name.partition("-")[0] for file in Path(folder).iterdir()))
    assert len(heard[0]) > 6
    assert heard[0] == heard[1], heard


@check
def models_go_and_come():
    for answer in Parallel(2)(delayed(predict)(model()) for _ in range(4)):
        assert np.array_equal(answer, predict(model()))

    def trained(net):
        net.fit(INPUTS, np.ones(10), shuffle=False, verbose=0)
        return net

    before = pickle.dumps(model().get_weights())
    first, second = Parallel(2)(delayed(trained)(model()) for _ in range(2))
    assert pickle.dumps(model().get_weights()) == before
    expected = trained(pickle.loads(pickle.dumps(model())))
    for net in (first, second):
        assert all(map(np.array_equal, net.get_weights(), expected.get_weights()))
    expected = trained(expected).get_weights()
    assert all(map(np.array_equal, trained(first).get_weights(), expected))


@check(needs="tensorflow")
def weights_are_written_once_and_again_when_they_change():
    def where(net):
        import keras_reduce.core.array_backends as tensors

        array = tensors.read(net.layers[0].kernel, "tensorflow")
        lines = Path("/proc/self/maps").read_text().splitlines()
        spans = [line.split() for line in lines if "weights-" in line]
        address = array.__array_interface__["data"][0]
        time.sleep(0.05)
        for span, *_, name in spans:
            start, end = (int(edge, 16) for edge in span.split("-"))
            if start <= address < end:
                return (name, address - start), float(array.flat[0])
        return None, float(array.flat[0])

    # The file is mapped from its beginning, so the distance of addresses is the offset in the file.
    first = {place for place, _ in Parallel(2)(delayed(where)(model()) for _ in range(8))}
    assert len(first) == 1, first
    assert None not in first, first
    with Parallel(2) as parallel:
        before = {value for _, value in parallel(delayed(where)(model()) for _ in range(4))}
        model().layers[0].kernel.assign_add(np.ones((64, 512)))
        after = {value for _, value in parallel(delayed(where)(model()) for _ in range(4))}
    assert len(before) == len(after) == 1
    assert abs(after.pop() - before.pop() - 1) < 1e-6


@check
def a_model_that_changes_from_call_to_call_leaves_nothing_behind():
    def answer(net):
        return float(predict(net).sum())

    size = sum(weight.nbytes for weight in model().get_weights())
    sizes = []
    with Parallel(2) as parallel:
        for _ in range(12):
            for variable in model().variables:
                variable.assign(variable + 1e-3)
            expected = answer(model())
            assert parallel(delayed(answer)(model()) for _ in range(4)) == [expected] * 4
            folder = Path(parallel._backend._folder())
            sizes.append(sum(file.stat().st_size for file in folder.glob("weights-*")))
    assert max(sizes) < 8 * size, (sizes, size)
    assert not folder.exists() or not list(folder.iterdir())


@check
def two_calls_at_once_write_their_weights_once_each():
    def answer(net, number):
        return number, predict(net)

    expected, seen = predict(model()), set()

    def call(number):
        with Parallel(2) as parallel:
            for result, answered in parallel(delayed(answer)(model(), number) for _ in range(12)):
                assert result == number
                assert np.array_equal(answered, expected)
            folder = Path(parallel._backend._folder())
            seen.add(tuple(sorted(folder.glob("weights-*"))))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 2
    assert all(len(files) == 1 for files in seen), seen


@check
def what_a_worker_does_to_shared_weights_stays_with_it():
    def spoil(net):
        net.layers[0].kernel.assign(np.zeros((64, 512)))
        return predict(net)

    expected = predict(model())
    with Parallel(2) as parallel:
        parallel(delayed(spoil)(model()) for _ in range(4))
        for answer in parallel(delayed(predict)(model()) for _ in range(4)):
            assert np.array_equal(answer, expected)


# --- the end of the server: all checks above share one ----------------------------------------


@contextlib.contextmanager
def without_keras():
    """Hide Keras, whose import takes seconds, from servers that start within the block."""
    backend.shutdown()
    sys.path.insert(0, str(UNIMPORTABLE))
    try:
        yield
    finally:
        sys.path.remove(str(UNIMPORTABLE))
        backend.shutdown()


@check
def each_worker_draws_its_own_random_numbers():
    def draw():
        time.sleep(0.1)
        return os.getpid(), random.random(), float(np.random.rand())  # noqa: NPY002 - the global generator is tested

    drawn = Parallel(2)(delayed(draw)() for _ in range(4))
    assert len({worker for worker, *_ in drawn}) == 2
    assert len({number for _, *numbers in drawn for number in numbers}) == 8
    with without_keras():
        again = Parallel(2)(delayed(draw)() for _ in range(4))
    assert not {n for _, *numbers in drawn for n in numbers} & {n for _, *ns in again for n in ns}


@check
@without_keras()
def workers_are_where_the_program_is():
    def place():
        return str(Path.cwd()), os.environ.get("SET_LATE"), sys.path[-1], sys.argv

    Parallel(2)(delayed(pid)() for _ in range(2))  # the server runs by now
    # Private: the state of the backend between calls has no public name.
    backend._pool.shutdown()
    before = str(Path.cwd())
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["SET_LATE"] = "yes"
        sys.path.append(folder)
        try:
            expected = place()
            assert Parallel(2)(delayed(place)() for _ in range(2)) == [expected] * 2
        finally:
            os.chdir(before)
            del os.environ["SET_LATE"]
            sys.path.remove(folder)
            backend._pool.shutdown()


@check
@without_keras()
def the_server_may_be_killed():
    Parallel(2)(delayed(pid)() for _ in range(2))
    killer = threading.Timer(0.3, os.kill, (warm.server().pid, signal.SIGKILL))
    killer.start()
    with raises(process_executor.TerminatedWorkerError):
        Parallel(2)(delayed(time.sleep)(1) for _ in range(4))
    assert Parallel(2)(delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]
    # Without a call in progress: the idle pool notices it.
    os.kill(warm.server().pid, signal.SIGKILL)
    # Private: the state of the backend between calls has no public name.
    assert eventually(lambda: backend._pool._executor._flags.broken is not None)
    assert Parallel(2)(delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]


@check
@without_keras()
def uninstall_leaves_nothing():
    Parallel(2)(delayed(pid)() for _ in range(2))
    server, workers = warm.server().pid, children()
    assert workers
    keras_reduce.uninstall()
    assert joblib.parallel.DEFAULT_BACKEND == "loky"
    assert not [name for name in BACKENDS if "keras" in name]
    assert eventually(
        lambda: not any(Path(f"/proc/{process}").exists() for process in {server, *workers})
    )
    keras_reduce.install(backend="loky")
    assert joblib.parallel.DEFAULT_BACKEND == "loky"
    assert "keras" in BACKENDS
    keras_reduce.install()
    assert joblib.parallel.DEFAULT_BACKEND == "keras-if-used"
    keras_reduce.install(backend=None)
    assert joblib.parallel.DEFAULT_BACKEND == "loky"
    with raises(ValueError, "backend"):
        keras_reduce.install(backend="lokey")


main()
