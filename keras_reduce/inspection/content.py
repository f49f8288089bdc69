"""The tree of objects in a file: estimators with their parameters, containers, arrays, models."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from typing import Any

from ..persistence.sources import MemorySource
from ..rendering import Branch
from .arrays import array_of, bytes_of, scalar_of
from .descriptions import Array, Bytes, Call, Global, Items, Pairs, Reading, Unknown
from .models import Model, model_of
from .opcodes import read

__all__ = ["Content"]

_MOST_LINES = 2000
_MOST_BELOW = 40
_LONGEST = 80  # characters of a value
_BY_VALUE = "keras_reduce.custom_objects.rebuild_by_value"
_SKELETONS = ("_make_skeleton_class", "_make_skeleton_enum", "_make_function")


@dataclasses.dataclass
class Content:
    """What is in the pickles of a file.

    Attributes
    ----------
    reading : Reading
        What was read.
    trees : list of Branch
        One for each pickle.
    models : list of (str, Model)
        Keras objects that are not parts of others, with the paths to them.
    code : list of str
        What is in the file by value.
    """

    reading: Reading
    trees: list[Branch] = dataclasses.field(default_factory=list)
    models: list[tuple[str, Model]] = dataclasses.field(default_factory=list)
    code: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, reading: Reading) -> Content:
        """Describe what was read."""
        content = cls(reading)
        for described in reading.objects:
            content._look_for_models_and_code(described)
        walker = _Walker()
        content.trees = [walker.branch("", described, 0) for described in reading.objects]
        return content

    def _look_for_models_and_code(self, root: Any) -> None:
        seen: set[int] = set()
        # What is near the root first, so that each is found on the shortest way.
        waiting: deque[tuple[str, Any]] = deque([("content", root)])
        while waiting:
            path, node = waiting.popleft()
            if not isinstance(node, (Call, Items, Pairs, tuple, Array)) or id(node) in seen:
                continue
            seen.add(id(node))
            model = None
            if isinstance(node, Call):
                self._note_code(node)
                model = model_of(node)
                if model is not None:
                    self.models.append((path, model))
                    # Parts of the model are its own; what code it brings counts all the same.
                    self._look_for_code(list(_flat(node.arguments)), seen)
                    waiting += [(path + name, each) for name, each in _of_state(node.state)]
            if model is None:
                waiting += [(path + name, each) for name, each in _children(node)]

    def _look_for_code(self, waiting: list[Any], seen: set[int]) -> None:
        while waiting:
            node = waiting.pop()
            if not isinstance(node, (Call, Items, Pairs, tuple, Array)) or id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, Call):
                self._note_code(node)
            waiting += [each for _, each in _children(node)]

    def _note_code(self, call: Call) -> None:
        function, arguments = call.function, call.arguments
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            return
        if function.path == _BY_VALUE and len(arguments) > 1:
            self._note(str(arguments[1]))
            self._look_inside(arguments[0])
        elif function.path == "keras_reduce.closures.rebuild_closure" and len(arguments) > 2:
            self._note(str(arguments[2]))
            self._look_inside(arguments[1])
        elif function.module.startswith("cloudpickle") and function.name in _SKELETONS:
            self._note(_name_of_code(call))

    def _note(self, name: str) -> None:
        if name not in self.code:
            self.code.append(name)

    def _look_inside(self, blob: Any) -> None:
        """Read the pickle that code by value is, for what it names."""
        if not isinstance(blob, Bytes):
            return
        found = read(MemorySource([memoryview(blob.data)], "code"))
        self.reading.globals.update(found.globals)
        self.reading.called |= found.called
        for text in found.odd:
            if text not in self.reading.odd:
                self.reading.odd.append(text)


def _name_of_code(call: Call) -> str:
    """Return the name of a function or class that cloudpickle carries."""
    state = call.state[0] if isinstance(call.state, tuple) and call.state else None
    for name in ("__qualname__", "__name__"):
        if isinstance(state, Pairs) and isinstance(found := state.get(name), str):
            return found
    texts = [each for each in call.arguments if isinstance(each, str)]
    return texts[0] if texts else "a function"


def _flat(arguments: Any) -> Iterator[Any]:
    yield from arguments if isinstance(arguments, tuple) else ()


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is below a description, each with how it is spelled."""
    if isinstance(node, tuple):
        yield from ((f"[{number}]", each) for number, each in enumerate(node))
    elif isinstance(node, Items):
        yield from ((f"[{number}]", each) for number, each in enumerate(node.items))
    elif isinstance(node, Pairs):
        for key, value in node.pairs:
            yield f"[{_short(key)}]", value
            yield "<key>", key
    elif isinstance(node, Array):
        yield "<objects>", node.objects
    elif isinstance(node, Call):
        array = array_of(node)
        if array is not None:
            yield "<objects>", array.objects
            return
        yield from ((f"<argument {name[1:-1]}>", each) for name, each in _children(node.arguments))
        yield "<arguments>", node.named
        yield "<function>", node.function
        yield from ((f"[{number}]", each) for number, each in enumerate(node.items))
        yield from ((f"[{_short(key)}]", value) for key, value in node.pairs)
        yield from _of_state(node.state)


