"""Class labels as a loss needs them, and a model's output as probabilities of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.utils.class_weight import compute_class_weight

from ..errors import EstimatorError

__all__ = ["for_loss", "is_categorical", "positions", "probabilities", "sample_weights"]

_Array = NDArray[Any]


def positions(labels: _Array, classes: _Array) -> _Array:
    """Return the index of each label in the sorted `classes`.

    Raises
    ------
    ValueError
        If a label is none of the classes.
    """
    unknown = np.setdiff1d(labels, classes)
    if unknown.size:
        raise ValueError(f"y has labels that fit has not seen: {unknown.tolist()}")
    return np.searchsorted(classes, labels)


def for_loss(model: Any, y: _Array, n_classes: int, where: str, *, are_indices: bool) -> _Array:
    """Return targets in the form that the loss of `model` needs.

    Parameters
    ----------
    model : keras.Model
        A compiled model with one output.
    y : ndarray
        Indices of classes, of shape (n_samples,) or (n_samples, n_steps); or probabilities, with
        one more axis.
    n_classes : int
        Number of classes.
    where : str
        The parameter that gave the model, for the error message.
    are_indices : bool
        Whether `y` has indices.

    Raises
    ------
    EstimatorError
        If the model has too few output units.
    """
    units = _units(model)
    if units is not None and units < n_classes and (units > 1 or n_classes > 2):
        raise EstimatorError(
            f"The model has {units} output units for {n_classes} classes",
            where=where,
            cure="give the last layer one unit per class (for two classes, one is enough)",
        )
    sparse = _is_sparse(model.loss, units, n_classes)
    if are_indices and sparse is False:
        # A fold may lack a class that the model has a unit for.
        return np.eye(units or n_classes, dtype="float32")[y]
    if not are_indices and (sparse or units == 1) and (y.max(axis=-1) == 1).all():
        y, are_indices = y.argmax(axis=-1), True
    # Without an axis of units, Keras would take the axis of steps for it.
    return y[..., None] if are_indices and y.ndim > 1 and units == 1 else y


def _units(model: Any) -> int | None:
    """Return the number of output units of `model`; None if it is not built yet."""
    shape = getattr(model, "output_shape", None)
    return shape[-1] if isinstance(shape, tuple) else None


def _is_sparse(loss: Any, units: int | None, n_classes: int) -> bool | None:
    """Return whether `loss` takes class indices (True) or one-hot rows (False); None if unknown."""
    name = _plain_name(loss)
    home = "keras" if isinstance(loss, str) else getattr(loss, "__module__", None) or ""
    if home.partition(".")[0] not in ("keras", "tf_keras"):
        return None
    if name.startswith("sparse"):
        return True
    if units is None:
        # A model that is not built yet. Three classes need more than one unit; for two classes,
        # the loss tells.
        units = 2 if n_classes > 2 or name.startswith("categorical") else 1
    return None if units == 1 else False


def _plain_name(loss: Any) -> str:
    """Return the name of a loss in lower case without underscores."""
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return str(name).lower().replace("_", "")


def is_categorical(loss: Any) -> bool:
    """Return whether a loss is the categorical crossentropy, which takes one-hot rows."""
    return _plain_name(loss) in ("categoricalcrossentropy", "cce")


def sample_weights(
    class_weight: Mapping[Any, float] | str, position: _Array, classes: _Array
) -> _Array:
    """Return the weight of each sample, or time step, by its class.

    Parameters
    ----------
    class_weight : "balanced" or mapping
        Weights by label, or, if not all keys are labels, by index into `classes`.
    position : ndarray of shape (n_samples,) or (n_samples, n_steps)
        Indices of the classes of samples or time steps.
    classes : ndarray
        The labels.

    Raises
    ------
    ValueError
        If a key is neither a label nor an index.
    """
    by_index: Mapping[Any, float]
    if isinstance(class_weight, str):
        present = np.unique(position)
        weights = compute_class_weight(class_weight, classes=present, y=position.reshape(-1))
        by_index = dict(zip(present.tolist(), weights, strict=True))
    elif class_weight.keys() <= set(classes.tolist()):
        by_index = {
            index: class_weight[label]
            for index, label in enumerate(classes.tolist())
            if label in class_weight
        }
    elif class_weight.keys() <= set(range(len(classes))):
        by_index = class_weight
    else:
        raise ValueError(
            f"class_weight has keys that are no class: {list(class_weight)}, but the classes "
            f"are {classes.tolist()}"
        )
    return np.array([by_index.get(index, 1.0) for index in range(len(classes))])[position]


def probabilities(raw: _Array, loss: Any, n_classes: int, *, has_steps: bool = False) -> _Array:
    """Return the probability of each class.

    Parameters
    ----------
    raw : ndarray
        Output of a model: one unit for two classes, else one unit for each class.
    loss : object
        The model's loss; with ``from_logits=True``, logits are converted to probabilities.
    n_classes : int
        Number of classes.
    has_steps : bool, default=False
        Whether each sample has an axis of time steps.

    Returns
    -------
    ndarray of shape (n_samples, n_classes) or (n_samples, n_steps, n_classes)
        Two columns for one unit.
    """
    if not has_steps:
        raw = raw.reshape(len(raw), -1)
    logits = getattr(loss, "from_logits", False)
    if raw.shape[-1] == 1:
        positive = expit(raw) if logits else raw
        return np.concatenate([1 - positive, positive], axis=-1)
    # Units beyond the classes are for classes that the training data lacked.
    return (softmax(raw, axis=-1) if logits else raw)[..., :n_classes]
