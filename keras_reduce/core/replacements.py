"""What was replaced in other people's modules and classes, and how to take it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["MISSING", "Replacements"]

MISSING = object()


class Replacements:
    """Attributes that were set on other people's objects, and how they were before."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute."""
        before = vars(owner).get(name, MISSING)
        self._undo.append(lambda: _put_back(owner, name, before, value))
        setattr(owner, name, value)

    def delete(self, owner: Any, name: str) -> None:
        """Delete an attribute of the owner itself."""
        before = vars(owner)[name]
        self._undo.append(lambda: _put_back(owner, name, before, MISSING))
        delattr(owner, name)

    def when_undone(self, function: Callable[[], None]) -> None:
        """Call `function` as well when all is put back."""
        self._undo.append(function)

    def __bool__(self) -> bool:
        """Tell whether there is anything to put back."""
        return bool(self._undo)

    def undo(self) -> None:
        """Put everything back, the last first."""
        errors = []
        while self._undo:
            try:
                self._undo.pop()()
            except Exception as error:  # The others are to be put back all the same.
                errors.append(error)
        if errors:
            raise errors[0]


def _put_back(owner: Any, name: str, before: Any, ours: Any) -> None:
    if vars(owner).get(name, MISSING) is not ours:
        return  # somebody has set another one since; it is theirs
    if before is MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, before)
