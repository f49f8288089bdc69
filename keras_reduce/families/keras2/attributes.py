"""Objects that no config describes, carried by their attributes; and what a user has set on others.

A class of the user's that inherits ``get_config`` from Keras is described by the plain arguments of
its constructor at best, which says nothing of what was set since. Such a layer, model or metric
travels as its attributes, and comes back without a call of its constructor or of ``build``.
Callbacks have no config at all.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...core import code_objects
from ...custom_objects import Table
from ...errors import ReduceError
from ...weak_references import attach_within, is_weak
from .._shared import assigned_attributes, compile_methods, completeness
from .._shared.nests import is_data, is_nest, leaves, refuse_hidden, unwrapped
from .._shared.remaking import is_carried, plain_config
from . import others
from .framework import MARK, is_built_in, keras, private
from .kinds import bases, is_a, is_layer, is_part, is_variable
from .tree import (
    Tree,
    functional_class,
    is_container,
    is_sequential,
    is_trackable,
    own_variables,
    untold_variables,
)

# What Keras's own constructor sets and a class of the user's may change.
_DEFAULTS = {
    "_supports_masking": False,
    "_stateful": False,
    "_dynamic": False,
    "_autocast": True,
    "_input_spec": None,
    "_activity_regularizer": None,
}


def overrides(obj: Any, method: str) -> bool:
    """Tell whether a class of the user's, not of Keras's, defines `method` of `obj`."""
    return hasattr(obj, method) and not is_built_in(_owner(type(obj), method))


def describes_itself(obj: Any) -> bool:
    """Tell whether `obj` is described by its config.

    That is so if the config is the word of its class, not a guess of its bases, and the constructor
    can be called with it; or if some of its attributes can't be carried, see `remaking`.
    """
    if is_layer(obj) and _has_lost_its_shape(obj):
        return False
    if has_last_word(type(obj)) and not left_out(obj):
        return True
    return left_to_constructor(obj) is not None


def has_last_word(cls: type) -> bool:
    """Tell whether the config of an object is the word of its class, not a guess of its bases."""
    if is_built_in(cls):
        return True
    if not hasattr(cls, "get_config"):
        return False
    config_owner, init_owner = _owner(cls, "get_config"), _owner(cls, "__init__")
    # A constructor below get_config() takes what that knows nothing of.
    is_last = not issubclass(init_owner, config_owner) or init_owner is config_owner
    return is_last and config_owner not in _abstract()


def left_to_constructor(obj: Any) -> frozenset[str] | None:
    """Return what `remaking.left_to_constructor` does for what this thread is writing."""
    # Imported here, as they ask for the attributes that this module knows.
    from . import configs, remaking

    return remaking.left_to_constructor(obj, configs.current)


def left_out(obj: Any) -> list[str]:
    """Return the constructor arguments for which the config of a user-defined class fails."""
    if is_container(obj) or not overrides(obj, "get_config"):
        return []
    return completeness.left_out(obj, _plain_config, is_built_in)


def _plain_config(obj: Any) -> dict[str, Any] | None:
    from .configs import writing  # It imports this module.

    return plain_config(obj, writing)


def _has_lost_its_shape(layer: Any) -> bool:
    """Tell whether a layer has variables, but no note of the shape that they were made for.

    Keras takes one when it builds a layer itself, but not when a program calls ``build()``.
    """
    lookups = (keras().layers.StringLookup, keras().layers.IntegerLookup)
    # Their one variable is made by the constructor.
    if is_container(layer) or isinstance(layer, lookups) or not own_variables(layer):
        return False
    return layer.get_build_config() is None


@functools.cache
def _abstract() -> tuple[type, ...]:
    """Return the classes whose get_config() knows nothing of what their subclasses hold."""
    rows = bases()
    found = [cls for name, row in rows.items() if name != "optimizer" for cls in row]
    return (*found, _owner(keras().layers.Layer, "get_config"))


def _owner(cls: type, method: str) -> type:
    return next(base for base in cls.__mro__ if method in vars(base))


def travels_by_attributes(obj: Any) -> bool:
    """Tell whether `obj` is carried as its class and its attributes, without any config."""
    if is_a(obj, "callback"):
        return True
    is_rule = is_a(obj, "initializer", "regularizer", "constraint", "schedule", "loss")
    return is_rule and not describes_itself(obj)


def describe(
    obj: Any,
    serialize: Callable[[Any], Any],
    table: Table,
    containers: Mapping[str, Callable[[Any], dict[str, Any]]],
) -> dict[str, Any]:
    """Return the description of a layer, model, metric or optimizer by its attributes.

    Parameters
    ----------
    obj : object
        Of a class of the user's.
    serialize : callable
        Makes configs.
    table : Table
        Takes what only a pickler can carry.
    containers : mapping
        What makes configs of ``sequential`` and of ``functional`` models.

    Raises
    ------
    ReduceError
        If Keras keeps something in `obj` that nothing tells the origin of.
    """
    own = [] if is_a(obj, "optimizer") else own_variables(obj)
    numbers = {id(variable): number for number, variable in enumerate(own)}

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
            return {"object": {MARK: "value", "number": table.entrust_weak(value, path)}}
        if is_part(value) and not is_variable(value):
            return {"keras": serialize(value)}
        plain = type(value) in (bool, int, float, str, type(None))
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
        "variables": [_described_variable(v, rules, serialize) for v in own],
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

    Parameters
    ----------
    cls : type
        Class of the user's.
    description : dict
        What `describe` returned.
    deserialize : callable
        Makes objects of configs.
    models : tuple of callable
        How a sequential model is filled, and how a functional one is wired.
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
    """Return what Keras's own constructor is to be called with."""
    if is_a(obj, "optimizer"):
        return {"optimizer": serialize(_framework_class(obj).get_config(obj))}
    if is_a(obj, "metric"):
        return {"name": obj.name, "dtype": obj.dtype}
    policy = keras().mixed_precision.Policy
    dtype = obj._dtype_policy.name if type(obj._dtype_policy) is policy else obj.dtype
    found: dict[str, Any] = {"name": obj.name, "dtype": dtype}
    if getattr(obj, "_auto_get_config", False):
        found["arguments"] = serialize(dict(obj._auto_config.config))
    if is_container(obj):
        kind = "sequential" if is_sequential(obj) else "functional"
        found[kind] = containers[kind](obj)
    return found


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
        made = _framework_class(obj).from_config(deserialize(base["optimizer"]))
        vars(obj).update(vars(made))
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
        found = private("saving.serialization_lib").Config(**deserialize(arguments))
        vars(obj)["_auto_config"] = found


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
            cause="nothing tells where it was added, so that it would be lost",
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


