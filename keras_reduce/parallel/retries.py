"""Retries of tasks whose worker has died."""

from __future__ import annotations

import functools
import logging
import signal
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

from joblib.externals.loky.process_executor import TerminatedWorkerError

_log = logging.getLogger(__package__)


class Retries:
    """Layer between a call of `Parallel` and the executor that resends lost tasks.

    Parameters
    ----------
    most : int
        Maximum number of worker deaths.
    executor : Executor
        The executor of the tasks.
    renew : callable
        Function that returns a new executor after the old one has broken.

    Attributes
    ----------
    executor : Executor
        The current executor.
    """

    def __init__(self, most: int, executor: Any, renew: Callable[[], Any]) -> None:
        self.executor = executor
        self._most = self._left = most
        self._renew = renew
        self._lock = threading.Lock()
        self._lost: list[tuple[Any, Future[Any]]] = []
        self._is_renewing = self._is_closed = False

    def submit(self, func: Any, callback: Callable[[Any], Any] | None) -> Any:
        """Schedule a call of `func`."""
        if not self._left and not self._is_renewing:
            # Without retries, exactly as in joblib's own backend.
            future = self.executor.submit(func)
            if callback is not None:
                future.add_done_callback(callback)
            return future
        result: Future[Any] = Future()
        if callback is not None:
            result.add_done_callback(callback)
        self._send(func, result)
        return result

    def begin(self) -> None:
        """Reset the count at the begin of a call."""
        with self._lock:
            self._left = self._most

    def close(self) -> None:
        """Drop lost tasks at the end of a call."""
        with self._lock:
            self._is_closed, self._lost = True, []

    def _send(self, func: Any, result: Future[Any]) -> None:
        with self._lock:
            if self._is_renewing:
                self._lost.append((func, result))
                return
            executor = self.executor
        try:
            sent = executor.submit(func)
        except TerminatedWorkerError as error:
            self._is_lost(func, result, executor, error)
            return
        sent.add_done_callback(functools.partial(self._done, func, result, executor))

    def _done(self, func: Any, result: Future[Any], executor: Any, sent: Future[Any]) -> None:
        try:
            error = sent.exception()
        except CancelledError as cancelled:
            error = cancelled
        if isinstance(error, TerminatedWorkerError):
            self._is_lost(func, result, executor, error)
        elif error is not None:
            result.set_exception(error)
        else:
            result.set_result(sent.result())

    def _is_lost(
        self, func: Any, result: Future[Any], executor: Any, error: TerminatedWorkerError
    ) -> None:
        """Resend a task whose pool has lost a worker, or let it fail."""
        with self._lock:
            is_first_report = executor is self.executor and not self._is_renewing
            if not self._is_closed and (self._left or not is_first_report):
                self._lost.append((func, result))
                if is_first_report:
                    self._left -= 1
                    self._is_renewing = True
                    _log.warning("%s; its tasks are sent again", _death_message(executor))
                    # In another thread, since this one is about to end the other workers.
                    threading.Thread(target=self._resume, args=(executor,), daemon=True).start()
                elif not self._is_renewing:
                    threading.Thread(target=self._send_lost, daemon=True).start()
                return
        result.set_exception(error)

    def _resume(self, broken: Any) -> None:
        try:
            broken.terminate(kill_workers=True)
            if self._is_closed:
                return
            executor = self._renew()
        except BaseException as error:
            with self._lock:
                lost, self._lost, self._is_renewing = self._lost, [], False
            for _, result in lost:
                result.set_exception(error)
            return
        with self._lock:
            self.executor, self._is_renewing = executor, False
        self._send_lost()

    def _send_lost(self) -> None:
        with self._lock:
            lost, self._lost = self._lost, []
        for func, result in lost:
            try:
                self._send(func, result)
            except BaseException as error:
                # An exception in this thread would be lost.
                result.set_exception(error)


def _death_message(executor: Any) -> str:
    """Return a message with the workers that have died and the causes."""
    codes = {
        worker.pid: worker.exitcode
        for worker in list(executor._processes.values())
        if worker.exitcode is not None
    }
    if not codes:
        return "A worker has died"
    return "; ".join(f"Worker {pid} has died: {_cause(code)}" for pid, code in codes.items())


def _cause(code: int) -> str:
    """Return the meaning of an exit code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    likely = {
        "SIGKILL": ", as the system does when memory runs out",
        "SIGSEGV": ", a fault in compiled code",
        "SIGABRT": ", a check in compiled code",
    }
    return name + likely.get(name, "")
