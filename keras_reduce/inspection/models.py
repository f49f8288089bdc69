"""Keras objects in a file: what their payloads, or Keras's own pickles, say of themselves."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import zipfile
from collections.abc import Iterator
from typing import Any

from .. import payload
from .arrays import bytes_of
from .descriptions import Call, Global, Items

__all__ = ["Layer", "Model", "model_of"]

_REBUILDERS = "keras_reduce.reducers"
_OF_KERAS = "_unpickle_model"
_LONGEST = 64 << 20  # bytes of a config in a zip file


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


def model_of(call: Any) -> Model | None:
    """Return the Keras object that a description is of; None if it is of something else."""
    if not isinstance(call, Call):
        return None
    function = call.function
    if isinstance(function, Call) and _is_method_of_keras(function):
        return _of_archive(call.arguments)
    if not isinstance(function, Global) or function.module != _REBUILDERS:
        return None
    if not function.name.startswith("rebuild_"):
        return None
    return _of_payload(function.name.removeprefix("rebuild_"), call.arguments)


def _is_method_of_keras(call: Call) -> bool:
    """Tell whether a call gives the method by which Keras unpickles its own archives."""
    arguments = call.arguments if isinstance(call.arguments, tuple) else ()
    if len(arguments) != 2 or not isinstance(arguments[0], Global):
        return False
    return arguments[0].module.startswith("keras.") and arguments[1] == _OF_KERAS


def _of_payload(kind: str, arguments: Any) -> Model:
    model = Model(kind)
    try:
        _read_payload(model, _Payload(arguments))
    except Exception as error:  # Its JSON may be anybody's: whatever is wrong with it is a finding.
        model.remarks.append(f"its payload can't be read ({type(error).__name__}: {error})"[:500])
    return model


class _OddError(Exception):
    """A payload is not what this package writes."""


class _Payload:
    """The tuple that stands for a Keras object, as described."""

    def __init__(self, arguments: Any) -> None:
        if not isinstance(arguments, tuple) or not arguments or not isinstance(arguments[0], str):
            raise _OddError("it has no text")
        compiled, custom, objects = (*arguments[2:5], None, None, None)[:3]
        document = payload.decode(arguments[0])
        self.header = _dictionary(_dictionary(document).get("header"))
        self.config = _dictionary(_dictionary(document).get("config"))
        self.compilation = payload.decode(compiled) if isinstance(compiled, str) else None
        self.objects: tuple[Any, ...] = objects if isinstance(objects, tuple) else ()
        self.custom = dict(_custom(custom))

    def weights(self) -> Iterator[tuple[str, int, str]]:
        """Yield path, number of elements and dtype of each array."""
        for entry in self.header.get("weights", ()):
            if not (isinstance(entry, list) and len(entry) == 3 and _are_lengths(entry[1])):
                raise _OddError("its list of weights is none")
            path, shape, dtype = entry
            yield str(path), math.prod(shape), str(dtype)

    def child(self, number: Any) -> _Payload | None:
        """Return the payload of a part that has one of its own."""
        found = self.objects[number] if _is_index(number, self.objects) else None
        if not isinstance(found, Call) or not isinstance(found.function, Global):
            return None
        if found.function.module != _REBUILDERS:
            return None
        return _Payload(found.arguments)


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
    _describe_compilation(model, found.compilation)
    seen: set[int] = set()
    waiting = [found]
    dtypes: dict[str, None] = {}
    while waiting:
        each = waiting.pop()
        for path, size, dtype in each.weights():
            model.bytes += size * _width(dtype)
            dtypes[dtype] = None
            model.parameters += 0 if _is_of_no_layer(path) else size
        for name, (origin, imported) in each.custom.items():
            if not name.startswith(("keras.", "tf_keras.")):
                model.custom[name] = origin
            model.imports += [imported] if imported else []
        for node in payload.dictionaries([each.config, each.compilation]):
            _look_at(model, node)
        for number, described in enumerate(each.objects):
            if id(described) not in seen and (child := each.child(number)) is not None:
                seen.add(id(described))
                waiting.append(child)
    model.dtypes = sorted(dtypes)
    model.layers = _layers(found, 0)


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
    if not entries and depth < _DEEPEST:
        # Of a model of the user's: as its attributes hold them.
        children = {str(k): v for k, v in _dictionary(found.header.get("children")).items()}
        return [
            _layer(path.rpartition("/")[2], child, depth)
            for path, number in children.items()
            if not any(path.startswith(f"{other}/") for other in children)
            and (child := found.child(number)) is not None
        ]
    layers = []
    for entry in entries:
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
    origin = found.custom[key][0] if is_custom else "keras"
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


def _look_at(model: Model, node: dict[Any, Any]) -> None:
    """Take note of what a config names that is dangerous, or not Keras's."""
    name, module = node.get("class_name"), node.get("module")
    if name == "__lambda__" or (name == "Lambda" and "number" not in node):
        _remark(model, "it has a Lambda, which may hold code")
    elif name in ("TFSMLayer", "TorchModuleWrapper", "TFOpLambda"):
        _remark(model, f"it has a {name}, which loads or calls something else")
    if isinstance(_dictionary(node.get("config")).get("vocabulary"), str):
        _remark(model, "it names a file with a vocabulary")
    root = str(module).partition(".")[0] if isinstance(module, str) else "keras"
    named = [node.get(each) for each in ("registered_name", "config")]
    is_custom = any(isinstance(each, str) and each in model.custom for each in named)
    if root not in ("keras", "keras_reduce", "tf_keras", "builtins", "private") and not is_custom:
        title = node.get("config") if name == "function" else name
        model.imports.append(Global(str(module), str(title)))
    registered = node.get("registered_name")
    if isinstance(registered, str) and ">" in registered and not is_custom:
        _remark(model, f"it names {registered!r}, which may be registered as anything")
    assembly = node.get("assembly")
    if isinstance(assembly, list) and len(assembly) > 1 and assembly[0] == "tf_function":
        plain = _dictionary(assembly[1])
        if "module" in plain:
            model.imports.append(Global(str(plain["module"]), str(plain.get("name"))))


