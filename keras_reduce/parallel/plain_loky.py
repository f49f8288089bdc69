"""joblib's own backend "loky", which runs where ours can't."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

_OURS = {"gpus", "max_worker_growth", "progress", "retries"}
_THEIRS = {
    *("nesting_level", "inner_max_num_threads", "idle_worker_timeout", "timeout"),
    *("initializer", "initargs", "temp_folder", "max_nbytes", "mmap_mode"),
}


def check(options: Mapping[str, Any]) -> None:
    """Refuse options that neither the backend "keras" nor loky has: loky would pass over them.

    Raises
    ------
    TypeError
        With the name that was meant, it may be.
    """
    for name in options.keys() - _OURS - _THEIRS:
        close = difflib.get_close_matches(name, _OURS | _THEIRS, n=1)
        meant = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(_OURS))}"
        raise TypeError(f"The backend 'keras' has no option {name!r}: {meant}")


def known_to_loky(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options of the backend "keras" that loky has as well."""
    return {name: value for name, value in options.items() if name not in _OURS}
