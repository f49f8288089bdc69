"""State of a thread that writes or reads Keras 3 objects, and the patches of Keras for it.

The patches are in `writing` and `reading`.
"""

from __future__ import annotations

import threading

from .._shared.patches import Patches

# `table` while the thread writes, `reading` while it reads.
current = threading.local()
WRITING, READING = Patches(current), Patches(current)
