"""The server of this program, which has imported what a worker of a search needs."""

from __future__ import annotations

import os
import sys
import threading

from ..core import keras_backend
from .server import Server

# What a worker of a search is likely to need. Importing is safe to fork after: the libraries start
# their threads later, or stop them for the fork.
_MODULES = (
    "joblib",
    "threadpoolctl",
    "sklearn.model_selection",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "keras",
    "keras_reduce.wrappers",
    "keras_reduce.reducers",
    "keras_reduce.families.keras2",
    "keras_reduce.families.keras3",
    "keras_reduce.parallel.worker",
    "keras_reduce.parallel.executor",
)
# What programs use beside it, if this one has imported it when the server is made.
_OPTIONAL = ("scikeras.wrappers", "pandas", "scipy.sparse", "tf_keras")
# Keras 2 within TensorFlow: there is no such module in Keras 3.
_EXACTLY = ("keras.api._v2.keras",)

# For a program that has not imported Keras, which may not expect it.
_WHY = (
    "Waiting until Keras has been imported, once, in the process from which joblib's backend "
    "'keras' forks workers. keras_reduce.install(prestart=True) begins earlier; "
    "joblib.parallel_config('loky') does without Keras"
)

_lock = threading.Lock()
_server: Server | None = None
_imported: str | None = None


def _disown() -> None:
    """Begin anew in a forked copy of the program."""
    global _lock, _server
    _lock = threading.Lock()
    if _server is not None:
        _server.disown()
    _server = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown)


def server() -> Server:
    """Return what workers are forked from. It starts when it is asked for one, or told to."""
    global _server, _imported
    with _lock:
        backend = keras_backend.expected()
        if _server is not None and backend != _imported:
            # A program says which framework it takes before it imports Keras, but may have
            # had the server started even before.
            _server.stop()
            _server = None
        if _server is None:
            _imported = backend
            used = tuple(name for name in _OPTIONAL if name.partition(".")[0] in sys.modules)
            used += tuple(name for name in _EXACTLY if name in sys.modules)
            # TensorFlow greets with lines on its build at each import; errors still come.
            level = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")
            environment = {"TF_CPP_MIN_LOG_LEVEL": level, **keras_backend.environment()}
            is_expected = not {"keras", "tf_keras"}.isdisjoint(sys.modules)
            _server = Server(_MODULES + used, environment, "" if is_expected else _WHY)
        return _server


def stop() -> None:
    """End the server."""
    global _server
    with _lock:
        if _server is not None:
            _server.stop()
        _server = None
