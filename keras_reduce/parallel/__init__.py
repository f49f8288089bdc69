"""joblib's backend ``"keras"``: workers that start at once and don't fight.

`server` is a process that has everything imported and forks the workers; `process` and `executor`
make joblib's executor run on them; `worker` and `limits` are what a worker does first; `backend`
is what joblib sees.
"""

from __future__ import annotations

from typing import Any

from . import plain_loky
from .private import BACKEND


def make_backend(**options: Any) -> Any:
    """Return joblib's backend "keras"; plain loky if a name that it needs has gone from joblib.

    Parameters
    ----------
    **options : object
        See `KerasBackend`.

    Raises
    ------
    TypeError
        There is no option of that name.
    """
    plain_loky.check(options)
    # Imported when it is first needed: most programs run nothing in parallel.
    if BACKEND.is_complete():
        from .backend import KerasBackend

        return KerasBackend(**options)
    from joblib import parallel

    return parallel.BACKENDS["loky"](**plain_loky.known_to_loky(options))
