"""Run programs in processes that find Keras imported: forked from a server that has done it.

Importing TensorFlow, Keras and scikit-learn takes a process four seconds; forking one that has
takes some hundredths. A forked program is ``__main__`` of its process, has its own arguments,
environment, search path, streams and working directory. What it does not have: the moment before
the import of Keras, settings that are read at that moment, and the end of an interpreter, which
takes apart, in a quarter of a second, each module that the server has imported. Threads are waited
for and exit functions run. Programs about what is missing need an interpreter of their own.

The server imports and never computes, since TensorFlow can't be forked any more once it has::

    pytest, or one of its workers          server               monitor          program
        connect, send the request   ->  accept, fork     ->  fork, wait    ->  exec as __main__
        read output and exit status <-----------------------  exit status  <-  exit

One server serves all workers of pytest. It ends with the process of pytest that set `FOLDER`.

A forked program that starts the package's own fork server (``keras_reduce.parallel.server``) gets a
process forked from a server of tests for that as well, unless the program is about how it starts.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import fcntl
import gc
import hashlib
import json
import os
import re
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path

# The environment variable with the folder in which servers have their sockets.
FOLDER = "KERAS_REDUCE_TEST_SERVERS"
# The file in it that says which process of pytest they are for.
OWNER = "owner"
# joblib before TensorFlow, which imports dill: joblib would go on with what dill has changed.
PRELOADED = ("cloudpickle", "joblib", "sklearn.pipeline", "sklearn.model_selection", "keras")
# Read when Python starts or when a framework is imported: a server of its own for each setting.
READ_AT_START = ("PYTHON", "KERAS_", "TF_", "JAX_", "XLA_", "CUDA_", "OMP_", "SCIPY_", "MALLOC_")
# Read by the package, which no server imports, or set for each program.
NOT_READ_AT_START = ("KERAS_REDUCE_", "PYTHONPATH", "PYTEST_")
_STATUS = struct.Struct("i")


class Forked:
    """A program in a forked process, with as much of `subprocess.Popen` as the tests need.

    Parameters
    ----------
    request : dict
        ``code`` (text) and ``file`` (its path, or None), ``arguments``, ``environment``, ``path``
        (entries of `sys.path`), ``folder`` (the working directory), and ``servers``: whether the
        package's fork server is forked, too.
    stdout, stderr : int
        File descriptors.
    *descriptors : int
        Further ones, which have the same numbers there.
    """

    def __init__(self, request, stdout, stderr, *descriptors):
        self.returncode = None
        self._connection = _connected(request["environment"])
        message = json.dumps({**request, "descriptors": [0, 1, 2, *descriptors]}).encode()
        with Path(os.devnull).open() as stdin:
            passed = [stdin.fileno(), stdout, stderr, *descriptors]
            socket.send_fds(self._connection, [struct.pack("Q", len(message))], passed)
            self._connection.sendall(message)
        (self.pid,) = _STATUS.unpack(_receive(self._connection, _STATUS.size))

    def wait(self, timeout=None):
        """Wait for the end of the process and return its exit status."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a forked program", timeout)
            (self.returncode,) = _STATUS.unpack(_receive(self._connection, _STATUS.size))
            self._connection.close()
        return self.returncode

    def poll(self):
        """Return the exit status, None if the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode


def settings(environment):
    """Return those of `environment` that are read before a program could set them."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith(READ_AT_START) and not name.startswith(NOT_READ_AT_START)
    }


def start(environment):
    """Start the server for `environment`, unless it has been; return its address."""
    key = hashlib.sha256(json.dumps(settings(environment)).encode()).hexdigest()[:16]
    folder = Path(os.environ[FOLDER])
    address = folder / key
    with (folder / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not address.exists():
            _start(address, environment)
    return address


class Popen(subprocess.Popen):
    """In a forked program, what starts the package's fork server by forking, and others as ever."""

    # As the package's `Server` writes it: socket, the program's process number, search path.
    _COMMAND = re.compile(r"from keras_reduce\.parallel\.server import main; main\(\*\[\d+, (\d+),")

    def __init__(self, args, **options):
        command = str(args[-1]) if isinstance(args, list) else ""
        match = self._COMMAND.match(command)
        self._forked = None
        if not match:
            super().__init__(args, **options)
            return
        # It ends when its parent does, which is the monitor, and the monitor ends it.
        start, end = match.span(1)
        environment = options["env"]
        self._forked = Forked(
            {
                "code": f"import os; {command[:start]}os.getppid(){command[end:]}",
                "file": None,
                "arguments": [],
                "environment": environment,
                "path": environment["PYTHONPATH"].split(os.pathsep),
                "folder": str(Path.cwd()),
                "servers": False,
            },
            1,
            2,
            *options["pass_fds"],
        )
        self.args, self.pid, self.returncode = args, self._forked.pid, None
        self.stdin = self.stdout = self.stderr = None

    def poll(self):
        if self._forked is None:
            return super().poll()
        # The package says that a process which belongs to another one has ended.
        self.returncode = self._forked.poll() if self.returncode is None else self.returncode
        return self.returncode

    def wait(self, timeout=None):
        if self._forked is None:
            return super().wait(timeout)
        if self.returncode is None:
            self.returncode = self._forked.wait(timeout)
        return self.returncode


def _connected(environment):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(start(environment)))
    return connection


