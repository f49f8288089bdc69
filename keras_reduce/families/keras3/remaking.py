"""Attributes that only a constructor can make: lookup tables, tokenizers, compiled functions.

An object that is described by its attributes may hold values that no pickler carries. If its class
sets them itself, and its config is enough to call the constructor, it is described by the config
instead, as Keras does it. All other attributes are carried as they are.
"""

from __future__ import annotations

import inspect
import weakref
from typing import Any

from ...core.code_objects import root_module
from .._shared import assigned_attributes
from .._shared.nests import is_data
from .._shared.remaking import fits_constructor, is_carried, remembered
from .attributes import has_last_word, holds_parts, overrides, own_attributes
from .kinds import is_built_in, is_saveable
from .patches import current
from .tree import functional_class


def left_to_constructor(obj: Any) -> frozenset[str] | None:
    """Return the attributes that the constructor of `obj` has to make again.

    None if its class says that it is described by its config, or if it is not to be: if all
    attributes can be carried, or the constructor can't be called. Known only while the object, or
    one that holds it, is written.
    """
    is_writing = getattr(current, "remade", None) is not None
    if not is_writing or not is_saveable(obj) or has_last_word(type(obj)):
        return None
    return remembered(obj, current, _left_to_constructor)


def _left_to_constructor(obj: Any) -> frozenset[str] | None:
    left = {
        name
        for name, value in own_attributes(obj).items()
        if not is_data(value, is_tensor) and not holds_parts(value) and not is_carried(name, value)
    }
    by_keras, by_user = set_by_code(type(obj))
    return frozenset(left) if left and left <= by_keras | by_user and _is_made_of(obj) else None


def _is_made_of(obj: Any) -> bool:
    """Tell whether the constructor of `obj` can be called with what its config holds."""
    import keras

    cls = type(obj)
    parameters = inspect.signature(cls.__init__).parameters
    if not overrides(obj, "get_config") and isinstance(obj, keras.Model):
        # Keras records the defaults of a model's constructor, whatever was given.
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        if [name for name, each in parameters.items() if each.kind in named] != ["self"]:
            return False
    return fits_constructor(obj, current, has_own_way=overrides(obj, "from_config"))


_known: weakref.WeakKeyDictionary[type, tuple[set[str], set[str]]] = weakref.WeakKeyDictionary()


def set_by_code(cls: type) -> tuple[set[str], set[str]]:
    """Return what the code of Keras's own classes sets, and that of other classes, up to `cls`."""
    if cls not in _known:
        _known[cls] = _look_through(cls)
    return _known[cls]


def _look_through(cls: type) -> tuple[set[str], set[str]]:
    import keras

    by_keras: set[str] = set()
    by_user: set[str] = set()
    # What the constructors of these set, `own_attributes` knows; their methods also replace, for a
    # while, attributes that only classes below them have.
    general = {*keras.Model.__mro__, keras.Sequential, functional_class()}
    for base in cls.__mro__[:-1]:
        if base in general:
            continue
        names = by_keras if is_built_in(base) or _is_framework(base) else by_user
        names |= assigned_attributes.set_by(base)
    return by_keras, by_user


def _is_framework(cls: type) -> bool:
    return root_module(cls) in ("tensorflow", "torch", "flax", "jax", "jaxlib")


def is_tensor(value: Any) -> bool:
    """Tell whether `value` is a tensor with a value, or a variable of TensorFlow's own."""
    if getattr(getattr(value, "dtype", None), "name", "") in ("resource", "variant"):
        return False  # A handle of TensorFlow's, to what only this process has.
    is_of_jax = root_module(type(value)) in ("jax", "jaxlib")
    return _is_framework(type(value)) and hasattr(value, "__array__" if is_of_jax else "numpy")
