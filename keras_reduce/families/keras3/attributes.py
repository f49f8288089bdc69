"""Objects that no config describes: carried by their attributes instead.

A class of the user's that inherits ``get_config`` from Keras is described by the arguments of its
constructor at best (layers), by their defaults at worst (models: `keras.Model.__new__` passes no
arguments on, so Keras 3 records the defaults, whatever was given). Both forget what was set since.
Such an object travels as its attributes: layers and other Keras objects by their own configs, its
variables by shape and dtype, everything else through the pickler. It comes back without a call of
its constructor or of ``build``.
"""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .tree import functional_class, is_functional, own_variables

if TYPE_CHECKING:
    from ...custom_objects import Table

# What Keras, and TensorFlow below it, keep on their objects. All of it is made anew by Keras's own
# constructors, `compile` or `fit`, or restored by other parts of a payload.
INTERNAL = frozenset(
    {
        *("_tracker", "_tracked", "_layers", "_metrics", "_seed_generators", "_losses"),
        *("_trainable_variables", "_non_trainable_variables", "_variables", "_lock", "name"),
        *("_auto_config", "build", "quantize", "_saved_model_inputs_spec", "_saved_model_arg_spec"),
        *("_inbound_nodes", "_outbound_nodes", "_dtype_policy", "_path", "_parent_path", "built"),
        *("_called", "_trainable", "_loss_ids", "_losses_override", "_call_signature"),
        *("call_signature_parameters", "_call_has_training_arg", "_call_has_mask_arg"),
        *("_call_context_args", "_call_has_context_arg", "_build_shapes_dict", "_dtype"),
        *("_run_eagerly", "_jit_compile", "compiled", "loss", "steps_per_execution"),
        *("_initial_epoch", "_compute_loss_has_training_arg", "_compile_loss"),
        *("_compile_metrics", "_loss_tracker", "train_function", "test_function"),
        *("predict_function", "unrolled_steps_per_execution", "_distribute_strategy"),
        *("optimizer", "stop_training", "_compiled_trainable_state", "_compile_config"),
        *("_eval_epoch_iterator", "history", "stop_evaluating", "stop_predicting"),
        *("_functional", "_operations", "_operations_by_depth", "_nodes", "_nodes_by_depth"),
        *("_inputs", "_outputs", "_inputs_struct", "_outputs_struct", "input_names"),
        *("output_names", "_obj_reference_counts_dict", "_input_shape_arg", "reduction"),
    }
)

_PLAIN = (bool, int, float, str, type(None))


def is_built_in(cls: type) -> bool:
    """Tell whether `cls` is Keras's own."""
    return cls.__module__.partition(".")[0] == "keras"


def describes_itself(obj: Any) -> bool:
    """Tell whether the config of `obj` is the word of its class, not a guess of Keras's."""
    cls = type(obj)
    if is_built_in(cls) or not is_built_in(_owner(cls, "get_config")):
        return True
    # A subclass of a built-in class that leaves its constructor alone is described by it, unless
    # the base is one of the abstract ones, which know nothing of what their subclasses hold.
    return is_built_in(_owner(cls, "__init__")) and _owner(cls, "get_config") not in _abstract()


def _abstract() -> tuple[type, ...]:
    import keras

    named = (keras.Layer, keras.Model, keras.Operation, keras.losses.Loss, keras.metrics.Metric)
    return (*named, keras.initializers.Initializer, keras.regularizers.Regularizer)


def _owner(cls: type, method: str) -> type:
    return next(base for base in cls.__mro__ if method in vars(base))


def describe(obj: Any, serialize: Callable[[Any], Any], table: Table) -> dict[str, Any]:
    """Return the description of a layer, model, metric or loss by its attributes.

    Parameters
    ----------
    obj : object
        Of a class of the user's.
    serialize : callable
        Makes configs of Keras objects and of functions.
    table : Table
        Takes what only a pickler can carry.
    """
    own = own_variables(obj)
    numbers = {id(variable): number for number, variable in enumerate(own)}

    def encode(value: Any) -> Any:
        if type(value) in _PLAIN:
            return value
        if id(value) in numbers:
            return {"variable": numbers[id(value)]}
        if isinstance(value, types.MethodType) and value.__self__ is obj:
            return {"method": value.__name__}
        if _is_nest(value) and not _is_opaque(value):
            if isinstance(value, dict):
                return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [encode(item) for item in value]}
        if _has_config(value):
            return {"keras": serialize(value)}
        return {"object": table.entrust(unwrapped(value))}

    attributes = {}
    for name, value in own_attributes(obj).items():
        if table.is_outermost(obj) and _is_opaque(value):
            table.state[name] = unwrapped(value)
        else:
            attributes[name] = encode(value)
    stored = {id(variable) for variable in getattr(obj, "_trainable_variables", ())}
    return {
        "base": _base(obj, serialize),
        "variables": [_describe_variable(v, id(v) in stored, serialize) for v in own],
        "attributes": attributes,
        "built": bool(getattr(obj, "built", True)),
        "build_shapes": serialize(getattr(obj, "_build_shapes_dict", None)),
    }


