"""Progress bar of a call of `Parallel`."""

from __future__ import annotations

import functools
import logging
import operator
import sys
import threading
from typing import Any

_log = logging.getLogger(__package__)


class Progress:
    """Progress bar of one call.

    It is shown only if the standard error is a terminal or the output of a notebook cell. Without
    tqdm, a warning is logged once.

    Parameters
    ----------
    parallel : joblib.Parallel
        The object that was called.
    """

    def __init__(self, parallel: Any) -> None:
        self._parallel = parallel
        self._lock = threading.Lock()
        self._bar = _bar(_total_tasks(parallel))

    def advance(self, tasks: int) -> None:
        """Add `tasks` finished tasks to the bar."""
        with self._lock:
            if self._bar is not None:
                total = _total_tasks(self._parallel)
                if total is not None and total != self._bar.total:
                    self._bar.total = total
                self._bar.update(tasks)

    def close(self) -> None:
        """Close the bar and leave it visible."""
        with self._lock:
            if self._bar is not None:
                self._bar.total = self._bar.total or self._bar.n
                self._bar.close()
                self._bar = None


def _bar(total: int | None) -> Any:
    if not sys.stderr.isatty() and not _is_notebook():
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        _warn_without_tqdm()
        return None
    return tqdm(total=total, unit="task", file=sys.stderr)


def _is_notebook() -> bool:
    """Return whether the standard error is shown below a notebook cell."""
    return "ipykernel" in sys.modules and type(sys.stderr).__module__.startswith("ipykernel")


@functools.cache
def _warn_without_tqdm() -> None:
    _log.warning("progress=True shows nothing without tqdm: pip install 'keras_reduce[progress]'")


def _total_tasks(parallel: Any) -> int | None:
    """Return the number of tasks of the call; None until joblib knows it."""
    total = getattr(parallel, "n_tasks", None)
    if total is not None:
        return int(total)
    # Private: joblib's progress messages use it to tell whether more tasks follow. It does not
    # exist yet when the first call begins.
    left = getattr(parallel, "_original_iterator", None)
    if left is not None:
        hint = operator.length_hint(left, -1)
        return None if hint < 0 else int(parallel.n_dispatched_tasks) + hint
    if parallel.pre_dispatch == "all":
        return None  # joblib may still be dispatching tasks
    return int(parallel.n_dispatched_tasks) or None
