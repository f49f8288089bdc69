"""What a thread is doing with Keras 3 objects, for the replacements of `writing` and `reading`."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .._shared.patches import Patch, Patches

__all__ = ["Patch", "current", "patches"]

# `table` while the thread writes, `reading` while it reads.
current = threading.local()


def patches(make: Callable[[], list[Patch]]) -> Patches:
    """Return replacements that see what the current thread is doing."""
    return Patches(make, current)
