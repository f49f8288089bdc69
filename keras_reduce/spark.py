"""For clusters of Spark: what batches of joblib's don't bring to its workers.

Parallel calls of joblib's on the backend ``"spark"`` set up their workers themselves. So does each
model in what a function refers to, or in a broadcast. A function with nothing of Keras's about it
that makes models on the workers is to be `prepared`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from . import registry
from .core.placeholders import Parcel
from .integrations.worker_requirements import Sealed

__all__ = ["prepared"]


def prepared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does the same, on workers that are set up before it comes there.

    They install what this program has installed, or what `keras_reduce.install` does by default:
    what the function returns is then carried by way of this package. Their Keras is to compute with
    the backend that this program's has.

    Parameters
    ----------
    function : callable
        For ``rdd.map``, ``DataFrame.mapInPandas`` and the like.

    Returns
    -------
    callable
        For these. A job fails with what follows in the message of Spark's error:

        `ImportError`, on a worker that lacks this package or the backend, or has another minor
        version of Keras; the message names the worker. `FrameworkError`, on a worker that has
        imported Keras with another backend.

    Examples
    --------
    >>> rdd.map(keras_reduce.spark.prepared(train)).collect()  # doctest: +SKIP
    """
    return _Prepared(function)


class _Prepared:
    def __init__(self, function: Callable[..., Any]) -> None:
        # Spark asks for the names and hints of parameters.
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        return self._function(*arguments, **more)

    def __reduce__(self) -> tuple[Any, ...]:
        contents = registry.order(), self._function
        return Sealed(Parcel(rebuild_prepared, contents)).__reduce__()


def rebuild_prepared(order: None, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function; unpickling `order` has done on a worker what there is to do.

    The path of this function is wire format.
    """
    return function