def _remark(model: Model, text: str) -> None:
    if text not in model.remarks:
        model.remarks.append(text)


def _custom(packed: Any) -> Iterator[tuple[str, tuple[str, Global | None]]]:
    """Yield the user's classes and functions: key, where it comes from, what is imported."""
    references = packed[0] if isinstance(packed, tuple) and packed else ()
    for reference in references if isinstance(references, tuple) else ():
        if not isinstance(reference, tuple) or len(reference) < 4:
            raise _OddError("its list of classes is none")
        key, module, qualname, position = reference[:4]
        is_there = type(position) is int and position >= 0
        imported = None if is_there else Global(str(module), str(qualname))
        yield str(key), ("by value" if is_there else "by reference", imported)


def _dictionary(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _are_lengths(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)


def _is_index(number: Any, objects: tuple[Any, ...]) -> bool:
    return type(number) is int and 0 <= number < len(objects)


# --- Keras's own pickles -------------------------------------------------------------------------


def _of_archive(arguments: Any) -> Model:
    """Describe what Keras pickles by itself: an archive as of ``model.save``."""
    model = Model("model", family="keras")
    blob = next(filter(None, map(bytes_of, _flat(arguments))), None)
    try:
        if blob is None:
            raise _OddError("it holds no archive")
        with zipfile.ZipFile(io.BytesIO(blob)) as archive:
            config = json.loads(_member(archive, "config.json"))
            metadata = _dictionary(json.loads(_member(archive, "metadata.json")))
            sizes = [each.file_size for each in archive.infolist() if each.filename.endswith(".h5")]
        _read_archive(model, config, metadata)
        model.bytes = sum(sizes)
    except Exception as error:  # As above.
        text = f"Keras's archive in it can't be read ({type(error).__name__}: {error})"
        model.remarks.append(text[:500])
    return model


def _read_archive(model: Model, config: Any, metadata: dict[Any, Any]) -> None:
    inner = _dictionary(_dictionary(config).get("config"))
    model.cls, model.name = str(_dictionary(config).get("class_name", "?")), str(inner.get("name"))
    model.versions = {"keras": str(metadata.get("keras_version", ""))}
    _describe_compilation(model, {"": {"config": _dictionary(config).get("compile_config")}})
    for node in payload.dictionaries([config]):
        _look_at(model, node)
    layers = inner.get("layers")
    for entry in layers if isinstance(layers, list) else ():
        name = _dictionary(_dictionary(entry).get("config")).get("name", "")
        shape = _dictionary(_dictionary(entry).get("build_config")).get("input_shape")
        layer = Layer(str(_dictionary(entry).get("class_name", "?")), str(name))
        layer.shape = json.dumps(shape) if shape else ""
        layer.inputs = _inputs(_dictionary(entry).get("inbound_nodes"))
        model.layers.append(layer)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > _LONGEST:
        raise _OddError(f"{name} is larger than any config")
    with archive.open(name) as file:
        return file.read(_LONGEST)


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
