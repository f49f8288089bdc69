"""Functions of an object that refer back to it: ``self.scale = lambda x: x * self.factor``.

Pickled by value, such a function would come back with a copy of the object or of one of its
variables, which further training does not update. So its pickle contains references to the object
and its parts by place, which are looked up in the rebuilt object.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from . import families
from .custom_objects import CodePickler, CodeUnpickler, by_value, has_foreign_code, nested
from .errors import CustomObjectError, PayloadError, ReduceError
from .families._shared.lookups import LOOKUPS


class Closure:
    """Reducer of a callable that refers to the object that holds it.

    Parameters
    ----------
    owner : object
        The Keras object in which places are looked up.
    blob : bytes
        The pickled code, with places instead of parts of the owner.
    name : str
        Its qualified name, for messages.
    holder : object or None
        The object whose attribute it is, if that is not the owner: a callback, whose model is the
        owner.
    referents : tuple
        Other objects with an identity token that the code refers to.
    """

    def __init__(
        self, owner: Any, blob: bytes, name: str, holder: Any, referents: tuple[Any, ...]
    ) -> None:
        self.owner, self.blob, self.name = owner, blob, name
        self.holder, self.referents = holder, referents

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return a rebuilder of the callable, with the owner and the code."""
        return rebuild_closure, (self.owner, self.blob, self.name, self.holder, self.referents)


def rebuild_closure(
    owner: Any,
    blob: bytes,
    name: str = "",
    holder: Any = None,
    referents: tuple[Any, ...] = (),
) -> Any:
    """Rebuild the callable that a `Closure` carried; its path is wire format.

    Raises
    ------
    PayloadError
        If `owner` has no part in a place that the code refers to.
    CustomObjectError
        If the code can't be rebuilt in this process.
    """
    family = families.of(owner)
    assert family is not None
    parts = {place: part for part, place in family.survey(owner).places()}
    try:
        return CodeUnpickler(blob, referents, {**parts, _HOLDER: holder}).load()
    except PayloadError:
        raise
    except Exception as error:
        raise CustomObjectError(
            f"The function {name!r} could not be rebuilt",
            cause=f"{type(error).__name__}: {error}",
            cure="load it with the minor version of Python that wrote it, and install the modules "
            "that its code imports",
        ) from error


_HOLDER = "holder"


class Places:
    """Places of the parts of an object, to which code in its attributes refers instead of copies.

    Parameters
    ----------
    holder : object
        The Keras object with the attributes.
    owner : object
        The Keras object below which the places are: the holder, or its model.
    tree : Tree
        The parts of the owner.
    """

    def __init__(self, holder: Any, owner: Any, tree: families.Tree) -> None:
        self.owner, self._tree = owner, tree
        self.holder = None if holder is owner else holder
        self.names = {id(part): place for part, place in tree.places()}
        self.names.setdefault(id(holder), _HOLDER)

    def before_compiling(self) -> dict[int, str]:
        """Return the places that exist before the owner, or a model in it, is compiled."""
        compiled = [
            place.partition(" ")[2]
            for part, place in self._tree.places()
            if self._is_made_by_compile(part)
        ]
        return {
            number: place
            for number, place in self.names.items()
            if not any(f"{place.partition(' ')[2]}/".startswith(f"{path}/") for path in compiled)
        }

    def _is_made_by_compile(self, part: Any) -> bool:
        family = families.of(part)
        return family is not None and family.kind(part) in ("optimizer", "metric")


def has_code(value: Any, levels: int = 4) -> bool:
    """Return whether `value` is, or contains, code that is pickled by value."""
    if levels and type(value) in (list, tuple, dict):
        items = value.values() if isinstance(value, dict) else value
        return any(has_code(item, levels - 1) for item in items)
    return has_foreign_code(value) or _is_tf_function(value)


def carried(value: Any, places: Places, levels: int = 4) -> Any:
    """Return the value to pickle for an attribute: `value`, with reducers in place of its code.

    Raises
    ------
    ReduceError
        If the code refers to a variable of a layer that is not part of the owner.
    """
    if levels and type(value) in (list, tuple, dict):
        items = value.values() if isinstance(value, dict) else value
        carried_items = [carried(item, places, levels - 1) for item in items]
        if all(map(operator.is_, carried_items, items)):
            return value
        if type(value) is dict:
            return dict(zip(value, carried_items, strict=True))
        return type(value)(carried_items)
    if not has_code(value, 0):
        return value
    pickler = CodePickler(LOOKUPS, places.names)
    try:
        with nested():
            pickler.dump(value)
    except ReduceError:
        raise
    except Exception:
        # It will fail in the same way when it is pickled, then with its place in the message.
        return by_value(value, LOOKUPS)
    if not pickler.placed:
        return by_value(value, LOOKUPS)
    name = getattr(value, "__qualname__", type(value).__qualname__)
    blob, referents = pickler.file.getvalue(), tuple(pickler.referents)
    return Closure(places.owner, blob, name, places.holder, referents)


def _is_tf_function(value: Any) -> bool:
    family = families.of(value)
    return family is not None and family.kind(value) == "tf_function"
