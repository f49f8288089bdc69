"""Fork server: a process that has imported Keras and forks a worker for each request.

Importing Keras and its framework takes seconds and a quarter of a gigabyte for each process. A
worker forked from a process that has imported them starts in milliseconds and shares that memory.
The standard library's forkserver is not used: a program has only one, its start fixes the program's
start method, and it preloads the program's main module first.

Program and server communicate over a socket pair. A request is one byte and some file descriptors,
by which the program then communicates with the worker directly. End of file means that the program
has ended.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import importlib
import json
import logging
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import NoReturn

from ..errors import WorkerError

_NUMBER = struct.Struct("q")
_MOST_FDS = 250  # The system passes at most 253 at once.
_REQUEST, _READY = b"F", b"R"
_PATIENCE = 1.0  # Seconds.
_log = logging.getLogger(__package__)


class Server:
    """Client of the fork server, in the program.

    Parameters
    ----------
    modules : sequence of str
        Modules to import before the first worker is forked, if they are available.
    environment : dict, optional
        Environment variables for the server in addition to those of the program; workers get those
        of the program.
    explanation : str, optional
        Warning to log, once, when the program has waited for a second.
    """

    def __init__(
        self,
        modules: Sequence[str],
        environment: dict[str, str] | None = None,
        explanation: str = "",
    ) -> None:
        self.modules = tuple(modules)
        self._environment = environment or {}
        self._explanation = explanation
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._is_ready = False

    @property
    def pid(self) -> int | None:
        """Process id of the server; None if it does not run."""
        return self._process.pid if self._is_running() and self._process else None

    def start(self) -> None:
        """Start the server, if it is not running, without waiting for its imports."""
        with self._lock:
            self._start()

    def wait_until_ready(self) -> None:
        """Start the server, if it is not running, and wait for its imports.

        Raises
        ------
        OSError, EOFError
            If the server dies meanwhile.
        """
        with self._lock:
            self._start()
            self._wait_until_ready()

    def fork(self, fds: Sequence[int]) -> tuple[int, int]:
        """Fork a worker, which gets the file descriptors `fds`.

        Returns
        -------
        int
            Process id of the worker.
        int
            A file descriptor from which `read_number` reads its exit code after it has ended.

        Raises
        ------
        WorkerError
            If the server can't be started, dies, or can't fork.
        """
        with self._lock:
            for is_last in (False, True):
                self._start()
                try:
                    self._wait_until_ready()
                    return self._ask(fds)
                except (OSError, EOFError) as error:
                    # The server has died since the last request: try again with a new one.
                    self._stop()
                    if is_last:
                        raise _start_error(error) from error
        raise AssertionError

    def _ask(self, fds: Sequence[int]) -> tuple[int, int]:
        assert self._socket is not None
        status, theirs = os.pipe()
        try:
            try:
                socket.send_fds(self._socket, [_REQUEST], [theirs, *fds])
            finally:
                os.close(theirs)
            number = read_number(status)
            if number < 0:
                raise WorkerError(
                    "No worker can be forked",
                    cause=os.strerror(-number),
                    cure="run fewer workers at once, or raise the limits of the system",
                )
        except BaseException:
            os.close(status)
            raise
        return number, status

    def stop(self) -> None:
        """End the server and its workers."""
        with self._lock:
            self._stop()

    def disown(self) -> None:
        """Forget the server in a forked child of the program, which does not own it."""
        self._lock = threading.Lock()  # another thread may have held it
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.returncode = 0  # prevents waiting for it
        self._socket = self._process = None

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _start(self) -> None:
        if self._is_running():
            return
        self._stop()
        # Python ignores entries that are not strings.
        entries: list[object] = list(sys.path)
        paths = [path or str(Path.cwd()) for path in entries if isinstance(path, str)]
        ours, theirs = socket.socketpair()
        request = json.dumps([theirs.fileno(), os.getpid(), paths])
        command = f"from {__name__} import main; main(*{request}, {self.modules!r})"
        # The command runs none of the program's code: neither __main__ nor start-up options.
        arguments = [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", command]  # type: ignore[attr-defined]
        package_path = str(Path(__file__).parents[2])
        search_path = os.pathsep.join([package_path, os.environ.get("PYTHONPATH", "")]).rstrip(":")
        try:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **self._environment, "PYTHONPATH": search_path},
            )
        except OSError as error:
            ours.close()
            raise _start_error(error) from error
        finally:
            theirs.close()
        self._socket, self._is_ready = ours, False

    def _wait_until_ready(self) -> None:
        assert self._socket is not None
        if not self._is_ready:
            if self._explanation and not wait([self._socket], _PATIENCE):
                _log.warning(self._explanation)
                self._explanation = ""
            if self._socket.recv(1) != _READY:
                raise EOFError("it ended while importing modules")
            self._is_ready = True

    def _stop(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # End of file must be seen even if another process has a copy of the socket.
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
        if self._process is not None:
            if not self._is_ready:
                self._process.kill()  # it is importing, and has no workers
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._socket = self._process = None
        self._is_ready = False


def _start_error(error: BaseException) -> WorkerError:
    return WorkerError(
        "The fork server could not be started",
        cause=f"{type(error).__name__}: {error}",
        cure="see its messages above; keras_reduce.install(backend='loky') does not need it",
    )


def read_number(fd: int) -> int:
    """Read a process id or an exit code that a server has written.

    Raises
    ------
    EOFError
        If the server is gone.
    """
    data = b""
    while len(data) < _NUMBER.size:
        piece = os.read(fd, _NUMBER.size - len(data))
        if not piece:
            raise EOFError("the fork server has ended")
        data += piece
    number: int = _NUMBER.unpack(data)[0]
    return number


# --- the server's end -------------------------------------------------------------------------


def main(fd: int, program: int, sys_path: list[str], modules: Sequence[str]) -> NoReturn:
    """Run the server: import `modules`, then fork workers until the program ends.

    Parameters
    ----------
    fd : int
        File descriptor of the socket.
    program : int
        Process id of the program.
    sys_path : list of str
        ``sys.path`` of the program.
    modules : sequence of str
        Modules to import.
    """
    # The program handles Ctrl-C; workers inherit this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path[:] = sys_path
    with _silence():
        for module in modules:
            if os.getppid() != program:
                os._exit(0)
            # A task that needs a missing module will raise the error itself.
            with contextlib.suppress(Exception):
                importlib.import_module(module)
    gc.collect()
    # Exclude all objects from the garbage collection of workers, which would copy all pages that
    # hold an object.
    gc.freeze()
    line = socket.socket(fileno=fd)
    try:
        line.sendall(_READY)
    except OSError:
        os._exit(0)  # the program has ended
    serve: Callable[[int, list[int]], int] = importlib.import_module(f"{__package__}.worker").main
    _ServerLoop(line, program, serve).forever()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Hide output to the standard error, unless an exception is raised.

    TensorFlow writes its first lines before it reads any setting.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            log.seek(0)
            os.write(terminal, log.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


class _ServerLoop:
    def __init__(
        self, line: socket.socket, program: int, serve: Callable[[int, list[int]], int]
    ) -> None:
        self._line, self._program, self._serve = line, program, serve
        self._workers: dict[int, int] = {}  # process id to the descriptor for its exit code
        self._woken, self._wake = os.pipe()
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def forever(self) -> NoReturn:
        with selectors.DefaultSelector() as selector:
            for source in (self._line, self._woken):
                selector.register(source, selectors.EVENT_READ)
            while os.getppid() == self._program:
                # A forked child of the program may keep the socket open after the program's end.
                ready = {key.fileobj for key, _ in selector.select(timeout=1.0)}
                if self._woken in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._woken, 65536)
                self._reap()
                if self._line in ready and not self._answer(selector):
                    break
        self._end()

    def _answer(self, selector: selectors.BaseSelector) -> bool:
        """Fork a worker if one is requested; return False at the end of file."""
        try:
            request, fds, _, _ = socket.recv_fds(self._line, 1, _MOST_FDS)
        except OSError:
            return False
        if not request:
            return False
        status, *fds = fds
        try:
            worker = os.fork()
        except OSError as error:
            self._tell(status, -(error.errno or errno.EAGAIN))
            fds.append(status)
        else:
            if not worker:
                selector.close()
                self._become_a_worker(fds, status)
            self._tell(status, worker)
            self._workers[worker] = status
        for fd in fds:
            os.close(fd)
        return True

    def _become_a_worker(self, fds: list[int], status: int) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._line.close()
            for fd in (self._woken, self._wake, status, *self._workers.values()):
                os.close(fd)
            code = self._serve(self._program, fds)
            # os._exit skips exit functions: a worker may have its own pool to close.
            atexit._run_exitfuncs()
        except SystemExit as asked:
            code = asked.code if isinstance(asked.code, int) else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                worker, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not worker:
                return
            fd = self._workers.pop(worker, None)
            if fd is not None:
                self._tell(fd, os.waitstatus_to_exitcode(status))
                os.close(fd)

    def _tell(self, fd: int, number: int) -> None:
        try:
            os.write(fd, _NUMBER.pack(number))
        except OSError as error:
            if error.errno != errno.EPIPE:
                raise

    def _end(self) -> NoReturn:
        # Workers end with the program, but one in the middle of an operation does not notice that.
        deadline = time.monotonic() + 1.0
        while self._workers and time.monotonic() < deadline:
            time.sleep(0.02)
            self._reap()
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        os._exit(0)
