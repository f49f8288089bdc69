"""Set-up of Spark workers for functions that create models there: `prepared`.

Parallel calls of joblib with the backend ``"spark"`` set up their workers without it, and so do
models that a function refers to or that are broadcast.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from . import registry
from .core.placeholders import DeferredCall
from .integrations.worker_requirements import GuardedPickle

__all__ = ["prepared"]


def prepared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a wrapper of `function` that sets up each worker that unpickles it.

    Workers call `keras_reduce.install` with the options of this program, or with the defaults, so
    that results are pickled by this package. Their Keras must use the same backend as this program.

    Parameters
    ----------
    function : callable
        Function for ``rdd.map``, ``DataFrame.mapInPandas`` and the like.

    Returns
    -------
    callable
        The wrapper. A job fails with an error of Spark that quotes one of these: an `ImportError`
        if a worker lacks this package or the backend or has another minor version of Keras, with
        the name of the worker; a `FrameworkError` if it has imported Keras with another backend.

    Examples
    --------
    >>> import keras_reduce
    >>> count = keras_reduce.spark.prepared(len)
    >>> count(["a", "b"])  # as before, and workers that unpickle it are set up
    2
    >>> rdd.map(count).collect()  # doctest: +SKIP
    """
    return _Prepared(function)


class _Prepared:
    def __init__(self, function: Callable[..., Any]) -> None:
        # Spark reads the names and annotations of parameters.
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        return self._function(*arguments, **more)

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = registry.worker_setup(), self._function
        return GuardedPickle(DeferredCall(rebuild_prepared, arguments)).__reduce__()


def rebuild_prepared(setup: None, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function; unpickling `setup` has already set up the worker.

    The path of this function is wire format.
    """
    return function
