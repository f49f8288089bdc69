"""Descriptions of the payloads of this package."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from ..audit.arrays import is_shape
from ..audit.descriptions import Call, Global, Items
from ..core import payload
from .configs import Reference, describe_compilation, dictionary, inputs, record_globals
from .models import Budget, Layer, Model, OddError

__all__ = ["kind_of", "of_payload"]

_REBUILDERS = re.compile(r"keras_reduce\.reducers\.rebuild_(?!part_attributes$)([a-z_]+)")
_MOST_BYTES = 1 << 62  # of one array; no memory is larger


def kind_of(function: Any) -> str:
    """Return the kind of object that a rebuilder returns; empty for other functions."""
    if not isinstance(function, Global):
        return ""
    match = _REBUILDERS.fullmatch(function.path)
    return match[1] if match else ""


def of_payload(kind: str, arguments: Any, budget: Budget, parts: set[int]) -> Model:
    """Describe a payload of this package.

    Parameters
    ----------
    kind : str
        A result of `kind_of`.
    arguments : tuple
        Descriptions of the arguments of the rebuilder.
    budget : Budget
        Limits for reading.
    parts : set of int
        Gets the ids of calls that create parts of the object.
    """
    model = Model(kind)
    try:
        _read_payload(model, _Payload(arguments, budget, parts))
    except Exception as error:  # The JSON may be crafted: any error is reported.
        model.cannot_read("its payload", error)
    return model


class _Payload:
    """Arguments of a rebuilder, as described."""

    def __init__(self, arguments: Any, budget: Budget, parts: set[int]) -> None:
        if not isinstance(arguments, tuple) or not arguments or not isinstance(arguments[0], str):
            raise OddError("it has no text")
        compiled, custom, objects = (*arguments[2:5], None, None, None)[:3]
        self.remarks: list[str] = []
        if not isinstance(compiled, str | None):
            compiled = None
            self.remarks.append("how it was compiled is computed")
        budget.take_text(len(arguments[0]) + len(compiled or ""))
        document = payload.decode(arguments[0])
        self._budget, self._parts = budget, parts
        self.header = dictionary(dictionary(document).get("header"))
        self.config = dictionary(dictionary(document).get("config"))
        self.compilation = None if compiled is None else payload.decode(compiled)
        self.objects = self._items(objects)
        self.references = list(self._references(custom))
        self.custom = {each.key: each for each in self.references}
        self._children: dict[int, _Payload | None] = {}

    def _references(self, packed: Any) -> Iterator[Reference]:
        """Yield the user-defined classes and functions."""
        parts = self._items(packed)
        for reference in self._items(parts[0] if parts else None):
            described = self._items(reference)
            if len(described) < 4:
                self.remarks.append("its list of classes is not a list")
                continue
            key, module, qualname, position = described[:4]
            is_there = type(position) is int and position >= 0
            origin = "by value" if is_there else "by reference"
            yield Reference(_text(key), origin, Global(_text(module), _text(qualname)))

    def _items(self, value: Any) -> tuple[Any, ...]:
        """Return the items of a tuple or list; none for other values, with a remark."""
        if isinstance(value, Items):
            return tuple(value.items)
        if not isinstance(value, tuple | None):
            self.remarks.append("a part of it is computed")
            return ()
        return value or ()

    def may_have_a_layer(self) -> bool:
        """Count a layer; return whether the limit allows it."""
        return self._budget.may_have_a_layer()

    def weights(self) -> Iterator[tuple[str, int, str]]:
        """Yield path, number of elements and dtype of each array."""
        for entry in self.header.get("weights", ()):
            if not (isinstance(entry, list) and len(entry) == 3 and _are_lengths(entry[1])):
                raise OddError("its list of weights is not a list")
            path, shape, dtype = entry
            yield str(path), math.prod(shape), str(dtype)

    @functools.cached_property
    def parameters(self) -> int:
        """Number of parameters of its layers, except for parts with their own payloads."""
        return sum(size for path, size, _ in self.weights() if not _is_of_no_layer(path))

    def child(self, number: Any) -> _Payload | None:
        """Return the payload of a part; None if it has none of its own."""
        if not _is_index(number, self.objects):
            return None
        described_object = self.objects[number]
        if number not in self._children:
            is_part = isinstance(described_object, Call) and kind_of(described_object.function)
            self._children[number] = (
                _Payload(described_object.arguments, self._budget, self._parts) if is_part else None
            )
            if is_part:
                self._parts.add(id(described_object))
        return self._children[number]


def _read_payload(model: Model, root: _Payload) -> None:
    header, config = root.header, root.config
    inner = dictionary(config.get("config"))
    model.cls, model.name = _class_of(root), str(inner.get("name") or config.get("name") or "")
    model.family = str(header.get("family", ""))
    number = header.get("protocol")
    model.protocol = number if isinstance(number, int) else 0
    model.versions = {str(k): str(v) for k, v in dictionary(header.get("versions")).items()}
    if model.protocol > payload.PROTOCOL:
        model.remarks.append(f"its protocol {model.protocol} is newer than this version reads")
    payloads = list(_with_parts(model, root))
    # Globals first, so that errors in the rest can't hide them.
    for each in payloads:
        _look_at_names(model, each)
    describe_compilation(model, root.compilation)
    dtypes: dict[str, None] = {}
    for each in payloads:
        for path, size, dtype in each.weights():
            model.bytes += size * _width(dtype)
            dtypes[dtype] = None
            model.parameters += 0 if _is_of_no_layer(path) else size
    model.dtypes = sorted(dtypes)
    model.layers = _layers(root, 0)


def _with_parts(model: Model, root: _Payload) -> Iterator[_Payload]:
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        each = waiting.pop()
        yield each
        for number, described in enumerate(each.objects):
            if id(described) in seen:
                continue
            seen.add(id(described))
            try:
                child = each.child(number)
            except Exception as error:
                model.cannot_read("the payload of a part", error)
            else:
                waiting += [child] if child is not None else []


def _look_at_names(model: Model, each: _Payload) -> None:
    for text in each.remarks:
        model.remark(text)
    for reference in each.references:
        if not reference.key.startswith(("keras.", "tf_keras.")):
            model.custom[reference.key] = reference.origin
        if reference.origin == "by reference":
            model.imports.append(reference.name)
    # Payloads of Keras 2 use this root for the private package of Keras 2.
    extra_roots = ("private",) if each.header.get("family") == "keras2" else ()
    for node in payload.dictionaries([each.config, each.compilation]):
        record_globals(model, node, each.custom, extra_roots)


_OPTIMIZERS = ("optimizer/", "loss_tracker/", "compile_metrics/", "metrics/", "compile_loss/")


def _is_of_no_layer(path: str) -> bool:
    """Return whether an array belongs to the optimizer, a metric or a seed generator."""
    return path.startswith(_OPTIMIZERS) or "seed_generator" in path or "_tracker/" in path


_WIDTHS = {"bool": 1, "int4": 1, "uint4": 1, "string": 0}


def _width(dtype: str) -> int:
    digits = "".join(each for each in dtype.partition("_")[0] if each.isdigit())
    return _WIDTHS.get(dtype, int(digits[:3]) // 8 if digits else 0)


def _layers(described: _Payload, depth: int) -> list[Layer]:
    inner = dictionary(described.config.get("config"))
    listed = inner.get("layers")
    entries = (
        [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    )
    may_have = described.may_have_a_layer
    if not entries and depth < _DEEPEST:
        # A subclassed model: layers by the attributes that hold them.
        children = {str(k): v for k, v in dictionary(described.header.get("children")).items()}
        return [
            _layer(path.rpartition("/")[2], child, depth)
            for path, number in children.items()
            if not any(parent in children for parent in _above(path))
            and (child := described.child(number)) is not None
            and may_have()
        ]
    layers = []
    for entry in entries:
        if not may_have():
            break
        name = str(entry.get("name") or dictionary(entry.get("config")).get("name") or "")
        child = described.child(entry.get("keras_reduce_child"))
        if child is None:
            child = (
                described.child(entry.get("number"))
                if entry.get("keras_reduce") == "child"
                else None
            )
        if child is not None and depth < _DEEPEST:
            layer = _layer(name, child, depth)
        else:
            layer = Layer(str(entry.get("class_name", "?")), name)
        layer.inputs = inputs(entry.get("inbound_nodes"))
        layers.append(layer)
    return layers


_DEEPEST = 20


def _above(path: str) -> Iterator[str]:
    """Yield the proper prefixes of a path."""
    parts = path.split("/")[:_DEEPEST]
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def _layer(name: str, described: _Payload, depth: int) -> Layer:
    inner = dictionary(described.config.get("config"))
    shape = dictionary(described.config.get("build_config")).get("input_shape")
    shape = shape or inner.get("batch_shape") or inner.get("build_input_shape")
    cls = _class_of(described)
    layers = _layers(described, depth + 1)
    below = sum(layer.parameters for layer in layers)
    key = _key_of(described)
    is_custom = key in described.custom and not key.startswith(("keras.", "tf_keras."))
    origin = described.custom[key].origin if is_custom else "keras"
    written = json.dumps(shape) if shape else ""
    return Layer(
        cls,
        str(inner.get("name") or name),
        written,
        described.parameters + below,
        [],
        origin,
        layers,
    )


def _class_of(described: _Payload) -> str:
    return str(described.config.get("class_name", "?"))


def _key_of(described: _Payload) -> str:
    return str(described.config.get("class") or described.config.get("registered_name") or "")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "<computed>"


def _are_lengths(value: Any) -> bool:
    return isinstance(value, list) and is_shape(tuple(value)) and math.prod(value) < _MOST_BYTES


def _is_index(number: Any, objects: tuple[Any, ...]) -> bool:
    return type(number) is int and 0 <= number < len(objects)
