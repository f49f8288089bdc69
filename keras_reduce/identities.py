"""Identity tokens: how objects that travel in one pickle, but apart, find each other again.

An optimizer has slots for variables that layers hold. Its payload must not take the layers along,
and theirs know nothing of the optimizer. So both hold the same token, an object without contents
that stands for the variable. The pickler's memo makes one token of it on the other side, whichever
of them is written first, and there the token leads from one to the other.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

__all__ = [
    "Identity",
    "by_number",
    "detached",
    "is_detached",
    "rebuild_identity",
    "replace",
    "settle",
]


class Identity:
    """A token for an object, which comes back as the token for the object that is rebuilt of it.

    Parameters
    ----------
    obj : object, optional
        What it stands for; None as long as that has not been rebuilt.

    Attributes
    ----------
    obj : object
        The same.
    """

    __slots__ = ("__weakref__", "_followers", "_original", "obj")

    _known: ClassVar[_Tokens]

    def __init__(self, obj: Any = None) -> None:
        self.obj = obj
        self._original: Callable[[], Any] = _nothing
        self._followers: tuple[Callable[[Any], None], ...] = ()

    @classmethod
    def of(cls, obj: Any) -> Identity:
        """Return the token of `obj`, the same one as long as a pickler holds it."""
        if _state.is_detached:
            return cls()
        found = cls._known.get(id(obj))
        if found is None or found.obj is not obj:
            found = cls._known[id(obj)] = cls(obj)
        return found

    @classmethod
    def named(cls, key: str) -> Identity:
        """Return the token of an object that is known by a text, which no other one ever has."""
        if _state.is_detached:
            return cls()
        found = cls._known.get(key)
        if found is None:
            found = cls._known[key] = cls()
        return found

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Reduce to a token without an object."""
        return rebuild_identity, ()

    def __setstate__(self, state: Any) -> None:
        """Refuse a state: there is none, and a file made by hand could let a token call things."""
        raise TypeError("an identity token has no state")

    def __deepcopy__(self, memo: dict[int, Any]) -> Identity:
        """Return a token without an object, which knows the original."""
        copied = Identity()
        with contextlib.suppress(TypeError):  # Not every object can be referred to weakly.
            copied._original = weakref.ref(self.obj)
        return copied

    def is_of(self, obj: Any) -> bool:
        """Tell whether `obj` is the object, or the one of which `copy.deepcopy` makes a copy."""
        return obj is not None and (obj is self.obj or obj is self._original())

    @property
    def original(self) -> Any:
        """The object of which `copy.deepcopy` makes a copy; None elsewhere."""
        return self._original()

    def settle(self, obj: Any) -> None:
        """Let the token stand for `obj`, which has been rebuilt, and tell those that wait for it.

        It may be called again: a layer around another one may replace what that one holds.
        """
        if obj is not self.obj:
            self.obj = obj
            Identity._known[id(obj)] = self
            for follower in self._followers:
                follower(obj)

    def follow(self, follower: Callable[[Any], None]) -> None:
        """Call `follower` with the object as soon as there is one, and whenever it changes."""
        self._followers += (follower,)
        if self.obj is not None:
            follower(self.obj)


def _nothing() -> None:
    return None


class _Tokens:
    """The tokens that are held by picklers and unpicklers, or by what waits for their object.

    Each variable of a model that is written has one. A `weakref.WeakValueDictionary` runs Python
    code for each entry that is added or dies; here, dead entries stay until there are many.
    """

    def __init__(self) -> None:
        self._references: dict[int | str, weakref.ref[Identity]] = {}
        self._lock = threading.Lock()
        self._limit = _FEW

    def get(self, key: int | str) -> Identity | None:
        reference = self._references.get(key)
        return None if reference is None else reference()

    def __setitem__(self, key: int | str, token: Identity) -> None:
        with self._lock:
            if len(self._references) >= self._limit:
                items = list(self._references.items())
                for dead in [each for each, reference in items if reference() is None]:
                    del self._references[dead]
                self._limit = 2 * len(self._references) + _FEW
            self._references[key] = weakref.ref(token)


_FEW = 1024
Identity._known = _Tokens()


class _State(threading.local):
    is_detached = False


_state = _State()


@contextlib.contextmanager
def detached() -> Iterator[None]:
    """Let this thread make tokens that lead nowhere, for `copy.copy`, which copies no token."""
    before, _state.is_detached = _state.is_detached, True
    try:
        yield
    finally:
        _state.is_detached = before


def is_detached() -> bool:
    """Tell whether this thread makes tokens that lead nowhere."""
    return _state.is_detached


def rebuild_identity() -> Identity:
    """Return a token without an object; its path is wire format."""
    return Identity()


def by_number(identities: Sequence[Any], number: Any) -> Identity:
    """Return the token of a number; one that leads nowhere if there is none."""
    is_there = isinstance(number, int) and 0 <= number < len(identities)
    found = identities[number] if is_there else None
    return found if isinstance(found, Identity) else Identity()


def settle(identities: Sequence[Any], objects: Iterable[Any]) -> None:
    """Let `identities`, of which some may be None, stand for the `objects` in their order."""
    for identity, obj in zip(identities, objects, strict=False):
        if isinstance(identity, Identity):
            identity.settle(obj)


def replace(old: Any, new: Any) -> None:
    """Let the token of `old`, if there is one, stand for `new`, which takes its place."""
    found = Identity._known.get(id(old))
    if found is not None and found.obj is old:
        found.settle(new)
