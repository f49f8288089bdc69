"""Attributes that the code of a class sets on its own objects."""

from __future__ import annotations

import dis
import functools
import types
from typing import Any, NamedTuple

from ...core import code_objects


def set_by(cls: type) -> frozenset[str]:
    """Return the names of the attributes that the methods of `cls` itself set on their object."""
    return frozenset().union(*(set_in(value) for value in list(vars(cls).values())))


class Assignment(NamedTuple):
    """An attribute that a method sets on its own object."""

    name: str
    is_constant: bool  # Whether the value is a constant.
    value: Any  # The constant.
    is_certain: bool  # Whether a constructor sets it in any case.


def assignments(cls: type, names: frozenset[str]) -> list[Assignment]:
    """Return the attributes among `names` that the methods of `cls` itself set."""
    collected: list[Assignment] = []
    for method_name, value in list(vars(cls).items()):
        for function in _functions(value):
            code = function.__code__
            # Most methods know none of these names, which costs less to see than what they do.
            if not names.isdisjoint(code.co_names):
                of_function = [
                    a for a in _assignments(code, code.co_varnames[0]) if a.name in names
                ]
                is_constructor = method_name == "__init__"
                collected += (
                    of_function
                    if is_constructor
                    else [a._replace(is_certain=False) for a in of_function]
                )
    return collected


def set_in(method: Any) -> frozenset[str]:
    """Return the names of the attributes that a method, or a property, sets on its object."""
    codes = [function.__code__ for function in _functions(method)]
    return frozenset().union(*(_set_in(code, code.co_varnames[0]) for code in codes))


@functools.lru_cache(maxsize=4096)
def _set_in(code: types.CodeType, self_name: str) -> frozenset[str]:
    """Return the names of the attributes that a method, with functions in it, sets."""
    names = frozenset(assignment.name for assignment in _assignments(code, self_name))
    return names.union(*(_set_in(inner, self_name) for inner in code_objects.inner(code)))


@functools.lru_cache(maxsize=4096)
def _assignments(code: types.CodeType, self_name: str) -> tuple[Assignment, ...]:
    if _STORE_ATTR not in code.co_code[::2]:
        return ()  # Most methods set nothing, which their bytes show at once.
    collected = []
    instructions = list(dis.get_instructions(code))
    jumps = [(i.offset, i.argval) for i in instructions if i.opcode in dis.hasjrel + dis.hasjabs]
    for value, target, instruction in zip(
        instructions, instructions[1:], instructions[2:], strict=False
    ):
        # Python 3.13 may load the value, from a variable, and the object at once.
        names = target.argval if isinstance(target.argval, tuple) else (target.argval,)
        if instruction.opname == "STORE_ATTR" and names and names[-1] == self_name:
            is_constant = value.opname == "LOAD_CONST" and len(names) == 1
            constant = value.argval if is_constant else None
            here = instruction.offset
            is_certain = not any(start < here < end for start, end in jumps)
            collected.append(Assignment(instruction.argval, is_constant, constant, is_certain))
    return tuple(collected)


_STORE_ATTR = dis.opmap["STORE_ATTR"]


def _functions(value: Any) -> list[types.FunctionType]:
    """Return the functions of a method or property that take the object first."""
    if isinstance(value, property):
        value = [value.fget, value.fset]
    elif isinstance(value, (staticmethod, classmethod)):
        value = [value.__func__]
    else:
        value = [value]
    functions = [getattr(item, "__wrapped__", item) for item in value]
    return [f for f in functions if isinstance(f, types.FunctionType) and f.__code__.co_argcount]
