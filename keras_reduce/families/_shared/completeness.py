"""Constructor arguments for which the config of a user-defined class can't make an object.

Keras calls an inherited ``from_config`` as ``cls(**config)``. Where that must fail, or make another
object, the config is no description of the object.
"""

from __future__ import annotations

import inspect
import types
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ...core import code_objects
from ...core.payload import PLAIN

# Arguments that every Keras class takes and that are carried in any case, and shapes, which no
# config holds.
_CARRIED = frozenset(
    {
        "name",
        "dtype",
        "trainable",
        "autocast",
        "input_shape",
        "input_dim",
        "batch_input_shape",
        "batch_shape",
        "batch_size",
    }
)
# By these, a class carries state that its config leaves out.
_SAVING = ("load_assets", "load_own_variables")
_UNKNOWN = object()


class _Constructor(NamedTuple):
    """Parameters of the constructor of a class."""

    named: Mapping[str, Any]  # Its named parameters, with their defaults.
    taken: frozenset[str]  # All names that it may take.


# None for classes that say by a method of their own how an object is made.
_constructors: weakref.WeakKeyDictionary[type, _Constructor | None] = weakref.WeakKeyDictionary()


def left_out(
    obj: Any,
    config_of: Callable[[Any], dict[str, Any] | None],
    is_built_in: Callable[[type], bool],
) -> list[str]:
    """Return the constructor arguments for which the config of `obj` can't make it.

    Empty if the config, which `config_of` returns, describes `obj`, as far as can be told without a
    call of the constructor.
    """
    cls = type(obj)
    if cls not in _constructors:
        _constructors[cls] = _constructor_of(cls, is_built_in)
    constructor = _constructors[cls]
    config = None if constructor is None else config_of(obj)
    if constructor is None or config is None:
        return []
    # Of this very object: a class may put an argument into the config of some objects only.
    missing = {name: value for name, value in constructor.named.items() if name not in config}
    names = [name for name, value in missing.items() if value is inspect.Parameter.empty]
    names += [name for name in config if name not in constructor.taken]
    optional = {n: v for n, v in missing.items() if n not in _CARRIED and n not in names}
    recorded = _recorded(obj)
    names += [n for n, default in optional.items() if _differs(obj, n, default, recorded)]
    if recorded is not None:
        described = config.keys() | _CARRIED | optional.keys()
        names += [name for name in recorded if name not in described and name not in names]
    return names


def _constructor_of(cls: type, is_built_in: Callable[[type], bool]) -> _Constructor | None:
    methods = ("from_config", *_SAVING)
    if any(not is_built_in(each) for each in _owners(cls, methods)):
        return None
    named, is_open = parameters_of(vars(owner(cls, "__init__"))["__init__"])
    return _Constructor(named, frozenset(_all_names(cls) if is_open else named))


def owner(cls: type, method: str) -> type:
    """Return the class that defines `method` of `cls`."""
    return next(base for base in cls.__mro__ if method in vars(base))


def _owners(cls: type, methods: tuple[str, ...]) -> list[type]:
    return [owner(cls, method) for method in methods if hasattr(cls, method)]


def parameters_of(method: Any) -> tuple[dict[str, Any], bool]:
    """Return a method's named parameters with their defaults; whether there is a ``**kwargs``."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = {each.name: each.default for each in parameters if each.kind not in variable}
    return named, any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)


def _all_names(cls: type) -> set[str]:
    """Return all that a constructor with ``**kwargs``, and those that it calls, may take."""
    names = set(_CARRIED)
    for base in cls.__mro__[:-1]:
        constructor = vars(base).get("__init__")
        if constructor is None:
            continue
        named, is_open = parameters_of(constructor)
        names |= named.keys()
        code = getattr(inspect.unwrap(constructor), "__code__", None)
        if isinstance(code, types.CodeType):
            # kwargs.pop("units")
            names |= code_objects.texts(code)
        if not is_open:
            break
    return names


def _recorded(obj: Any) -> dict[str, Any] | None:
    """Return the arguments that Keras has recorded, where they were all plain data."""
    config = getattr(getattr(obj, "_auto_config", None), "config", None)
    # A model's are the defaults, even if others were given (Keras 3.15).
    return None if hasattr(obj, "compile") else config


def _differs(obj: Any, name: str, default: Any, recorded: dict[str, Any] | None) -> bool:
    """Return whether `obj` may have been made with another argument than the default."""
    value = recorded[name] if recorded and name in recorded else _attribute(obj, name)
    return value is not default and (type(value) not in PLAIN or bool(value != default))


def _attribute(obj: Any, name: str) -> Any:
    for attribute in (name, f"_{name}"):
        try:
            return getattr(obj, attribute)
        except Exception:  # a property that is not ready
            continue
    return _UNKNOWN