def own_attributes(obj: Any) -> dict[str, Any]:
    """Return the attributes that are not Keras's own."""
    internal = _internal_names(obj) | others.left_by_loading(obj)
    changes = {} if is_built_in(type(obj)) and describes_itself(obj) else _DEFAULTS
    return {
        name: value
        for name, value in list(vars(obj).items())
        if name not in internal or (name in changes and value != changes[name])
    }


def _internal_names(obj: Any) -> frozenset[str]:
    root = next((name for name in ("optimizer", "metric", "model") if is_a(obj, name)), "layer")
    if is_container(obj):
        root = "sequential" if is_sequential(obj) else "functional"
    return _declared(root)


@functools.cache
def _declared(root: str) -> frozenset[str]:
    """Return the attributes that Keras's own constructor and methods of a kind set."""
    api = keras()
    name = "keras_reduce_specimen"  # Named, so that no counter of automatic names moves.
    makers: dict[str, Callable[[], Any]] = {
        "layer": lambda: api.layers.Layer(name=name),
        "model": lambda: api.Model(name=name),
        "sequential": lambda: api.Sequential(name=name),
        "functional": lambda: _functional_specimen(name),
        "metric": lambda: _metric_specimen(name),
        "optimizer": lambda: api.optimizers.Optimizer(name=name),
    }
    specimen = makers[root]()
    methods = (assigned_attributes.set_by(base) for base in type(specimen).__mro__[:-1])
    tracking = {"_self_setattr_tracking", "_self_tracked_trackables", "_obj_reference_counts_dict"}
    # What a lone optimizer that has travelled waits for; see `optimizers`.
    # One that says it is built would make no slots.
    tracking |= {"build", "_built"} if root == "optimizer" else {"_auto_config", "_auto_get_config"}
    # What a metric answered last, in a trace a tensor without a value.
    tracking |= {"_call_result"} if root == "metric" else set()
    return frozenset(vars(specimen)).union(tracking, *methods)


def _metric_specimen(name: str) -> Any:
    methods = {"update_state": lambda self: None, "result": lambda self: None}
    return type("Specimen", (keras().metrics.Metric,), methods)(name=name)


def _functional_specimen(name: str) -> Any:
    inputs = keras().Input((1,), name=name)
    return keras().Model(inputs, inputs, name=f"{name}_model")


# --- state ----------------------------------------------------------------------------------


