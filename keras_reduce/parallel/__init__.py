"""The joblib backend ``"keras"``: workers forked from a server that has imported Keras.

`server` is the fork server; `process` and `executor` run joblib's executor on its workers; `worker`
and `limits` set up a worker; `backend` is the backend class that joblib calls.
"""

from __future__ import annotations

from typing import Any

from . import plain_loky
from .private import BACKEND


def make_backend(**options: Any) -> Any:
    """Return the joblib backend "keras"; loky if joblib lacks a private name that it needs.

    Parameters
    ----------
    **options : object
        Options of `KerasBackend`.

    Raises
    ------
    TypeError
        If there is no option of that name.
    """
    plain_loky.check(options)
    # Imported on first use, since many programs run nothing in parallel.
    if BACKEND.is_complete():
        from .backend import KerasBackend

        return KerasBackend(**options)
    from joblib import parallel

    return parallel.BACKENDS["loky"](**plain_loky.known_to_loky(options))
