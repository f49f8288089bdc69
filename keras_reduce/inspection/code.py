"""Functions, classes and code objects whose code is in a file: titles of one line for them.

Their arguments are bytecode, names and numbers, which tell a reader nothing. Arguments that hold
other objects stay visible, so that a title hides no call and no global.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ..audit.arrays import bytes_of
from ..audit.descriptions import Bytes, Call, Global, Pairs

__all__ = ["REBUILDERS", "CodeObject", "code_object", "title"]

# Rebuilders of code: the positions of the code and its name among their arguments.
REBUILDERS = {
    "keras_reduce.custom_objects.rebuild_by_value": (0, 1),
    "keras_reduce.custom_objects.rebuild_late_code": (0, 1),
    "keras_reduce.closures.rebuild_closure": (1, 2),
}
_MAKE_FUNCTION = "cloudpickle.cloudpickle._make_function"
_BUILTIN_TYPE = Global("cloudpickle.cloudpickle", "_builtin_type")
# Positions among the arguments of `types.CodeType`, since Python 3.8. The name is followed by the
# qualified name from Python 3.11 on, and then by the line.
_FILE, _NAME = 10, 11
# What cloudpickle writes of a module's globals for every function.
_MODULE_NAMES = {"__package__", "__name__", "__path__", "__file__"}
_LONGEST = 60  # characters of a name
_MOST_ARGUMENTS = 20
_MOST_VALUES = 1000  # in tuples in an argument


class CodeObject(NamedTuple):
    """Name of a code object, and the file and line of its source, as the pickle has them."""

    name: str
    file: str
    line: int | None


def code_object(call: Any) -> CodeObject | None:
    """Return the description of a code object; None for another object."""
    if not isinstance(call, Call) or not isinstance(call.arguments, tuple):
        return None
    constructor, arguments = call.function, call.arguments
    is_looked_up = (
        isinstance(constructor, Call)
        and constructor.function == _BUILTIN_TYPE
        and constructor.arguments == ("CodeType",)
    )
    if not is_looked_up and constructor != Global("types", "CodeType"):
        return None
    names = arguments[_FILE : _NAME + 1]
    if len(names) < 2 or not all(isinstance(each, str) for each in names):
        return None
    file, *named = (each for each in arguments[_FILE : _NAME + 2] if isinstance(each, str))
    lines = [each for each in arguments[_NAME + 1 : _NAME + 3] if type(each) is int]
    return CodeObject(named[-1], file, lines[0] if lines else None)


def title(call: Call) -> tuple[str, list[tuple[str, Any]]] | None:
    """Return the title and the visible arguments of a call that creates code; None for others."""
    function, arguments = call.function, call.arguments
    if not isinstance(arguments, tuple) or len(arguments) > _MOST_ARGUMENTS:
        return None
    code = code_object(call)
    if code is not None:
        return f"code of {_told(code)}", _visible(arguments)
    path = function.path if isinstance(function, Global) else ""
    code = code_object(arguments[0]) if path == _MAKE_FUNCTION and arguments else None
    if code is not None:
        of_code = arguments[0].arguments
        is_whole = len(of_code) <= _MOST_ARGUMENTS and not _visible(of_code)
        visible = [] if is_whole else [("code", arguments[0])]
        return f"function {_told(code)}, by value", visible + _visible(arguments, first=1)
    if path in REBUILDERS and len(arguments) > max(REBUILDERS[path]):
        blob, name = (arguments[position] for position in REBUILDERS[path])
        data = bytes_of(blob)
        if data is not None and isinstance(name, str):
            return f"{_cut(name)} by value, {len(data)} bytes", _visible(arguments)
    return None


def _told(code: CodeObject) -> str:
    line = f"line {code.line}" if code.line is not None else ""
    # cloudpickle since 3.1 leaves out the file.
    file = "" if code.file == "<dynamic-code>" else _cut(re.split(r"[/\\]", code.file)[-1])
    place = " of ".join(filter(None, (line, file)))
    return f"{_cut(code.name)} ({place})" if place else _cut(code.name)


def _cut(text: str) -> str:
    """Return the first line of a text in quotes, cut off if it is long."""
    first = text.partition("\n")[0]
    return repr(text) if first == text and len(text) <= _LONGEST else f"{first[:_LONGEST]!r}…"


def _visible(arguments: tuple[Any, ...], first: int = 0) -> list[tuple[str, Any]]:
    """Return the arguments from the `first` on that are no plain values, by name."""
    return [
        (f"<argument {number}>", each)
        for number, each in enumerate(arguments)
        if number >= first and not _is_plain(each)
    ]


def _are_module_names(node: Pairs) -> bool:
    attributes = node.plain() if len(node.pairs) <= len(_MODULE_NAMES) else None
    return attributes is not None and attributes.keys() <= _MODULE_NAMES


def _is_plain(value: Any) -> bool:
    """Return whether a description is of a plain value: no call, no global, nothing unknown."""
    waiting, left = [value], _MOST_VALUES
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple) and len(node) < left:
            left -= len(node)  # A tuple may hold the same tuple many times.
            waiting += node
        elif isinstance(node, Pairs):
            values = [each for _, each in node.pairs]
            if not _are_module_names(node) or any(isinstance(each, Pairs) for each in values):
                return False
            waiting += values
        elif isinstance(node, Call):
            if bytes_of(node) is None:
                return False
        elif not isinstance(node, (str, int, float, complex, Bytes, type(None))):
            return False
    return True
