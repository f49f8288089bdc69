"""Objects that no config describes: carried by their attributes instead.

A user-defined class that inherits ``get_config`` from Keras is described by the arguments of its
constructor at best (layers), by their defaults at worst (models: `keras.Model.__new__` passes no
arguments on, so Keras 3 records the defaults in any case). Both forget what was set since.
Such an object travels as its attributes: layers and other Keras objects by their own configs, its
variables by shape and dtype, everything else through the pickler. It comes back without a call of
its constructor or of ``build``.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

from ...core.payload import PLAIN
from ...custom_objects import Table, has_foreign_code
from ...errors import ReduceError
from ...weak_references import attach_within, holds, is_weak
from .._shared.nests import innermost, is_nest, leaves, unwrapped
from .kinds import is_a, is_built_in
from .order import sort
from .rules import holds_parts, is_part, left_out, own_attributes
from .tree import (
    functional_class,
    is_container,
    is_functional,
    is_optimizer,
    layer_names,
    own_variables,
)


def describe(obj: Any, serialize: Callable[[Any], Any], table: Table) -> dict[str, Any]:
    """Return the description of an object of a user-defined class by its attributes.

    With configs that `serialize` makes; `table` takes what only a pickler can carry.

    Raises
    ------
    ReduceError
        If Keras keeps something in `obj` that its own constructor alone can make.
    """
    _refuse_preprocessing(obj)
    variables = own_variables(obj)
    encode = encoder(obj, serialize, table)
    attributes = {}
    for name, value in own_attributes(obj).items():
        if is_optimizer(obj) and any(isinstance(v, _variable_class()) for v in leaves(value)):
            continue  # Slots, which `build` makes.
        is_weak = holds(value)
        if is_weak and not table.is_outermost(obj):
            raise ReduceError(
                f"A weak reference in a {type(obj).__qualname__} can't be carried",
                where=f".{name}",
                cause="it is set on a part of another object, and no layer of its own",
                cure="keep the object itself in place of the reference",
            )
        is_plain = name in vars(obj)  # And not where a module of Torch's keeps what is set on it.
        is_for_state = is_plain and (_is_for_pickler(value) or _is_code(value))
        # With parts beside it, which Keras has to track, a weak reference is attached later.
        is_for_state |= is_weak and not holds_parts(value)
        if table.is_outermost(obj) and is_for_state:
            table.state[name] = unwrapped(value)
        else:
            attributes[name] = encode(value, name)
    stored = {id(variable) for variable in getattr(obj, "_trainable_variables", ())}
    return {
        "base": _base(obj, serialize),
        "variables": []
        if is_optimizer(obj)
        else [describe_variable(v, id(v) in stored, serialize) for v in variables],
        "attributes": attributes,
        "layers": layer_names(obj),
        "built": bool(getattr(obj, "built", True)),
        "build_shapes": serialize(getattr(obj, "_build_shapes_dict", None)),
    }


def encoder(obj: Any, serialize: Callable[[Any], Any], table: Table) -> Callable[[Any, str], Any]:
    """Return a function that encodes a value at a path below `obj` for JSON.

    Plain values are written as they are, all others as a dictionary of one item: the kind, and what
    `decoder` needs to make the value again.
    """
    numbers = {id(variable): number for number, variable in enumerate(own_variables(obj))}

    def encode(value: Any, path: str) -> Any:
        if type(value) in PLAIN:
            return value
        if is_weak(value):
            return {"object": table.defer_weak_to_pickler(value, path)}
        if id(value) in numbers:
            return {"variable": numbers[id(value)]}
        if isinstance(value, types.MethodType) and value.__self__ is obj:
            return {"method": value.__name__}
        is_written_out = holds_parts(value) or any(map(is_weak, innermost(value)))
        if isinstance(value, (set, frozenset)) and is_written_out:
            # In the order of tracking, which the paths of its parts go by.
            kind = "frozenset" if isinstance(value, frozenset) else "set"
            return {kind: [encode(item, path) for item in _in_order(value, obj)]}
        if hasattr(value, "_fields") and is_written_out:
            number = table.defer_to_pickler(type(unwrapped(value)))
            return {"named": [number, [encode(item, path) for item in value]]}
        if is_nest(value) and (is_written_out or not _is_for_pickler(value)):
            if isinstance(value, dict):
                items = value.items()
                pairs = [(encode_key(k, path), encode(v, f"{path}[{k!r}]")) for k, v in items]
                return {"dict": pairs}
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [encode(item, f"{path}[{i}]") for i, item in enumerate(value)]}
        if _has_config(value):
            return {"keras": serialize(value)}
        return {"object": table.defer_to_pickler(unwrapped(value), path)}

    def encode_key(key: Any, path: str) -> Any:
        if is_weak(key):  # It can't be attached later on, and no pickler takes it.
            return {"object": table.defer_to_pickler(key, f"{path}.<key {type(key).__name__}>")}
        return encode(key, path)

    return encode


def decoder(
    obj: Any,
    variables: Sequence[Any],
    deserialize: Callable[[Any], Any],
    objects: Sequence[Any],
) -> Callable[[Any], Any]:
    """Return the inverse of a function that `encoder` returned, for a rebuilt `obj`."""

    def decode(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "variable":
            return variables[content]
        if kind == "method":
            return getattr(obj, content)
        if kind == "dict":
            return {decode(key): decode(item) for key, item in content}
        if kind == "named":
            return objects[content[0]](*map(decode, content[1]))
        if kind == "set":
            items = [decode(item) for item in content]
            for item in filter(is_part, innermost(items)):
                obj._tracker.track(item)  # A set would be tracked in any order.
            return set(items)
        if kind == "frozenset":  # Keras tracks nothing in it.
            return frozenset(map(decode, content))
        if kind in ("list", "tuple"):
            return (tuple if kind == "tuple" else list)(decode(item) for item in content)
        if kind == "keras":
            return deserialize(content)
        return objects[content]

    return decode


def _refuse_preprocessing(obj: Any) -> None:
    base = next((cls for cls in type(obj).__mro__ if is_built_in(cls)), object)
    if "preprocessing" in base.__module__.split("."):
        if left_out(obj):
            raise ReduceError(
                f"{type(obj).__qualname__} can't travel by its attributes",
                where=obj.name,
                cause="only its constructor can make the lookup tables and functions that a "
                "preprocessing layer holds",
                cure="implement from_config(config) on the class",
            )
        raise ReduceError(
            f"{type(obj).__qualname__} adds a constructor to keras.layers.{base.__name__}, but no "
            "get_config()",
            where=obj.name,
            cause="preprocessing layers hold lookup tables and functions of their backend, which "
            "only their constructor can make",
            cure="implement get_config() on the class, with the arguments of its constructor",
        )


def rebuild(
    cls: Any,
    description: dict[str, Any],
    deserialize: Callable[[Any], Any],
    objects: tuple[Any, ...],
) -> Any:
    """Return an object of `cls` from what `describe` wrote, without calling its constructor."""
    obj = cls.__new__(cls)
    _initialize(obj, description["base"], deserialize)
    variables = [make_variable(obj, spec, deserialize) for spec in description["variables"]]

    decode = decoder(obj, variables, deserialize, objects)
    for name, value in description["attributes"].items():
        setattr(obj, name, decode(value))
        attach_within(obj, name)
    if description["layers"] and not is_container(obj):
        # As in the original, which ``get_weights`` shows.
        sort(obj._layers, layer_names(obj), description["layers"])
    if is_optimizer(obj):
        return obj
    if description["built"] and not getattr(obj, "built", True):
        obj.built = True
        # Private: what the wrapper around a layer's build() does afterwards.
        obj._build_shapes_dict = description["build_shapes"]
        obj._post_build()
        obj._lock_state()
    return obj


def _in_order(values: Any, obj: Any) -> list[Any]:
    """Return the items of a set of `obj`, its parts in the order in which Keras tracks them."""
    stores = ("_layers", "_metrics", "_trainable_variables", "_non_trainable_variables")
    tracked = [part for store in stores for part in getattr(obj, store, ())]
    order = {id(part): position for position, part in enumerate(tracked)}

    def position(item: Any) -> int:
        return min(
            (order.get(id(each), len(order)) for each in innermost(item)), default=len(order)
        )

    return sorted(values, key=position)


def _base(obj: Any, serialize: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the arguments for Keras's own constructor."""
    import keras

    if is_optimizer(obj):
        return {"config": serialize(keras.optimizers.Optimizer.get_config(obj))}
    if isinstance(obj, keras.losses.Loss):
        return {"name": obj.name, "reduction": obj.reduction, "dtype": obj.dtype}
    if isinstance(obj, keras.metrics.Metric):
        return {"name": obj.name, "dtype": obj.dtype}
    arguments: dict[str, Any] = {"name": obj.name, "dtype": serialize(obj.dtype_policy)}
    if isinstance(obj, keras.Sequential):
        arguments["sequential"] = keras.Sequential.get_config(obj)
    elif is_functional(obj):
        # Private: the nesting of inputs and outputs, which the public lists don't show. The plain
        # model shares the graph; only its config is wanted.
        plain = keras.Model(obj._inputs_struct, obj._outputs_struct, name=obj.name)
        arguments["functional"] = {
            "module": "keras",
            "class_name": "Model",
            "config": plain.get_config(),
            "registered_name": None,
        }
    return arguments


