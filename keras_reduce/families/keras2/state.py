"""Attributes of Keras 2 objects that a pickler puts back by itself."""

from __future__ import annotations

import functools
from typing import Any

from ...errors import ReduceError
from .._shared.nests import unwrapped
from .framework import keras
from .kinds import is_a, is_layer
from .rules import describes_itself, holds_parts, set_by_the_user, travels_by_attributes
from .tree import Tree


def state(obj: Any, tree: Tree) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the attributes of an object that training or the user has set.

    Those that a pickler puts back, see `await_state`; and those with layers in them, which have to
    be there before an optimizer is built.
    """
    if is_a(obj, "callback"):
        return _callback_state(obj), {}
    if travels_by_attributes(obj):
        return dict(vars(obj)), {}
    attributes: dict[str, Any] = {}
    tracked: dict[str, Any] = {}
    if is_a(obj, "model"):
        names = ("history", "stop_training")
        attributes = {name: vars(obj)[name] for name in names if name in vars(obj)}
    if describes_itself(obj):
        for name, value in set_by_the_user(obj):
            (tracked if holds_parts(value) else attributes)[name] = unwrapped(value)
    if is_layer(obj) or is_a(obj, "metric"):
        # Never nothing: what `await_state` has set is taken back when a state comes.
        attributes["_name"] = obj._name
    return attributes, tracked


def await_state(obj: Any) -> None:
    """Let a rebuilt object take its state.

    Keras's own ``Layer.__setstate__`` would put it in the place of all that there is. Picklers ask
    the object for the method, so it has one of its own until then.
    """
    if is_layer(obj) or is_a(obj, "metric"):
        vars(obj)["__setstate__"] = functools.partial(_receive_state, obj)


def _receive_state(obj: Any, state: dict[str, Any]) -> None:
    vars(obj).pop("__setstate__", None)
    vars(obj).update(state)


def _callback_state(callback: Any) -> dict[str, Any]:
    api = keras().callbacks
    attributes = dict(vars(callback))
    if isinstance(callback, api.CSVLogger):
        # The end of training drops the writer; the file of TensorFlow's can't say if it is open.
        if attributes.get("writer") is not None:
            raise ReduceError(
                "A CSVLogger has its file open",
                where=".csv_file",
                cause="it is in the middle of training, or the training was interrupted",
                cure="wait for the end of fit(), or call its on_train_end()",
            )
        attributes.update(csv_file=None)
    if isinstance(callback, api.TensorBoard):
        # Opened again, in a new file of the same folder, with the next thing to write.
        attributes.update(_writers={}, _prev_summary_state=[])
        attributes.update(dict.fromkeys(("_train_step", "_val_step"), None))
    return attributes
