"""Dask's registries of serializers and object sizes, for Keras objects.

Dask has a serializer for Keras models that calls a method which Keras removed years ago. Without it
Dask pickles a model with protocol 5 and sends each array as a separate frame, without a copy, and
workers need no registration.
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

__all__ = ["register_sizes", "remove_adapters", "size"]

Undo = Callable[[], None]


def remove_adapters() -> Undo:
    """Remove Dask's serializers for Keras from its registries; return an undo function."""
    from distributed.protocol.serialize import dask_deserialize, dask_serialize

    registries: tuple[Any, ...] = dask_serialize, dask_deserialize
    put_back = [_remove_from(registry) for registry in registries]

    def undo() -> None:
        for each in put_back:
            each()

    return undo


def _remove_from(registry: Any) -> Undo:
    # Private: registrations for modules not yet used, and those by class.
    lazy = registry._lazy.pop("keras", None)
    removed = {
        cls: function
        for cls, function in list(registry._lookup.items())
        if function.__module__ == "distributed.protocol.keras"
    }
    for cls in removed:
        registry._lookup.pop(cls, None)

    def put_back() -> None:
        if lazy is not None:
            registry._lazy.setdefault("keras", lazy)
        for cls, function in removed.items():
            registry._lookup.setdefault(cls, function)

    return put_back


def register_sizes() -> Undo:
    """Register the size of Keras objects, and of estimators with them; return an undo function.

    Otherwise Dask assumes some bytes: it would schedule tasks as if a model cost nothing to move,
    and joblib would send a model with each task instead of once. Also give Dask's sampling of
    containers a separate random generator.
    """
    from dask import sizeof as module

    sizes: Any = module
    sizeof: Any = sizes.sizeof
    # Private: Dask caches the function for a class, and would not look it up again.
    default = sizeof._lookup[object]
    for cls, function in list(sizeof._lookup.items()):
        if function is default and cls is not object:
            sizeof._lookup.pop(cls, None)
    registered: list[str] = []
    for name in (*families.ROOTS, "sklearn"):
        if name not in sizeof._lazy:  # Otherwise another library has registered one.
            sizeof.register_lazy(name, functools.partial(_register, sizeof, name))
            registered.append(name)

    # Dask samples the items of a container in another thread, with the generator that a task may
    # have seeded: the initial values of a model would not be reproducible.
    separate_random = random.Random()
    shared, sizes.random = sizes.random, separate_random

    def put_back() -> None:
        if sizes.random is separate_random:
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
    """Return the size of the variables in a Keras object, an estimator or a container.

    Parameters
    ----------
    obj : object
        A Keras object, an estimator, or a container of them.

    Returns
    -------
    int
        Number of bytes; without variables, that of `sys.getsizeof`.
    """
    least = sys.getsizeof(obj)
    if not families.loaded():
        return least
    # Dask calls this where an error would be lost.
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
# Maximum number of visited objects: this runs in a worker's event loop, and a guess is enough.
_MOST = 20_000
