"""Memo of a running pickler that is written in C.

Such a pickler has no frame on Python's stack, so a reducer called by `pickle.dumps` can't see the
dumped object. But the garbage collector tracks the pickler, and the pickler has a memo. Lists,
dictionaries and objects enter the memo before their contents are written. Tuples, frozen sets and
arguments of reducers enter it afterwards.
"""

from __future__ import annotations

import _pickle
import gc
import sys
import types
from collections.abc import Sequence
from typing import Any

__all__ = ["memo_with", "unfinished_tuples"]


def memo_with(witness: Any) -> list[Any] | None:
    """Return the memo of the pickler that has memoized `witness`; None if there is none.

    Takes milliseconds, since it visits all objects that the garbage collector tracks.

    Parameters
    ----------
    witness : object
        An object that only one dump contains, and that picklers memoize, such as a new string.
    """
    for obj in gc.get_objects():
        if issubclass(type(obj), _pickle.Pickler):
            memo = obj.memo.copy()
            if id(witness) in memo:
                return [met for _, met in memo.values()]
    return None


def unfinished_tuples(objects: Sequence[Any]) -> list[Any]:
    """Return the tuples and frozen sets around `objects` that a pickler may be writing.

    A pickler holds a reference that the garbage collector does not see, so a tuple that only other
    containers refer to is left out. A local variable is such a reference, too, so some of the
    tuples may not be part of a dump.
    """
    inside = [obj for obj in objects if gc.is_tracked(obj) and not isinstance(obj, _SHARED)]
    found: dict[int, Any] = {}
    while inside:
        around = [each for each in gc.get_referrers(*inside) if isinstance(each, _LATE)]
        inside = [each for each in around if id(each) not in found]
        found.update((id(each), each) for each in inside)
    # The last one has no references except from this list, like others without a pickler.
    candidates = [*found.values(), (object(),)]
    *counts, usual = _unseen_references(candidates)
    return [each for each, count in zip(candidates, counts, strict=False) if count > usual]


# Types memoized after their contents; and types written by name, to which many objects refer.
_LATE = (tuple, frozenset)
_SHARED = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)


def _unseen_references(objects: list[Any]) -> list[int]:
    """Count the references to each of `objects` that are not from a container."""
    seen = dict.fromkeys(map(id, objects), 0)
    for holder in gc.get_referrers(*objects):
        for number in map(id, gc.get_referents(holder)):
            if number in seen:
                seen[number] += 1
    # By their positions: a variable would be one more reference.
    return [
        sys.getrefcount(objects[position]) - count for position, count in enumerate(seen.values())
    ]
