"""Attributes that only a constructor or ``build`` can make: see `families.keras3.remaking`."""

from __future__ import annotations

from typing import Any

from .._shared.nests import is_data, leaves
from .._shared.remaking import fits_constructor, is_carried, remembered
from .attributes import has_last_word, is_tensor, overrides, own_attributes, set_by_code
from .kinds import is_a, is_layer, is_part, is_variable
from .tree import is_trackable, own_variables


def left_to_constructor(obj: Any, current: Any) -> frozenset[str] | None:
    """Return the attributes that the constructor and ``build`` of `obj` have to make again.

    None if its class says that it is described by its config, or if it is not to be: if all
    attributes can be carried, or the constructor can't be called.

    Parameters
    ----------
    obj : object
        Any object of Keras's.
    current : threading.local
        What this thread is writing.
    """
    is_writing = getattr(current, "remade", None) is not None
    if not is_writing or not is_layer(obj) or has_last_word(type(obj)):
        return None
    return remembered(obj, current, lambda each: _left_to_constructor(each, current))


def _left_to_constructor(obj: Any, current: Any) -> frozenset[str] | None:
    own = {id(variable) for variable in own_variables(obj)}
    candidates = {
        name: value
        for name, value in own_attributes(obj).items()
        if not is_data(value, is_tensor) and not any(map(is_part, leaves(value)))
    }
    left = {
        name
        for name, value in candidates.items()
        if _holds(value, own) or not is_carried(name, value)
    }
    set_by_classes = frozenset[str]().union(*set_by_code(type(obj)))
    if not left or not left <= set_by_classes or not _is_made_of(obj, current):
        return None
    # With all modules of TensorFlow's: some can be pickled, but not unpickled (the distributions
    # of TensorFlow Probability 0.25).
    modules = {name for name, value in candidates.items() if is_trackable(value)}
    return frozenset(left | modules & set_by_classes)


def _holds(value: Any, variables: set[int]) -> bool:
    """Tell whether a module of TensorFlow's is made of variables of the layer that holds it."""
    held = getattr(value, "variables", ()) if is_trackable(value) else ()
    return any(is_variable(each) and id(each) in variables for each in held)


def _is_made_of(obj: Any, current: Any) -> bool:
    """Tell whether the constructor of `obj` can be called with what its config holds."""
    if not overrides(obj, "get_config") and is_a(obj, "model"):
        return False
    return fits_constructor(obj, current, has_own_way=overrides(obj, "from_config"))
