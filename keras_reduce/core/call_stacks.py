"""Functions on the stack of this thread and of others."""

from __future__ import annotations

import functools
import sys
import threading
import types
from collections.abc import Callable

# The name of this package, which is the first part of the names of all of its modules.
PACKAGE = __name__.partition(".")[0]


def run_elsewhere(is_wanted: Callable[[types.FrameType], bool]) -> bool:
    """Tell whether another thread is within a call that `is_wanted` recognises by its frame."""
    frames = sys._current_frames()
    # A frame that holds itself would keep all that it holds.
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
    """Tell whether `code` mentions the methods by which a pickler asks for a reduce value."""
    texts = (constant for constant in code.co_consts if isinstance(constant, str))
    return not _ASKING.isdisjoint((*code.co_names, *texts))


_ASKING = frozenset({"__reduce__", "__reduce_ex__"})
