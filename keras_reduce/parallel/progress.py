"""A bar that shows how far a call of `Parallel` has come."""

from __future__ import annotations

import operator
import sys
import threading
from typing import Any


class Progress:
    """The bar of one call.

    Silent where nobody looks: when the standard error is no terminal; and without tqdm.

    Parameters
    ----------
    parallel : joblib.Parallel
        Where the call happens.
    """

    def __init__(self, parallel: Any) -> None:
        self._parallel = parallel
        self._lock = threading.Lock()
        self._bar = _bar(_known_total(parallel))

    def advance(self, tasks: int) -> None:
        """Show that `tasks` more are done."""
        with self._lock:
            if self._bar is not None:
                total = _known_total(self._parallel)
                if total is not None and total != self._bar.total:
                    self._bar.total = total
                self._bar.update(tasks)

    def close(self) -> None:
        """Leave the bar as it is."""
        with self._lock:
            if self._bar is not None:
                self._bar.total = self._bar.total or self._bar.n
                self._bar.close()
                self._bar = None


def _bar(total: int | None) -> Any:
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(total=total, unit="task", file=sys.stderr)


def _known_total(parallel: Any) -> int | None:
    """Return how many tasks the call has, once joblib knows: all have been handed out."""
    total = getattr(parallel, "n_tasks", None)
    if total is not None:
        return int(total)
    # Private: joblib's own messages on progress tell by it whether there are more to come. It is
    # not there yet when the first call begins.
    left = getattr(parallel, "_original_iterator", None)
    if left is not None:
        hint = operator.length_hint(left, -1)
        return None if hint < 0 else int(parallel.n_dispatched_tasks) + hint
    if parallel.pre_dispatch == "all":
        return None  # there is no telling whether it is at it still
    return int(parallel.n_dispatched_tasks) or None
