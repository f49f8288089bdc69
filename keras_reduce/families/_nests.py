"""Nests of lists, tuples and dictionaries, as attributes of layers hold them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any


def is_nest(value: Any) -> bool:
    """Tell whether `value` is a list, tuple or dictionary, but no named tuple."""
    return isinstance(value, (list, tuple, dict)) and not hasattr(value, "_fields")


def leaves(value: Any) -> Iterator[Any]:
    """Yield what is in a nest of lists, tuples and dictionaries, keys too."""
    if not is_nest(value):
        yield value
        return
    for item in value.values() if isinstance(value, dict) else value:
        yield from leaves(item)
    if isinstance(value, dict):
        yield from value


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
