"""For clusters of Ray: what batches of joblib's don't bring to its workers.

Parallel calls of joblib's on the backend ``"ray"`` set up their workers themselves. A program that
gives Ray tasks and actors of its own starts with `runtime_env`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from . import registry
from .core import keras_backend
from .integrations.worker_requirements import Sealed

__all__ = ["runtime_env"]

_HOOK = "worker_process_setup_hook"


def runtime_env(**more: Any) -> dict[str, Any]:
    """Return a runtime environment that prepares each worker process of a program.

    Workers install what this program has installed, or what `keras_reduce.install` does by default:
    what tasks return is then carried by way of this package. Their Keras computes with the backend
    that this program's has, or would have if it were imported now.

    A worker that is not fit for that still does what needs no Keras. But importing Keras, or this
    package, raises an `ImportError` there that says what is wrong, and names the worker; Ray hands
    it to whoever asks for the result. Were the worker refused altogether, Ray would start others,
    and say no more than that they have died.

    Parameters
    ----------
    **more
        Other fields of a runtime environment. `env_vars` are kept, and so is a
        `worker_process_setup_hook`, a function or the path of one: it is called first.

    Returns
    -------
    dict
        For ``ray.init(runtime_env=...)``. Ray takes no such hook for single tasks and actors, but
        those that have a runtime environment of their own inherit it.

    Raises
    ------
    ValueError
        If `env_vars` ask for another backend than that of this program.

    Examples
    --------
    >>> ray.init(runtime_env=keras_reduce.ray.runtime_env())  # doctest: +SKIP
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

    Workers may lack this package. Being nested, the function travels by value, and it refers to
    nothing of this module.
    """
    prepared = pickle.dumps(Sealed(registry.order()))

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
            pickle.loads(prepared)
        except Exception as error:
            message = str(error)
        else:
            return

        def is_refused(name: str) -> bool:
            return name.partition(".")[0] in ("keras", "tf_keras", "keras_reduce")

        class Refusal:
            """Keep Keras objects from being made or loaded where they would be others."""

            def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
                if is_refused(name):
                    raise ImportError(message, name=name)

        sys.meta_path.insert(0, Refusal())
        for name in filter(is_refused, list(sys.modules)):
            del sys.modules[name]

    return keras_reduce_setup
