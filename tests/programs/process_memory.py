"""Memory of this process, from the counters of Linux.

``getrusage`` would hide growth: its peak is never reset, and a process starts with its parent's.
"""

import contextlib
import ctypes
import gc
from pathlib import Path


@contextlib.contextmanager
def growth_below(most):
    """Fail if this process grows by `most` bytes, at its peak, within the block."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # reuse of memory that glibc keeps would not be counted
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = in_bytes("VmRSS")
    yield
    grown = in_bytes("VmHWM") - before
    assert grown < most, (grown, most)


def in_bytes(name):
    """Return a counter of ``/proc/self/status``."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0]) * 1024
