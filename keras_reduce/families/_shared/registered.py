"""Names under which user-defined code is registered with Keras, and code that comes late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...custom_objects import LateCode
from .tree import Tree


def registered_name(saving: Any, cls: type) -> str | None:
    """Return the name under which a user-defined class is registered; None if it is not."""
    # Bound before any patch of ours, so it answers what was registered, not a key.
    name = str(saving.get_registered_name(cls))
    return name if name != cls.__name__ else None


def register(saving: Any, obj: Any, name: str | None) -> None:
    """Register code that travelled by value: importing it would have registered it."""
    if name and not isinstance(obj, LateCode) and saving.get_registered_object(name) is None:
        package, _, plain = name.rpartition(">")
        saving.register_keras_serializable(package or "Custom", plain)(obj)


def resolved(by_key: Mapping[str, Any], tree: Tree) -> dict[str, Any]:
    """Return code that refers to the object of `tree`, which is there now, by its keys."""
    late = {key: code for key, code in by_key.items() if isinstance(code, LateCode)}
    places = {place: part for part, place in tree.places()} if late else {}
    return {key: code.resolve(places) for key, code in late.items()}
