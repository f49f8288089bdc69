"""Points inside Keras that this thread's work goes through while it writes or reads configs.

Keras has no hook between an object and its config. All private names that are replaced for it
are in one or two lists of each family; a replacement falls through to the original in
every thread that did not ask for it, and is taken back when the last one leaves.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...custom_objects import Table

Patch = tuple[Any, str, Callable[[Any], Any]]


class Work(threading.local):
    """Notes of what a thread is doing, for the replacements to see."""


class Patches:
    """Replacements of module attributes while at least one thread needs them.

    What a thread is doing is noted in `current`.
    """

    def __init__(self, current: Work) -> None:
        self.current = current
        self._make: Callable[[], list[Patch]] = list
        self._lock = threading.Lock()
        self._users = 0
        self._originals: list[tuple[Any, str, Any]] = []

    def points(self, make: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
        """Take what `make` returns for the replacements: a decorator.

        Triples of a module, the name of an attribute, and a function from the original attribute to
        its replacement. Called when needed, as it imports Keras.
        """
        self._make = functools.cache(make)
        return make

    def writing(self, table: Table) -> AbstractContextManager[None]:
        """Enter user-defined classes and functions into `table` while this thread makes configs."""
        # Found out once for each object of the outermost payload.
        gaps = getattr(self.current, "gaps", None)
        return self(table=table, made=None, remade={}, gaps={} if gaps is None else gaps)

    def __call__(self, **doing: Any) -> AbstractContextManager[None]:
        """Put the replacements in place, and note in `current` what this thread is `doing`."""
        return _Entered(self, doing)

    def enter(self) -> None:
        """Put the replacements in place, unless they are."""
        with self._lock:
            if not self._users:
                # All looked up before the first is set: a name that is gone must leave no trace.
                replacements = [(m, name, getattr(m, name), make) for m, name, make in self._make()]
                for module, name, original, replace in replacements:
                    self._originals.append((module, name, original))
                    setattr(module, name, replace(original))
            self._users += 1

    def leave(self) -> None:
        """Take the replacements back, unless another block needs them."""
        with self._lock:
            self._users -= 1
            if not self._users:
                while self._originals:
                    setattr(*self._originals.pop())


class _Entered:
    """A ``with`` block. A class, since a payload for each layer makes many of them."""

    def __init__(self, patches: Patches, doing: dict[str, Any]) -> None:
        self._patches, self._doing = patches, doing

    def __enter__(self) -> None:
        noted = vars(self._patches.current)
        self._outer = {name: noted.get(name) for name in self._doing}
        self._patches.enter()
        noted.update(self._doing)

    def __exit__(self, *_: object) -> None:
        vars(self._patches.current).update(self._outer)
        self._patches.leave()
