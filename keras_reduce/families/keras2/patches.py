"""State of a thread that writes or reads Keras 2 objects, and the patches of Keras for it."""

from __future__ import annotations

from .._shared.patches import Patches, Work

# `table` while a thread writes, `objects` and `by_key` while it reads.
current = Work()
WRITING = Patches(current)
