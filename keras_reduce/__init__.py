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
    FrameworkError,
    KerasReduceError,
    PayloadError,
    ReduceError,
)
from .registry import install, installed, is_installed, uninstall

if TYPE_CHECKING:
    from .explanation import explain
    from .wrappers import KerasClassifier, KerasRegressor

__all__ = [
    "CustomObjectError",
    "FrameworkError",
    "KerasClassifier",
    "KerasReduceError",
    "KerasRegressor",
    "PayloadError",
    "ReduceError",
    "__version__",
    "errors",
    "explain",
    "install",
    "installed",
    "is_installed",
    "uninstall",
]


def __getattr__(name: str) -> Any:
    # The estimators are scikit-learn's, which takes a second to import: only when asked for.
    if name in ("KerasClassifier", "KerasRegressor"):
        from . import wrappers

        return getattr(wrappers, name)
    if name == "explain":  # for the same reason
        from .explanation import explain

        return explain
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
