"""How much memory an operation takes at its peak, as Linux counts it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PROC = Path("/proc/self")


def grown(operation: Callable[[], Any]) -> tuple[Any, dict[str, int] | None]:
    """Run `operation`; return its result and what this process grew by, in bytes.

    ``peak`` is the most resident memory at any time, ``kept`` what is left with the result alive,
    ``file_pages`` how much of that is pages of mapped files, ``private_dirty`` how much belongs to
    this process alone. None where the system keeps no such books.
    """
    settle()
    try:
        before = _figures()
        (_PROC / "clear_refs").write_text("5")  # the high-water mark starts anew
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
    """Give back what is free: memory that glibc has kept could be used again unseen."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _figures() -> dict[str, int]:
    lines = (_PROC / "status").read_text() + (_PROC / "smaps_rollup").read_text()
    pairs = (line.partition(":")[::2] for line in lines.splitlines())
    return {name: int(value[:-3]) * 1024 for name, value in pairs if value.endswith(" kB")}
