"""Keras 2 objects as configs, and back.

Keras's own ``get_config`` names user-defined classes and functions by their bare names, and nests
what it has serialized itself. While `writing` is entered, these names are keys of the payload's
table instead. What a config holds that no JSON can, and layers and metrics, the pickler carries: a
mark says under which number.
"""

from __future__ import annotations

import contextlib
import json
import types
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...audit import trust_policy
from ...core.code_objects import root_module
from ...core.payload import PLAIN
from ...errors import ReduceError
from ...identities import by_number
from .._shared.nests import unwrapped
from .._shared.patches import Patch
from .._shared.registered import register, registered_name, resolved
from . import others
from .attributes import describe, rebuild
from .framework import MARK, is_built_in, keras, located, location, private, root
from .harmless import is_harmless
from .kinds import is_a, is_layer, kind
from .patches import WRITING, current
from .rules import describes_itself, has_identity, travels_by_attributes
from .tree import Tree, functional_class, layers_of

if TYPE_CHECKING:
    from ...core.payload import PLAIN
from ...custom_objects import Table

# --- writing --------------------------------------------------------------------------------


writing = WRITING.writing


def architecture(obj: Any) -> dict[str, Any]:
    """Return the config from which `make` makes an object like `obj`."""
    if travels_by_attributes(obj):
        others.refuse_distributions(obj)
        return {MARK: "class", **_named(type(obj))}
    return _config_of(obj)


def _named(cls: type) -> dict[str, Any]:
    """Return the description by which `_class` finds a class."""
    place = location(cls)
    if place is not None:
        return {"module": place[0], "class_name": place[1]}
    return {
        "class_name": cls.__name__,
        "key": current.table.key(cls, registered_name(keras().utils, cls)),
    }


def _class(config: dict[str, Any]) -> Any:
    if "key" in config:
        return current.by_key[config["key"]]
    return _trusted(config["module"], config["class_name"])


def serialize(value: Any, *, exactly: bool = True) -> Any:
    """Return a config for any `value`.

    Tuples differ from lists in it if it is made `exactly`, which Keras's own classes don't need.
    """
    table: Table = current.table
    if type(value) in PLAIN:
        return value
    if _is_number(value):
        # MobileNetV2 has such a thing in its ReLU(6.), which Keras's own pickles can't read.
        return value.item()
    if isinstance(value, types.FunctionType):
        return _function(value, table)
    if table.is_compiling and table.is_outermost(value):
        return {MARK: "root"}
    if (is_layer(value) or is_a(value, "metric")) and not table.is_outermost(value):
        return {MARK: "child", "class_name": type(value).__name__, "number": table.child(value)}
    if kind(value) is not None and not travels_by_attributes(value):
        return _config_of(value)
    if table.is_compiling and travels_by_attributes(value):
        of_root = [name for name, each in vars(value).items() if table.is_outermost(each)]
        if of_root:
            identity = {"identity": table.identity(value)} if has_identity(value) else {}
            number = table.stripped(value, of_root)
            return {MARK: "of_root", "number": number, "names": of_root, **identity}
    plain = unwrapped(value)
    if type(plain) is list:
        return [serialize(item, exactly=exactly) for item in plain]
    if type(plain) is tuple:
        items = [serialize(item, exactly=exactly) for item in plain]
        return {MARK: "tuple", "items": items} if exactly else items
    if type(plain) is dict:
        return {key: serialize(item, exactly=exactly) for key, item in plain.items()}
    if isinstance(value, type):
        return {MARK: "code", "key": table.key(value)}
    return {MARK: "value", "number": table.defer_to_pickler(plain, f"<{type(value).__name__}>")}


def serialized_metric(value: Any) -> Any:
    """Serialize a metric of the model that is written, by its own config and not by number."""
    return _config_of(value) if is_a(value, "metric") else serialize(value)


def _is_number(value: Any) -> bool:
    return type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0


def _function(function: types.FunctionType, table: Table) -> dict[str, Any]:
    place = location(function)
    if place is not None:
        return {MARK: "function", "module": place[0], "name": place[1]}
    return {MARK: "code", "key": table.key(function)}


def _config_of(obj: Any) -> dict[str, Any]:
    others.refuse(obj)
    cls, table = type(obj), current.table
    is_part = has_identity(obj) and not table.is_outermost(obj)
    identity = {"identity": table.identity(obj)} if is_part else {}
    if not describes_itself(obj):
        description = describe(obj, serialize, table, _CONTAINERS)
        return {MARK: "described", **_named(cls), "config": description, **identity}
    if cls is keras().Sequential:
        config = _sequential_config(obj)
    elif cls is functional_class():
        config = _functional_config(obj)
    else:
        config = serialize(_own_config(obj), exactly=not is_built_in(cls))
    return {MARK: "object", **_named(cls), "config": config, **_drawn(obj), **identity}