def _of_state(state: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that a state sets."""
    for each in state if isinstance(state, tuple) else (state,):
        if not isinstance(each, Pairs):
            yield "<state>", each
            continue
        for key, value in each.pairs:
            yield (f".{key}" if isinstance(key, str) else f"<{_short(key)}>"), value


class _Walker:
    """Makes the lines of the tree, no more than anybody would read."""

    def __init__(self) -> None:
        self._left = _MOST_LINES
        self._seen: dict[int, str] = {}

    def branch(self, name: str, node: Any, depth: int) -> Branch:
        """Return the line for a description, and those below it."""
        self._left -= 1
        label = f"{name} = " if name else ""
        if not isinstance(node, (Call, Items, Pairs, tuple, Array)) or node == ():
            return Branch(label + _short(node))
        if id(node) in self._seen:
            return Branch(f"{label}{self._seen[id(node)]}, as above", "quiet")
        title, below = _title(node)
        self._seen[id(node)] = title
        found = Branch(label + title)
        if depth > _DEEPEST or self._left <= 0:
            if below:
                found.add("…", "quiet")
            return found
        for number, (key, value) in enumerate(below):
            if number == _MOST_BELOW or self._left <= 0:
                found.add(f"… and {len(below) - number} more", "quiet")
                break
            found.children.append(self.branch(key, value, depth + 1))
        return found


_DEEPEST = 12


def _title(node: Any) -> tuple[str, list[tuple[str, Any]]]:
    """Return how a description is called, and what is shown below it."""
    array = array_of(node)
    if array is not None:
        below = [("objects", array.objects)] if array.objects is not None else []
        return f"ndarray {array.dtype} {array.shape}", below
    number, data = scalar_of(node), bytes_of(node)
    if number or data is not None:
        return number or f"{len(data or b'')} bytes", []
    model = model_of(node)
    if model is not None:
        parameters = f", {model.parameters:,} parameters" if model.parameters else ""
        state = [(name.lstrip("."), value) for name, value in _of_state(node.state)]
        name = f" {model.name!r}" if model.name else ""
        below = [each for each in state if each[1] is not None]
        return f"Keras {model.kind} {model.cls}{name}{parameters}", below
    if isinstance(node, Call):
        title = _short(node.function)
        shown = [
            (name.lstrip("."), value)
            for name, value in _children(node)
            if value is not None and name not in ("<function>", "<arguments>")
        ]
        return title, shown
    if isinstance(node, Pairs):
        return f"dict of {len(node.pairs)}", [(_short(key), value) for key, value in node.pairs]
    items = node.items if isinstance(node, Items) else node
    kind = node.kind if isinstance(node, Items) else "tuple"
    plain = all(not isinstance(each, (Call, Items, Pairs, tuple, Array)) for each in items)
    if plain and len(items) <= 8:
        return f"{kind} ({', '.join(map(_short, items))})", []
    return f"{kind} of {len(items)}", [(f"[{number}]", each) for number, each in enumerate(items)]


def _short(value: Any, depth: int = 3) -> str:
    """Return a text for a description, on one line."""
    if isinstance(value, Global):
        return value.path
    if isinstance(value, Unknown):
        return f"<{value.what}>"
    if isinstance(value, Bytes):
        return f"{len(value.data)} bytes"
    if isinstance(value, Call):
        return f"{_short(value.function, depth - 1)}(…)" if depth else "…"
    if isinstance(value, Array):
        return f"ndarray {value.dtype} {value.shape}"
    if isinstance(value, Pairs):
        return f"dict of {len(value.pairs)}"
    if isinstance(value, Items):
        return f"{value.kind} of {len(value.items)}"
    if isinstance(value, tuple):
        if depth and len(value) <= 8:
            return f"({', '.join(_short(each, depth - 1) for each in value)})"
        return f"tuple of {len(value)}"
    if isinstance(value, str):
        text = repr(value[: _LONGEST + 1])
        return text if len(value) <= _LONGEST else f"{text[:_LONGEST]}…"
    text = hex(value) if isinstance(value, int) and abs(value) > 10**_LONGEST else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
