"""Lookup of traces that other processes have stored, and storing of those of this process."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Hashable
from typing import Any

from ..core import trace_folders
from ..families.keras3 import private
from . import definitions, optimized
from .digests import digest
from .graphs import Trace
from .keys import TraceKey
from .store import Store

_log = logging.getLogger(__package__)
_MOST_BYTES = 1 << 28  # in memory


def _stores() -> list[Store]:
    """Return the folders in use, the one in memory first."""
    program, user = trace_folders.current
    if (program or user) is None or not (private.is_tested() and private.STORED.is_complete()):
        return []
    stores = [] if program is None else [Store(program, _MOST_BYTES)]
    return stores if user is None else [*stores, Store(user)]


def find(key: Hashable, parameters: Any, followed: TraceKey) -> Trace | None:
    """Return the trace that another process has stored under a key; None if there is none.

    Parameters
    ----------
    key : hashable
        Key in the cache of this process.
    parameters : sequence of Parameter
        Arguments of the function, which are a part of `key`.
    followed : TraceKey
        Key and variables of the model, as well.
    """
    stores = _stores()
    name = digest(key) if stores else None
    if name is None:
        return None
    for store in stores:
        definition = store.get(name)
        if definition is None:
            continue
        if any(place >= len(followed.variables) for place in definition.places):
            _log.warning("A stored trace is of another model: %s in %s", name, store.folder)
            continue
        try:
            return definitions.read(definition, parameters, followed)
        except Exception:
            _log.warning(
                "A stored trace can't be used, so the model is traced again: %s in %s",
                name,
                store.folder,
                exc_info=True,
            )
    return None


def keep(key: Hashable, trace: Trace, function: Any) -> None:
    """Store a trace when it has run.

    Parameters
    ----------
    key : hashable
        Its key in the cache of this process.
    trace : Trace
        The trace.
    function : ConcreteFunction
        TensorFlow's function of it, which has not been called.
    """
    stores = _stores()
    name = digest(key) if stores else None
    if name is None:
        return
    # Private: what calls a function. TensorFlow optimizes it in the first call.
    original: Callable[..., Any] = function._call_flat

    @functools.wraps(original)
    def first_call(*args: Any, **kwargs: Any) -> Any:
        if vars(function).pop("_call_flat", None) is None:
            return original(*args, **kwargs)  # Another thread has come first.
        graphs: list[Any] = []
        with optimized.collected(graphs):
            result = original(*args, **kwargs)
        try:
            definition = definitions.written(trace, graphs, name)
            if definition is not None:
                for store in stores:
                    store.put(name, definition)
        except Exception:
            _log.debug("a trace can't be stored", exc_info=True)
        return result

    function._call_flat = first_call
