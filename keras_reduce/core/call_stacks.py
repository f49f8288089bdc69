"""Inspection of the call stacks of threads."""

from __future__ import annotations

import functools
import sys
import threading
import types
from collections.abc import Callable

# The root package of all modules of this package.
PACKAGE = __name__.partition(".")[0]


def run_elsewhere(is_wanted: Callable[[types.FrameType], bool]) -> bool:
    """Return whether another thread has a frame for which `is_wanted` is true."""
    frames = sys._current_frames()
    # A frame that refers to itself would keep its variables alive.
    del frames[threading.get_ident()]
    here: types.FrameType | None = None
    try:
        for here in frames.values():
            while here is not None:
                if is_wanted(here):
                    return True
                here = here.f_back
        return False
    finally:
        frames.clear()
        here = None


@functools.lru_cache(maxsize=256)
def asks_for_reduce_values(code: types.CodeType) -> bool:
    """Return whether `code` mentions ``__reduce__`` or ``__reduce_ex__``."""
    texts = (constant for constant in code.co_consts if isinstance(constant, str))
    return not _ASKING.isdisjoint((*code.co_names, *texts))


_ASKING = frozenset({"__reduce__", "__reduce_ex__"})
