"""Arrays and numbers of NumPy's, as calls in a pickle describe them; without NumPy."""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

from .descriptions import Array, Bytes, Call, Global, Items, Pairs

__all__ = ["Dtype", "array_of", "bytes_of", "dtype_of", "is_shape", "scalar_of"]


class Dtype(NamedTuple):
    """A dtype: its name, and the bytes of an item."""

    name: str
    size: int


_NAMES = {"f": "float", "i": "int", "u": "uint", "c": "complex"}


def dtype_of(value: Any, depth: int = 8) -> Dtype | None:
    """Return the dtype that a description is of; None if it is of something else."""
    is_call = isinstance(value, Call) and isinstance(value.function, Global)
    if (
        not is_call
        or value.function.path != "numpy.dtype"
        or not isinstance(value.arguments, tuple)
    ):
        return None
    code = value.arguments[0] if value.arguments else None
    if not isinstance(code, str) or not code:
        return None
    kind, digits = code[0], code[1:]
    state = value.state if isinstance(value.state, tuple) else ()
    size = int(digits) if digits.isdecimal() and len(digits) < 10 else 0
    given = state[5] if len(state) > 5 else None
    if type(given) is int and given > 0:
        size = given
    elif kind == "U":
        size *= 4
    fields = state[4] if len(state) > 4 else None
    if kind == "O" or (isinstance(fields, Pairs) and _holds_objects(fields, depth)):
        return Dtype("object", size)
    if code in ("b1", "?"):
        return Dtype("bool", 1)
    return Dtype(f"{_NAMES[kind]}{8 * size}" if kind in _NAMES else code, size)


def _holds_objects(fields: Pairs, depth: int) -> bool:
    if not depth:
        return True  # No array has a dtype with so many levels; bytes of one can't be told then.
    inner = [value[0] for _, value in fields.pairs if isinstance(value, tuple) and value]
    found = [dtype_of(each, depth - 1) for each in inner]
    return any(dtype is not None and dtype.name == "object" for dtype in found)


def array_of(value: Any) -> Array | None:
    """Return the array that a description is of, whoever has written it; None if of none."""
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
    known = dtype_of(dtype)
    if known is None or not is_shape(shape):
        return None
    objects = data if isinstance(data, Items) else None
    return Array(known.name, shape, math.prod(shape) * known.size, objects)


def scalar_of(value: Any) -> str:
    """Return the text of a number of NumPy's that a description is of; empty if of none."""
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
    """Return the bytes that a description is of, as the older protocols write them too."""
    if isinstance(value, Bytes):
        return value.data
    if isinstance(value, Call) and value.function == Global("_codecs", "encode"):
        text = (
            value.arguments[0] if isinstance(value.arguments, tuple) and value.arguments else None
        )
        if isinstance(text, str):
            return text.encode("latin1", "replace")
    return None


def is_shape(value: Any) -> bool:
    """Tell whether a description is of a shape."""
    return isinstance(value, tuple) and all(type(each) is int and each >= 0 for each in value)
