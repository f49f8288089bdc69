"""Options for joblib's backend "loky", the fallback of "keras"."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

_KERAS_OPTIONS = {"gpus", "max_worker_growth", "progress", "retries"}
_LOKY_OPTIONS = {
    "idle_worker_timeout",
    "initargs",
    "initializer",
    "inner_max_num_threads",
    "max_nbytes",
    "mmap_mode",
    "nesting_level",
    "temp_folder",
    "timeout",
}


def check(options: Mapping[str, Any]) -> None:
    """Refuse options that neither the backend "keras" nor loky has; loky would ignore them.

    Raises
    ------
    TypeError
        If there is no such option; the message suggests the nearest name.
    ValueError
        If `retries` or `max_worker_growth` is not a number that makes sense. Workers would find
        that out, long after the program has set it.
    """
    for name in options.keys() - _KERAS_OPTIONS - _LOKY_OPTIONS:
        close = difflib.get_close_matches(name, _KERAS_OPTIONS | _LOKY_OPTIONS, n=1)
        names = ", ".join(sorted(_KERAS_OPTIONS))
        cure = f"did you mean {close[0]!r}?" if close else f"it has {names}"
        raise TypeError(f"The backend 'keras' has no option {name!r}: {cure}")
    retries, growth = options.get("retries", 0), options.get("max_worker_growth")
    if not isinstance(retries, Integral) or retries < 0:
        raise ValueError(f"retries must be a whole number, 0 or more, not {retries!r}")
    if growth is not None and (not isinstance(growth, Real) or growth < 0):
        raise ValueError(
            f"max_worker_growth must be a number of bytes, or None for no limit, not {growth!r}"
        )


def known_to_loky(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the backend "keras" that loky also has."""
    return {name: value for name, value in options.items() if name not in _KERAS_OPTIONS}
