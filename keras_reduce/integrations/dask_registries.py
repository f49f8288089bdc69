"""What Dask asks before pickle: its own serializers, and how large an object is.

Dask brings a serializer for Keras models that calls a method which Keras has not had for years.
With it out of the way Dask pickles a model with protocol 5 and sends each array as a frame of its
own, without a copy; nothing need be registered where it arrives.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

from .. import families
from ..core import array_backends

__all__ = ["measure", "set_adapters_aside", "size"]

Undo = Callable[[], None]


def set_adapters_aside() -> Undo:
    """Take Dask's serializers for Keras out of its registries; returns what puts them back."""
    from distributed.protocol.serialize import dask_deserialize, dask_serialize

    registries: tuple[Any, ...] = dask_serialize, dask_deserialize
    put_back = [_set_aside(registry) for registry in registries]

    def undo() -> None:
        for each in put_back:
            each()

    return undo


def _set_aside(registry: Any) -> Undo:
    # Private: what is registered once a module named so is met, and what has been by then.
    lazy = registry._lazy.pop("keras", None)
    known = {
        cls: function
        for cls, function in list(registry._lookup.items())
        if function.__module__ == "distributed.protocol.keras"
    }
    for cls in known:
        registry._lookup.pop(cls, None)

    def put_back() -> None:
        if lazy is not None:
            registry._lazy.setdefault("keras", lazy)
        for cls, function in known.items():
            registry._lookup.setdefault(cls, function)

    return put_back


def measure() -> Undo:
    """Tell Dask how large Keras objects are, and estimators that hold some; returns the undoing.

    It takes them for some bytes else: it would place tasks as if a model cost nothing to move, and
    joblib would send a model along with each task in place of once. And let it draw from random
    numbers of its own while it measures.
    """
    from dask import sizeof as module

    sizes: Any = module
    sizeof: Any = sizes.sizeof
    # Private: Dask keeps what it has found for a class, so that it would not look again.
    default = sizeof._lookup[object]
    for cls, function in list(sizeof._lookup.items()):
        if function is default and cls is not object:
            sizeof._lookup.pop(cls, None)
    registered: list[str] = []
    for name in (*families.ROOTS, "sklearn"):
        if name not in sizeof._lazy:  # Else somebody knows better.
            sizeof.register_lazy(name, functools.partial(_register, sizeof, name))
            registered.append(name)

    # It looks at a sample of what is in a container, in a thread beside the task's, and draws it
    # from the numbers that the task has seeded: a model would now and then begin with others.
    own = random.Random()
    shared, sizes.random = sizes.random, own

    def put_back() -> None:
        if sizes.random is own:
            sizes.random = shared
        for name in registered:
            sizeof._lazy.pop(name, None)
        for cls, function in list(sizeof._lookup.items()):
            if function is size:
                sizeof._lookup.pop(cls, None)

    return put_back


def _register(sizeof: Any, root: str) -> None:
    if root == "sklearn":
        from sklearn.base import BaseEstimator

        bases: tuple[type, ...] = (BaseEstimator,)
    else:
        family = families.of_module(root)
        bases = family.base_classes() if family is not None else ()
    for base in bases:
        sizeof._lookup.setdefault(base, size)


def size(obj: Any) -> int:
    """Return the size of the variables in a Keras object, or in an estimator and what it holds.

    Parameters
    ----------
    obj : object
        A Keras object, or an estimator, or a container of such.

    Returns
    -------
    int
        In bytes; of what has no variables, what `sys.getsizeof` says.
    """
    least = sys.getsizeof(obj)
    if not families.loaded():
        return least
    # Dask asks where an error would reach nobody.
    with contextlib.suppress(Exception):
        return least + sum(_sizes(obj))
    return least


def _sizes(obj: Any) -> Iterator[int]:
    """Yield the sizes of the variables in an object, each once."""
    seen: set[int] = set()
    open_ends = [obj]
    while open_ends and len(seen) < _MOST:
        node = open_ends.pop()
        if id(node) in seen or isinstance(node, _PLAIN):
            continue
        seen.add(id(node))
        family = families.of(node)
        if family is not None:
            for variable in family.survey(node).variables.values():
                if id(variable) not in seen:
                    seen.add(id(variable))
                    yield array_backends.nbytes(variable)
        elif isinstance(node, (dict, list, tuple)):
            below = node.values() if isinstance(node, dict) else node
            open_ends.extend(itertools.islice(below, _MOST))
        elif hasattr(node, "get_params"):
            open_ends.extend(getattr(node, "__dict__", {}).values())


_PLAIN = (str, bytes, int, float, type(None))
# Objects that are looked at: this happens in a worker's loop, and a guess will do.
_MOST = 20_000
