"""Objects that no config describes, carried by their attributes.

A user-defined class that inherits ``get_config`` from Keras is described by the plain arguments of
its constructor at best, which says nothing of what was set since. Such a layer, model or metric
travels as its attributes, and comes back without a call of its constructor or of ``build``.
Callbacks have no config at all.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

from ...core import code_objects
from ...core.payload import PLAIN
from ...custom_objects import Table
from ...errors import ReduceError
from ...weak_references import attach_within, is_weak
from .._shared.nests import is_nest, leaves, refuse_hidden, unwrapped
from .framework import MARK, is_built_in, keras, private
from .kinds import is_a, is_part, is_variable
from .rules import own_attributes
from .tree import (
    functional_class,
    is_container,
    is_sequential,
    is_trackable,
    own_variables,
    untold_variables,
)


def describe(
    obj: Any,
    serialize: Callable[[Any], Any],
    table: Table,
    containers: Mapping[str, Callable[[Any], dict[str, Any]]],
) -> dict[str, Any]:
    """Return the description of a layer, model, metric or optimizer by its attributes.

    With configs that `serialize` makes, and `containers` those of ``sequential`` and ``functional``
    models; `table` takes what only a pickler can carry.

    Raises
    ------
    ReduceError
        If `obj` holds something whose origin Keras does not record.
    """
    variables = [] if is_a(obj, "optimizer") else own_variables(obj)
    numbers = {id(variable): number for number, variable in enumerate(variables)}

    def encode(value: Any, path: str) -> Any:
        if id(value) in numbers:
            return {"variable": numbers[id(value)]}
        if _is_own_method(value, obj):
            return {"method": value.__name__}
        if is_nest(value) and any(is_part(leaf) or is_weak(leaf) for leaf in leaves(value)):
            if isinstance(value, dict):
                return {"dict": [(k, encode(v, f"{path}[{k!r}]")) for k, v in value.items()]}
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [encode(item, f"{path}[{i}]") for i, item in enumerate(value)]}
        if is_weak(value):
            return {"object": {MARK: "value", "number": table.defer_weak_to_pickler(value, path)}}
        if is_part(value) and not is_variable(value):
            return {"keras": serialize(value)}
        plain = type(value) in PLAIN
        return {"plain": value} if plain else {"object": serialize(value)}

    attributes = {}
    untold = dict(untold_variables(obj)) if is_a(obj, "optimizer") else {}
    for name, value in own_attributes(obj).items():
        refuse_hidden(name, value, is_part)
        if is_a(obj, "optimizer") and any(map(is_variable, leaves(value))):
            if f"attribute/{name}" in untold:
                attributes[name] = {"untold": _described_variable(value, {}, serialize)}
            continue  # The others are slots, which `build` makes.
        # What has variables must be there before they get their values, and an optimizer its slots.
        has_variables = any(is_part(leaf) or is_trackable(leaf) for leaf in leaves(value))
        is_plain = not has_variables and not _is_own_method(value, obj)
        if is_plain and table.is_outermost(obj):
            table.state[name] = unwrapped(value)
        else:
            attributes[name] = encode(value, name)
    rules = _regularizers(obj)
    return {
        "base": _base(obj, serialize, containers),
        "variables": [_described_variable(v, rules, serialize) for v in variables],
        "attributes": attributes,
        "built": bool(getattr(obj, "built", True)),
    }


def _is_own_method(value: Any, obj: Any) -> bool:
    return isinstance(value, types.MethodType) and value.__self__ is obj


def rebuild(
    cls: Any,
    description: dict[str, Any],
    deserialize: Callable[[Any], Any],
    models: tuple[Callable[..., Any], Callable[..., Any]],
) -> Any:
    """Return an object of `cls` from what `describe` wrote, without calling its constructor.

    By `deserialize`, which makes objects of configs, and functions that fill a sequential model and
    wire a functional one: `models`.
    """
    obj = cls.__new__(cls)
    _initialize(obj, description["base"], deserialize, *models)
    variables = [_make_variable(obj, spec, deserialize) for spec in description["variables"]]

    def decode(value: Any) -> Any:
        ((kind, content),) = value.items()
        if kind == "variable":
            return variables[content]
        if kind == "method":
            return getattr(obj, content)
        if kind == "untold":
            return _untold_variable(content)
        if kind == "dict":
            return {key: decode(item) for key, item in content}
        if kind in ("list", "tuple"):
            return (tuple if kind == "tuple" else list)(decode(item) for item in content)
        if kind == "keras":
            return deserialize(content)
        return content if kind == "plain" else deserialize(content)

    for name, value in description["attributes"].items():
        setattr(obj, name, decode(value))
        attach_within(obj, name)
    if description["built"] and not getattr(obj, "built", True):
        obj.built = True
    return obj


def _base(
    obj: Any,
    serialize: Callable[[Any], Any],
    containers: Mapping[str, Callable[[Any], dict[str, Any]]],
) -> dict[str, Any]:
    """Return the arguments for Keras's own constructor."""
    if is_a(obj, "optimizer"):
        return {"optimizer": serialize(_framework_class(obj).get_config(obj))}
    if is_a(obj, "metric"):
        return {"name": obj.name, "dtype": obj.dtype}
    policy = keras().mixed_precision.Policy
    dtype = obj._dtype_policy.name if type(obj._dtype_policy) is policy else obj.dtype
    arguments: dict[str, Any] = {"name": obj.name, "dtype": dtype}
    if getattr(obj, "_auto_get_config", False):
        arguments["arguments"] = serialize(dict(obj._auto_config.config))
    if is_container(obj):
        kind = "sequential" if is_sequential(obj) else "functional"
        arguments[kind] = containers[kind](obj)
    return arguments