def state(obj: Any, tree: Tree) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the attributes of an object that training or the user has set.

    Returns
    -------
    dict, dict
        What a pickler puts back, see `receive_state`; and attributes with layers in them, which
        have to be there before an optimizer is built.
    """
    if is_a(obj, "callback"):
        return _callback_state(obj), {}
    if travels_by_attributes(obj):
        return dict(vars(obj)), {}
    found: dict[str, Any] = {}
    tracked: dict[str, Any] = {}
    if is_a(obj, "model"):
        names = ("history", "stop_training")
        found = {name: vars(obj)[name] for name in names if name in vars(obj)}
    if describes_itself(obj):
        for name, value in set_by_the_user(obj):
            holds_parts = any(map(is_part, leaves(value)))
            (tracked if holds_parts else found)[name] = unwrapped(value)
    if is_layer(obj) or is_a(obj, "metric"):
        # Never nothing: what `await_state` has set is taken back when a state comes.
        found["_name"] = obj._name
    return found, tracked


def await_state(obj: Any) -> None:
    """Let a rebuilt object take its state.

    Keras's own ``Layer.__setstate__`` would put it in the place of all that there is. Picklers ask
    the object for the method, so it has one of its own until then.
    """
    if is_layer(obj) or is_a(obj, "metric"):
        vars(obj)["__setstate__"] = functools.partial(_receive_state, obj)


def _receive_state(obj: Any, state: dict[str, Any]) -> None:
    vars(obj).pop("__setstate__", None)
    vars(obj).update(state)


def set_by_the_user(obj: Any) -> Iterator[tuple[str, Any]]:
    """Yield what no code of the object's class sets, and plain data that code of the user's has.

    Where the config knows less, and is used since some attributes can't be carried, all others
    are; see `remaking`.
    """
    by_keras, by_user = set_by_code(type(obj))
    left = left_to_constructor(obj)
    by_compile = _set_by_compile(obj)
    is_set_again = not by_compile or (obj._is_compiled and not is_compiled_plainly(obj))
    for name, value in own_attributes(obj).items():
        has_parts = any(map(is_part, leaves(value)))
        if has_parts and name in by_compile:
            is_wanted = not is_set_again
        elif left is not None and name in by_user and not has_parts:
            is_wanted = name not in left
        elif name in by_compile:
            is_wanted = is_data(value, is_tensor) or is_carried(name, value)
        else:
            is_wanted = name not in by_user or is_data(value, is_tensor)
        if is_wanted and name not in by_keras:
            yield name, value


def _set_by_compile(obj: Any) -> frozenset[str]:
    """Return the attributes that a ``compile()`` sets whose arguments Keras doesn't record."""
    if not is_a(obj, "model") or not overrides(obj, "compile"):
        return frozenset()
    return compile_methods.attributes(type(obj), is_built_in) - {"optimizer", "loss"}


def is_compiled_plainly(model: Any) -> bool:
    """Tell whether a model is compiled again by Keras's own method, past a user-defined one.

    What the user-defined one has set on it is carried as attributes then.
    """
    if not describes_itself(model):
        return True
    if not overrides(model, "compile"):
        return False
    return not compile_methods.is_repeatable(model, is_built_in, lost_by_compiling)


def lost_by_compiling(model: Any) -> list[str]:
    """Return the attributes set by a user-defined ``compile()`` that no pickler carries."""
    by_compile = _set_by_compile(model)
    return [
        name
        for name, value in own_attributes(model).items()
        if name in by_compile
        and not any(map(is_part, leaves(value)))
        and not (is_data(value, is_tensor) or is_carried(name, value))
    ]


_known: weakref.WeakKeyDictionary[type, tuple[frozenset[str], frozenset[str]]] = (
    weakref.WeakKeyDictionary()
)


def is_tensor(value: Any) -> bool:
    """Tell whether `value` is a tensor with a value that other processes can have."""
    return isinstance(value, _tensor_class()) and value.dtype.name not in ("resource", "variant")


@functools.cache
def _tensor_class() -> Any:
    import tensorflow as tf

    return type(tf.zeros(()))  # It has no public name.


def set_by_code(cls: type) -> tuple[frozenset[str], frozenset[str]]:
    """Return what the code of Keras's own classes sets, and that of other classes, up to `cls`."""
    if cls not in _known:
        _known[cls] = _set_by_code(cls)
    return _known[cls]


def _set_by_code(cls: type) -> tuple[frozenset[str], frozenset[str]]:
    empty: frozenset[str] = frozenset()
    methods = {base: assigned_attributes.set_by(base) for base in cls.__mro__[:-1]}
    by_keras = empty.union(*(names for base, names in methods.items() if is_built_in(base)))
    return by_keras, empty.union(*methods.values()) - by_keras


def _callback_state(callback: Any) -> dict[str, Any]:
    api = keras().callbacks
    found = dict(vars(callback))
    if isinstance(callback, api.CSVLogger):
        # The end of training drops the writer; the file of TensorFlow's can't say if it is open.
        if found.get("writer") is not None:
            raise ReduceError(
                "A CSVLogger has its file open",
                where=".csv_file",
                cause="it is in the middle of training, or the training was interrupted",
                cure="wait for the end of fit(), or call its on_train_end()",
            )
        found.update(csv_file=None)
    if isinstance(callback, api.TensorBoard):
        # Opened again, in a new file of the same folder, with the next thing to write.
        found.update(_writers={}, _prev_summary_state=[])
        found.update(dict.fromkeys(("_train_step", "_val_step"), None))
    return found
