"""What a thread is doing with Keras 3 objects, and what is replaced in Keras for it.

`writing` and `reading` say what.
"""

from __future__ import annotations

import threading

from .._shared.patches import Patches

# `table` while the thread writes, `reading` while it reads.
current = threading.local()
WRITING, READING = Patches(current), Patches(current)
