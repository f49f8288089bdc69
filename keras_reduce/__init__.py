"""Ship Keras models through pickle, joblib and scikit-learn.

>>> import keras_reduce
>>> keras_reduce.install()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import errors
from ._version import __version__
from .errors import (
    CustomObjectError,
    DamagedFileError,
    FileError,
    FrameworkError,
    KerasReduceError,
    MissingFileError,
    PayloadError,
    ReduceError,
    SignatureError,
    UntrustedError,
    WorkerError,
)
from .registry import install, installed, is_installed, uninstall

if TYPE_CHECKING:
    from .explanation import explain
    from .inspection import inspect
    from .persistence import dump, dumps, load, loads
    from .wrappers import KerasClassifier, KerasRegressor, KerasTransformer

__all__ = [
    "CustomObjectError",
    "DamagedFileError",
    "FileError",
    "FrameworkError",
    "KerasClassifier",
    "KerasReduceError",
    "KerasRegressor",
    "KerasTransformer",
    "MissingFileError",
    "PayloadError",
    "ReduceError",
    "SignatureError",
    "UntrustedError",
    "WorkerError",
    "__version__",
    "dump",
    "dumps",
    "errors",
    "explain",
    "inspect",
    "install",
    "installed",
    "is_installed",
    "load",
    "loads",
    "uninstall",
]


# Imported on first use: scikit-learn and NumPy take up to a second to import.
_LAZY = {
    "KerasClassifier": "wrappers",
    "KerasRegressor": "wrappers",
    "KerasTransformer": "wrappers",
    "dump": "persistence",
    "dumps": "persistence",
    "explain": "explanation",
    "inspect": "inspection",
    "load": "persistence",
    "loads": "persistence",
}

_MODULES = ("dask", "ray", "scikeras", "spark")


def __getattr__(name: str) -> Any:
    if name not in _LAZY and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    """Return the public names, including those that are imported when they are first used."""
    return sorted((*__all__, *_MODULES))
