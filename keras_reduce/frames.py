"""What other threads are doing at this moment."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable


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
