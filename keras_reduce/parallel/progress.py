"""A bar that shows how far a call of `Parallel` has come."""

from __future__ import annotations

import functools
import logging
import operator
import sys
import threading
from typing import Any

_log = logging.getLogger(__package__)


class Progress:
    """The bar of one call.

    Silent where nobody looks: when the standard error is neither a terminal nor a notebook's.
    Without tqdm, a warning is logged once.

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
    if not sys.stderr.isatty() and not _is_notebook():
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        _say_what_is_missing()
        return None
    return tqdm(total=total, unit="task", file=sys.stderr)


def _is_notebook() -> bool:
    """Return whether what is written to the standard error is shown below a cell."""
    return "ipykernel" in sys.modules and type(sys.stderr).__module__.startswith("ipykernel")


@functools.cache
def _say_what_is_missing() -> None:
    _log.warning("progress=True shows nothing without tqdm: pip install 'keras_reduce[progress]'")


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
