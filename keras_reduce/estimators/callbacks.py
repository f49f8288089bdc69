"""Callbacks for one fit: copies, so that each fit starts from them as they were given, or lists."""

from __future__ import annotations

import copy
from typing import Any

from .. import families
from ..errors import EstimatorTypeError
from .parameters import title

__all__ = ["copied", "listed"]


def copied(value: Any, memo: dict[int, Any] | None = None) -> Any:
    """Return a deep copy of callbacks; share the parts that can't be copied.

    A tqdm bar, a ``tf.data.Dataset``, a lock or an open file is the same object in the copy. The
    other contents of a callback, in its attributes and in plain containers, are copied.

    Parameters
    ----------
    value : object
        A callback, or a list of callbacks.
    memo : dict, optional
        Copies made so far, by the id of the original, as in `copy.deepcopy`.

    Returns
    -------
    object
        The copy, or `value` itself if no part of it can be copied.
    """
    memo = {} if memo is None else memo
    # An attempt that fails leaves unfinished objects in its memo.
    attempt = dict(memo)
    try:
        twin = copy.deepcopy(value, attempt)
    except Exception:
        return memo[id(value)] if id(value) in memo else _copied_in_parts(value, memo)
    memo.update(attempt)
    return twin


def _copied_in_parts(value: Any, memo: dict[int, Any]) -> Any:
    twin: Any
    if type(value) is list:
        twin = memo[id(value)] = []
        twin.extend(copied(item, memo) for item in value)
    elif type(value) is dict:
        twin = memo[id(value)] = {}
        twin.update((key, copied(item, memo)) for key, item in value.items())
    elif type(value) is tuple:
        twin = memo[id(value)] = tuple(copied(item, memo) for item in value)
    elif _is_callback(value):
        twin = memo[id(value)] = object.__new__(type(value))
        vars(twin).update((name, copied(item, memo)) for name, item in vars(value).items())
    else:
        twin = memo[id(value)] = value
    return twin


def _is_callback(value: Any) -> bool:
    family = families.of(value)
    return family is not None and family.kind(value) == "callback"


def listed(value: Any, where: str) -> list[Any]:
    """Return callbacks as a list, which is the form that Keras takes.

    Parameters
    ----------
    value : object
        A callback, a list or dict of callbacks, in which an item may be a list itself, or None.
    where : str
        The parameter that gave them, for the error message.

    Raises
    ------
    EstimatorTypeError
        If there is an object that is not a callback.
    """
    if value is None:
        return []
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [each for item in value for each in listed(item, where)]
    if not _is_callback(value):
        raise EstimatorTypeError(
            f"{title(value)} is not a callback",
            where=where,
            cure="pass a callback of Keras, its class, or a list or dict of these",
        )
    return [value]
