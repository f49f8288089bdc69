"""Which attributes the code of a class sets on its own objects."""

from __future__ import annotations

import dis
import functools
import types
from typing import Any, NamedTuple


def set_by(cls: type) -> frozenset[str]:
    """Return the names of the attributes that the methods of `cls` itself set on their object."""
    return frozenset().union(*(set_in(value) for value in list(vars(cls).values())))


class Assignment(NamedTuple):
    """An attribute that a method sets on its own object.

    Attributes
    ----------
    name : str
        Name of the attribute.
    is_constant : bool
        Whether the value is a constant.
    value : object
        The constant.
    is_certain : bool
        Whether each object has it when it has been made: a constructor sets it in any case.
    """

    name: str
    is_constant: bool
    value: Any
    is_certain: bool


def assignments(cls: type, names: frozenset[str]) -> list[Assignment]:
    """Return the attributes among `names` that the methods of `cls` itself set."""
    found: list[Assignment] = []
    for method_name, value in list(vars(cls).items()):
        for function in _functions(value):
            code = function.__code__
            # Most methods know none of these names, which costs less to see than what they do.
            if code.co_argcount and not names.isdisjoint(code.co_names):
                made = [a for a in _assignments(code) if a.name in names]
                is_constructor = method_name == "__init__"
                found += made if is_constructor else [a._replace(is_certain=False) for a in made]
    return found


@functools.lru_cache(maxsize=4096)
def _assignments(code: types.CodeType) -> tuple[Assignment, ...]:
    found = []
    instructions = list(dis.get_instructions(code))
    jumps = [(i.offset, i.argval) for i in instructions if i.opcode in dis.hasjrel + dis.hasjabs]
    for value, target, instruction in zip(
        instructions, instructions[1:], instructions[2:], strict=False
    ):
        # Python 3.13 may load the value, from a variable, and the object at once.
        names = target.argval if isinstance(target.argval, tuple) else (target.argval,)
        if instruction.opname == "STORE_ATTR" and names[-1] == code.co_varnames[0]:
            is_constant = value.opname == "LOAD_CONST" and len(names) == 1
            constant = value.argval if is_constant else None
            here = instruction.offset
            is_certain = not any(start < here < end for start, end in jumps)
            found.append(Assignment(instruction.argval, is_constant, constant, is_certain))
    return tuple(found)


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
