"""Keras objects in a file: what their payloads, or Keras's own pickles, say of themselves."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

from .. import payload
from ..trust import standing
from .arrays import bytes_of, is_shape
from .descriptions import Call, Global, Items, is_method_of_keras

__all__ = ["Describer", "Layer", "Model"]

_REBUILDERS = re.compile(r"keras_reduce\.reducers\.rebuild_([a-z_]+)")
# What is looked at of a file, all its Keras objects together: a small one can stand for any number.
_MOST_TEXT, _MOST_LAYERS = 100_000_000, 200_000  # characters of JSON, layers
_MOST_BYTES = 1 << 62  # of one array; no memory is larger


@dataclasses.dataclass
class Layer:
    """A layer of a model.

    Attributes
    ----------
    cls, name : str
        Its class and its name.
    shape : str
        Of what it was built for; empty if that is not known.
    parameters : int
        Numbers in its weights.
    inputs : list of str
        Names of the layers whose outputs it is given.
    origin : {"keras", "by reference", "by value"}
        Where its class comes from.
    layers : list of Layer
        Layers in it.
    """

    cls: str
    name: str
    shape: str = ""
    parameters: int = 0
    inputs: list[str] = dataclasses.field(default_factory=list)
    origin: str = "keras"
    layers: list[Layer] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Model:
    """A Keras object: a model, or a layer or anything else that is not part of one.

    Attributes
    ----------
    kind : str
        "model", "layer", "optimizer" and so on.
    cls, name : str
        Its class and its name.
    family, protocol : str, int
        What wrote it: "keras3", "keras2", or "keras" for Keras's own pickles; the number of the
        payload, 0 for Keras's own.
    versions : dict of str to str
        Of what wrote it.
    parameters, bytes : int
        Numbers in the weights of the layers; bytes of all arrays, those of the optimizer too.
    dtypes : list of str
        Of the weights.
    optimizer, loss, metrics : str, str, list of str
        How it was compiled; empty if it was not.
    custom : dict of str to str
        Classes and functions of the user's: "by reference" or "by value".
    layers : list of Layer
        In their order.
    remarks : list of str
        What is wrong or dangerous about it.
    """

    kind: str
    cls: str = ""
    name: str = ""
    family: str = ""
    protocol: int = 0
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    parameters: int = 0
    bytes: int = 0
    dtypes: list[str] = dataclasses.field(default_factory=list)
    optimizer: str = ""
    loss: str = ""
    metrics: list[str] = dataclasses.field(default_factory=list)
    custom: dict[str, str] = dataclasses.field(default_factory=dict)
    layers: list[Layer] = dataclasses.field(default_factory=list)
    remarks: list[str] = dataclasses.field(default_factory=list)
    imports: list[Global] = dataclasses.field(default_factory=list)

    def take_over(self, part: Model) -> None:
        """Take note of what a part of this names, and of what is wrong with it."""
        self.imports += part.imports
        for text in part.remarks:
            _remark(self, text)
        for key, origin in part.custom.items():
            self.custom.setdefault(key, origin)


class Describer:
    """Describes the Keras objects of a file, each once.

    Attributes
    ----------
    described : list of Call
        Calls of which it was asked.
    parts : set of int
        Ids of the calls that make parts of what was described.
    has_left_out : bool
        Whether there was more than can be looked at.
    """

    def __init__(self) -> None:
        self.described: list[Call] = []  # also held, so that ids stay their own
        self.parts: set[int] = set()
        self.has_left_out = False
        self._models: dict[int, Model | None] = {}
        self._text, self._layers = _MOST_TEXT, _MOST_LAYERS

    def model_of(self, call: Call) -> Model | None:
        """Return the Keras object that a call makes; None if it makes something else."""
        if id(call) not in self._models:
            self.described.append(call)
            self._models[id(call)] = self._described(call)
        return self._models[id(call)]

    def _described(self, call: Call) -> Model | None:
        function = call.function
        if isinstance(function, Call) and is_method_of_keras(function):
            return _of_archive(call.arguments, self)
        kind = _kind(function)
        return _of_payload(kind, call.arguments, self) if kind else None

    def take_text(self, size: int) -> None:
        """Count characters of JSON that are to be read; raises if these are too many."""
        self._text -= size
        if self._text < 0:
            self.has_left_out = True
            raise _OddError("there is more of it than is looked at")

    def may_have_a_layer(self) -> bool:
        """Count a layer; tells whether there may be another."""
        self._layers -= 1
        self.has_left_out |= self._layers < 0
        return self._layers >= 0


def _kind(function: Any) -> str:
    """Return the kind of object that a function of this package rebuilds; empty of others."""
    if not isinstance(function, Global):
        return ""
    found = _REBUILDERS.fullmatch(function.path)
    return found[1] if found else ""


def _of_payload(kind: str, arguments: Any, describer: Describer) -> Model:
    model = Model(kind)
    try:
        _read_payload(model, _Payload(arguments, describer))
    except Exception as error:  # Its JSON may be anybody's: whatever is wrong with it is a finding.
        _cannot_read(model, "its payload", error)
    return model


def _cannot_read(model: Model, what: str, error: Exception) -> None:
    _remark(model, f"{what} can't be read ({type(error).__name__}: {error})"[:500])


class _OddError(Exception):
    """A payload is not what this package writes."""


class _Reference(NamedTuple):
    """A class or function of the user's.

    Attributes
    ----------
    key : str
        As which Keras knows it.
    origin : {"by reference", "by value"}
        Where it comes from.
    name : Global
        Where it was defined.
    """

    key: str
    origin: str
    name: Global


class _Payload:
    """The tuple that stands for a Keras object, as described."""

    def __init__(self, arguments: Any, describer: Describer) -> None:
        if not isinstance(arguments, tuple) or not arguments or not isinstance(arguments[0], str):
            raise _OddError("it has no text")
        compiled, custom, objects = (*arguments[2:5], None, None, None)[:3]
        self.remarks: list[str] = []
        if not isinstance(compiled, str | None):
            compiled = None
            self.remarks.append("how it was compiled is computed")
        describer.take_text(len(arguments[0]) + len(compiled or ""))
        document = payload.decode(arguments[0])
        self._describer = describer
        self.header = _dictionary(_dictionary(document).get("header"))
        self.config = _dictionary(_dictionary(document).get("config"))
        self.compilation = None if compiled is None else payload.decode(compiled)
        self.objects = self._items(objects)
        self.references = list(self._references(custom))
        self.custom = {each.key: each for each in self.references}
        self._children: dict[int, _Payload | None] = {}

    def _references(self, packed: Any) -> Iterator[_Reference]:
        """Yield the user's classes and functions."""
        parts = self._items(packed)
        for reference in self._items(parts[0] if parts else None):
            described = self._items(reference)
            if len(described) < 4:
                self.remarks.append("its list of classes is none")
                continue
            key, module, qualname, position = described[:4]
            is_there = type(position) is int and position >= 0
            origin = "by value" if is_there else "by reference"
            yield _Reference(_text(key), origin, Global(_text(module), _text(qualname)))

    def _items(self, value: Any) -> tuple[Any, ...]:
        """Return the items of what should be a tuple, and may be a list."""
        if isinstance(value, Items):
            return tuple(value.items)
        if not isinstance(value, tuple | None):
            self.remarks.append("a part of it is computed")
            return ()
        return value or ()

    def may_have_a_layer(self) -> bool:
        """Count a layer; tells whether there may be another."""
        return self._describer.may_have_a_layer()

    def weights(self) -> Iterator[tuple[str, int, str]]:
        """Yield path, number of elements and dtype of each array."""
        for entry in self.header.get("weights", ()):
            if not (isinstance(entry, list) and len(entry) == 3 and _are_lengths(entry[1])):
                raise _OddError("its list of weights is none")
            path, shape, dtype = entry
            yield str(path), math.prod(shape), str(dtype)

    def child(self, number: Any) -> _Payload | None:
        """Return the payload of a part that has one of its own."""
        if not _is_index(number, self.objects):
            return None
        found = self.objects[number]
        if number not in self._children:
            is_part = isinstance(found, Call) and _kind(found.function)
            self._children[number] = _Payload(found.arguments, self._describer) if is_part else None
            if is_part:
                self._describer.parts.add(id(found))
        return self._children[number]


