"""Limits of a worker's threads and memory."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core import trace_folders
from ..core.trace_folders import Folders

_STATM = Path("/proc/self/statm")

# Environment variables that limit TensorFlow's threads; joblib sets those of other libraries.
TENSORFLOW_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def begin(
    threads: int | None,
    most_growth: int | None,
    folders: Folders,
    initializer: Callable[..., Any] | None = None,
    initargs: tuple[Any, ...] = (),
) -> None:
    """Set the limits of this worker, and where it finds traces, before its first task.

    Parameters
    ----------
    threads : int, optional
        Threads of each numerical library; None for no limit.
    most_growth : int, optional
        Bytes by which the worker may grow before it is replaced; None for no limit.
    folders : Folders
        Where processes share traces.
    initializer, initargs
        User-defined function, and its arguments, to call in each worker.
    """
    if threads is not None:
        limit_threads(threads)
    limit_growth(most_growth)
    trace_folders.use(**folders._asdict())
    if initializer is not None:
        initializer(*initargs)


def threads_of(text: str) -> int | None:
    """Return the number that ``OMP_NUM_THREADS`` sets: the first of a list; None if it sets none.

    >>> threads_of("4,2")
    4
    """
    first = text.partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else None


def limit_threads(number: int) -> None:
    """Limit each loaded library to `number` threads.

    Libraries loaded later read environment variables; those loaded before the fork already have.
    """
    import threadpoolctl

    threadpoolctl.threadpool_limits(number)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(number)


def limit_growth(most: int | None) -> None:
    """Let joblib's worker loop end this worker between two tasks once it has grown by `most` bytes.

    joblib itself does so at 300 MB if psutil is installed. The patches affect this worker only.
    """
    from joblib.externals.loky import process_executor

    process_executor._USE_PSUTIL = most is not None and _STATM.exists()
    process_executor._MAX_MEMORY_LEAK_SIZE = most
    process_executor._get_memory_usage = _private_memory_for_joblib


def _private_memory_for_joblib(_: int, force_gc: bool = False) -> int:
    """Return the private memory of this process, with the signature that joblib expects."""
    if force_gc:
        gc.collect()
    return private_memory()


def private_memory() -> int:
    """Return the private memory of this process: resident bytes except files and shared memory."""
    _, resident, shared, *_ = map(int, _STATM.read_text("ascii").split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
