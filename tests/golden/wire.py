"""The wire format of a pickle: called names, types of arguments, keys of the JSON.

A pickle is read with placeholders for all globals, so that nothing of it is executed.
"""

from __future__ import annotations

import io
import json
import pickle
from typing import Any

PACKAGE = "keras_reduce"


def describe(data: bytes) -> dict[str, Any]:
    """Return the wire format of a pickle, as plain data.

    Returns
    -------
    dict
        ``calls``: called names of this package with the types of the arguments; ``header``: keys of
        headers, with types; ``keys``: our keys in configs; ``state``: for classes of this package,
        the attributes that are set.
    """
    reader = _Reader(io.BytesIO(data))
    reader.load()
    entries: dict[str, set[str]] = {"calls": set(), "header": set(), "keys": set(), "state": set()}
    for stand_in in reader.called:
        name = f"{stand_in.module}.{stand_in.name}"
        if stand_in.module.partition(".")[0] != PACKAGE:
            continue
        entries["calls"].add(f"{name}({', '.join(map(_kind, stand_in.arguments))})")
        entries["state"] |= {f"{name}.{attribute}" for attribute in stand_in.state}
        for text in stand_in.arguments:
            if isinstance(text, str) and text.startswith("{"):
                _look_into(json.loads(text), entries)
    return {name: sorted(values) for name, values in entries.items() if values}


def _look_into(document: Any, entries: dict[str, set[str]]) -> None:
    """Add the keys of a payload's JSON, or of a compile config, to `entries`."""
    header = document.pop("header", {})
    entries["header"] |= {f"{key}: {_shape(value)}" for key, value in header.items()}
    open_ends = [document]
    while open_ends:
        node = open_ends.pop()
        if isinstance(node, dict):
            entries["keys"] |= {key for key in node if key.startswith(PACKAGE) or key in _OWN}
            open_ends += node.values()
        elif isinstance(node, list):
            open_ends += node


# Keys of configs that are ours, but lack our prefix.
_OWN = {"assembly", "class"}


def _shape(value: Any) -> str:
    """Return the nested types of a value in JSON; repeated types appear once."""
    if isinstance(value, dict):
        return f"{{{', '.join(sorted({_shape(item) for item in value.values()}))}}}"
    if isinstance(value, list):
        shapes = [_shape(item) for item in value]
        return f"[{', '.join(shapes if len(set(shapes)) > 1 else shapes[:1])}]"
    return _kind(value)


def _kind(value: Any) -> str:
    return getattr(value, "name", None) or type(value).__name__


class _StandIn:
    """A placeholder for the globals of a pickle, and for the results of their calls."""

    module, name = "", ""

    def __new__(cls, *arguments: Any) -> _StandIn:
        self = super().__new__(cls)
        self.arguments, self.state = arguments, ()
        cls.reader.called.append(self)
        return self

    def __call__(self, *arguments: Any) -> Any:
        return type(self)(*arguments)

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        self.state = sorted(key for part in parts if isinstance(part, dict) for key in part)

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def add(self, item: Any) -> None: ...


class _Reader(pickle.Unpickler):
    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.called: list[Any] = []

    def find_class(self, module: str, name: str) -> Any:
        members = {"module": module, "name": name, "reader": self}
        return type(name.rpartition(".")[2], (_StandIn,), members)

    def persistent_load(self, identifier: Any) -> Any:
        return identifier
