"""Nests of lists, tuples and dictionaries, as attributes of layers hold them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, TypeVar

from ...core.payload import PLAIN
from ...errors import ReduceError

_Each = TypeVar("_Each", bound=Hashable)


def reached(starts: Iterable[_Each], below: Callable[[_Each], Iterable[_Each]]) -> Iterator[_Each]:
    """Yield all that one of `starts` leads to by way of `below`, each once, and these themselves.

    Not by recursion: no graph is too deep.
    """
    left, seen = list(starts), set()
    while left:
        each = left.pop()
        if each not in seen:
            seen.add(each)
            yield each
            left += below(each)


def is_nest(value: Any) -> bool:
    """Return whether `value` is a list, tuple or dictionary, but no named tuple."""
    return isinstance(value, (list, tuple, dict)) and not hasattr(value, "_fields")


def leaves(value: Any) -> Iterator[Any]:
    """Yield the leaves of a nest of lists, tuples and dictionaries, keys too."""
    if not is_nest(value):
        yield value
        return
    for item in value.values() if isinstance(value, dict) else value:
        yield from leaves(item)
    if isinstance(value, dict):
        yield from value


def innermost(value: Any) -> Iterator[Any]:
    """Yield the items of containers of any kind: nests, named tuples and sets, at every depth.

    Keys of dictionaries are yielded, containers themselves are not.
    """
    if isinstance(value, dict):
        yield from innermost([*value.values(), *value])
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from innermost(item)
    else:
        yield value


def unwrapped(value: Any) -> Any:
    """Return `value` without the wrappers that Keras and TensorFlow put around containers."""
    if isinstance(value, OrderedDict):
        return OrderedDict((key, unwrapped(item)) for key, item in value.items())
    if isinstance(value, dict):
        return {key: unwrapped(item) for key, item in value.items()}
    if isinstance(value, tuple):
        # TensorFlow wraps named tuples in a proxy, which knows what it wraps.
        named = getattr(value, "__wrapped__", value)
        items = [unwrapped(item) for item in value]
        return type(named)(*items) if hasattr(named, "_fields") else tuple(items)
    if isinstance(value, list):
        return [unwrapped(item) for item in value]
    return set(value) if isinstance(value, set) else value


def is_data(value: Any, is_tensor: Callable[[Any], bool] = lambda value: False) -> bool:
    """Return whether `value` is plain data: numbers, texts, arrays, nests of them; or a tensor."""
    import numpy as np

    if isinstance(value, dict):
        return all(is_data(key, is_tensor) and is_data(value[key], is_tensor) for key in value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(is_data(item, is_tensor) for item in value)
    if isinstance(value, np.ndarray):
        return bool(value.dtype != object)
    return type(value) in _DATA or isinstance(value, np.generic) or is_tensor(value)


_DATA = PLAIN | {complex, bytes}


def refuse_hidden(name: str, value: Any, is_part: Callable[[Any], bool]) -> None:
    """Refuse an attribute with parts of an object in it where no config can hold them.

    Raises
    ------
    ReduceError
        If there are any in a set or a named tuple, at any depth.
    """
    for leaf in leaves(value):
        # What is no nest, but a container.
        if isinstance(leaf, (tuple, set, frozenset)) and any(map(is_part, innermost(leaf))):
            # TensorFlow wraps named tuples in a proxy, which knows what it wraps.
            kind = type(getattr(leaf, "__wrapped__", leaf)).__name__
            raise ReduceError(
                f"Layers in a {kind} can't be carried",
                where=f".{name}",
                cause="a config has lists, tuples and dictionaries only",
                cure="keep them in one of these",
            )
