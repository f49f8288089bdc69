"""What a thread is doing with Keras 2 objects, and what is replaced in Keras for it."""

from __future__ import annotations

import threading

from .._shared.patches import Patches

# `table` while a thread writes, `objects` and `by_key` while it reads.
current = threading.local()
WRITING = Patches(current)
