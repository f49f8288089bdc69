"""Cache keys of Keras's own layers: equal for layers that differ in names and values only.

A network has many layers that are alike, and a search many networks. What is written about a layer
follows from its class and its attributes; a layer like one that has been written before differs
from it in names and arrays only, so that Keras need not be asked for its config again.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Container
from typing import Any

from ...core.array_backends import dtype_name
from ...core.payload import PLAIN
from ..protocol import Kind, LayerCacheKey
from .bookkeeping import PARTS, WITHOUT_CONSEQUENCE
from .kinds import as_module, attributes_of, bases, is_a, is_built_in
from .settings import has_usual_context, is_automatic_name
from .tree import own_variables, trainable_of
from .writing import is_found_by_name

_NAME, _PATHS = "\0name", "\0paths"


def form(
    architecture: dict[str, Any], structure: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return architecture and structure of a layer, with marks in place of names."""
    architecture = {**architecture, "config": {**architecture["config"], "name": _NAME}}
    return architecture, {**structure, **({"paths": _PATHS} if "paths" in structure else {})}


def layer_cache_key(layer: Any) -> LayerCacheKey | None:
    """Return the cache key of a built layer of Keras's own, and what it leaves out; else None.

    None as well if one of its attributes is anything else than plain data, a function of Keras,
    a part that Keras tracks, or an object of Keras without variables; or if this is so in one of
    its parts.
    """
    if not _is_seen_through(layer):
        return None
    key: list[Any] = []
    try:
        parts = _parts(layer)
        by_part = [own_variables(part) for part in parts]
        variables = [variable for of_part in by_part for variable in of_part]
        places = {id(each): number for number, each in enumerate((*parts, *variables))}
        if len(places) < len(parts) + len(variables):
            return None
        for part, of_part in zip(parts, by_part, strict=True):
            key += _part_token(part, of_part, places)
            if part is not layer and not is_automatic_name(part):
                key.append(part.name)
    except (_NotCacheableError, RuntimeError):  # the latter if another thread adds to a dictionary
        return None
    names = {_NAME: layer.name, _PATHS: [variable.path for variable in variables]}
    trainable = [
        v for part, of_part in zip(parts, by_part, strict=True) for v in trainable_of(part, of_part)
    ]
    return LayerCacheKey(tuple(key), names, variables, trainable)


def _is_seen_through(part: Any) -> bool:
    """Return whether all that can be said about `part` is in its class and its attributes."""
    if not is_built_in(type(part)):
        return False
    if is_a(part, "layer"):
        # What is referred to weakly says so in its header.
        is_target = weakref.getweakrefcount(part) > 0
        return vars(part).get("built", False) and not is_target and not is_a(part, "model")
    return is_a(part, "seed_generator")


def _parts(layer: Any) -> list[Any]:
    """Return `layer` and the parts that it tracks, in the order of the tree."""
    parts = [layer]
    for store in PARTS:
        for part in vars(layer).get(store) or ():
            if not _is_seen_through(part) or len(parts) > _MOST_PARTS:
                raise _NotCacheableError
            parts += _parts(part)
    return parts


# What holds itself has no end; what has as many parts is rarely like another.
_MOST_PARTS = 100


def _part_token(part: Any, variables: list[Any], places: dict[int, int]) -> list[Any]:
    attributes = attributes_of(part)
    lengths = [len(attributes.get(store) or ()) for store in ("_trainable_variables", *PARTS)]
    token: list[Any] = [type(part), *lengths, *as_module(part)]
    if not has_usual_context(attributes):
        raise _NotCacheableError
    token += _attributes_token(attributes, WITHOUT_CONSEQUENCE, places)
    token += [_variable_token(variable, attributes) for variable in variables]
    return token


def _attributes_token(
    attributes: dict[str, Any], without: Container[str], places: dict[int, int]
) -> list[Any]:
    token: list[Any] = []
    for name, value in attributes.items():
        if name in without:
            continue
        cls = type(value)
        if cls in PLAIN:  # Most are, so not by way of a function.
            token += (name, cls, value.hex() if cls is float else value)
        else:
            token += (name, _token(value, places))
    return token


class _NotCacheableError(Exception):
    """Error for a layer with something that no cache key can hold."""


def _token(value: Any, places: dict[int, int]) -> Any:
    """Return something hashable that is equal for equal values only.

    A part or variable of the layer is told by its place, which `places` knows by its id.
    """
    cls = type(value)
    if cls in PLAIN:
        # 1, 1.0 and True are equal, which their types tell; 0.0 and -0.0 are as well.
        return cls, value.hex() if cls is float else value
    if id(value) in places:
        return _PLACE, places[id(value)]
    if isinstance(value, (tuple, list)):
        return cls, *[_token(item, places) for item in value]
    if isinstance(value, dict):
        return cls, *[(_token(k, places), _token(item, places)) for k, item in value.items()]
    if isinstance(value, types.FunctionType):
        if is_found_by_name(value):
            return value
    elif _is_told_by_attributes(cls):
        attributes = vars(value)
        # A seed that the layer has drawn for it, and used, since none was given.
        drawn = ("seed",) if attributes.get("_init_seed", 0) is None else ()
        return cls, *_attributes_token(attributes, drawn, places)
    raise _NotCacheableError


_PLACE = object()


def _is_told_by_attributes(cls: type) -> bool:
    """Return whether a class is one of Keras's whose objects have neither variables nor parts."""
    return _told.get(cls) or (is_built_in(cls) and _note_if_told(cls))


def _note_if_told(cls: type) -> bool:
    import keras

    # What is written about a map of policies follows from the global policy as well.
    is_map = issubclass(cls, keras.dtype_policies.DTypePolicyMap)
    is_told = issubclass(cls, (keras.InputSpec, *(bases()[kind] for kind in _KINDS)))
    _told[cls] = is_told and not is_map
    return _told[cls]


# Keras's own classes only: others may come and go.
_told: dict[type, bool] = {}
_KINDS: tuple[Kind, ...] = ("initializer", "regularizer", "constraint", "schedule", "policy")


def _variable_token(variable: Any, attributes: dict[str, Any]) -> tuple[Any, ...]:
    rules = [
        rule if rule is None else next((n for n, v in attributes.items() if v is rule), _UNKNOWN)
        for rule in (variable.regularizer, variable.constraint)
    ]
    if _UNKNOWN in rules:
        raise _NotCacheableError
    flags = (variable.trainable, variable.overwrite_with_gradient)
    return (variable.name, tuple(variable._shape), dtype_name(variable), *flags, *rules)


_UNKNOWN = object()
