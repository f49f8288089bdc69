"""The Keras families: what Keras itself says about an object.

A family is one generation of Keras. Each adapter is a module of its own and the only place that
names its framework, inside functions, so that importing this package never imports one.
"""

from __future__ import annotations

from ._shared.tree import Tree
from .protocol import (
    ROOTS,
    Family,
    Kind,
    LayerCacheKey,
    active,
    by_name,
    loaded,
    of,
    of_module,
    required,
)

__all__ = [
    "ROOTS",
    "Family",
    "Kind",
    "LayerCacheKey",
    "Tree",
    "active",
    "by_name",
    "loaded",
    "of",
    "of_module",
    "required",
]
