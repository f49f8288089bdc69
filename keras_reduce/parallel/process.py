"""Worker process for joblib's executor, forked by a `Server`."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections.abc import Sequence
from multiprocessing import context as _context
from multiprocessing import process as _process
from multiprocessing.connection import wait
from typing import Any, cast

# Private names of joblib: its executor starts processes through a context.
from joblib.externals.loky.backend import reduction, resource_tracker, spawn
from joblib.externals.loky.backend.context import LokyContext

from . import gpus, server

# In the worker: file descriptors from the program, in the order in which it sent them.
inherited: list[int] = []


class _SentDescriptor:
    """Placeholder for a file descriptor that is sent to a worker."""

    def __init__(self, position: int) -> None:
        self._position = position

    def detach(self) -> int:
        return inherited[self._position]


class Popen:
    """The running process of a `Process`, with the methods of `multiprocessing`'s ``Popen``."""

    method = "keras"
    DupFd = _SentDescriptor

    def __init__(self, process: Any) -> None:
        self.returncode: int | None = None
        self._fds: list[int] = []
        self._reading = threading.Lock()
        message = io.BytesIO()
        _context.set_spawning_popen(cast("Any", self))
        try:
            # Without the program's main module, of which tasks carry by value what they need.
            preparation = spawn.get_preparation_data(process.name, init_main_module=False)
            # The trackers have other file descriptors in the worker.
            preparation["tracker_fd"] = self.duplicate_for_child(preparation["tracker_fd"])
            preparation["mp_tracker_fd"] = self.duplicate_for_child(_standard_tracker()._fd)
            # A model may be a chain of layers that Keras (3.15) follows by recursion.
            preparation["recursion_limit"] = sys.getrecursionlimit()
            reduction.dump({**os.environ, **process.env}, message)
            reduction.dump(preparation, message)
            reduction.dump(process, message)
        finally:
            _context.set_spawning_popen(None)
        theirs, ours = os.pipe()
        # The worker reads from the other end, which is closed when the program dies for any reason.
        self._lifeline = ours
        try:
            self.pid, self.sentinel = process.server.fork([theirs, *self._fds])
        except BaseException:
            self.close()
            raise
        finally:
            os.close(theirs)
        try:
            with open(ours, "wb", closefd=False) as file:
                file.write(len(message.getbuffer()).to_bytes(8, "little"))
                file.write(message.getbuffer())
        except BaseException:
            self.close()
            raise

    def duplicate_for_child(self, fd: int) -> int:
        """Send `fd` to the worker; return its position there."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code; None while the process runs."""
        if self.returncode is None:
            if not wait([self.sentinel], 0 if flag == os.WNOHANG else None):
                return None
            with self._reading:
                if self.returncode is None:
                    self.returncode = self._exit_code()
        return self.returncode

    def _exit_code(self) -> int:
        try:
            return server.read_number(self.sentinel)
        except (OSError, EOFError):
            # The server is gone, so the exit code is unknown. The standard library uses 255, too.
            return 255

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the process to end, at most `timeout` seconds; return the exit code."""
        if self.returncode is None and timeout is not None and not wait([self.sentinel], timeout):
            return None
        return self.poll(os.WNOHANG if timeout == 0.0 else 0)

    def terminate(self) -> None:
        """Ask the process to end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End the process."""
        self._send(signal.SIGKILL)

    def close(self) -> None:
        """Close all file descriptors; the process then ends by itself."""
        for name in ("_lifeline", "sentinel"):
            fd = self.__dict__.pop(name, None)
            if fd is not None:
                with contextlib.suppress(OSError):
                    os.close(fd)

    def _send(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def __del__(self) -> None:
        """Close all file descriptors."""
        self.close()


class Process(_process.BaseProcess):
    """Process that is forked by a `Server`."""

    server: server.Server

    def __init__(self, *args: Any, env: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.env = env or {}
        # Read by the standard library in the worker.
        self._start_method = _inner_start_method()

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes that the worker gets."""
        return {name: value for name, value in vars(self).items() if name != "server"}

    def is_running(self) -> bool:
        """Return whether the process runs; False if it has been closed."""
        try:
            return self.exitcode is None
        except ValueError:
            return False

    @staticmethod
    def _Popen(process: Any) -> Popen:  # noqa: N802
        return Popen(process)


def _inner_start_method() -> str:
    """Return the default start method for processes that a worker starts itself.

    ``fork`` if that is the program's: a ``PyDataset(use_multiprocessing=True)`` then finds its data
    in memory, while other methods would start interpreters that import Keras in each epoch.
    ``spawn`` and ``forkserver`` need the program's main module, which a worker doesn't have; loky's
    method doesn't need it.
    """
    method = multiprocessing.get_start_method(allow_none=True)
    default = multiprocessing.get_all_start_methods()[0]
    return "fork" if (method or default) == "fork" else "loky"


class Context(LokyContext):  # type: ignore[misc]
    """Context from which joblib's executor gets queues, locks and processes.

    Parameters
    ----------
    server : Server
        The fork server.
    devices : sequence of str
        GPUs to distribute among the processes.
    """

    _name = "keras"

    def __init__(self, server: server.Server, devices: Sequence[str] = ()) -> None:
        self._server, self._devices = server, devices
        self._owners: weakref.WeakKeyDictionary[Process, str] = weakref.WeakKeyDictionary()

    def Process(self, *args: Any, **kwargs: Any) -> Process:  # noqa: N802
        """Return a new process, not started yet."""
        process = Process(*args, **kwargs)
        process.server = self._server
        if self._devices:
            in_use = [device for owner, device in self._owners.items() if owner.is_running()]
            device = gpus.next_device(self._devices, in_use)
            self._owners[process] = device
            process.env = {**process.env, **gpus.environment(device)}
        return process

    def get_context(self, method: str | None = None) -> Any:
        """Return this context."""
        return self if method is None else super().get_context(method)


def _standard_tracker() -> Any:
    # Workers share the program's tracker; the module has no public function for its descriptor.
    from multiprocessing import resource_tracker

    return vars(resource_tracker)["_resource_tracker"]


def ensure_trackers() -> None:
    """Start the resource trackers, which clean up after dead processes and which workers share."""
    resource_tracker.ensure_running()
    _standard_tracker().ensure_running()