def _initialize(obj: Any, base: dict[str, Any], deserialize: Callable[[Any], Any]) -> None:
    import keras

    if is_optimizer(obj):
        keras.optimizers.Optimizer.__init__(obj, **deserialize(base["config"]))
        return
    if isinstance(obj, keras.losses.Loss):
        keras.losses.Loss.__init__(obj, **base)
        return
    if isinstance(obj, keras.metrics.Metric):
        keras.metrics.Metric.__init__(obj, **base)
        return
    dtype = deserialize(base["dtype"])
    if "sequential" in base:
        config = base["sequential"]
        layers = [deserialize(layer) for layer in config["layers"]]
        keras.Sequential.__init__(obj, layers, name=base["name"])
        if config.get("build_input_shape") and not obj.built:
            obj.build(config["build_input_shape"])
    elif "functional" in base:
        plain = deserialize(base["functional"])
        # keras.Model.__init__ turns a class into a functional one at its first object, once only.
        root = functional_class() if is_functional(obj) else keras.Model
        root.__init__(
            obj, inputs=plain._inputs_struct, outputs=plain._outputs_struct, name=base["name"]
        )
    else:
        root = keras.Model if isinstance(obj, keras.Model) else keras.Layer
        root.__init__(obj, name=base["name"], dtype=dtype)
        return
    obj.dtype_policy = dtype


