"""Scores of predictions, for targets of any number of dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, r2_score

__all__ = ["accuracy", "r2"]

_Array = NDArray[Any]


def r2(y: Any, predicted: Any, sample_weight: Any = None, **options: Any) -> float:
    """Return the coefficient of determination; each time step of sequences is a sample.

    Parameters
    ----------
    y, predicted : array-like
        Targets and predictions of the same shape; the last of three or more axes is that of units.
    sample_weight : array-like, optional
        Weights of samples or of time steps.
    **options
        Further arguments of `sklearn.metrics.r2_score`.
    """
    if np.ndim(y) > 2:
        y, predicted = np.asarray(y), np.asarray(predicted)
        sample_weight = _of_steps(sample_weight, y.shape[:-1])
        y, predicted = (each.reshape(-1, each.shape[-1]) for each in (y, predicted))
    return float(r2_score(y, predicted, sample_weight=sample_weight, **options))


def accuracy(y: Any, predicted: Any, sample_weight: Any = None, **options: Any) -> float:
    """Return the fraction of correct labels; each time step of sequences is a sample.

    Parameters
    ----------
    y, predicted : array-like
        True and predicted labels of the same shape; with three axes, the last has length 1.
    sample_weight : array-like, optional
        Weights of samples or of time steps.
    **options
        Further arguments of `sklearn.metrics.accuracy_score`.
    """
    if np.ndim(y) > 2:
        y, predicted = np.asarray(y), np.asarray(predicted)
        sample_weight = _of_steps(sample_weight, y.shape)
        y, predicted = y.reshape(-1), predicted.reshape(-1)
    return float(accuracy_score(y, predicted, sample_weight=sample_weight, **options))


def _of_steps(weights: Any, shape: tuple[int, ...]) -> _Array | None:
    """Return a flat array with a weight for each element of an array of this shape."""
    if weights is None:
        return None
    array = np.asarray(weights)
    array = array.reshape(array.shape + (1,) * (len(shape) - array.ndim))
    return np.broadcast_to(array, shape).reshape(-1)