def _drawn(obj: Any) -> dict[str, Any]:
    """Return the seed that an initializer has drawn, with which it goes on, as none was given."""
    # Private: neither that it has drawn one, nor which, has a public name.
    generator = vars(obj).get("_random_generator") if is_a(obj, "initializer") else None
    if generator is None or not generator._built or generator._seed is None or obj.seed is not None:
        return {}
    return {"drawn": int(generator._seed)}


def _own_config(obj: Any) -> dict[str, Any]:
    """Return ``get_config()``, with the functions themselves where it has their names."""
    config = dict(obj.get_config())
    api = keras()
    if isinstance(obj, api.layers.Lambda):
        # It would marshal a lambda, without its closure.
        for name, value in (("function", obj.function), ("mask", obj.mask)):
            config[name] = value
        config["output_shape"] = obj._output_shape
        for name in ("function", "output_shape", "mask"):
            config.pop(f"{name}_type", None)
            config.pop("module" if name == "function" else f"{name}_module", None)
    elif isinstance(obj, api.layers.TextVectorization) and "vocabulary_size" in config:
        # It has the size of now, for the one that adapt() fixes.
        config["vocabulary_size"] = obj._lookup_layer._frozen_vocab_size
    elif type(obj) is private("losses").LossFunctionWrapper:
        config["fn"] = obj.fn
    return others.with_functions(obj, config)


def _sequential_config(model: Any) -> dict[str, Any]:
    layers, shape = layers_of(model), None
    if not model._has_explicit_input_shape:
        # Private: the first batch has told the shape, and put an input layer in front.
        layers = [layer for layer in layers if not isinstance(layer, keras().layers.InputLayer)]
        shape = model._inferred_input_shape or model._build_input_shape
    return {
        "name": model.name,
        "layers": [serialize(layer) for layer in layers],
        "build_input_shape": _shape(shape) if model.built else None,
    }


def _shape(shape: Any) -> list[int | None] | None:
    return None if shape is None else [None if n is None else int(n) for n in tuple(shape)]


def _functional_config(model: Any) -> dict[str, Any]:
    _refuse_lost_arguments(model)
    # Private: the public get_config() has no say in how the layers are written.
    network = private("engine.functional").get_network_config(model, serialize_layer_fn=serialize)
    config: dict[str, Any] = serialize(network, exactly=False)
    return config


_CONTAINERS = {"sequential": _sequential_config, "functional": _functional_config}


def _refuse_lost_arguments(model: Any) -> None:
    """Refuse a model whose layers were called with what its config would leave out."""
    default = private("saving.legacy.saved_model.json_utils").get_json_type
    for layer in layers_of(model):
        for node in layer._inbound_nodes:
            plain = {k: v for k, v in node.call_kwargs.items() if not _holds_tensors(v)}
            try:
                json.dumps(plain, default=default)
            except (TypeError, ValueError) as error:
                raise ReduceError(
                    f"The layer {layer.name!r} was called with an argument that Keras 2 leaves out "
                    "of a config",
                    where=layer.name,
                    cause=str(error),
                    cure="give it to the layer's constructor instead",
                ) from error


def _holds_tensors(value: Any) -> bool:
    import tensorflow as tf

    return any(hasattr(leaf, "_keras_history") for leaf in tf.nest.flatten(value))


@WRITING.points
def _points() -> list[Patch]:
    # Private: where every way of serializing asks for the name of a class or function; and where
    # functions become configs, which calls them by another name, and marshals lambdas.
    return [
        (private("saving.object_registration"), "get_registered_name", _keyed_name),
        (private("saving.serialization_lib"), "serialize_keras_object", _keyed_function),
    ]


