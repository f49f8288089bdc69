"""For clusters of Dask: what batches of joblib's don't bring to its workers.

Parallel calls of joblib's on the backend ``"dask"`` set up their workers themselves. A program that
gives Dask tasks of its own registers `plugin` once.
"""

from __future__ import annotations

from typing import Any

from . import registry
from .core.placeholders import Parcel
from .errors import FrameworkError
from .integrations.worker_requirements import Sealed

__all__ = ["plugin"]


def plugin() -> Any:
    """Return a plugin that prepares each worker of a cluster, those that come later as well.

    Workers install what this program has installed, or what `keras_reduce.install` does by default:
    what tasks return is then carried by way of this package. Their Keras is to compute with the
    backend that this program's has.

    Returns
    -------
    distributed.WorkerPlugin
        For `distributed.Client.register_plugin`.

    Raises
    ------
    FrameworkError
        If Dask is not installed.
    Exception
        By `register_plugin`, if a worker lacks this package or the backend, has another minor
        version of Keras, or has imported Keras with another backend. The message says which, and
        names the worker; one that would join later writes it to its log, and does not start.

    Examples
    --------
    >>> client.register_plugin(keras_reduce.dask.plugin())  # doctest: +SKIP
    """
    return rebuild_plugin(registry.order())


def rebuild_plugin(order: Any = None) -> Any:
    """Make a plugin; on a worker, unpickling `order` has done what there is to do.

    The path of this function is wire format.
    """
    try:
        from distributed.diagnostics.plugin import WorkerPlugin
    except ImportError as error:
        raise FrameworkError(
            "A plugin for Dask's workers needs Dask",
            cause=str(error),
            cure="pip install 'keras_reduce[dask]'",
        ) from error

    class Plugin(WorkerPlugin):  # type: ignore[misc, unused-ignore]
        name = "keras_reduce"

        def __reduce__(self) -> tuple[Any, ...]:
            return Sealed(Parcel(rebuild_plugin, (order,))).__reduce__()

    return Plugin()
