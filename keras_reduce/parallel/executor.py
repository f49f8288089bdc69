"""Pool of workers: joblib's executor on processes that a `Server` forks.

joblib keeps one pool per program. This pool is separate, so that neither resizes or ends the other.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from joblib._memmapping_reducer import TemporaryResourcesManager, get_memmapping_reducers
from joblib.executor import MemmappingExecutor
from joblib.externals.loky import process_executor

from ..core.trace_folders import Folders
from . import limits, process
from .server import Server
from .shipping import Shipper


class Settings(NamedTuple):
    """Settings that all workers of a pool share."""

    timeout: float
    environment: tuple[tuple[str, str], ...]
    threads: int | None
    temp_folder: str | None
    max_nbytes: Any
    mmap_mode: str | None
    most_growth: int | None
    gpus: tuple[str, ...] = ()
    folders: Folders = Folders()
    initializer: Any = None
    initargs: tuple[Any, ...] = ()


class Executor(MemmappingExecutor):  # type: ignore[misc]
    """Pool of workers that later calls reuse."""

    settings: Settings
    shipper: Shipper

    def submit(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        """Schedule a call of `fn` on this pool; joblib's method may use another one."""
        with self._submit_resize_lock:
            return process_executor.ProcessPoolExecutor.submit(self, fn, *args, **kwargs)

    def _start_executor_manager_thread(self) -> None:
        # Like the method of joblib's class, with another thread class.
        if vars(self)["_executor_manager_thread"] is not None:
            return
        thread = self._executor_manager_thread = _Manager(self)
        thread.start()
        wakeups = process_executor._threads_wakeups
        wakeups[thread] = self._shutdown_lock, self._executor_manager_thread_wakeup
        if process_executor.process_pool_executor_at_exit is None:
            process_executor.process_pool_executor_at_exit = threading._register_atexit(  # type: ignore[attr-defined]
                process_executor._python_exit
            )


class _Manager(process_executor._ExecutorManagerThread):  # type: ignore[misc]
    """Thread that sends tasks to workers and receives their results."""

    _failure: BaseException | None = None

    def wait_result_broken_or_wakeup(self) -> tuple[Any, bool, BaseException | None]:
        """Wait for an event; return a result, whether the pool is broken, and the cause."""
        if self._failure is not None:
            return None, True, self._failure
        event: tuple[Any, bool, BaseException | None] = super().wait_result_broken_or_wakeup()
        return event

    def process_result_item(self, result_item: Any) -> None:
        """Process a result; or replace a worker that has exited after its last task."""
        if not isinstance(result_item, int):
            super().process_result_item(result_item)
            return
        with self.processes_management_lock:
            worker = self.processes.pop(result_item, None)
        if worker is None:  # the pool is being shut down
            return
        worker._worker_exit_lock.release()
        worker.join()
        worker.close()
        executor = self.executor_reference()
        waiting = len(self.pending_work_items) - len(self.running_work_items)
        is_needed = waiting > 0 or len(self.running_work_items) > len(self.processes)
        if executor is not None and is_needed and len(self.processes) < executor._max_workers:
            try:
                with executor._processes_management_lock:
                    executor._adjust_process_count()
            except Exception as error:
                # An exception in this thread would be lost. Remaining workers go on; without any,
                # the pool is reported as broken.
                if not self.processes:
                    self._failure = error


class Pool:
    """Holder of the program's executor, which is replaced if it breaks or its settings change."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._executor: Executor | None = None

    def executor(self, n_jobs: int, server: Server, settings: Settings, context_id: str) -> Any:
        """Return an executor with `n_jobs` workers.

        Parameters
        ----------
        n_jobs : int
            Number of workers, at least 2.
        server : Server
            The fork server.
        settings : Settings
            If they differ from those of the last call, the workers are replaced.
        context_id : str
            joblib's id of the call, for its temporary files.
        """
        while True:
            with self._lock:
                executor = self._executor
                if executor is None or _is_usable(executor, n_jobs, settings):
                    if executor is None:
                        executor = self._executor = self._new(n_jobs, server, settings)
                    else:
                        executor._resize(n_jobs)
                    executor._temp_folder_manager.register_new_context(context_id)
                    return executor
                self._executor = None
            # Without the lock, which the executor's thread may need.
            executor.shutdown(wait=True)

    def shutdown(self) -> None:
        """End the workers."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True)

    def disown(self) -> None:
        """Forget the workers in a forked child of the program, which does not own them."""
        self._lock, self._executor = (
            threading.RLock(),
            None,
        )  # another thread may have held the lock

    def _new(self, n_jobs: int, server: Server, settings: Settings) -> Executor:
        process.ensure_trackers()
        manager = TemporaryResourcesManager(settings.temp_folder)
        job_reducers, result_reducers = get_memmapping_reducers(
            unlink_on_gc_collect=True,
            temp_folder_resolver=manager.resolve_temp_folder_name,
            max_nbytes=settings.max_nbytes,
            mmap_mode=settings.mmap_mode,
        )
        import numpy as np

        shipper = Shipper(job_reducers[np.ndarray], manager.resolve_temp_folder_name)
        if settings.max_nbytes is not None:
            job_reducers[np.ndarray] = shipper
        executor = Executor(
            self._lock,
            max_workers=n_jobs,
            context=process.Context(server, settings.gpus),
            timeout=settings.timeout,
            job_reducers=job_reducers,
            result_reducers=result_reducers,
            initializer=limits.begin,
            initargs=(
                settings.threads,
                settings.most_growth,
                settings.folders,
                settings.initializer,
                settings.initargs,
            ),
            env=dict(settings.environment),
        )
        executor.settings, executor.shipper = settings, shipper
        executor._temp_folder_manager = manager
        return executor


def _is_usable(executor: Executor, n_jobs: int, settings: Settings) -> bool:
    flags = executor._flags
    return (
        executor.settings == settings
        and flags.broken is None
        and not flags.shutdown
        and executor.queue_size >= n_jobs
    )
