"""The wrappers that TensorFlow shipped until 2.12, with the habits that programs rely on.

The estimators of `keras_reduce.wrappers` with three habits of old: ``fit`` returns the
``History``, a regressor's ``score`` is the negative loss, and its ``predict`` drops axes of
length 1. New code is better off with `keras_reduce.wrappers`, where these are as scikit-learn
defines them. See `keras_reduce.integrations.legacy_path` for the module that programs import them
from.
"""

# Subclasses: code that asks for today's estimators may well get these.
# mypy: disable-error-code="override, misc"

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from . import wrappers

__all__ = ["KerasClassifier", "KerasRegressor"]

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
