"""State of a thread that writes or reads Keras 3 objects, and the patches of Keras for it.

The patches are in `writing` and `reading`.
"""

from __future__ import annotations

from .._shared.patches import Patches, Work

# `table` while the thread writes, `reading` while it reads.
current = Work()
WRITING, READING = Patches(current), Patches(current)
