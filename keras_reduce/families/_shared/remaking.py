"""Attributes that only a constructor can make: what both generations of Keras decide alike."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ...core import dry_pickler
from ...custom_objects import Table
from ...errors import ReduceError
from .. import protocol
from .lookups import LOOKUPS


def is_carried(name: str, value: Any) -> bool:
    """Tell whether a pickler carries an attribute of this `name` and `value`."""
    try:
        dry_pickler.check(
            None, {name: value}, name="", skip=lambda item: protocol.of(item) is not None
        )
    except ReduceError:
        return False
    return True


def remembered(
    obj: Any, current: threading.local, find: Callable[[Any], frozenset[str] | None]
) -> frozenset[str] | None:
    """Return what `find` returns for `obj`, asked once while this thread writes a payload."""
    noted = current.remade
    if id(obj) not in noted:
        noted[id(obj)] = obj, None  # For what asks meanwhile; held, so that the id stays its own.
        noted[id(obj)] = obj, find(obj)
    names: frozenset[str] | None = noted[id(obj)][1]
    return names


def plain_config(
    obj: Any, writing: Callable[[Table], AbstractContextManager[None]]
) -> dict[str, Any] | None:
    """Return ``get_config()`` as it is while a payload is written; None if that fails.

    With a table that is thrown away: that of the payload must not see objects before their time.
    """
    try:
        with warnings.catch_warnings(), writing(Table(obj, LOOKUPS)):
            warnings.simplefilter("ignore")
            config = obj.get_config()
    except Exception:
        return None  # Where the config is needed, the error will tell.
    return config if isinstance(config, dict) else None


def fits_constructor(obj: Any, current: threading.local, *, has_own_way: bool) -> bool:
    """Tell whether the constructor of `obj` can be called with what its config holds.

    Parameters
    ----------
    obj : object
        An object of a user-defined class.
    current : threading.local
        What this thread is writing.
    has_own_way : bool
        Whether the class has a ``from_config()`` of its own, which takes any config.
    """
    table = current.table
    current.table = table.empty(obj)  # What the config lists is not wanted here.
    try:
        config = obj.get_config()
        if not has_own_way:
            inspect.signature(type(obj).__init__).bind(None, **config)
    except (NotImplementedError, TypeError, ValueError, ReduceError):
        return False
    finally:
        current.table = table
    return True