def _framework_class(obj: Any) -> Any:
    """Return the class of Keras's own that the class of `obj` is made from."""
    return next(cls for cls in type(obj).__mro__ if is_built_in(cls))


def _initialize(
    obj: Any,
    base: dict[str, Any],
    deserialize: Callable[[Any], Any],
    fill: Callable[..., Any],
    rewired: Callable[..., Any],
) -> None:
    api = keras()
    if "optimizer" in base:
        rebuilt = _framework_class(obj).from_config(deserialize(base["optimizer"]))
        vars(obj).update(vars(rebuilt))
        return
    if is_a(obj, "metric"):
        api.metrics.Metric.__init__(obj, **base)
        return
    arguments = {"name": base["name"], "dtype": base["dtype"]}
    if "sequential" in base:
        api.Sequential.__init__(obj, name=base["name"])
        fill(obj, base["sequential"])
    elif "functional" in base:
        inputs, outputs, layers = rewired(base["functional"])
        functional_class().__init__(obj, inputs, outputs, name=base["name"])
        private("engine.functional").connect_ancillary_layers(obj, layers)
    elif is_a(obj, "model"):
        api.Model.__init__(obj, **arguments)
    else:
        api.layers.Layer.__init__(obj, **arguments)
    _restore_arguments(obj, base.get("arguments"), deserialize)
    if "sequential" in base or "functional" in base:
        obj._set_dtype_policy(base["dtype"])


def _restore_arguments(obj: Any, arguments: Any, deserialize: Callable[[Any], Any]) -> None:
    # Private: the arguments of the constructor, where they were plain: the config of a class that
    # has no get_config().
    obj._auto_get_config = arguments is not None
    vars(obj).pop("_auto_config", None)
    if arguments is not None:
        config = private("saving.serialization_lib").Config(**deserialize(arguments))
        vars(obj)["_auto_config"] = config


def _described_variable(
    variable: Any, rules: dict[int, Any], serialize: Callable[[Any], Any]
) -> dict[str, Any]:
    return {
        "shape": list(variable.shape),
        "dtype": variable.dtype.base_dtype.name,
        "name": variable.name.partition(":")[0].rpartition("/")[2],
        "trainable": bool(variable.trainable),
        "regularizer": serialize(rules.get(id(variable))),
        "constraint": serialize(getattr(variable, "constraint", None)),
        "aggregation": variable.aggregation.name,
        "synchronization": variable.synchronization.name,
    }


def _make_variable(obj: Any, spec: dict[str, Any], deserialize: Callable[[Any], Any]) -> Any:
    import tensorflow as tf

    arguments = {
        "name": spec["name"],
        "shape": tuple(spec["shape"]),
        "dtype": spec["dtype"],
        # A shape may leave sizes open.
        "initializer": lambda shape, dtype: tf.zeros([size or 0 for size in shape], dtype),
        "aggregation": getattr(tf.VariableAggregation, spec["aggregation"]),
        "synchronization": getattr(tf.VariableSynchronization, spec["synchronization"]),
    }
    if is_a(obj, "metric"):
        return obj.add_weight(**arguments)
    return obj.add_weight(
        **arguments,
        trainable=spec["trainable"],
        regularizer=deserialize(spec["regularizer"]),
        constraint=deserialize(spec["constraint"]),
    )


def _untold_variable(spec: dict[str, Any]) -> Any:
    import tensorflow as tf

    zeros = tf.zeros([size or 0 for size in spec["shape"]], spec["dtype"])
    name, trainable = spec["name"], spec["trainable"]
    return tf.Variable(zeros, trainable=trainable, name=name, shape=tuple(spec["shape"]))


def _regularizers(obj: Any) -> dict[int, Any]:
    """Return the regularizers that variables of `obj` were made with, by the variable's id.

    Raises
    ------
    ReduceError
        If `obj` has a loss that was added in another way.
    """
    if added_losses(obj):
        raise ReduceError(
            f"{type(obj).__qualname__} has a loss that was added by add_loss(function)",
            where=getattr(obj, "name", ""),
            cause="Keras does not record where it was added, so it would be lost",
            cure="implement get_config() on the class, and add the loss in call() or in the "
            "constructor",
        )
    pairs = map(_regularization, getattr(obj, "_callable_losses", ()))
    return {id(variable): rule for variable, rule in pairs}


def added_losses(layer: Any) -> list[Any]:
    """Return the functions that were given to ``add_loss`` of a layer."""
    losses = getattr(layer, "_callable_losses", ())
    return [loss for loss in losses if _regularization(loss)[1] is None]


def _regularization(loss: Any) -> tuple[Any, Any]:
    """Return the variable and the regularizer of a loss that add_weight(regularizer=...) added."""
    # Private: a function of its own for the variable, around which add_loss() puts another.
    function: Any = None
    for _ in range(2):
        if not isinstance(loss, functools.partial) or len(loss.args) != 1:
            return None, None
        function, loss = loss.func, loss.args[0]
    if not is_variable(loss) or not isinstance(function, types.FunctionType):
        return None, None
    return loss, code_objects.closure(function).get("regularizer")
