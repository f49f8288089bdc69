"""Validation of NumPy and SciPy state tuples; malformed ones crash the interpreter.

``numpy.dtype.__setstate__`` reads a tuple of six as if it had seven items, arrays trust the offsets
in their dtype, and sparse matrices trust their indices.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["is_sound", "is_sparse_and_sound"]

_ORDERS = ("<", ">", "=", "|")
# Flags of a dtype: items hold objects, are pickled as a list, need initialization; are pointers.
# (The other flags concern item access and alignment.)
_OF_OBJECTS, _IS_ADDRESS = 0x0B, 0x04


def is_sound(obj: Any, state: Any) -> bool:
    """Return whether a state is one that NumPy writes; True for objects of other libraries.

    Parameters
    ----------
    obj : object
        The object whose state is set.
    state : object
        The argument of its ``__setstate__``.
    """
    if isinstance(obj, np.dtype):
        return _is_of_a_dtype(obj, state)
    if isinstance(obj, np.ma.MaskedArray):
        is_whole = isinstance(state, tuple) and len(state) == 7
        return is_whole and _is_of_an_array(state[:5]) and isinstance(state[5], bytes)
    if isinstance(obj, np.ndarray):
        return _is_of_an_array(state)
    if isinstance(obj, np.random.BitGenerator | np.random.RandomState):
        return _is_of_random_numbers(state)
    return True


def is_sparse_and_sound(obj: Any) -> bool:
    """Return whether a SciPy sparse matrix is valid; True for other objects."""
    if not type(obj).__module__.startswith("scipy.sparse.") or not hasattr(obj, "check_format"):
        return True
    try:
        obj.check_format(full_check=True)
    except Exception:  # Any attribute may be missing.
        return False
    return True


def _is_of_random_numbers(state: Any) -> bool:
    """Return whether the positions in a generator state are within its buffers."""
    waiting = [state]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            for name, last in _POSITIONS.items():
                position = node.get(name, 0)
                if not isinstance(position, int | np.integer) or not 0 <= position <= last:
                    return False
            waiting.extend(node.values())
        elif isinstance(node, tuple):
            waiting.extend(node)
    return True


_POSITIONS = {"pos": 624, "buffer_pos": 4}


def _is_of_an_array(state: Any) -> bool:
    """Return whether the number of bytes, or objects, fits shape and dtype."""
    if not isinstance(state, tuple) or len(state) != 5:
        return False
    version, shape, dtype, is_fortran, data = state
    if version != 1 or not _are_lengths(shape) or not isinstance(dtype, np.dtype):
        return False
    if not isinstance(is_fortran, bool | int):
        return False
    # The bytes of StringDType, since NumPy 2.0, are addresses.
    if dtype.hasobject or type(dtype).__name__ == "StringDType":
        return type(data) is list and len(data) == math.prod(shape)
    return type(data) is bytes and len(data) == math.prod(shape) * dtype.itemsize


def _is_of_a_dtype(dtype: np.dtype[Any], state: Any) -> bool:
    if not isinstance(state, tuple) or len(state) not in (8, 9):
        return False
    version, order, inner, names, fields, size, alignment, flags, *more = state
    if version not in (3, 4) or order not in _ORDERS or not all(map(_is_int, (size, alignment))):
        return False
    # A signed byte, until NumPy 2.0.
    if not _is_int(flags) or not -0x80 <= flags <= 0xFF:
        return False
    if dtype.kind in "mM":
        is_more = not more or (isinstance(more[0], tuple) and _is_of_dates(more[0]))
        return is_more and inner is None and names is None and fields is None
    if more and not (more[0] is None or isinstance(more[0], dict)):
        return False
    if dtype.kind != "V":
        # Flexible dtypes have their length in their name as well.
        is_size = size in (-1, dtype.itemsize) if dtype.kind in "SU" else size == -1
        # Flags tell whether items are addresses of objects.
        is_plain = inner is None and names is None and fields is None
        return is_size and is_plain and flags == dtype.flags
    return _is_of_a_record(dtype, inner, names, fields, size, flags)


def _is_of_a_record(
    dtype: np.dtype[Any], inner: Any, names: Any, fields: Any, size: int, flags: int
) -> bool:
    """Return whether all fields, or all items of a subarray, are within an item."""
    if size != dtype.itemsize:
        return False
    of_objects = 0
    if inner is not None:
        is_pair = isinstance(inner, tuple) and len(inner) == 2 and isinstance(inner[0], np.dtype)
        if not is_pair or names is not None or fields is not None:
            return False
        shape = inner[1] if isinstance(inner[1], tuple) else (inner[1],)
        if (flags ^ inner[0].flags) & _OF_OBJECTS or flags & ~inner[0].flags & _IS_ADDRESS:
            return False
        return _are_lengths(shape) and math.prod(shape) * inner[0].itemsize == size
    if names is None:
        return fields is None and not flags & (_OF_OBJECTS | _IS_ADDRESS)
    if not isinstance(names, tuple) or type(fields) is not dict or len(names) > len(fields):
        return False
    for name in names:
        field = fields.get(name) if isinstance(name, str) else None
        if not isinstance(field, tuple) or len(field) not in (2, 3):
            return False
        part, offset = field[:2]
        if not isinstance(part, np.dtype) or not _is_int(offset):
            return False
        if not 0 <= offset <= size - part.itemsize:
            return False
        of_objects |= part.flags & _OF_OBJECTS
    return len(set(names)) == len(names) and flags & (_OF_OBJECTS | _IS_ADDRESS) == of_objects


def _is_of_dates(more: tuple[Any, ...]) -> bool:
    unit = more[1] if len(more) == 2 else None
    if not isinstance(unit, tuple) or len(unit) != 4 or not isinstance(unit[0], bytes):
        return False
    return all(map(_is_int, unit[1:])) and isinstance(more[0], dict | None)


def _is_int(value: Any) -> bool:
    return type(value) is int and -(1 << 31) <= value < 1 << 31


def _are_lengths(value: Any) -> bool:
    return isinstance(value, tuple) and all(_is_int(each) and each >= 0 for each in value)