def rebuild(
    cls: Any,
    description: dict[str, Any],
    deserialize: Callable[[Any], Any],
    objects: tuple[Any, ...],
) -> Any:
    """Return an object of `cls` from what `describe` wrote, without calling its constructor."""
    obj = cls.__new__(cls)
    _initialize(obj, description["base"], deserialize)
    variables = [_make_variable(obj, spec, deserialize) for spec in description["variables"]]

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
        if kind in ("list", "tuple"):
            return (tuple if kind == "tuple" else list)(decode(item) for item in content)
        if kind == "keras":
            return deserialize(content)
        return objects[content]

    for name, value in description["attributes"].items():
        setattr(obj, name, decode(value))
    if description["built"] and not getattr(obj, "built", True):
        obj.built = True
        # Private: what the wrapper around a layer's build() does afterwards.
        obj._build_shapes_dict = description["build_shapes"]
        obj._post_build()
        obj._lock_state()
    return obj


def own_attributes(obj: Any) -> dict[str, Any]:
    """Return the attributes that are not Keras's own."""
    made_by_config = is_built_in(type(obj))
    return {
        name: value
        for name, value in vars(obj).items()
        if name not in INTERNAL
        and not name.startswith("_self_")
        and not (name in _DEFAULTS and (made_by_config or value == _DEFAULTS[name]))
    }


# Attributes of Keras's own that matter where a class of the user's has changed them.
_DEFAULTS = {
    "activity_regularizer": None,
    "autocast": True,
    "supports_jit": True,
    "_input_spec": None,
    "_remat_mode": None,
    "_supports_masking": False,
    "_convert_input_args": True,
    "_allow_non_tensor_positional_args": False,
}


def _base(obj: Any, serialize: Callable[[Any], Any]) -> dict[str, Any]:
    """Return what Keras's own constructor is to be called with."""
    import keras

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
        arguments["functional"] = serialize(plain)
    return arguments


def _initialize(obj: Any, base: dict[str, Any], deserialize: Callable[[Any], Any]) -> None:
    import keras

    if isinstance(obj, keras.losses.Loss):
        keras.losses.Loss.__init__(obj, **base)
        return
    if isinstance(obj, keras.metrics.Metric):
        keras.metrics.Metric.__init__(obj, **base)
        return
    dtype = deserialize(base["dtype"])
    if "sequential" in base:
        plain = keras.Sequential.from_config(base["sequential"])
        # Private: the public `layers` leaves out the input layer.
        keras.Sequential.__init__(obj, plain._layers, name=base["name"])
        if plain.built and not obj.built:
            obj.build(base["sequential"]["build_input_shape"])
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


def _describe_variable(variable: Any, stored: bool, serialize: Callable[[Any], Any]) -> Any:
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


def _make_variable(obj: Any, spec: dict[str, Any], deserialize: Callable[[Any], Any]) -> Any:
    import keras

    arguments = {**spec, "shape": tuple(spec["shape"]), "initializer": "zeros"}
    if isinstance(obj, keras.metrics.Metric):
        for name in ("trainable", "autocast", "regularizer", "constraint"):
            del arguments[name]
        return obj.add_variable(**arguments)
    arguments["regularizer"] = deserialize(spec["regularizer"])
    arguments["constraint"] = deserialize(spec["constraint"])
    return obj.add_weight(**arguments)


def _is_nest(value: Any) -> bool:
    return isinstance(value, (list, tuple, dict)) and not hasattr(value, "_fields")


def _leaves(value: Any) -> Iterator[Any]:
    if not _is_nest(value):
        yield value
        return
    for item in value.values() if isinstance(value, dict) else value:
        yield from _leaves(item)
    if isinstance(value, dict):
        yield from value


def _is_opaque(value: Any) -> bool:
    """Tell whether a config has no place for `value`, so that it is the pickler's to carry."""
    leaves = list(_leaves(value))
    if any(_is_keras_object(leaf) for leaf in leaves):
        return False
    return not all(type(leaf) in _PLAIN or _has_config(leaf) for leaf in leaves)


def _has_config(value: Any) -> bool:
    if isinstance(value, (types.FunctionType, types.MethodType, type)):
        return True
    known = is_built_in(type(value)) and hasattr(value, "get_config")
    return known or _is_keras_object(value)


def _is_keras_object(value: Any) -> bool:
    import keras

    kinds = (keras.Operation, keras.losses.Loss, keras.metrics.Metric, keras.Variable)
    more = (keras.optimizers.Optimizer, keras.random.SeedGenerator)
    return isinstance(value, (*kinds, *more))


def unwrapped(value: Any) -> Any:
    """Return `value` without the wrappers that Keras and TensorFlow put around containers."""
    if isinstance(value, OrderedDict):
        return OrderedDict((key, unwrapped(item)) for key, item in value.items())
    if isinstance(value, dict):
        return {key: unwrapped(item) for key, item in value.items()}
    if isinstance(value, tuple):
        items = [unwrapped(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [unwrapped(item) for item in value]
    return set(value) if isinstance(value, set) else value
