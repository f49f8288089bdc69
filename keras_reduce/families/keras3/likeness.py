"""What makes two layers of Keras's own the same, but for their names and the values they hold.

A network has many layers that are alike, and a search many networks. What is written about a layer
follows from its class and its attributes; a layer like one that has been written before differs
from it in names and arrays only, so that Keras need not be asked for its config again.
"""

from __future__ import annotations

import types
from typing import Any, NamedTuple

from ...tensors import dtype_name
from .attributes import PLAIN, is_built_in
from .kinds import has_config, is_a, is_saveable
from .tree import own_variables
from .writing import is_found_by_name


class Likeness(NamedTuple):
    """A layer seen as one of its kind.

    Attributes
    ----------
    key : tuple
        Equal for layers of which the same is written, but for names and arrays.
    names : dict
        What stands for a mark in the `form` of what is written about any of them.
    variables : list of keras.Variable
        Its variables, in the order in which they are written.
    """

    key: tuple[Any, ...]
    names: dict[str, Any]
    variables: list[Any]


_NAME, _PATHS = "\0name", "\0paths"


def form(
    architecture: dict[str, Any], structure: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what is written about a layer with marks in the place of names."""
    architecture = {**architecture, "config": {**architecture["config"], "name": _NAME}}
    return architecture, {**structure, **({"paths": _PATHS} if "paths" in structure else {})}


def likeness(layer: Any) -> Likeness | None:
    """Return what `layer` is like; None if it is not one of Keras's own, on its own, and built.

    None as well if one of its attributes is anything else than plain data, a function of Keras's,
    or an object of Keras's without variables.
    """
    cls = type(layer)
    if not is_built_in(cls) or not is_a(layer, "layer") or is_a(layer, "model"):
        return None
    attributes = dict(vars(layer))  # At once: another thread may be setting some.
    if not attributes.get("built") or any(attributes.get(store) for store in _STORES):
        return None
    variables = own_variables(layer)
    places = {id(variable): number for number, variable in enumerate(variables)}
    if len(places) < len(variables):
        return None
    key: list[Any] = [cls, len(attributes.get("_trainable_variables", ()))]
    try:
        for name, value in attributes.items():
            if name in _BOOKKEEPING:
                continue
            if type(value) in PLAIN:  # Most are, so not by way of a function.
                key += (name, type(value), _told_apart(value))
            else:
                key += (name, places[id(value)] if id(value) in places else _token(value))
        key += [_variable_token(variable, attributes) for variable in variables]
    except (_UnlikeAnyError, RuntimeError):  # the latter if another thread adds to a dictionary
        return None
    names = {_NAME: layer.name, _PATHS: [variable.path for variable in variables]}
    return Likeness(tuple(key), names, variables)


# Parts that have a state of their own are found here.
_STORES = ("_layers", "_metrics", "_seed_generators")

# What Keras and TensorFlow keep about every layer, and nothing that is written follows from: names,
# connections, what the class says, what the last call has left.
_BOOKKEEPING = frozenset(
    {
        *("name", "_path", "_parent_path", "_inbound_nodes", "_outbound_nodes", "_input_tensor"),
        *("_tracker", "_tracked", "_trainable_variables", "_non_trainable_variables", "_lock"),
        *("_auto_config", "build", "quantize", "_call_signature", "call_signature_parameters"),
        *("_call_context_args", "_call_has_context_arg", "_called"),
        *("_losses", "_loss_ids", "_losses_override", *_STORES),
        *("_self_unconditional_checkpoint_dependencies", "_self_unconditional_dependency_names"),
        *("_self_unconditional_deferred_dependencies", "_self_name_based_restores"),
        *("_self_saveable_object_factories", "_self_update_uid", "_self_setattr_tracking"),
    }
)


class _UnlikeAnyError(Exception):
    """Something in a layer says more than a key can."""


def _token(value: Any) -> Any:
    """Return something hashable that is equal for equal values only."""
    cls = type(value)
    if cls in PLAIN:
        return cls, _told_apart(value)
    if isinstance(value, (tuple, list)):
        return cls, *map(_token, value)
    if isinstance(value, dict):
        return cls, *((_token(key), _token(item)) for key, item in value.items())
    if isinstance(value, types.FunctionType):
        if is_found_by_name(value):
            return value
    elif is_built_in(cls) and not is_saveable(value) and (has_config(value) or _is_spec(value)):
        attributes = vars(value)
        # A seed that the layer has drawn for it, and used, since none was given.
        drawn = {"seed"} if attributes.get("_init_seed", 0) is None else ()
        return cls, *((name, _token(v)) for name, v in attributes.items() if name not in drawn)
    raise _UnlikeAnyError


def _told_apart(value: Any) -> Any:
    # 1, 1.0 and True are equal, which their types tell; 0.0 and -0.0 are as well.
    return value.hex() if type(value) is float else value


def _is_spec(value: Any) -> bool:
    import keras

    return isinstance(value, keras.InputSpec)


def _variable_token(variable: Any, attributes: dict[str, Any]) -> tuple[Any, ...]:
    rules = [
        rule if rule is None else next((n for n, v in attributes.items() if v is rule), _UNKNOWN)
        for rule in (variable.regularizer, variable.constraint)
    ]
    if _UNKNOWN in rules:
        raise _UnlikeAnyError
    flags = (variable.trainable, variable.overwrite_with_gradient)
    return (variable.name, tuple(variable._shape), dtype_name(variable), *flags, *rules)


_UNKNOWN = object()