def describe_variable(variable: Any, stored: bool, serialize: Callable[[Any], Any]) -> Any:
    """Return the description of a variable, `stored` or not among those that are trainable."""
    return {
        "shape": list(variable.shape),
        "dtype": str(variable.dtype),
        "name": variable.name,
        "trainable": stored,
        "autocast": bool(getattr(variable, "_autocast", True)),
        "aggregation": variable.aggregation,
        "regularizer": serialize(getattr(variable, "regularizer", None)),
        "constraint": serialize(getattr(variable, "constraint", None)),
    }


def make_variable(obj: Any, spec: dict[str, Any], deserialize: Callable[[Any], Any]) -> Any:
    """Add a variable to `obj` by what `describe_variable` returned."""
    import keras

    arguments = {**spec, "shape": tuple(spec["shape"]), "initializer": "zeros"}
    if isinstance(obj, keras.metrics.Metric):
        for name in ("trainable", "autocast", "regularizer", "constraint"):
            del arguments[name]
        return obj.add_variable(**arguments)
    arguments["regularizer"] = deserialize(spec["regularizer"])
    arguments["constraint"] = deserialize(spec["constraint"])
    return obj.add_weight(**arguments)


def _variable_class() -> Any:
    import keras

    return keras.Variable


def _is_for_pickler(value: Any) -> bool:
    """Return whether a config has no place for `value`, so that it is the pickler's to carry."""
    if holds_parts(value):
        return False
    items = list(leaves(value))
    return not all(type(leaf) in PLAIN or _has_config(leaf) for leaf in items)


def is_plain_state(value: Any, layer: Any) -> bool:
    """Return whether a config could hold an attribute that `layer` uses after it was built.

    What a class outside of Keras sets beyond plain values, its constructor makes again.
    """
    if type(value) in PLAIN:
        return True
    if is_nest(value):
        return all(type(leaf) in PLAIN for leaf in leaves(value))
    is_rule = type(value) is types.FunctionType or is_a(value, "regularizer", "constraint")
    return is_rule and is_built_in(type(layer))


def _is_code(value: Any) -> bool:
    """Return whether there is code in `value` that travels by value, and no part of an object."""
    plain = unwrapped(value)
    return has_foreign_code(plain) and not holds_parts(plain)


def _has_config(value: Any) -> bool:
    if isinstance(value, (types.FunctionType, types.MethodType, type)):
        return True
    is_described = is_built_in(type(value)) and hasattr(value, "get_config")
    return is_described or is_part(value)