def _read_payload(model: Model, found: _Payload) -> None:
    header, config = found.header, found.config
    inner = _dictionary(config.get("config"))
    model.cls, model.name = _class_of(found), str(inner.get("name") or config.get("name") or "")
    model.family = str(header.get("family", ""))
    number = header.get("protocol")
    model.protocol = number if isinstance(number, int) else 0
    model.versions = {str(k): str(v) for k, v in _dictionary(header.get("versions")).items()}
    if model.protocol > payload.PROTOCOL:
        model.remarks.append(f"its protocol {model.protocol} is newer than this version reads")
    payloads = list(_with_parts(model, found))
    # What it names comes first: nothing that is wrong with the rest shall hide that.
    for each in payloads:
        _look_at_names(model, each)
    _describe_compilation(model, found.compilation)
    dtypes: dict[str, None] = {}
    for each in payloads:
        for path, size, dtype in each.weights():
            model.bytes += size * _width(dtype)
            dtypes[dtype] = None
            model.parameters += 0 if _is_of_no_layer(path) else size
    model.dtypes = sorted(dtypes)
    model.layers = _layers(found, 0)


def _with_parts(model: Model, found: _Payload) -> Iterator[_Payload]:
    seen: set[int] = set()
    waiting = [found]
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
                _cannot_read(model, "the payload of a part", error)
            else:
                waiting += [child] if child is not None else []


