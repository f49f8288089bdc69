"""Weak references in attributes: carried if their targets are in the same pickle.

No pickler takes them, and `copy.deepcopy` treats them as atoms: a copied layer would refer to the
layer of the original. They are reduced to identity tokens, and created again as soon as their
targets have been rebuilt.
"""

from __future__ import annotations

import contextlib
import operator
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from .core.code_objects import root_module
from .errors import PayloadError
from .identities import Identity

__all__ = [
    "PROXIES",
    "WeakAttribute",
    "attach_within",
    "detached",
    "holds",
    "is_weak",
    "rebuild_weak_attribute",
    "rebuilding",
    "targets",
    "within",
]

PROXIES = (weakref.ProxyType, weakref.CallableProxyType)
_KINDS: dict[type, str] = {
    weakref.ref: "ref",
    weakref.WeakMethod: "method",
    weakref.WeakKeyDictionary: "keys",
    weakref.WeakValueDictionary: "values",
    weakref.WeakSet: "set",
    **dict.fromkeys(PROXIES, "proxy"),
}


def is_weak(value: Any) -> bool:
    """Return whether `value` is a weak reference, or a weak container of the standard library."""
    return type(value) in _KINDS


def holds(value: Any, levels: int = 4) -> bool:
    """Return whether `value` is a weak reference, or a nest of lists, tuples and dicts with one."""
    if is_weak(value):
        return True
    if not levels or not isinstance(value, (list, tuple, dict)):
        return False
    items = value.values() if isinstance(value, dict) else value
    return any(holds(item, levels - 1) for item in items)


def targets(value: Any) -> Iterator[Any]:
    """Yield the live targets of the weak references in `value`."""
    kind = _KINDS.get(type(value))
    if kind == "ref" or kind == "method":
        target = value()
        yield from () if target is None else (getattr(target, "__self__", target),)
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
        # The bound method of the target leads to the target.
        yield proxy.__repr__.__self__
    except ReferenceError:
        return