def _keyed_name(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def get_registered_name(obj: Any) -> Any:
        table = getattr(current, "table", None)
        if table is None or is_built_in(obj) or root_module(obj) == "builtins":
            return original(obj)
        name = original(obj)
        return table.key(obj, name if name != obj.__name__ else None)

    return get_registered_name


def _keyed_function(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def serialize_keras_object(obj: Any) -> Any:
        table = getattr(current, "table", None)
        is_function = isinstance(obj, types.FunctionType)
        if table is None or not is_function or location(obj) is not None or is_built_in(obj):
            return original(obj)
        key = table.key(obj)
        return {
            "module": "builtins",
            "class_name": "function",
            "config": key,
            "registered_name": key,
        }

    return serialize_keras_object


# --- reading --------------------------------------------------------------------------------


@contextlib.contextmanager
def reading(
    custom_objects: Mapping[str, tuple[Any, str | None]],
    objects: tuple[Any, ...] = (),
    identities: tuple[Any, ...] = (),
) -> Iterator[None]:
    """Let Keras find `custom_objects` by their keys, and the others by number, in this thread."""
    api = keras()
    for obj, name in custom_objects.values():
        register(api.utils, obj, name)
    by_key = {key: obj for key, (obj, _) in custom_objects.items()}
    outer = dict(vars(current))
    vars(current).update(by_key=by_key, objects=objects, identities=identities)
    try:
        with api.utils.custom_object_scope(by_key):
            yield
    finally:
        vars(current).clear()
        vars(current).update(outer)


@contextlib.contextmanager
def compiling(obj: Any, tree: Tree) -> Iterator[None]:
    """Let configs find `obj`, and code that refers to it, while it is compiled."""
    by_key = resolved(current.by_key, tree)
    vars(current).update(root=obj, by_key={**current.by_key, **by_key})
    with keras().utils.custom_object_scope(by_key):
        yield


def make(config: Any) -> Any:
    """Return the object that `architecture` was given, or one like it."""
    if config[MARK] == "class":
        cls = _class(config)
        return cls.__new__(cls)
    return deserialize(config)


def deserialize(config: Any) -> Any:
    """Return the object that `serialize` was given, or one like it."""
    if isinstance(config, list):
        return [deserialize(item) for item in config]
    if not isinstance(config, dict):
        return config
    mark = config.get(MARK)
    if mark is None:
        return {key: deserialize(item) for key, item in config.items()}
    if "identity" not in config:
        return _MADE[mark](config)
    identity = by_number(current.identities, config["identity"])
    if identity.obj is None:
        identity.settle(_MADE[mark](config))
    return identity.obj  # Maybe rebuilt before, for something else that holds it as well.


def _made_object(config: dict[str, Any]) -> Any:
    cls, inner = _class(config), config["config"]
    if cls is keras().Sequential:
        return _made_sequential(inner)
    if cls is functional_class():
        inputs, outputs, layers = _rewired(inner)
        model = cls(inputs, outputs, name=inner["name"])
        private("engine.functional").connect_ancillary_layers(model, layers)
        return model
    plain = deserialize(inner)
    if issubclass(cls, keras().layers.Lambda):
        return cls(**plain)
    obj = others.made_with_functions(cls, plain) or cls.from_config(plain)
    if "drawn" in config:
        obj._random_generator._seed = config["drawn"]
        obj._random_generator._maybe_init()  # It takes a seed that is there.
    return obj


def _made_sequential(config: dict[str, Any]) -> Any:
    model = keras().Sequential(name=config["name"])
    _fill(model, config)
    return model


def _fill(model: Any, config: dict[str, Any]) -> None:
    layers = [deserialize(layer) for layer in config["layers"]]
    added = iter(layers)

    def note(inputs: Any, outputs: Any) -> None:
        model._self_tracked_trackables.append(next(added))

    # Private: `add` would put the whole graph together again for each layer.
    vars(model)["_init_graph_network"] = note
    try:
        for layer in layers:
            model.add(layer)
    finally:
        del vars(model)["_init_graph_network"]
    if model._graph_initialized:
        model._init_graph_network(model.inputs, model.outputs)
    if config["build_input_shape"] and not model.built:
        model.build(tuple(config["build_input_shape"]))


def _rewired(config: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Call the layers of a functional model again; return inputs, outputs, and layers by name."""
    layers = {layer["name"]: deserialize(_only_child(layer)) for layer in config["layers"]}
    plain = [
        {"name": layer["name"], "inbound_nodes": deserialize(layer["inbound_nodes"])}
        for layer in config["layers"]
    ]
    rest = {name: deserialize(config[name]) for name in ("input_layers", "output_layers")}
    # Private: the public from_config() makes the layers itself.
    wire = private("engine.functional").reconstruct_from_config
    wired: tuple[Any, Any, Any] = wire({**rest, "layers": plain}, created_layers=layers)
    return wired


def _only_child(layer: dict[str, Any]) -> dict[str, Any]:
    return {key: layer[key] for key in layer if key not in ("name", "inbound_nodes")}


def _made_described(config: dict[str, Any]) -> Any:
    return rebuild(_class(config), config["config"], deserialize, (_fill, _rewired))


def _made_of_root(config: dict[str, Any]) -> Any:
    obj = current.objects[config["number"]]
    for name in config["names"]:
        setattr(obj, name, current.root)
    return obj


def _trusted(module: str, name: str) -> Any:
    """Return the result of `framework.located`, if the trust policy allows it."""
    obj, policy = located(module, name), trust_policy.active()
    if policy is not None:
        policy.require(obj, f"{root()}.{module}.{name}", is_harmless(obj))
    return obj


_MADE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "child": lambda config: current.objects[config["number"]],
    "value": lambda config: current.objects[config["number"]],
    "root": lambda config: current.root,
    "of_root": _made_of_root,
    "code": lambda config: current.by_key[config["key"]],
    "function": lambda config: _trusted(config["module"], config["name"]),
    "tuple": lambda config: tuple(deserialize(config["items"])),
    "object": _made_object,
    "described": _made_described,
}
