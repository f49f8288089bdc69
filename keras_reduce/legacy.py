"""The import path and the habits of the wrappers that TensorFlow shipped until 2.12.

`enable` makes ``tensorflow.keras.wrappers.scikit_learn`` and ``keras.wrappers.scikit_learn``
importable where they are gone, so that a program written for them runs as it is. What it gets there
are the estimators of `keras_reduce.wrappers` with three habits of old: ``fit`` returns the
``History``, a regressor's ``score`` is the negative loss, and its ``predict`` drops axes of length
1.
New code is better off with `keras_reduce.wrappers`, where these are as scikit-learn defines them.
"""

# Subclasses: code that asks for today's estimators may well get these.
# mypy: disable-error-code="override, misc"

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from . import wrappers
from .import_hooks import ImportHooks

__all__ = ["KerasClassifier", "KerasRegressor", "disable", "enable"]


# The paths of these two classes are in pickles: they stay.


class KerasRegressor(wrappers.KerasRegressor):
    """`keras_reduce.wrappers.KerasRegressor` with the habits of TensorFlow's; see there."""

    def fit(self, x: Any, y: Any, sample_weight: ArrayLike | None = None, **kwargs: Any) -> Any:
        """Build a new model and train it.

        Parameters
        ----------
        x, y, sample_weight, **kwargs
            As in `keras_reduce.wrappers.KerasRegressor.fit`.

        Returns
        -------
        keras.callbacks.History
            What Keras's ``fit`` returned.
        """
        return super().fit(x, y, sample_weight, **kwargs).history_

    def predict(self, x: Any, **kwargs: Any) -> NDArray[Any]:
        """Predict targets.

        Parameters
        ----------
        x, **kwargs
            As in `keras_reduce.wrappers.KerasRegressor.predict`.

        Returns
        -------
        ndarray
            The predictions without axes of length 1, so without any for a single sample.
        """
        return np.squeeze(super().predict(x, **kwargs))

    def score(self, x: Any, y: Any, **kwargs: Any) -> float:
        """Return the negative loss.

        Parameters
        ----------
        x, y
            As in `keras_reduce.wrappers.KerasRegressor.score`.
        **kwargs
            Further arguments for Keras's ``evaluate``.

        Returns
        -------
        float
            The higher the better.
        """
        check_is_fitted(self)
        inputs, targets = self._inputs(x), self._targets(y)
        loss = self.model_.evaluate(
            inputs, targets, **self._arguments(self.model_, "evaluate", kwargs)
        )
        return -float(loss[0] if isinstance(loss, list) else loss)


class KerasClassifier(wrappers.KerasClassifier):
    """`keras_reduce.wrappers.KerasClassifier` with the habits of TensorFlow's; see there."""

    def fit(self, x: Any, y: Any, sample_weight: ArrayLike | None = None, **kwargs: Any) -> Any:
        """Build a new model and train it.

        Parameters
        ----------
        x, y, sample_weight, **kwargs
            As in `keras_reduce.wrappers.KerasClassifier.fit`.

        Returns
        -------
        keras.callbacks.History
            What Keras's ``fit`` returned.
        """
        return super().fit(x, y, sample_weight, **kwargs).history_


# Where the module was, and what TensorFlow's lazy `tf.keras` loads in place of itself.
_PACKAGES = ("keras.wrappers", "tensorflow.keras.wrappers", "keras._tf_keras.keras.wrappers")
_MODULES = tuple(f"{package}.scikit_learn" for package in _PACKAGES)


class _Finder:
    """Finder and loader of the modules that are gone.

    The last of ``sys.meta_path``, so a module that exists is found before it gets here. The package
    around them may be missing as well.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in (*_PACKAGES, *_MODULES):
            return None
        return ModuleSpec(fullname, self, is_package=fullname in _PACKAGES)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ in _MODULES:
            module.KerasRegressor = KerasRegressor  # type: ignore[attr-defined]
            module.KerasClassifier = KerasClassifier  # type: ignore[attr-defined]


def _import(name: str) -> None:
    importlib.import_module(name)


_finder = _Finder()
_hooks = ImportHooks()


def enable() -> None:
    """Make the old import path work; imports no framework, and may be called again.

    A module that exists, as in TensorFlow 2.12, is left alone. Programs that say
    ``tf.keras.wrappers.scikit_learn.KerasRegressor`` without an import of their own work too.
    """
    if _finder in sys.meta_path:
        return
    sys.meta_path.append(_finder)
    for package, module in zip(_PACKAGES, _MODULES, strict=True):
        # An attribute access imports nothing, so the submodule comes along with its package.
        _hooks.when_imported(package, partial(_import, module))


def disable() -> None:
    """Put everything back as it was before `enable`; without effect if that was not called."""
    _hooks.clear()
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    for name in (*_MODULES, *_PACKAGES):
        module = sys.modules.get(name)
        if module is None or getattr(module.__spec__, "loader", None) is not _finder:
            continue
        del sys.modules[name]
        parent, _, attribute = name.rpartition(".")
        if vars(sys.modules[parent]).get(attribute) is module:
            delattr(sys.modules[parent], attribute)