class WeakAttribute:
    """Reducer of an attribute value that is, or contains, weak references.

    Parameters
    ----------
    outline : tuple
        Nested tuples of a kind and its contents, with identity tokens for the targets.

    Attributes
    ----------
    before_writing : callable, optional
        Called when a pickler asks for the reduce value. It raises an error if a target is not in
        the same pickle.
    """

    def __init__(self, outline: tuple[Any, ...]) -> None:
        self.outline = outline
        self.before_writing: Callable[[], None] | None = None

    @classmethod
    def of(cls, value: Any) -> WeakAttribute:
        """Return the reducer of an attribute value."""
        return cls(_outline(value))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return a rebuilder of this object."""
        if self.before_writing is not None:
            self.before_writing()
        return rebuild_weak_attribute, (self.outline,)

    def targets(self) -> Iterator[Any]:
        """Yield the live targets."""
        objects = (identity.obj for identity in _identities(self.outline))
        return (obj for obj in objects if obj is not None)

    def leave_out(self) -> None:
        """Drop the attribute: `attach` will do nothing."""
        self.outline, self.before_writing = ("absent", None), None

    def attach(self, obj: Any, name: str) -> None:
        """Set the attribute of `obj`, now and whenever a target is rebuilt."""
        if self.outline[0] == "absent":
            return
        place = f"{type(obj).__qualname__}.{name}"

        def update(_: Any = None) -> None:
            # Not by setattr: Keras would track a layer behind a proxy, and then can't compile.
            vars(obj)[name] = _value(self.outline, place)

        update()
        for identity in _identities(self.outline):
            identity.follow(update)

    def attach_inside(self, obj: Any, name: str) -> None:
        """Replace this object within an attribute of `obj`, now and whenever a target is rebuilt.

        The rest of the attribute is unchanged, with the layers in it that Keras tracks.
        """
        place = f"{type(obj).__qualname__}.{name}"
        present: Any = self

        def update(_: Any = None) -> None:
            nonlocal present
            replacement = _value(self.outline, place)
            vars(obj)[name] = _replaced(vars(obj)[name], present, replacement)
            present = replacement

        update()
        for identity in _identities(self.outline):
            identity.follow(update)

    def plain(self) -> list[Any]:
        """Return the other contents of the value, which a pickler must be able to carry."""
        return list(_plain(self.outline))


def detached(value: Any) -> Any:
    """Return a nest with a `WeakAttribute` in place of each weak reference in it.

    Return `value` itself if there is none.
    """
    if is_weak(value):
        return WeakAttribute.of(value)
    if isinstance(value, dict):
        detached_items = {key: detached(item) for key, item in value.items()}
        if all(map(operator.is_, detached_items.values(), value.values())):
            return value
        return OrderedDict(detached_items) if isinstance(value, OrderedDict) else detached_items
    if not isinstance(value, (list, tuple, set, frozenset)):
        return value
    items = [detached(item) for item in value]
    is_same = all(map(operator.is_, items, value))
    return value if is_same else _like(value, items)


def attach_within(obj: Any, name: str) -> None:
    """Attach each `WeakAttribute` within an attribute of `obj`; see `detached`."""
    # Torch modules keep parameters and modules outside vars(), but no containers.
    for weak_attribute in list(within(vars(obj).get(name))):
        weak_attribute.attach_inside(obj, name)


def within(value: Any) -> Iterator[WeakAttribute]:
    """Yield each `WeakAttribute` within a result of `detached`."""
    if isinstance(value, WeakAttribute):
        yield value
    elif isinstance(value, (list, tuple, set, frozenset, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from within(item)


def _like(value: Any, items: list[Any]) -> Any:
    """Return a list, tuple, set or frozenset of `items`, of the same kind as `value`."""
    if isinstance(value, tuple):
        # TensorFlow wraps named tuples in a proxy with the attribute ``__wrapped__``.
        named = getattr(value, "__wrapped__", value)
        return type(named)(*items) if hasattr(named, "_fields") else tuple(items)
    kind = next(kind for kind in (list, set, frozenset) if isinstance(value, kind))
    return kind(items)


def _replaced(value: Any, old: Any, new: Any) -> Any:
    """Return `value` with `new` in place of `old`; change lists, dictionaries and sets in place."""
    if value is old:
        return new
    if isinstance(value, (tuple, frozenset)):
        items = [_replaced(item, old, new) for item in value]
        return value if all(map(operator.is_, items, value)) else _like(value, items)
    if isinstance(value, set):
        for item in list(value):
            replacement = _replaced(item, old, new)
            if replacement is not item:
                set.discard(value, item)
                set.add(value, replacement)
    elif isinstance(value, (list, dict)):
        put = _setter_of(value)
        for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
            replacement = _replaced(item, old, new)
            if replacement is not item:
                put(value, key, replacement)
    return value


def _setter_of(container: Any) -> Callable[[Any, Any, Any], None]:
    """Return the method that sets an item of a list or dictionary."""
    if root_module(type(container)) == "tensorflow":
        # Private: TensorFlow's wrappers keep the items twice.
        method: Callable[[Any, Any, Any], None] = type(container).__setitem__
        return method
    # Bypass the methods by which Keras's containers track their items.
    return dict.__setitem__ if isinstance(container, dict) else list.__setitem__


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
        live_targets = list(targets(value))
        if not live_targets:
            return "dead", kind
        method = (value().__name__,) if kind == "method" else ()
        return kind, Identity.of(live_targets[0]), *method
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
    """Treat references with missing targets as dead while this thread rebuilds an object."""
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


def _value(outline: tuple[Any, ...], place: str) -> Any:
    """Return the value of an outline, with the targets that have been rebuilt so far."""
    kind, content, *more = outline
    if kind == "dead":
        reference = weakref.ref(_Gone())
        return weakref.proxy(_Gone()) if content == "proxy" else reference
    if kind == "plain":
        return content
    if kind in ("list", "tuple"):
        return (list if kind == "list" else tuple)(_value(item, place) for item in content)
    if kind == "dict":
        return {key: _value(item, place) for key, item in content}
    if kind == "keys":
        pairs = [(_target(key), item) for key, item in content]
        return weakref.WeakKeyDictionary({k: v for k, v in pairs if k is not None})
    if kind == "values":
        pairs = [(key, _target(item)) for key, item in content]
        return weakref.WeakValueDictionary({k: v for k, v in pairs if v is not None})
    if kind == "set":
        return weakref.WeakSet(target for target in map(_target, content) if target is not None)
    target = _target(content)
    if target is None:
        return MissingTarget(place)
    if kind == "method":
        return weakref.WeakMethod(getattr(target, more[0]))
    return weakref.proxy(target) if kind == "proxy" else weakref.ref(target)


def _target(identity: Identity) -> Any:
    # `copy.deepcopy` keeps references to targets that it does not copy.
    return identity.original if identity.obj is None else identity.obj


class _Gone:
    """Target of a dead reference."""


class MissingTarget:
    """Placeholder for a weak reference whose target has not been rebuilt.

    Parameters
    ----------
    place : str
        Class and attribute that hold it, such as ``Decoder.encoder``.
    """

    def __init__(self, place: str) -> None:
        self._place = place

    def __call__(self, *arguments: Any, **more: Any) -> None:
        """Raise an error; while an object is rebuilt, return None, as a dead reference does."""
        if _state.depth:
            return
        raise PayloadError(
            "The target of a weak reference is missing",
            where=self._place,
            cause="its target was not in the same pickle",
            cure="pickle both in one object, such as a model that has both",
        )

    def __getattr__(self, name: str) -> Any:
        """Raise an error, except for special names, which are looked up to test for protocols."""
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self()
