"""Peak memory of an operation, from the counters of Linux."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PROC = Path("/proc/self")


def grown(operation: Callable[[], Any]) -> tuple[Any, dict[str, int] | None]:
    """Run `operation`; return its result and the growth of this process in bytes.

    ``peak`` is the growth of resident memory at its peak, ``kept`` the growth while the result is
    alive, ``file_pages`` the part of ``kept`` in pages of mapped files, ``private_dirty`` the part
    that belongs to this process alone. None if the system has no such counters.
    """
    settle()
    try:
        before = _figures()
        (_PROC / "clear_refs").write_text("5")  # resets the peak
    except OSError:
        return operation(), None
    result = operation()  # stays alive until the figures are read
    after = _figures()
    return result, {
        "peak": max(0, after["VmHWM"] - before["VmRSS"]),
        "kept": after["VmRSS"] - before["VmRSS"],
        "file_pages": after["RssFile"] - before["RssFile"],
        "private_dirty": after["Private_Dirty"] - before["Private_Dirty"],
    }


def settle() -> None:
    """Return free memory to the system: reuse of memory that glibc keeps would not be counted."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _figures() -> dict[str, int]:
    lines = (_PROC / "status").read_text() + (_PROC / "smaps_rollup").read_text()
    pairs = (line.partition(":")[::2] for line in lines.splitlines())
    return {name: int(value[:-3]) * 1024 for name, value in pairs if value.endswith(" kB")}
