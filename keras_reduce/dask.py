"""Set-up of Dask workers for tasks that don't come from joblib: `plugin`.

Parallel calls of joblib with the backend ``"dask"`` set up their workers without it.
"""

from __future__ import annotations

from typing import Any

from . import registry
from .core.placeholders import DeferredCall
from .errors import FrameworkError
from .integrations.worker_requirements import GuardedPickle

__all__ = ["plugin"]


def plugin() -> Any:
    """Return a plugin that prepares each worker of a cluster, including those that join later.

    Workers call `keras_reduce.install` with the options of this program, or with the defaults, so
    that results of tasks are pickled by this package. Their Keras must use the same backend as this
    program.

    Returns
    -------
    distributed.WorkerPlugin
        Argument for `distributed.Client.register_plugin`.

    Raises
    ------
    FrameworkError
        If Dask is not installed.
    Exception
        Raised by `register_plugin` if a worker lacks this package or the backend, has another minor
        version of Keras, or has imported Keras with another backend. The message names the worker
        and the reason. A worker that joins later logs the message and does not start.

    Examples
    --------
    >>> import keras_reduce
    >>> from distributed import Client
    >>> with Client(n_workers=1, dashboard_address=None) as client:
    ...     answers = client.register_plugin(keras_reduce.dask.plugin())
    >>> [answer["status"] for answer in answers.values()]
    ['OK']
    """
    return rebuild_plugin(registry.worker_setup())


def rebuild_plugin(setup: Any = None) -> Any:
    """Return a plugin; on a worker, unpickling `setup` has already set that up.

    The path of this function is wire format.
    """
    try:
        from distributed.diagnostics.plugin import WorkerPlugin
    except ImportError as error:
        raise FrameworkError(
            "Dask is not installed",
            cause=str(error),
            cure="pip install 'keras_reduce[dask]'",
        ) from error

    class Plugin(WorkerPlugin):  # type: ignore[misc, unused-ignore]
        name = "keras_reduce"

        def __reduce__(self) -> tuple[Any, ...]:
            return GuardedPickle(DeferredCall(rebuild_plugin, (setup,))).__reduce__()

    return Plugin()
