"""Weak references in attributes: carried where what they refer to travels in the same graph.

No pickler takes them, and `copy.deepcopy` takes them for atoms: a copied layer would go on with
the layer of the original. They are taken apart into identity tokens, and made again as soon as what
they refer to has been rebuilt.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from .errors import PayloadError
from .identities import Identity

__all__ = ["PROXIES", "WeakAttribute", "holds", "rebuild_weak_attribute", "rebuilding", "targets"]

PROXIES = (weakref.ProxyType, weakref.CallableProxyType)
_KINDS: dict[type, str] = {
    weakref.ref: "ref",
    weakref.WeakMethod: "method",
    weakref.WeakKeyDictionary: "keys",
    weakref.WeakValueDictionary: "values",
    weakref.WeakSet: "set",
    **dict.fromkeys(PROXIES, "proxy"),
}


def holds(value: Any, levels: int = 4) -> bool:
    """Tell whether `value` is a weak reference, or a nest of lists, tuples and dicts with one."""
    if type(value) in _KINDS:
        return True
    if not levels or not isinstance(value, (list, tuple, dict)):
        return False
    items = value.values() if isinstance(value, dict) else value
    return any(holds(item, levels - 1) for item in items)


def targets(value: Any) -> Iterator[Any]:
    """Yield what the weak references in `value` refer to, as far as it is still there."""
    kind = _KINDS.get(type(value))
    if kind == "ref" or kind == "method":
        found = value()
        yield from () if found is None else (getattr(found, "__self__", found),)
    elif kind == "proxy":
        yield from _of_proxy(value)
    elif kind == "keys" or kind == "set":
        yield from list(value)
    elif kind == "values":
        yield from list(value.values())
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from targets(item)


def _of_proxy(proxy: Any) -> Iterator[Any]:
    try:
        # A bound method of the object itself.
        yield proxy.__repr__.__self__
    except ReferenceError:
        return


class WeakAttribute:
    """The value of an attribute that is, or contains, weak references, on its way in a pickle.

    Parameters
    ----------
    outline : tuple
        How it is built: tuples of a kind and its contents, with tokens for what is referred to.

    Attributes
    ----------
    before_writing : callable, optional
        Called when a pickler asks for the reduce value. It raises an error if what is referred to
        is not in the same pickle.
    """

    def __init__(self, outline: tuple[Any, ...]) -> None:
        self.outline = outline
        self.before_writing: Callable[[], None] | None = None

    @classmethod
    def of(cls, value: Any) -> WeakAttribute:
        """Take the value of an attribute apart."""
        return cls(_outline(value))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Reduce to the same."""
        if self.before_writing is not None:
            self.before_writing()
        return rebuild_weak_attribute, (self.outline,)

    def leave_out(self) -> None:
        """Carry nothing: `attach` will do nothing."""
        self.outline, self.before_writing = ("absent", None), None

    def attach(self, obj: Any, name: str) -> None:
        """Set the attribute of `obj`, and again whenever something that it refers to is rebuilt."""
        if self.outline[0] == "absent":
            return

        def update(_: Any = None) -> None:
            # Not by setattr: Keras would track a layer behind a proxy, and then can't compile.
            vars(obj)[name] = _value(self.outline, name)

        update()
        for identity in _identities(self.outline):
            identity.follow(update)

    def plain(self) -> list[Any]:
        """Return what else is in it, for a pickler to carry."""
        return list(_plain(self.outline))


def rebuild_weak_attribute(outline: tuple[Any, ...]) -> WeakAttribute:
    """Rebuild a `WeakAttribute`; its path is wire format."""
    return WeakAttribute(outline)