def _look_at_names(model: Model, each: _Payload) -> None:
    for text in each.remarks:
        _remark(model, text)
    for reference in each.references:
        if not reference.key.startswith(("keras.", "tf_keras.")):
            model.custom[reference.key] = reference.origin
        if reference.origin == "by reference":
            model.imports.append(reference.name)
    # Payloads of Keras 2 write so what is in the private package of that Keras.
    own = ("private",) if each.header.get("family") == "keras2" else ()
    for node in payload.dictionaries([each.config, each.compilation]):
        _look_at(model, node, each.custom, own)


_OPTIMIZERS = ("optimizer/", "loss_tracker/", "compile_metrics/", "metrics/", "compile_loss/")


def _is_of_no_layer(path: str) -> bool:
    """Tell whether an array is the optimizer's, a metric's, or a random seed."""
    return path.startswith(_OPTIMIZERS) or "seed_generator" in path or "_tracker/" in path


_WIDTHS = {"bool": 1, "int4": 1, "uint4": 1, "string": 0}


def _width(dtype: str) -> int:
    digits = "".join(each for each in dtype.partition("_")[0] if each.isdigit())
    return _WIDTHS.get(dtype, int(digits[:3]) // 8 if digits else 0)


def _layers(found: _Payload, depth: int) -> list[Layer]:
    inner = _dictionary(found.config.get("config"))
    listed = inner.get("layers")
    entries = (
        [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    )
    may_have = found.may_have_a_layer
    if not entries and depth < _DEEPEST:
        # Of a model of the user's: as its attributes hold them.
        children = {str(k): v for k, v in _dictionary(found.header.get("children")).items()}
        return [
            _layer(path.rpartition("/")[2], child, depth)
            for path, number in children.items()
            if not any(parent in children for parent in _above(path))
            and (child := found.child(number)) is not None
            and may_have()
        ]
    layers = []
    for entry in entries:
        if not may_have():
            break
        name = str(entry.get("name") or _dictionary(entry.get("config")).get("name") or "")
        child = found.child(entry.get("keras_reduce_child"))
        if child is None:
            child = (
                found.child(entry.get("number")) if entry.get("keras_reduce") == "child" else None
            )
        if child is not None and depth < _DEEPEST:
            layer = _layer(name, child, depth)
        else:
            layer = Layer(str(entry.get("class_name", "?")), name)
        layer.inputs = _inputs(entry.get("inbound_nodes"))
        layers.append(layer)
    return layers


_DEEPEST = 20


def _above(path: str) -> Iterator[str]:
    """Yield the paths of what a path leads through."""
    parts = path.split("/")[:_DEEPEST]
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def _layer(name: str, found: _Payload, depth: int) -> Layer:
    inner = _dictionary(found.config.get("config"))
    shape = _dictionary(found.config.get("build_config")).get("input_shape")
    shape = shape or inner.get("batch_shape") or inner.get("build_input_shape")
    cls = _class_of(found)
    own = [size for path, size, _ in found.weights() if not _is_of_no_layer(path)]
    layers = _layers(found, depth + 1)
    below = sum(layer.parameters for layer in layers)
    key = _key_of(found)
    is_custom = key in found.custom and not key.startswith(("keras.", "tf_keras."))
    origin = found.custom[key].origin if is_custom else "keras"
    written = json.dumps(shape) if shape else ""
    return Layer(cls, str(inner.get("name") or name), written, sum(own) + below, [], origin, layers)


def _class_of(found: _Payload) -> str:
    return str(found.config.get("class_name", "?"))


def _key_of(found: _Payload) -> str:
    return str(found.config.get("class") or found.config.get("registered_name") or "")


def _inputs(nodes: Any) -> list[str]:
    """Return the names of layers in what Keras says of the calls of a layer."""
    found: dict[str, None] = {}
    waiting = [nodes]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            history = node.get("keras_history")
            if isinstance(history, list) and history and isinstance(history[0], str):
                found[history[0]] = None
            waiting.extend(node.values())
        elif isinstance(node, list):
            is_reference = len(node) > 2 and isinstance(node[0], str) and type(node[1]) is int
            if is_reference:
                found[node[0]] = None
            waiting.extend(node)
    return sorted(found)


def _describe_compilation(model: Model, compilation: Any) -> None:
    own = _dictionary(_dictionary(compilation).get(""))
    config = _dictionary(own.get("config"))
    model.optimizer = _title(config.get("optimizer"))
    model.loss = _title(config.get("loss"))
    metrics = config.get("metrics")
    model.metrics = [_title(each) for each in metrics] if isinstance(metrics, list) else []


def _title(value: Any) -> str:
    """Return how a config calls something."""
    if isinstance(value, dict):
        inner = value.get("config")
        name = value.get("class_name") or value.get("key") or value.get("name")
        if name == "function" and isinstance(inner, str):
            return inner
        rate = _dictionary(inner).get("learning_rate")
        number = f", learning rate {rate:.6g}" if isinstance(rate, float) else ""
        if name:
            return f"{name}{number}"
        return ", ".join(f"{key}: {_title(each)}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_title, value))
    return "" if value is None else str(value)


def _look_at(
    model: Model,
    node: dict[Any, Any],
    custom: dict[str, _Reference],
    own: tuple[str, ...] = (),
) -> None:
    """Take note of what a config names that is dangerous, or not Keras's."""
    name, module = node.get("class_name"), node.get("module")
    if name == "__lambda__" or (name == "Lambda" and "number" not in node):
        _remark(model, "it has a Lambda, which may hold code")
    elif name in ("TFSMLayer", "TorchModuleWrapper", "TFOpLambda"):
        _remark(model, f"it has a {name}, which loads or calls something else")
    if isinstance(_dictionary(node.get("config")).get("vocabulary"), str):
        _remark(model, "it names a file with a vocabulary")
    root = str(module).partition(".")[0] if isinstance(module, str) else "keras"
    title = str(node.get("config") if name == "function" else name)
    named = [node.get(each) for each in ("registered_name", "config")]
    known = [custom[each] for each in named if isinstance(each, str) and each in custom]
    # As which Keras knows it, and under its own name.
    is_custom = any(each.name.name.rpartition(".")[2] == title for each in known)
    # Keras writes functions of anybody's as of that module, and looks for them among its own.
    is_builtin = root == "builtins" and not standing("builtins", title)[1]
    is_known = root in ("keras", "keras_reduce", "tf_keras", *own) or is_custom or is_builtin
    if not is_known:
        model.imports.append(Global(str(module), title))
    registered = node.get("registered_name")
    if isinstance(registered, str) and ">" in registered and not known:
        _remark(model, f"it names {registered!r}, which may be registered as anything")
    assembly = node.get("assembly")
    if isinstance(assembly, list) and len(assembly) > 1 and assembly[0] == "tf_function":
        plain = _dictionary(assembly[1])
        if "module" in plain:
            model.imports.append(Global(str(plain["module"]), str(plain.get("name"))))


def _remark(model: Model, text: str) -> None:
    if text not in model.remarks:
        model.remarks.append(text)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "<computed>"


def _dictionary(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _are_lengths(value: Any) -> bool:
    return isinstance(value, list) and is_shape(tuple(value)) and math.prod(value) < _MOST_BYTES


def _is_index(number: Any, objects: tuple[Any, ...]) -> bool:
    return type(number) is int and 0 <= number < len(objects)


# --- Keras's own pickles -------------------------------------------------------------------------


def _of_archive(arguments: Any, describer: Describer) -> Model:
    """Describe what Keras pickles by itself: an archive as of ``model.save``."""
    model = Model("model", family="keras")
    blob = next(filter(None, map(bytes_of, _flat(arguments))), None)
    try:
        if blob is None:
            raise _OddError("it holds no archive")
        with zipfile.ZipFile(io.BytesIO(blob)) as archive:
            config = json.loads(_member(archive, "config.json", describer))
            metadata = _dictionary(json.loads(_member(archive, "metadata.json", describer)))
            sizes = [each.file_size for each in archive.infolist() if each.filename.endswith(".h5")]
        _read_archive(model, config, metadata, describer)
        model.bytes = sum(sizes)
    except Exception as error:  # As above.
        _cannot_read(model, "Keras's archive in it", error)
    return model


def _read_archive(
    model: Model, config: Any, metadata: dict[Any, Any], describer: Describer
) -> None:
    inner = _dictionary(_dictionary(config).get("config"))
    model.cls, model.name = str(_dictionary(config).get("class_name", "?")), str(inner.get("name"))
    model.versions = {"keras": str(metadata.get("keras_version", ""))}
    _describe_compilation(model, {"": {"config": _dictionary(config).get("compile_config")}})
    for node in payload.dictionaries([config]):
        _look_at(model, node, {})
    layers = inner.get("layers")
    for entry in layers if isinstance(layers, list) else ():
        if not describer.may_have_a_layer():
            break
        name = _dictionary(_dictionary(entry).get("config")).get("name", "")
        shape = _dictionary(_dictionary(entry).get("build_config")).get("input_shape")
        layer = Layer(str(_dictionary(entry).get("class_name", "?")), str(name))
        layer.shape = json.dumps(shape) if shape else ""
        layer.inputs = _inputs(_dictionary(entry).get("inbound_nodes"))
        model.layers.append(layer)


def _member(archive: zipfile.ZipFile, name: str, describer: Describer) -> bytes:
    size = archive.getinfo(name).file_size
    describer.take_text(size)
    with archive.open(name) as file:
        return file.read(size)


def _flat(value: Any) -> Iterator[Any]:
    waiting, count = [value], 0
    while waiting and count < 10_000:
        node, count = waiting.pop(), count + 1
        yield node
        if isinstance(node, tuple):
            waiting.extend(node)
        elif isinstance(node, Items):
            waiting.extend(node.items)
        elif isinstance(node, Call):
            waiting.extend([node.arguments, node.state, *node.items])
