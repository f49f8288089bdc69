"""Identity tokens: placeholders that link objects with separate payloads in one pickle.

An optimizer has slots for variables that layers hold. Its payload must not contain the layers, and
theirs know nothing of the optimizer. So both hold the same token, an empty object that represents
the variable. The pickler's memo keeps it one token, in whichever order the payloads are written,
and on the other side the token leads from the slots to the rebuilt variable.
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
    """Token for an object; unpickled, it becomes the token for the rebuilt object.

    Parameters
    ----------
    obj : object, optional
        The object; None until it has been rebuilt.

    Attributes
    ----------
    obj : object
        The object, or None.
    """

    __slots__ = ("__weakref__", "_followers", "_original", "obj")

    _live_tokens: ClassVar[_Tokens]

    def __init__(self, obj: Any = None) -> None:
        self.obj = obj
        self._original: Callable[[], Any] = _nothing
        self._followers: tuple[Callable[[Any], None], ...] = ()

    @classmethod
    def of(cls, obj: Any) -> Identity:
        """Return the token of `obj`, the same one as long as a pickler holds it."""
        if _state.is_detached:
            return cls()
        token = cls._live_tokens.get(id(obj))
        if token is None or token.obj is not obj:
            token = cls._live_tokens[id(obj)] = cls(obj)
        return token

    @classmethod
    def named(cls, key: str) -> Identity:
        """Return the token of an object that is identified by a globally unique `key`."""
        if _state.is_detached:
            return cls()
        token = cls._live_tokens.get(key)
        if token is None:
            token = cls._live_tokens[key] = cls()
        return token

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return a rebuilder of a token without an object."""
        return rebuild_identity, ()

    def __setstate__(self, state: Any) -> None:
        """Refuse any state, since a crafted file could use one to let a token call functions."""
        raise TypeError("an identity token has no state")

    def __deepcopy__(self, memo: dict[int, Any]) -> Identity:
        """Return a token without an object that refers weakly to the original."""
        copied = Identity()
        with contextlib.suppress(TypeError):  # Not every object can be referred to weakly.
            copied._original = weakref.ref(self.obj)
        return copied

    def is_of(self, obj: Any) -> bool:
        """Return whether `obj` is the object, or the one of which `copy.deepcopy` makes a copy."""
        return obj is not None and (obj is self.obj or obj is self._original())

    @property
    def original(self) -> Any:
        """The object of which `copy.deepcopy` makes a copy; None elsewhere."""
        return self._original()

    def settle(self, obj: Any) -> None:
        """Set the rebuilt object and call all followers with it.

        This may happen again: an outer layer may replace an object that an inner one holds.
        """
        if obj is not self.obj:
            self.obj = obj
            Identity._live_tokens[id(obj)] = self
            for follower in self._followers:
                follower(obj)

    def follow(self, follower: Callable[[Any], None]) -> None:
        """Call `follower` with the object once there is one, and again whenever it changes."""
        self._followers += (follower,)
        if self.obj is not None:
            follower(self.obj)


def _nothing() -> None:
    return None


class _Tokens:
    """Weak table of the live tokens, by the id of their object or by key.

    Each variable of a model that is written has one. A `weakref.WeakValueDictionary` runs Python
    code for each entry that is added or dies; this table removes dead entries in bulk.
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
Identity._live_tokens = _Tokens()


class _State(threading.local):
    is_detached = False


_state = _State()


@contextlib.contextmanager
def detached() -> Iterator[None]:
    """Make new, unlinked tokens in this thread, for `copy.copy`, which does not copy tokens."""
    before, _state.is_detached = _state.is_detached, True
    try:
        yield
    finally:
        _state.is_detached = before


def is_detached() -> bool:
    """Return whether this thread makes unlinked tokens, see `detached`."""
    return _state.is_detached


def rebuild_identity() -> Identity:
    """Return a token without an object; its path is wire format."""
    return Identity()


def by_number(identities: Sequence[Any], number: Any) -> Identity:
    """Return the token at position `number`, or a new, unlinked one if there is none."""
    is_valid = isinstance(number, int) and 0 <= number < len(identities)
    token = identities[number] if is_valid else None
    return token if isinstance(token, Identity) else Identity()


def settle(identities: Sequence[Any], objects: Iterable[Any]) -> None:
    """Set the objects of `identities`, some of which may be None, in their order."""
    for identity, obj in zip(identities, objects, strict=False):
        if isinstance(identity, Identity):
            identity.settle(obj)


def replace(old: Any, new: Any) -> None:
    """Set the object of the token of `old`, if there is one, to `new`."""
    token = Identity._live_tokens.get(id(old))
    if token is not None and token.obj is old:
        token.settle(new)
