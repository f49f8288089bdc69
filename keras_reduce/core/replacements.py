"""Record of replaced attributes of other libraries, to undo them."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

__all__ = ["MISSING", "Replacements"]

MISSING = object()


class Replacements:
    """Record of attributes set on objects of other libraries, with their previous values."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute and record its previous value."""
        before = vars(owner).get(name, MISSING)
        self._undo.append(lambda: _put_back(owner, name, before, value))
        setattr(owner, name, value)

    def delete(self, owner: Any, name: str) -> None:
        """Delete an attribute of the owner itself and record its value."""
        before = vars(owner)[name]
        self._undo.append(lambda: _put_back(owner, name, before, MISSING))
        delattr(owner, name)

    def set_item(self, mapping: MutableMapping[Any, Any], key: Any, value: Any) -> None:
        """Set an item of a mapping and record its previous value."""
        before = mapping.get(key, MISSING)
        self._undo.append(lambda: _put_item_back(mapping, key, before, value))
        mapping[key] = value

    def when_undone(self, function: Callable[[], None]) -> None:
        """Call `function` when everything is undone."""
        self._undo.append(function)

    def __bool__(self) -> bool:
        """Return whether there is anything to undo."""
        return bool(self._undo)

    def undo(self) -> None:
        """Undo everything, in reverse order."""
        errors = []
        while self._undo:
            try:
                self._undo.pop()()
            except Exception as error:  # Undo the others nevertheless.
                errors.append(error)
        if errors:
            raise errors[0]


def _put_back(owner: Any, name: str, before: Any, ours: Any) -> None:
    if vars(owner).get(name, MISSING) is not ours:
        return  # replaced again by other code
    if before is MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, before)


def _put_item_back(mapping: MutableMapping[Any, Any], key: Any, before: Any, ours: Any) -> None:
    if mapping.get(key, MISSING) is not ours:
        return  # replaced again by other code
    if before is MISSING:
        del mapping[key]
    else:
        mapping[key] = before
