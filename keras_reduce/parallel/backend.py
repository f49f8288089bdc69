"""Backend class ``"keras"`` for `joblib.Parallel`."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, ClassVar

from joblib._parallel_backends import FallbackToBackend, LokyBackend, SequentialBackend

from ..core import keras_backend, trace_folders
from . import gpus, limits, trace_folder, warm
from .executor import Pool, Settings
from .plain_loky import check, known_to_loky
from .progress import Progress
from .retries import Retries

_log = logging.getLogger(__package__)
_pool = Pool()
# Bytes. Each fit of a small model leaks four to five megabytes.
MOST_GROWTH = 200 * 2**20
# What `joblib.Parallel` passes to every backend beside the options that it was given itself.
_OF_PARALLEL = ("context", "verbose")


class KerasBackend(LokyBackend):  # type: ignore[misc]
    """Run tasks in workers forked from a server that has imported Keras.

    Parameters
    ----------
    nesting_level : int, optional
        As for every backend of joblib.
    inner_max_num_threads : int, optional
        Threads of each library in a worker. By default, the cores are divided evenly.
    idle_worker_timeout : float, optional
        Seconds after which idle workers end. Default 300.
    max_worker_growth : int or None, optional
        Bytes by which a worker may grow before it is replaced, between two tasks. None for no
        limit. Default 200 MB.
    retries : int, optional
        Number of worker deaths that a call survives: the lost tasks are sent to new workers.
        Default 0: the call fails, as with loky.
    gpus : {"auto"} or list, optional
        GPUs to distribute among the workers, by their names in ``CUDA_VISIBLE_DEVICES``;
        "auto" for all that this program may use. By default, every worker sees all GPUs.
    progress : bool, optional
        Show a progress bar for each outermost call. Default False.
    initializer, initargs : callable and tuple, optional
        Function, and its arguments, to call in each worker before its first task.

    Examples
    --------
    >>> import keras_reduce
    >>> from joblib import Parallel, delayed, parallel_config
    >>> keras_reduce.install()
    >>> with parallel_config("keras", n_jobs=2, retries=1):
    ...     Parallel()(delayed(abs)(number) for number in (-1, 2))
    [1, 2]
    """

    MAX_NUM_THREADS_VARS: ClassVar = [
        *LokyBackend.MAX_NUM_THREADS_VARS,
        *limits.TENSORFLOW_VARIABLES,
    ]

    # As joblib's default it ignores what it doesn't know, as loky does: the program may not even
    # know that this backend is there.
    is_asked_for = True

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: Any = None,
        require: Any = None,
        idle_worker_timeout: float | None = None,
        **options: Any,
    ) -> int:
        """Prepare the workers; return their number."""
        if self.is_asked_for:
            check({name: value for name, value in options.items() if name not in _OF_PARALLEL})
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        obstacle = _obstacle()
        if obstacle is not None:
            raise FallbackToBackend(self._plain_loky(obstacle))
        options = {**self.backend_kwargs, **options}
        if "timeout" in options:
            raise ValueError(
                "The 'timeout' parameter is not supported by this backend: use "
                "'idle_worker_timeout', the seconds after which idle workers end"
            )
        if idle_worker_timeout is None:
            idle_worker_timeout = options.get("idle_worker_timeout", 300)
        environment = self._prepare_worker_env(n_jobs=n_jobs)
        # Part of the settings of a pool: if the program selects another Keras backend, new workers
        # are forked.
        environment |= keras_backend.environment()
        trace_folder.ensure(options.get("temp_folder"))
        settings = Settings(
            timeout=float(idle_worker_timeout or 300),
            environment=tuple(sorted(environment.items())),
            threads=limits.threads_of(environment["OMP_NUM_THREADS"]),
            temp_folder=options.get("temp_folder"),
            max_nbytes=options.get("max_nbytes", 2**20),
            mmap_mode=options.get("mmap_mode", "r"),
            most_growth=options.get("max_worker_growth", MOST_GROWTH),
            initializer=options.get("initializer"),
            initargs=tuple(options.get("initargs", ())),
            gpus=gpus.devices(options.get("gpus")),
            folders=trace_folders.current,
        )

        def workers() -> Any:
            self._workers = _pool.executor(n_jobs, warm.server(), settings, parallel._id)
            return self._workers

        self._retries = Retries(int(options.get("retries", 0)), workers(), workers)
        self._shows_progress = bool(options.get("progress", False)) and not self.nesting_level
        self.parallel = parallel
        return n_jobs

    def submit(self, func: Any, callback: Any = None) -> Any:
        """Schedule a batch of tasks."""
        return self._retries.submit(func, callback)

    def start_call(self) -> None:
        """Begin a call of `Parallel`."""
        self._retries.begin()
        self._workers.shipper.begin(self._folder())
        self._progress = Progress(self.parallel) if self._shows_progress else None

    def batch_completed(self, batch_size: int, duration: float) -> None:
        """Count finished tasks."""
        super().batch_completed(batch_size, duration)
        if self._progress is not None:
            self._progress.advance(batch_size)

    def stop_call(self) -> None:
        """End a call of `Parallel`."""
        if self._progress is not None:
            self._progress.close()

    def terminate(self) -> None:
        """End the call and keep the workers."""
        if self._workers is not None:
            self._retries.close()
            self._workers.shipper.forget(self._folder())
        super().terminate()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End the workers at once; start new ones if `ensure_ready`."""
        self._retries.close()
        self._workers.shipper.forget(None)
        super().abort_everything(ensure_ready=ensure_ready)

    def _folder(self) -> str | None:
        """Return the folder in which joblib puts temporary files of this `Parallel`."""
        folders = self._workers._temp_folder_manager._cached_temp_folders
        folder: str | None = folders.get(self.parallel._id)
        return folder

    def _plain_loky(self, obstacle: str) -> LokyBackend:
        _log_once(f"{obstacle}: joblib's backend loky runs instead")
        return _PlainLoky(
            nesting_level=self.nesting_level,
            inner_max_num_threads=self.inner_max_num_threads,
            **known_to_loky(self.backend_kwargs),
        )


class _PlainLoky(LokyBackend):  # type: ignore[misc]
    """The loky backend, with the limit on threads applied to TensorFlow as well."""

    MAX_NUM_THREADS_VARS: ClassVar = KerasBackend.MAX_NUM_THREADS_VARS


# Frameworks after whose import a process may be forked.
_SAFE_TO_FORK = {"tensorflow", "jax", "torch", "numpy"}


def _obstacle() -> str | None:
    """Return the reason why this backend can't work here; None if it can."""
    if not sys.platform.startswith("linux"):
        return f"processes with Keras are not forked on {sys.platform}"
    framework = keras_backend.expected()
    if framework not in _SAFE_TO_FORK:
        return f"whether {framework} survives a fork is not known"
    return None


def shutdown() -> None:
    """End the workers and the fork server."""
    _pool.shutdown()
    warm.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.disown)
_logged_messages: set[str] = set()


def _log_once(message: str) -> None:
    if message not in _logged_messages:
        _logged_messages.add(message)
        _log.warning(message)
