"""Tree of the objects in a file: estimators with their parameters, containers, arrays, models."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from typing import Any

from ..audit.arrays import array_of, bytes_of, scalar_of
from ..audit.descriptions import Array, Bytes, Call, Global, Items, Pairs, Reading, Unknown
from ..audit.opcodes import read
from ..core.report_tree import Branch
from ..files.sources import MemorySource
from . import code
from .describer import Describer
from .models import Model

__all__ = ["Content"]

_MOST_LINES = 2000
_MOST_BELOW = 40
_LONGEST = 80  # characters of a value
_DEEPEST_CODE = 20  # code in code
_LONGEST_PATH = 400  # characters
_SKELETONS = ("_make_skeleton_class", "_make_skeleton_enum", "_make_function")


@dataclasses.dataclass
class Content:
    """Contents of the pickles of a file.

    Attributes
    ----------
    reading : Reading
        Result of reading the opcodes.
    trees : list of Branch
        A tree for each pickle.
    models : list of (str, Model)
        Keras objects that are not parts of others, with their paths.
    code : list of str
        Names of functions and classes that are in the file by value.
    """

    reading: Reading
    trees: list[Branch] = dataclasses.field(default_factory=list)
    models: list[tuple[str, Model]] = dataclasses.field(default_factory=list)
    code: list[str] = dataclasses.field(default_factory=list)
    _of_code: set[int] = dataclasses.field(default_factory=set)

    @classmethod
    def of(cls, reading: Reading) -> Content:
        """Return the contents of a reading."""
        content, describer = cls(reading), Describer()
        content._look_at_code()
        seen: set[int] = set()
        for described in reading.objects:
            content._look_for_models(described, describer, seen)
        content._look_for_the_other_models(describer)
        if describer.budget.is_spent:
            reading.odd["there are more Keras objects than the limit for reading"] = None
        walker = _Walker(describer)
        content.trees = [walker.branch("", described, 0) for described in reading.objects]
        return content

    def _look_for_models(self, root: Any, describer: Describer, seen: set[int]) -> None:
        # Breadth first, so that each object gets its shortest path.
        waiting: deque[tuple[str, Any, Model | None]] = deque([("content", root, None)])
        while waiting:
            path, node, owner = waiting.popleft()
            if id(node) in seen:
                continue
            seen.add(id(node))
            is_known = not isinstance(node, Call) or id(node) in describer.parts
            model = None if is_known else describer.model_of(node)
            if model is not None and owner is not None:
                owner.take_over(model)
            elif model is not None:
                self.models.append((path, model))
            of_state = {id(each) for _, each in _of_state(node.state)} if model else set()
            for name, each in _children(node, seen):
                if isinstance(each, _INNER) and id(each) not in seen:
                    # Attributes set by the state of a model are no parts of it.
                    of = owner if model is None or id(each) in of_state else owner or model
                    waiting.append((_joined(path, name), each, of))

    def _look_for_the_other_models(self, describer: Describer) -> None:
        """Add Keras objects that calls create, but which are no part of the unpickled objects."""
        described_ids = set(map(id, describer.described))
        for call in reversed(self.reading.calls):  # Parts are created before the whole.
            if id(call) in described_ids or id(call) in describer.parts:
                continue
            model = describer.model_of(call)
            if model is not None:
                is_of_code = id(call) in self._of_code
                self.models.append(("<in code>" if is_of_code else "<in no object>", model))

    def _look_at_code(self) -> None:
        """List functions and classes by value; read their pickled code as well, recursively."""
        waiting, read_already = deque(self.reading.calls), set()
        depth = 0
        while waiting:
            blobs = [blob for call in waiting for blob in self._note_code(call, depth)]
            waiting.clear()
            depth += 1
            for blob in blobs:
                if blob in read_already:
                    continue
                read_already.add(blob)
                nested_reading = read(MemorySource([memoryview(blob)], "code"))
                self.reading.globals.update(nested_reading.globals)
                self.reading.called |= nested_reading.called
                self.reading.odd |= nested_reading.odd
                if nested_reading.ended:
                    self.reading.odd[f"code in it can't be read: {nested_reading.ended}"] = None
                self.reading.calls += nested_reading.calls
                self._of_code.update(map(id, nested_reading.calls))
                waiting += nested_reading.calls
            if depth == _DEEPEST_CODE and waiting:
                self.reading.odd["code in it is nested too deeply to be read"] = None
                return

    def _note_code(self, call: Call, depth: int) -> Iterator[bytes]:
        """Record a call that rebuilds code; yield the pickled code.

        In nested code, functions and classes are parts of recorded ones.
        """
        function, arguments = call.function, call.arguments
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            return
        # By the full path, which may also be split in another way.
        if function.path in code.REBUILDERS:
            blob, name = code.REBUILDERS[function.path]
            self._note(arguments[name] if len(arguments) > name else None)
            data = bytes_of(arguments[blob]) if len(arguments) > blob else None
            if data is None:
                self.reading.odd["code in it is computed, and known only after loading"] = None
            else:
                yield data
        elif not depth and "cloudpickle" in function.path and function.path.endswith(_SKELETONS):
            self._note(_name_of_code(call))

    def _note(self, name: Any) -> None:
        text = name if isinstance(name, str) else _short(name)
        if text not in self.code:
            self.code.append(text)


def _name_of_code(call: Call) -> str:
    """Return the name of a function or class in a cloudpickle call."""
    state = call.state[0] if isinstance(call.state, tuple) and call.state else None
    attributes = (state.plain() or {}) if isinstance(state, Pairs) else {}
    for name in ("__qualname__", "__name__"):
        if isinstance(value := attributes.get(name), str):
            return value
    texts = [each for each in call.arguments if isinstance(each, str)]
    described = code.code_object(call.arguments[0]) if call.arguments else None
    return described.name if described else texts[0] if texts else "a function"


_INNER = (Call, Items, Pairs, tuple, Array)


def _joined(path: str, name: str) -> str:
    return path + name if len(path) < _LONGEST_PATH else path


def _children(node: Any, seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """Yield the children of a description, each with its expression.

    Arguments of calls that are in `seen` are left out; others are added to `seen`.
    """
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
        if seen is None or id(node.arguments) not in seen:
            if seen is not None:
                seen.add(id(node.arguments))
            for name, each in _children(node.arguments):
                yield f"<argument {name[1:-1]}>", each
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
            is_name = isinstance(key, str) and len(key) <= _LONGEST
            yield (f".{key}" if is_name else f"<{_short(key)}>"), value


class _Walker:
    """Builder of the tree, with a limited number of lines."""

    def __init__(self, describer: Describer) -> None:
        self._describer, self._left = describer, _MOST_LINES
        self._seen: dict[int, str] = {}

    def branch(self, name: str, node: Any, depth: int) -> Branch:
        """Return the branch for a description."""
        self._left -= 1
        label = f"{name} = " if name else ""
        if not isinstance(node, _INNER) or node == ():
            return Branch(label + _short(node))
        if id(node) in self._seen:
            return Branch(f"{label}{self._seen[id(node)]}, as above", "quiet")
        title, below = _title(node, self._describer)
        self._seen[id(node)] = title
        branch = Branch(label + title)
        if depth > _DEEPEST or self._left <= 0:
            if below:
                branch.add("…", "quiet")
            return branch
        for number, (key, value) in enumerate(below):
            if number == _MOST_BELOW or self._left <= 0:
                branch.add(f"… and {len(below) - number} more", "quiet")
                break
            branch.children.append(self.branch(key, value, depth + 1))
        return branch


_DEEPEST = 12


def _title(node: Any, describer: Describer) -> tuple[str, list[tuple[str, Any]]]:
    """Return the title and the visible children of a description."""
    array = array_of(node)
    if array is not None:
        below = [("objects", array.objects)] if array.objects is not None else []
        return f"ndarray {array.dtype} {array.shape}", below
    number, data = scalar_of(node), bytes_of(node)
    if number or data is not None:
        return number or f"{len(data or b'')} bytes", []
    model = describer.model_of(node) if isinstance(node, Call) else None
    if model is not None:
        parameters = f", {model.parameters:,} parameters" if model.parameters else ""
        state = [(name.lstrip("."), value) for name, value in _of_state(node.state)]
        name = f" {model.name!r}" if model.name else ""
        below = [each for each in state if each[1] is not None]
        return f"Keras {model.kind} {model.cls}{name}{parameters}", below
    if isinstance(node, Call):
        shown = [
            (name.lstrip("."), value)
            for name, value in _children(node)
            if value is not None and name not in ("<function>", "<arguments>")
        ]
        of_code = code.title(node)
        if of_code is None:
            return _short(node.function), shown
        title, visible = of_code
        return title, visible + [each for each in shown if not each[0].startswith("<argument ")]
    if isinstance(node, Pairs):
        return f"dict of {len(node.pairs)}", [(_short(key), value) for key, value in node.pairs]
    items = node.items if isinstance(node, Items) else node
    kind = node.kind if isinstance(node, Items) else "tuple"
    if len(items) <= 8 and not any(isinstance(each, _INNER) for each in items):
        return f"{kind} ({', '.join(map(_short, items))})", []
    return f"{kind} of {len(items)}", [(f"[{number}]", each) for number, each in enumerate(items)]


def _short(value: Any, depth: int = 3) -> str:
    """Return a short text for a description, on one line."""
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