def _start(address, environment):
    """Start a server and wait until it listens, which is before it imports."""
    code = "import forking; forking.serve()"
    log = address.with_suffix(".log")
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(address), str(address.parent)],
            env={**environment, "PYTHONPATH": str(Path(__file__).parent)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + 60
    while not address.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"The server of test programs did not start:\n{log.read_text()}")
        time.sleep(0.01)


def _receive(connection, size):
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError("the server of test programs is gone: see its log in the folder")
        data += piece
    return data


# --- the server -------------------------------------------------------------------------------


def serve():
    """Fork a process for each connection, until pytest ends; such a process runs a program."""
    address, folder = sys.argv[1:]
    owner = int(Path(folder, OWNER).read_text())
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen()
    Path(f"{address}.new").rename(address)
    for module in PRELOADED:
        with contextlib.suppress(ImportError):
            __import__(module)
    if getattr(sys.modules.get("keras"), "__version__", "").startswith("2."):
        # TensorFlow's attribute is a placeholder until it is used, where Keras was there before; no
        # pickler takes that, and a program that imports only TensorFlow never meets it.
        sys.modules["tensorflow"].keras.layers  # noqa: B018
    # What has been imported stays: no collection of a program needs to look at it again.
    gc.collect()
    gc.freeze()
    # The server does not wait for the monitors.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while Path(folder).is_dir() and Path(f"/proc/{owner}").exists():
            if not selector.select(timeout=1.0):
                continue
            connection, _ = listener.accept()
            if not os.fork():
                break
            connection.close()
        else:
            os._exit(0)
    listener.close()
    _monitor(connection)


def _monitor(connection):
    """Fork the program and tell of its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    header, descriptors, _, _ = socket.recv_fds(connection, 8, 16)
    (length,) = struct.unpack("Q", header)
    request = json.loads(_receive(connection, length))
    program = os.fork()
    if not program:
        connection.close()
        _run(*_become(request, descriptors))
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(_STATUS.pack(program))
    with selectors.DefaultSelector() as selector:
        process = os.pidfd_open(program)
        selector.register(process, selectors.EVENT_READ)
        selector.register(connection, selectors.EVENT_READ)
        ready = {key.fileobj for key, _ in selector.select()}
    if process not in ready:  # The other end has stopped waiting.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program, signal.SIGKILL)
    _, status = os.waitpid(program, 0)
    with contextlib.suppress(OSError):
        connection.sendall(_STATUS.pack(os.waitstatus_to_exitcode(status)))
    os._exit(0)


def _become(request, descriptors):
    """Make this process what an interpreter started for the program would be.

    Returns
    -------
    code
        The compiled program.
    dict
        The namespace of ``__main__``.
    """
    import numpy as np

    os.setpgid(0, 0)
    # Out of the way of the numbers that they are to have.
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD, 512) for each in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for target, source in zip(request["descriptors"], moved, strict=True):
        os.dup2(source, target)
        os.close(source)
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # See `processes.Running`.
    # As in a terminal; what starts tests in the background has them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    base = [entry for entry in sys.path[1:] if entry != str(Path(__file__).parent)]
    sys.path[:] = [*request["path"], *base]
    file = request["file"]
    sys.argv[:] = [file or "-c", *request["arguments"]]
    np.random.seed()  # noqa: NPY002 - otherwise all programs would draw the same from there
    if request["servers"]:
        subprocess.Popen = Popen
    del sys.modules[__name__]
    main = vars(sys.modules["__main__"])
    builtins = main["__builtins__"]
    main.clear()
    main.update(__name__="__main__", __builtins__=builtins, __doc__=None, __package__=None)
    main.update(__spec__=None, __loader__=None)
    if file:
        main.update(__file__=file, __loader__=SourceFileLoader("__main__", file), __cached__=None)
    code = compile(request["code"], file or "<string>", "exec", dont_inherit=True)
    return code, main


def _run(code, main):
    """Run the program and end the process as an interpreter does, but for its finalization."""
    status = 0
    try:
        exec(code, main)
    except SystemExit as ending:
        status = ending.code
        if status is not None and not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException as error:
        error = error.with_traceback(error.__traceback__.tb_next)  # without this function
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit((status or 0) & 0xFF)
