"""The warnings about attributes of layers inside another layer that are not carried."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

_log = logging.getLogger(__package__)


def warn_of_loss(layer: Any, name: str) -> None:
    """Log that an attribute of a layer inside is not carried, once for a layer."""
    if layer not in _told:
        _told.add(layer)
        _log.warning(
            "The attribute %r of the layer %r, which another layer's constructor makes, is not "
            "carried: no pickler takes it, or it refers weakly to what is not in the pickle",
            name,
            layer.name,
        )


# The layers that a warning was given for: a model is reduced many times.
_told: weakref.WeakSet[Any] = weakref.WeakSet()


def warn_of_missing_parts(parts: Mapping[str, Any], places: Iterable[str]) -> None:
    """Log which attributes, ``path:attribute``, belong to parts that a class no longer makes.

    A layer that is not built makes parts when it is called: the preprocessors of KerasHub do.
    """
    gone = [place for place in places if _is_built(_nearest(parts, place.rpartition(":")[0]))]
    if gone:
        _log.warning(
            "%s has changed since its object was pickled: it no longer makes the layers of these "
            "attributes, which are lost: %s",
            type(parts[""]).__qualname__,
            ", ".join(place.replace("/", ".").replace(":", ".") for place in sorted(gone)),
        )


def _nearest(parts: Mapping[str, Any], path: str) -> Any:
    """Return the innermost part on the way to `path` that there is."""
    while path not in parts:
        path = path.rpartition("/")[0]
    return parts[path]


def _is_built(part: Any) -> bool:
    return bool(getattr(part, "built", True))
