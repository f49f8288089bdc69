"""Web servers and pools with several workers over one model: ``examples/served_model.py``."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from processes import PROGRAMS, ROOT, python

WORKERS = 4
SERVERS = {
    "gunicorn": ["gunicorn", "--preload", "--bind", "127.0.0.1:{port}", "{module}:wsgi"],
    "uvicorn": ["uvicorn", "--port", "{port}", "{module}:asgi"],
}
BODY = json.dumps([[1.0] * 512]).encode()
WRITE = """
    import keras, keras_reduce, numpy as np
    keras_reduce.install()
    answers = {}
    for name, units in (("small", 4), ("large", 4096)):
        hidden = [keras.layers.Dense(units, "relu") for _ in range(4)]
        model = keras.Sequential([keras.Input((512,)), *hidden, keras.layers.Dense(2)])
        keras_reduce.dump(model, f"{name}.joblib")
        model.save(f"{name}.keras")
        answers[name] = model.predict(np.ones((1, 512), "float32"), verbose=0).tolist()
    print(answers["large"])
    """


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with models of 200 MB and of some kB, and the answer of the large one."""
    path = tmp_path_factory.mktemp("servers")
    (path / "answer.json").write_text(python(WRITE, cwd=path).splitlines()[-1])
    return path


class Server:
    """A server with its workers, once all of them have answered."""

    def __init__(self, process, port):
        self.process, self.port = process, port

    def ask(self, timeout=60):
        """Return the answer to a request."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}", data=BODY)
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return json.loads(response.read())

    def ask_often(self, count):
        """Return the answers to many requests at once."""
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda _: self.ask(), range(count)))

    def processes(self):
        """Return the ids of all processes of the server."""
        listed = subprocess.run(["ps", "-eo", "pid=,sid="], capture_output=True, text=True)
        pairs = [map(int, line.split()) for line in listed.stdout.splitlines()]
        return [pid for pid, session in pairs if session == self.process.pid]

    def workers(self):
        """Return the ids of the processes that have mapped, or read, a model."""
        return [pid for pid in self.processes() if _memory(pid) > 60]

    def memory(self):
        """Return the memory of all processes in MiB; what several share is counted once."""
        return sum(map(_memory, self.processes()))


def _memory(pid):
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss: +(\d+)", text, re.MULTILINE)[1]) / 1024
    return 0.0


@contextlib.contextmanager
def serving(name, folder, model, module="served_model", log="log.txt", options=()):
    """Run a server over a model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program, *arguments = (part.format(port=port, module=module) for part in SERVERS[name])
    command = [sys.executable, "-m", program, "--workers", str(WORKERS), *options, *arguments]
    search = [ROOT / "examples", Path(__file__).parent, PROGRAMS, ROOT]
    environment = {"MODEL": model, "PYTHONPATH": os.pathsep.join(map(str, search))}
    with (folder / log).open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, port)
    try:
        yield server
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)


def until_answered(server):
    """Wait until the server answers; return the first answer."""
    deadline = time.monotonic() + 100
    while True:
        try:
            return server.ask()
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline
            assert server.process.poll() is None
            time.sleep(0.1)


def memory_of(name, folder, model, module="served_model"):
    """Return the memory of a server whose workers have all answered, and an answer."""
    with serving(name, folder, model, module) as server:
        answer = until_answered(server)
        before = 0.0
        while (memory := server.memory()) > before + 1:
            before = memory
            server.ask_often(64)
        return memory, answer


@pytest.mark.parametrize("name", SERVERS)
def test_workers_share_the_memory_of_the_weights(folder, name):
    without, _ = memory_of(name, folder, "small.joblib")
    memory, answer = memory_of(name, folder, "large.joblib")
    assert answer == json.loads((folder / "answer.json").read_text())
    assert memory - without < 1.25 * 200.1


def test_models_of_keras_are_read_into_the_memory_of_each_worker(folder):
    without, _ = memory_of("gunicorn", folder, "small.keras", "served_otherwise")
    memory, _ = memory_of("gunicorn", folder, "large.keras", "served_otherwise")
    assert memory - without > 0.9 * WORKERS * 200.1


@pytest.mark.parametrize("name", SERVERS)
def test_no_request_is_lost_when_a_worker_is_killed(folder, name):
    expected = json.loads((folder / "answer.json").read_text())
    with serving(name, folder, "large.joblib") as server:
        until_answered(server)
        server.ask_often(64)
        before = server.workers()

        def ask(_):
            try:
                return server.ask()
            except (OSError, http.client.HTTPException):
                return server.ask()  # It was in the killed worker: clients ask again, once.

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(ask, number) for number in range(200)]
            time.sleep(0.2)
            os.kill(before[-1], signal.SIGKILL)
            assert [each.result() for each in answers] == [expected] * 200
        deadline = time.monotonic() + 60
        while len(server.workers()) < len(before) or before[-1] in server.workers():
            assert time.monotonic() < deadline
            server.ask_often(8)


def test_a_model_that_computed_before_the_fork_is_warned_of(folder):
    options = ("--timeout", "8")
    arguments = ("gunicorn", folder, "small.joblib", "served_otherwise", "warned.txt", options)
    with serving(*arguments) as server:
        deadline = time.monotonic() + 60
        while "Booting worker" not in (folder / "warned.txt").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with pytest.raises((OSError, urllib.error.URLError)):
            server.ask(timeout=4)
        assert "forked after TensorFlow had run" in (folder / "warned.txt").read_text()


def test_nothing_is_warned_of_where_models_are_loaded_after_the_fork(folder):
    with serving("gunicorn", folder, "small.joblib", log="silent.txt") as server:
        until_answered(server)
    assert "forked after" not in (folder / "silent.txt").read_text()
