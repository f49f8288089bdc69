"""NumPy arrays, scalars and dtypes in descriptions of a pickle, read without NumPy."""

from __future__ import annotations

import contextlib
import math
import re
import struct
from typing import Any, NamedTuple

from .descriptions import Array, Bytes, Call, Global, Items, Pairs

__all__ = ["Dtype", "array_of", "bytes_of", "dtype_of", "is_shape", "scalar_of"]


class Dtype(NamedTuple):
    """Name of a dtype, and the number of bytes of an item."""

    name: str
    size: int


_NAMES = {"f": "float", "i": "int", "u": "uint", "c": "complex"}
# Codes of dtypes with a fixed size, which does not depend on their state.
_SIZES = {
    f"{kind}{size}": size
    for kind, sizes in {
        "b": (1,),
        "i": (1, 2, 4, 8),
        "u": (1, 2, 4, 8),
        "f": (2, 4, 8, 12, 16),
        "c": (8, 16, 24, 32),
        **dict.fromkeys("mMO", (8,)),
    }.items()
    for size in sizes
}
_FLEXIBLE = re.compile(r"[SUV]\d{0,9}", re.ASCII)
_LARGEST = 1 << 31  # bytes of an item
_HAS_OBJECTS = 1  # NumPy's flag NPY_ITEM_HASOBJECT


def dtype_of(value: Any) -> Dtype | None:
    """Return the dtype of a description.

    None if it describes another object, or a dtype that NumPy does not write in this way, so that
    the size of an item is unknown.
    """
    return _dtype(value, _DEEPEST, {})


_DEEPEST = 8  # levels of nested fields, more than in any real array


def _dtype(value: Any, depth: int, cache: dict[int, Dtype | None]) -> Dtype | None:
    if id(value) not in cache:
        cache[id(value)] = _dtype_of(value, depth, cache) if depth else None
    return cache[id(value)]


def _dtype_of(value: Any, depth: int, cache: dict[int, Dtype | None]) -> Dtype | None:
    if not isinstance(value, Call) or value.function != Global("numpy", "dtype"):
        return None
    code = value.arguments[0] if isinstance(value.arguments, tuple) and value.arguments else None
    if not isinstance(code, str):
        return None
    state = (None,) * 7 + (0,) if value.state is None else value.state
    if not isinstance(state, tuple) or len(state) < 8:
        return None
    _, _, part, names, fields, size, _, flags = state[:8]
    if type(flags) is not int:
        return None
    has_objects = bool(flags & _HAS_OBJECTS)
    if not _FLEXIBLE.fullmatch(code):
        is_plain = part is None and names is None and fields is None
        known_size, is_object = _SIZES.get(code), code == "O8"
        if known_size is None or not is_plain or has_objects != is_object:
            return None
        return Dtype(_name(code, known_size), known_size)
    if type(size) is not int or not 0 <= size < _LARGEST:
        return None
    inner = [part[0]] if isinstance(part, tuple) and part else []
    if isinstance(fields, Pairs):
        inner += [each[0] for _, each in fields.pairs if isinstance(each, tuple) and each]
    elif fields is not None:
        return None
    inner_dtypes = [_dtype(each, depth - 1, cache) for each in inner]
    holds_objects = any(dtype is not None and dtype.name == "object" for dtype in inner_dtypes)
    if None in inner_dtypes or holds_objects != has_objects:
        return None
    return Dtype("object" if holds_objects else code, size)


def _name(code: str, size: int) -> str:
    if code[0] in _NAMES:
        return f"{_NAMES[code[0]]}{8 * size}"
    return {"b1": "bool", "O8": "object"}.get(code, code)


def array_of(value: Any) -> Array | None:
    """Return the array of a description; None if it describes another object."""
    if isinstance(value, Array):
        return value
    if not isinstance(value, Call) or not isinstance(value.function, Global):
        return None
    name = value.function.name
    is_state = isinstance(value.state, tuple) and len(value.state) >= 5
    if name in ("_reconstruct", "_mareconstruct") and is_state:
        _, shape, dtype, _, data, *_ = value.state
    elif name == "_frombuffer" and isinstance(value.arguments, tuple) and len(value.arguments) > 2:
        data, dtype, shape = value.arguments[:3]
    else:
        return None
    item_dtype = dtype_of(dtype)
    if item_dtype is None or not is_shape(shape):
        return None
    objects = data if isinstance(data, Items) else None
    return Array(item_dtype.name, shape, math.prod(shape) * item_dtype.size, objects)


def scalar_of(value: Any) -> str:
    """Return the text of a NumPy scalar of a description; empty for other objects."""
    is_call = isinstance(value, Call) and isinstance(value.function, Global)
    if not is_call or value.function.name != "scalar" or not isinstance(value.arguments, tuple):
        return ""
    dtype = dtype_of(value.arguments[0]) if value.arguments else None
    data = bytes_of(value.arguments[1]) if len(value.arguments) > 1 else None
    if dtype is None:
        return ""
    state = value.arguments[0].state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
    form = _FORMATS.get(dtype.name)
    if data is None or form is None or struct.calcsize(f"={form}") != len(data):
        return f"a number as {dtype.name}"
    (number,) = struct.unpack(f"{'>' if order == '>' else '<'}{form}", data)
    return f"{number!r} as {dtype.name}"


_FORMATS = {"float32": "f", "float64": "d", "int32": "i", "int64": "q", "bool": "?"}


def bytes_of(value: Any) -> bytes | None:
    """Return the bytes of a description, in the form of any protocol; None for other objects."""
    if isinstance(value, Bytes):
        return value.data
    is_encoded = isinstance(value, Call) and value.function == Global("_codecs", "encode")
    arguments = value.arguments if is_encoded else None
    if isinstance(arguments, tuple) and len(arguments) == 2 and arguments[1] == "latin1":
        with contextlib.suppress(UnicodeEncodeError):
            return arguments[0].encode("latin1") if isinstance(arguments[0], str) else None
    return None


def is_shape(value: Any) -> bool:
    """Return whether a description is a valid shape of an array."""
    return (
        isinstance(value, tuple)
        and len(value) <= _MOST_DIMENSIONS
        and all(type(each) is int and 0 <= each < 1 << 63 for each in value)
    )


_MOST_DIMENSIONS = 64  # limit of NumPy
