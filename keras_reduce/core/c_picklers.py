"""Objects that a pickler written in C is writing.

It leaves no trace on Python's stack, so that a reducer that runs within `pickle.dumps` can't see
what is dumped. But the garbage collector knows the pickler, and the pickler has a memo. Lists,
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
    """Return the memo of the pickler that has met `witness`; None if there is no such pickler.

    The witness is something that only one dump contains, such as a new text. Takes milliseconds:
    all objects that the garbage collector knows are looked at.
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
    containers hold is left out. A variable of a running function is such a reference, too: some of
    the tuples may not be part of any dump.
    """
    inside = [obj for obj in objects if gc.is_tracked(obj) and not isinstance(obj, _SHARED)]
    containers: dict[int, Any] = {}
    while inside:
        around = [each for each in gc.get_referrers(*inside) if isinstance(each, _LATE)]
        inside = [each for each in around if id(each) not in containers]
        containers.update((id(each), each) for each in inside)
    # The last one is held by this list alone, as all others would be without a pickler.
    candidates = [*containers.values(), (object(),)]
    *counts, usual = _unseen_references(candidates)
    return [each for each, count in zip(candidates, counts, strict=False) if count > usual]


# What a pickler notes after its contents; and what it writes by name, and many others refer to.
_LATE = (tuple, frozenset)
_SHARED = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)


def _unseen_references(objects: list[Any]) -> list[int]:
    """Count the references to each of `objects` that are not in a container."""
    seen = dict.fromkeys(map(id, objects), 0)
    for holder in gc.get_referrers(*objects):
        for number in map(id, gc.get_referents(holder)):
            if number in seen:
                seen[number] += 1
    # By their positions: a variable would be one more reference.
    return [
        sys.getrefcount(objects[position]) - count for position, count in enumerate(seen.values())
    ]