def _outline(value: Any) -> tuple[Any, ...]:
    kind = _KINDS.get(type(value))
    if kind == "keys":
        return kind, tuple((Identity.of(key), item) for key, item in list(value.items()))
    if kind == "values":
        return kind, tuple((key, Identity.of(item)) for key, item in list(value.items()))
    if kind == "set":
        return kind, tuple(map(Identity.of, list(value)))
    if kind is not None:
        found = list(targets(value))
        if not found:
            return "dead", kind
        method = (value().__name__,) if kind == "method" else ()
        return kind, Identity.of(found[0]), *method
    if type(value) is dict:
        return "dict", tuple((key, _outline(item)) for key, item in value.items())
    if type(value) in (list, tuple):
        return type(value).__name__, tuple(map(_outline, value))
    return "plain", value


class _State(threading.local):
    depth = 0


_state = _State()


@contextlib.contextmanager
def rebuilding() -> Iterator[None]:
    """Let references that are not there yet be dead, while this thread rebuilds an object."""
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1


def _identities(outline: tuple[Any, ...]) -> Iterator[Identity]:
    kind, content = outline[:2]
    if kind in ("ref", "method", "proxy"):
        yield content
    elif kind in ("list", "tuple"):
        for item in content:
            yield from _identities(item)
    elif kind == "dict":
        for _, item in content:
            yield from _identities(item)
    elif kind in ("keys", "values", "set"):
        for item in content:
            yield from (each for each in _as_tuple(item) if isinstance(each, Identity))


def _plain(outline: tuple[Any, ...]) -> Iterator[Any]:
    kind, content = outline[:2]
    if kind == "plain":
        yield content
    elif kind in ("list", "tuple"):
        for item in content:
            yield from _plain(item)
    elif kind == "dict":
        for _, item in content:
            yield from _plain(item)
    elif kind in ("keys", "values"):
        for item in content:
            yield from (each for each in item if not isinstance(each, Identity))


def _as_tuple(item: Any) -> tuple[Any, ...]:
    return item if isinstance(item, tuple) else (item,)


def _value(outline: tuple[Any, ...], name: str) -> Any:
    """Return what is built so, as far as what it refers to has been rebuilt."""
    kind, content, *more = outline
    if kind == "dead":
        reference = weakref.ref(_Gone())
        return weakref.proxy(_Gone()) if content == "proxy" else reference
    if kind == "plain":
        return content
    if kind in ("list", "tuple"):
        return (list if kind == "list" else tuple)(_value(item, name) for item in content)
    if kind == "dict":
        return {key: _value(item, name) for key, item in content}
    if kind == "keys":
        pairs = [(_target(key), item) for key, item in content]
        return weakref.WeakKeyDictionary({k: v for k, v in pairs if k is not None})
    if kind == "values":
        pairs = [(key, _target(item)) for key, item in content]
        return weakref.WeakValueDictionary({k: v for k, v in pairs if v is not None})
    if kind == "set":
        return weakref.WeakSet(found for found in map(_target, content) if found is not None)
    target = _target(content)
    if target is None:
        return MissingTarget(name)
    if kind == "method":
        return weakref.WeakMethod(getattr(target, more[0]))
    return weakref.proxy(target) if kind == "proxy" else weakref.ref(target)


def _target(identity: Identity) -> Any:
    # What `copy.deepcopy` does not copy along is referred to as before.
    return identity.original if identity.obj is None else identity.obj


class _Gone:
    """An object to which nothing refers any more."""


class MissingTarget:
    """A weak reference to something that has not been rebuilt, and may never be.

    Parameters
    ----------
    attribute : str
        The name of the attribute that it is in.
    """

    def __init__(self, attribute: str) -> None:
        self._attribute = attribute

    def __call__(self, *arguments: Any, **more: Any) -> None:
        """Raise an error; return None, as a dead reference does, to code that rebuilding runs."""
        if _state.depth:
            return
        raise PayloadError(
            "A weak reference leads to nothing",
            where=f".{self._attribute}",
            cause="what it refers to was not in the same pickle",
            cure="pickle both in one object, such as a model that has both",
        )

    def __getattr__(self, name: str) -> Any:
        """Raise an error; but let others ask for what is no attribute of the object."""
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self()
