"""What a worker may take for itself: threads, memory."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATM = Path("/proc/self/statm")

# What libraries read how many threads to start from, TensorFlow's among them; joblib knows of the
# others.
TENSORFLOW_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def begin(
    threads: int | None,
    most_growth: int | None,
    initializer: Callable[..., Any] | None = None,
    initargs: tuple[Any, ...] = (),
) -> None:
    """Set the limits of this worker, before its first task.

    Parameters
    ----------
    threads : int, optional
        Threads of each library that computes; None leaves all as they are.
    most_growth : int, optional
        Bytes by which the worker may grow before another takes its place; None for no limit.
    initializer, initargs
        What the user wants to be called in each worker.
    """
    if threads is not None:
        limit_threads(threads)
    limit_growth(most_growth)
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
    """Let each library that is loaded compute with `number` threads.

    Those that load later read environment variables; those that came with the fork have read them.
    """
    import threadpoolctl

    threadpoolctl.threadpool_limits(number)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(number)


def limit_growth(most: int | None) -> None:
    """Let joblib's loop end this worker between two tasks once it has grown by `most` bytes.

    joblib does that by itself, at 300 MB and where psutil is installed. These are names of its
    module in this process, a worker, only.
    """
    from joblib.externals.loky import process_executor

    process_executor._USE_PSUTIL = most is not None and _STATM.exists()
    process_executor._MAX_MEMORY_LEAK_SIZE = most
    process_executor._get_memory_usage = _own_memory


def _own_memory(_: int, force_gc: bool = False) -> int:
    """Return the bytes that this process has for itself, mapped files and such left out."""
    if force_gc:
        gc.collect()
    return own_memory()


def own_memory() -> int:
    """Return the resident bytes of this process that are not of files or shared memory."""
    _, resident, shared, *_ = map(int, _STATM.read_text("ascii").split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
