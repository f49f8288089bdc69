"""The fork server of this program and the modules that it imports."""

from __future__ import annotations

import os
import sys
import threading

from ..core import keras_backend
from .server import Server

# Modules that a worker of a search is likely to need. Forking after their import is safe: the
# libraries start their threads later, or stop them for the fork.
_MODULES = (
    "joblib",
    "threadpoolctl",
    "sklearn.model_selection",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "keras",
    "keras_reduce.wrappers",
    "keras_reduce.scikeras.wrappers",
    "keras_reduce.reducers",
    "keras_reduce.families.keras2",
    "keras_reduce.families.keras3",
    "keras_reduce.parallel.worker",
    "keras_reduce.parallel.executor",
)
# Modules that the server imports if the program has imported them when the server is created.
_OPTIONAL = ("scikeras.wrappers", "pandas", "scipy.sparse", "tf_keras")
# Keras 2 within TensorFlow: there is no such module in Keras 3.
_OPTIONAL_WITHOUT_PARENTS = ("keras.api._v2.keras",)

# For a program that has not imported Keras, and may not expect to wait for it.
_REASON_TO_WAIT = (
    "Waiting until Keras has been imported, once, in the process from which joblib's backend "
    "'keras' forks workers. keras_reduce.install(prestart=True) starts this earlier; "
    "joblib.parallel_config('loky') does not import Keras"
)

_lock = threading.Lock()
_server: Server | None = None
_imported: str | None = None


def _disown() -> None:
    """Forget the server in a forked child of the program."""
    global _lock, _server
    _lock = threading.Lock()
    if _server is not None:
        _server.disown()
    _server = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown)


def server() -> Server:
    """Return the fork server, which starts at the first request for a worker, or by `start`."""
    global _server, _imported
    with _lock:
        backend = keras_backend.expected()
        if _server is not None and backend != _imported:
            # The program may have started the server before it selected the Keras backend.
            _server.stop()
            _server = None
        if _server is None:
            _imported = backend
            used = tuple(name for name in _OPTIONAL if name.partition(".")[0] in sys.modules)
            used += tuple(name for name in _OPTIONAL_WITHOUT_PARENTS if name in sys.modules)
            # TensorFlow logs lines about its build at each import; errors are still shown.
            level = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")
            environment = {"TF_CPP_MIN_LOG_LEVEL": level, **keras_backend.environment()}
            is_expected = not {"keras", "tf_keras"}.isdisjoint(sys.modules)
            _server = Server(_MODULES + used, environment, "" if is_expected else _REASON_TO_WAIT)
        return _server


def stop() -> None:
    """End the server."""
    global _server
    with _lock:
        if _server is not None:
            _server.stop()
        _server = None
