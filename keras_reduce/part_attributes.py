"""Attributes of layers inside another layer, which pickle has no place for.

They may refer to the outer layer, so they are set once that has been rebuilt. A pickler carries
them with one of its attributes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from . import families, tracing, transit
from .families.lost_attributes import warn_of_missing_parts
from .parcels import Parcel


class PartAttributes:
    """The value of an attribute of an object, with attributes of layers inside.

    Parameters
    ----------
    owner : object
        The Keras object.
    attributes : mapping
        Attributes of its parts, as ``path:attribute``.
    value : object
        The value.
    """

    def __init__(self, owner: Any, attributes: Mapping[str, Any], value: Any) -> None:
        self.owner, self.attributes, self.value = owner, dict(attributes), value

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Reduce to the owner, the attributes and the value."""
        return rebuild_part_attributes, (self.owner, self.attributes, self.value)


def _by_path(found: PartAttributes) -> dict[str, Any]:
    return {re.sub("[/:]", ".", place): value for place, value in found.attributes.items()}


tracing.STAND_INS[PartAttributes] = _by_path


def rebuild_part_attributes(owner: Any, attributes: Mapping[str, Any], value: Any) -> Any:
    """Set the attributes that a `PartAttributes` carried; return its value.

    Its path is wire format. What this version of a class has no part for is lost, with a warning.
    """
    if transit.is_passing():
        return Parcel(rebuild_part_attributes, (owner, attributes, value))
    family = families.of(owner)
    parts = family.survey(owner).nodes if family else {}
    missing = []
    for place, attribute in attributes.items():
        path, _, name = place.rpartition(":")
        if path in parts:
            setattr(parts[path], name, attribute)
        else:
            missing.append(place)
    warn_of_missing_parts(owner, missing)
    return value
