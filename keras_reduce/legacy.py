"""Estimators that behave like ``tensorflow.keras.wrappers.scikit_learn`` of TensorFlow 2.12.

They differ from those of `keras_reduce.wrappers` in three ways: ``fit`` returns the
``History``, a regressor's ``score`` is the negative loss, and its ``predict`` drops axes of
length 1. New code should use `keras_reduce.wrappers`, which follows scikit-learn's conventions.
`keras_reduce.integrations.legacy_path` makes these classes importable from TensorFlow's module.
"""

# Code that checks for today's estimators with isinstance gets these as well.
# mypy: disable-error-code="override, misc"

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from . import wrappers

__all__ = ["KerasClassifier", "KerasRegressor"]

# Wire format: pickles name these two classes by their paths.


class KerasRegressor(wrappers.KerasRegressor):
    """Regressor like that of TensorFlow 2.12; parameters as for the base class."""

    def fit(self, x: Any, y: Any, sample_weight: ArrayLike | None = None, **kwargs: Any) -> Any:
        """Build a new model and train it.

        Parameters
        ----------
        x, y, sample_weight, **kwargs
            As in `keras_reduce.wrappers.KerasRegressor.fit`.

        Returns
        -------
        keras.callbacks.History
            The return value of Keras's ``fit``.
        """
        return super().fit(x, y, sample_weight, **kwargs).history_

    def predict(self, x: Any, **kwargs: Any) -> Any:
        """Predict targets.

        Parameters
        ----------
        x, **kwargs
            As in `keras_reduce.wrappers.KerasRegressor.predict`.

        Returns
        -------
        ndarray
            The predictions without axes of length 1; a scalar array for a single sample. For
            targets in a dict or list, a dict or list of such arrays.
        """
        predicted = super().predict(x, **kwargs)
        if isinstance(predicted, dict):
            return {key: np.squeeze(each) for key, each in predicted.items()}
        if isinstance(predicted, list):
            return [np.squeeze(each) for each in predicted]
        return np.squeeze(predicted)

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
            Higher is better.
        """
        check_is_fitted(self)
        inputs, targets = self._validated(x, y)
        loss = self.model_.evaluate(
            self._features(inputs),
            self._encode(self.model_, targets),
            **self._arguments(self.model_, "evaluate", kwargs),
        )
        return -float(loss[0] if isinstance(loss, list) else loss)


class KerasClassifier(wrappers.KerasClassifier):
    """Classifier like that of TensorFlow 2.12; parameters as for the base class."""

    def fit(self, x: Any, y: Any, sample_weight: ArrayLike | None = None, **kwargs: Any) -> Any:
        """Build a new model and train it.

        Parameters
        ----------
        x, y, sample_weight, **kwargs
            As in `keras_reduce.wrappers.KerasClassifier.fit`.

        Returns
        -------
        keras.callbacks.History
            The return value of Keras's ``fit``.
        """
        return super().fit(x, y, sample_weight, **kwargs).history_
