"""Attributes that pickle puts back by itself once an object has been rebuilt.

They may refer to the object, as a `History` does to its model: pickle has memoized it by then.
"""

from __future__ import annotations

import types
import weakref
from typing import Any

from ...custom_objects import has_foreign_code
from ...errors import ReduceError
from ...weak_references import holds
from .._shared.lost_attributes import warn_of_loss
from .._shared.nests import unwrapped
from .._shared.rules import is_carried
from .attributes import is_plain_state
from .kinds import has_config, is_a
from .patches import current
from .rules import (
    describes_itself,
    holds_parts,
    is_part,
    set_by_the_user,
    travels_by_attributes,
)
from .tree import Tree


def state(obj: Any, tree: Tree) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the attributes of an object that training or the user has set.

    Those that pickle puts into ``__dict__``; and those with parts in them that Keras tracks, and an
    optimizer may train, so that they have to be there before. Both have also attributes of layers
    inside, as ``path:attribute``: weak references and code in the first, which may refer to the
    object; others in the second. For the plain ones see `part_states`.

    Raises
    ------
    ReduceError
        If a callback is in the middle of something that no other process can go on with, or the
        object has attributes in slots.
    """
    _refuse_slots(obj)
    if is_a(obj, "callback"):
        return _callback_state(obj), {}
    if travels_by_attributes(obj):
        return dict(vars(obj)), {}
    attributes = {}
    if is_a(obj, "model"):
        names = ("history", "stop_training")
        attributes = {name: vars(obj)[name] for name in names if name in vars(obj)}
    tracked: dict[str, Any] = {}
    if is_a(obj, "layer") and not obj.autocast:
        attributes["autocast"] = False  # A built-in class's config has no place for it.
    if has_config(obj) and describes_itself(obj):
        for name, value in set_by_the_user(obj):
            _note_if_extended("", value)
            if _is_linked(name, "", value, tree):
                continue
            # Or they are where a module of Torch's keeps what is set on it.
            is_tracked = holds_parts(value) or name not in vars(obj)
            (tracked if is_tracked else attributes)[name] = unwrapped(value)
    for path, node in tree.own.items():
        if path and is_a(node, "layer"):
            of_part, tracked_of_part = _inner_state(path, node, tree)
            attributes |= of_part
            tracked |= tracked_of_part
    return attributes, tracked


def _inner_state(path: str, node: Any, tree: Tree) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return attributes of a layer inside that are not plain values, as `state` does."""
    attributes: dict[str, Any] = {}
    tracked: dict[str, Any] = {}
    for name, value in set_by_the_user(node):
        is_plain = is_plain_state(value, node) and not isinstance(value, types.FunctionType)
        _note_if_extended(path, value)
        if is_plain or _is_linked(name, path, value, tree):
            continue
        place, plain = f"{path}:{name}", unwrapped(value)
        if holds(value):
            attributes[place] = plain
        elif not (holds_parts(value) or is_carried(name, plain)):
            warn_of_loss(node, name)
        elif has_foreign_code(plain) and not holds_parts(value):
            attributes[place] = plain
        else:
            tracked[place] = plain
    return attributes, tracked


def _note_if_extended(path: str, value: Any) -> None:
    table = getattr(current, "table", None)
    if table is not None and holds_parts(value):
        table.extended.add(path)


def _is_linked(name: str, path: str, value: Any, tree: Tree) -> bool:
    """Note an attribute that is another part of the object, which the constructor makes."""
    table = getattr(current, "table", None)
    if table is None or not is_part(value):
        return False
    place = f"{path}/{name}" if path else name
    target = next((p for p, node in tree.own.items() if node is value), "")
    if target == place:
        target = _made_elsewhere(value, tree.own[path], tree)
    if target:
        table.links[f"{path}:{name}"] = target
    return bool(target)


def _made_elsewhere(part: Any, holder: Any, tree: Tree) -> str:
    """Return the path under which another part than `holder` has made a part; empty if none has."""
    for path, node in tree.own.items():
        if node is not holder:
            for name, child in tree.children_of(node):
                if child is part and name not in dict(set_by_the_user(node)):
                    return f"{path}/{name}" if path else name
    return ""


def _refuse_slots(obj: Any) -> None:
    cls = type(obj)
    if cls not in _slots:
        members = {name: member for base in cls.__mro__ for name, member in vars(base).items()}
        kind = types.MemberDescriptorType
        _slots[cls] = [name for name, member in members.items() if isinstance(member, kind)]
    for name in _slots[cls]:
        if hasattr(obj, name):
            raise ReduceError(
                f"{cls.__qualname__} keeps attributes in __slots__, which are not carried",
                where=f".{name}",
                cause="Keras objects have a __dict__ in any case",
                cure="remove __slots__ from the class",
            )


_slots: weakref.WeakKeyDictionary[type, list[str]] = weakref.WeakKeyDictionary()


def _callback_state(callback: Any) -> dict[str, Any]:
    import keras

    attributes = dict(vars(callback))
    if isinstance(callback, keras.callbacks.CSVLogger) and attributes.get("csv_file") is not None:
        if not attributes["csv_file"].closed:
            raise ReduceError(
                "A CSVLogger has its file open",
                where=".csv_file",
                cause="it is in the middle of training, or the training was interrupted",
                cure="wait for the end of fit(), or call its on_train_end()",
            )
        attributes.update(csv_file=None, writer=None)
    if isinstance(callback, keras.callbacks.TensorBoard):
        # Opened again, in a new file of the same folder, with the next thing to write.
        attributes.update(_writers={}, _summary_module=None, _prev_summary_state=[])
        attributes["_batch_trace_context"] = None
    if (
        isinstance(callback, keras.callbacks.CallbackList)
        and attributes.get("_executor") is not None
    ):
        attributes["_executor"] = None  # Threads; the next fit() starts others.
        attributes["_in_begin_end_block_count"] = 0
    return attributes
