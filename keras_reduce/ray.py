"""Set-up of Ray workers for tasks and actors that don't come from joblib: `runtime_env`.

Parallel calls of joblib with the backend ``"ray"`` set up their workers without it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from . import registry
from .core import keras_backend
from .integrations.worker_requirements import GuardedPickle

__all__ = ["runtime_env"]

_HOOK = "worker_process_setup_hook"


def runtime_env(**more: Any) -> dict[str, Any]:
    """Return a runtime environment that prepares each worker process of a program.

    Workers call `keras_reduce.install` with the options of this program, or with the defaults, so
    that results of tasks are pickled by this package. Their Keras uses the backend of this program:
    the current one, or the one that an import now would select.

    A worker that lacks a requirement still runs tasks without Keras. Importing Keras or this
    package there raises an `ImportError` that names the worker and the reason, and Ray raises it
    where the result is requested. If the hook failed instead, Ray would start other workers and
    report only that they died.

    Parameters
    ----------
    **more
        Other fields of a runtime environment. `env_vars` are kept, and so is a
        `worker_process_setup_hook` (a function or its path), which is called first.

    Returns
    -------
    dict
        Argument for ``ray.init(runtime_env=...)``. Ray takes no such hook for single tasks and
        actors; those with a runtime environment of their own inherit this one.

    Raises
    ------
    ValueError
        If `env_vars` set another Keras backend than that of this program.

    Examples
    --------
    >>> import keras_reduce
    >>> environment = keras_reduce.ray.runtime_env(env_vars={"TF_CPP_MIN_LOG_LEVEL": "2"})
    >>> sorted(environment), sorted(environment["env_vars"])
    (['env_vars', 'worker_process_setup_hook'], ['KERAS_BACKEND', 'TF_CPP_MIN_LOG_LEVEL'])
    >>> ray.init(runtime_env=environment)  # doctest: +SKIP
    """
    wanted = {"KERAS_BACKEND": keras_backend.expected()}
    variables = {**wanted, **(more.get("env_vars") or {})}
    if variables["KERAS_BACKEND"] != wanted["KERAS_BACKEND"]:
        raise ValueError(
            f"env_vars give workers the backend {variables['KERAS_BACKEND']!r}, but the Keras of "
            f"this program computes with {wanted['KERAS_BACKEND']!r}: leave KERAS_BACKEND out"
        )
    return {**more, "env_vars": variables, _HOOK: _hook(more.get(_HOOK))}


def _hook(first: Callable[[], Any] | str | None) -> Callable[[], None]:
    """Return a function that sets up the worker that calls it.

    Workers may lack this package. The function is nested, so it is pickled by value, and it refers
    to nothing in this module.
    """
    setup = pickle.dumps(GuardedPickle(registry.worker_setup()))

    def keras_reduce_setup() -> None:
        import importlib
        import pickle
        import sys

        if isinstance(first, str):
            module, _, name = first.rpartition(".")
            getattr(importlib.import_module(module), name)()
        elif first is not None:
            first()

        try:
            pickle.loads(setup)
        except Exception as error:
            message = str(error)
        else:
            return

        def is_refused(name: str) -> bool:
            return name.partition(".")[0] in ("keras", "tf_keras", "keras_reduce")

        class Refusal:
            """Import finder that refuses Keras on a worker that lacks a requirement."""

            def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
                if is_refused(name):
                    raise ImportError(message, name=name)

        sys.meta_path.insert(0, Refusal())
        for name in filter(is_refused, list(sys.modules)):
            del sys.modules[name]

    return keras_reduce_setup
