"""The order in which Keras tracks the variables and parts of a layer, which get_weights() shows.

What a program sets on a layer before that is built comes before what ``build`` makes. Rebuilding
sets it afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...weak_references import PROXIES
from .bookkeeping import PARTS, VARIABLES
from .tree import below_attributes


def order_of(layer: Any) -> dict[str, list[str]]:
    """Return the names of what a layer tracks, by list, in their order; see `_names`."""
    stores = {name: getattr(layer, name, ()) for name in (*VARIABLES, *PARTS)}
    return {name: _names(layer, store) for name, store in stores.items() if len(store) > 1}


def restore_order(layer: Any, order: Mapping[str, Sequence[str]]) -> None:
    """Bring what a rebuilt layer tracks into the order that `order_of` returned."""
    for name, wanted in order.items():
        store = getattr(layer, name, [])
        sort(store, _names(layer, store), wanted)


def sort(store: list[Any], names: Sequence[str], wanted: Sequence[str]) -> None:
    """Bring a list, the items of which have these `names`, into the order of the `wanted` ones."""
    places = {each: place for place, each in enumerate(wanted) if each}
    # Those without a name, as they are in sets, keep their order among themselves.
    unnamed = iter([place for place, each in enumerate(wanted) if not each])
    keys = {
        id(part): places.get(each, len(wanted)) if each else next(unnamed, len(wanted))
        for part, each in zip(store, names, strict=True)
    }
    # Not by its own method, which takes no key in TensorFlow 2.18.
    store[:] = sorted(store, key=lambda part: keys[id(part)])


def _names(layer: Any, parts: Sequence[Any]) -> list[str]:
    """Return the first attribute, by the alphabet, that holds each of `parts`; empty if none."""
    names: dict[int, str] = {}
    for name, value in sorted(below_attributes(layer), key=lambda item: item[0]):
        names.setdefault(id(value), name)
    return ["" if type(part) in PROXIES else names.get(id(part), "") for part in parts]
