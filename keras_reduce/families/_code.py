"""Which attributes the code of a class sets on its own objects."""

from __future__ import annotations

import dis
import functools
import types
from typing import Any


def set_by(cls: type) -> frozenset[str]:
    """Return the names of the attributes that the methods of `cls` itself set on their object."""
    return frozenset().union(*(set_in(value) for value in list(vars(cls).values())))


def set_in(method: Any) -> frozenset[str]:
    """Return the names of the attributes that a method, or a property, sets on its object."""
    return frozenset().union(
        *(
            _set_in(function.__code__, function.__code__.co_varnames[0])
            for function in _functions(method)
            if function.__code__.co_argcount
        )
    )


@functools.lru_cache(maxsize=4096)
def _set_in(code: types.CodeType, self_name: str) -> frozenset[str]:
    """Return the names of the attributes that a method sets on its own object."""
    names = set()
    before: Any = ""
    # Most methods set nothing, which their bytes show at once.
    sets_any = _STORE_ATTR in code.co_code[::2]
    for instruction in dis.get_instructions(code) if sets_any else ():
        if instruction.opname == "STORE_ATTR":
            # Python 3.13 may load two at once.
            last = before[-1] if isinstance(before, tuple) and before else before
            names |= {instruction.argval} if last == self_name else set()
        before = instruction.argval
    inner = (item for item in code.co_consts if isinstance(item, types.CodeType))
    return frozenset(names).union(*(_set_in(item, self_name) for item in inner))


_STORE_ATTR = dis.opmap["STORE_ATTR"]


def _functions(value: Any) -> list[types.FunctionType]:
    if isinstance(value, property):
        value = [value.fget, value.fset]
    elif isinstance(value, (staticmethod, classmethod)):
        value = [value.__func__]
    else:
        value = [value]
    found = [getattr(item, "__wrapped__", item) for item in value]
    return [item for item in found if isinstance(item, types.FunctionType)]
