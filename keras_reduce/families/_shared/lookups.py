"""The lookups of `custom_objects` about the graph around a function or class."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from ...custom_objects import Lookups
from ...dry_run import dry_pickler
from ...errors import ReduceError
from ..protocol import of

__all__ = ["LOOKUPS", "identified"]


def identified(obj: Any) -> Container[int] | None:
    """Return the ids of all objects below a Keras object whose identity is kept; else None."""
    family = of(obj)
    kind = family.kind(obj) if family else None
    if family is None or kind not in _IDENTIFIED:
        return None
    if kind == "variable" and "/" in obj.path:
        raise ReduceError(
            "A function or class that travels by value refers to a variable of a layer",
            where=obj.path,
            cause="a variable comes back as a copy, which training does not update",
            cure="let the code refer to the layer instead",
        )
    return family.survey(obj).parts


_IDENTIFIED = {"model", "layer", "optimizer", "metric", "callback", "seed_generator", "variable"}

LOOKUPS = Lookups(identified, dry_pickler.root_path)
