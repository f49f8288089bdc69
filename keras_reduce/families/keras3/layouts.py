"""Paths of variables, and the layouts that a distribution of Keras has for these paths."""

from __future__ import annotations

from typing import Any

from . import private


def rename(variable: Any, path: str) -> None:
    """Give a variable the path of its original, by which regular expressions know it.

    Layers are rebuilt one by one, outside of their models: with another path than in the original
    program, in which a ``LayoutMap`` may have no layout for them, or that of other layers.
    """
    import keras

    if getattr(variable, "path", path) == path:
        return
    distribution = keras.distribution.distribution()
    before = _layout_by_path(variable, distribution)
    variable._path = path  # Private: the public name is read-only.
    after = _layout_by_path(variable, distribution)
    # One that the code of a layer has asked for stays.
    if _sharding(after) != _sharding(before) == _sharding(variable._layout):
        variable._layout = after
        variable.assign(variable.value)


def _layout_by_path(variable: Any, distribution: Any) -> Any:
    if distribution is None or not private.LAYOUTS.is_complete():
        return None
    # Private. A distribution first returns the layout that a variable has already.
    layout, variable._layout = variable._layout, None
    try:
        return distribution.get_variable_layout(variable)
    finally:
        variable._layout = layout


def _sharding(layout: Any) -> Any:
    """Return the sharding of JAX for a layout: two layouts are never equal themselves."""
    return getattr(layout, "backend_layout", layout)
