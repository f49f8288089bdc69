"""Dumps by `joblib.dump` in programs without Keras: joblib's own, until code must go by value.

What `joblib_patches` adds to joblib's pickler costs a call for each object. A program that has no
Keras object needs none of it, except for functions and classes that a reader can't import. So the
pickler begins with joblib's own methods, and gets the others back at the first such object.
"""

from __future__ import annotations

import copyreg
import functools
import types
from collections.abc import Callable
from typing import Any

import cloudpickle
from joblib.numpy_pickle import NumpyPickler

from ..core.dispatch import STANDARD, standardized
from ..custom_objects import is_importable
from .joblib_dumps import has_identities

__all__ = ["dump_plainly", "is_probably_importable"]

Dump = Callable[[Any, Any], None]


def dump_plainly(pickler: Any, obj: Any, dump: Dump, save: Dump) -> None:
    """Write `obj` by a NumpyPickler with joblib's own `dump` and `save`."""
    carries_code = "reducer_override" in vars(NumpyPickler)
    pickler.save = types.MethodType(save, pickler)
    if carries_code:
        pickler.reducer_override = None
        pickler.dispatch = _dispatch()
        # A plain dictionary, which is asked for each object without a call of Python's.
        pickler.dispatch_table = {**_reducers_of_cloudpickle(), **copyreg.dispatch_table}
        pickler.save_global = types.MethodType(_save_global, pickler)
    pickler._create_array_wrapper = types.MethodType(_array_wrapper, pickler)
    try:
        dump(pickler, obj)
    finally:
        _give_back(pickler)
        del pickler._create_array_wrapper


def _give_back(pickler: Any) -> None:
    """Give a pickler the methods of its class again."""
    for name in ("save", "reducer_override", "dispatch", "dispatch_table", "save_global"):
        vars(pickler).pop(name, None)


@functools.cache
def _dispatch() -> dict[type, Any]:
    table = standardized(NumpyPickler)
    return {**table, types.FunctionType: _save_function, type: STANDARD[type]}


@functools.cache
def _reducers_of_cloudpickle() -> dict[type, Any]:
    return dict(cloudpickle.Pickler.dispatch_table)


def is_probably_importable(obj: Any) -> bool:
    """Return whether a reader can import a function or class, perhaps as it was found before."""
    has_exceptions = cloudpickle.list_registry_pickle_by_value()
    return (is_importable if has_exceptions else _is_importable)(obj)


# Classes and functions that were found in their modules are usually still there.
_is_importable = functools.lru_cache(maxsize=1024)(is_importable)


def _save_function(pickler: Any, function: Any) -> None:
    _save_global(pickler, function)


def _save_global(pickler: Any, obj: Any, name: str | None = None) -> None:
    is_code = name is None and isinstance(obj, (types.FunctionType, type))
    if is_code and not is_probably_importable(obj):
        _give_back(pickler)
        pickler.save(obj)
    else:
        NumpyPickler.save_global(pickler, obj, name)


def _array_wrapper(pickler: Any, array: Any) -> Any:
    if array.dtype.hasobject and has_identities(array):
        return _WithinPickle(array)
    return NumpyPickler._create_array_wrapper(pickler, array)


class _WithinPickle:
    """Array wrapper in whose place the array itself is pickled, with the objects in it."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._array.__reduce_ex__(protocol)

    def write_array(self, array: Any, pickler: Any) -> None:
        """Write nothing after the pickle of the wrapper."""
