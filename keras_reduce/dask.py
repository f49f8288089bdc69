"""For clusters of Dask: what batches of joblib's don't bring to its workers.

Parallel calls of joblib's on the backend ``"dask"`` set up their workers themselves. A program that
gives Dask tasks of its own registers `plugin` once.
"""

from __future__ import annotations

from typing import Any

from . import backends, registry, workers
from .admission import Sealed
from .parcels import Parcel

__all__ = ["plugin"]


def plugin() -> Any:
    """Return a plugin that prepares each worker of a cluster, those that come later as well.

    Workers install what this program has installed, or what `keras_reduce.install` does by default:
    what tasks return is then carried by way of this package. Their Keras is to compute with the
    backend that this program's has.

    Returns
    -------
    distributed.WorkerPlugin
        For `distributed.Client.register_plugin`, which raises what follows.

    Raises
    ------
    Exception
        If a worker lacks this package or the backend, has another minor version of Keras, or has
        imported Keras with another backend. The message says which, and names the worker; one that
        would join later writes it to its log, and does not start.

    Examples
    --------
    >>> client.register_plugin(keras_reduce.dask.plugin())  # doctest: +SKIP
    """
    return rebuild_plugin(registry.current(), backends.chosen())


def rebuild_plugin(installation: Any = None, backend: str | None = None) -> Any:
    """Make a plugin; on a worker, unpickling `installation` has done what there is to do.

    The path of this function is wire format.
    """
    from distributed.diagnostics.plugin import WorkerPlugin

    # What `installation` has met with was no more than a warning.
    if backend is not None and workers.is_worker():
        backends.follow(backend)

    class Plugin(WorkerPlugin):  # type: ignore[misc, unused-ignore]
        name = "keras_reduce"

        def __reduce__(self) -> tuple[Any, ...]:
            return Sealed(Parcel(rebuild_plugin, (installation, backend))).__reduce__()

    return Plugin()
