"""Class labels as a loss needs them, and a model's output as probabilities of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets

from ..errors import EstimatorError
from . import scoring

__all__ = [
    "Labels",
    "are_columns_of_labels",
    "for_loss",
    "is_categorical",
    "positions",
    "probabilities",
    "sample_weights",
    "times",
]

_Array = NDArray[Any]


class Labels(NamedTuple):
    """The labels of one output of a model, and the form that targets have.

    Attributes
    ----------
    classes : ndarray
        The labels, sorted; the numbers of the columns if there are rows.
    has_steps : bool
        True if targets have an axis of time steps.
    is_indicator : bool
        True if targets are a label indicator matrix, in which a sample may have several labels.
    """

    classes: _Array
    has_steps: bool = False
    is_indicator: bool = False

    @classmethod
    def learned(cls, y: _Array, categories: _Array | None = None) -> Labels:
        """Return the labels of an array.

        Parameters
        ----------
        y : ndarray
            Labels of shape (n_samples,), (n_samples, 1) or (n_samples, n_steps, 1); or rows with a
            column for each class or label.
        categories : ndarray, optional
            All labels, if `y` may lack some.

        Raises
        ------
        ValueError
            If `y` is none of these, or has less than two classes.
        """
        has_steps = y.ndim > 2
        if y.ndim > 1 and y.shape[-1] > 1:
            _check_rows(y)
            return cls(np.arange(y.shape[-1]), has_steps, not _is_distribution(y))
        flat = _flat(y)
        check_classification_targets(flat)
        classes = np.unique(flat) if categories is None else categories
        if len(classes) < 2:
            raise ValueError("y has 1 class, and a classifier needs at least two classes")
        return cls(classes, has_steps)

    @property
    def target_type(self) -> str:
        """Type of the targets, as `sklearn.utils.multiclass.type_of_target` names it."""
        if self.is_indicator:
            return "multilabel-indicator"
        return "binary" if len(self.classes) == 2 else "multiclass"

    def validated(self, y: _Array) -> _Array:
        """Return indices of the classes, or the rows.

        Raises
        ------
        ValueError
            If there are labels that `fit` has not seen, or rows of another length.
        """
        if y.ndim > 1 and y.shape[-1] > 1:
            _check_rows(y)
            if y.shape[-1] != len(self.classes):
                raise ValueError(
                    f"y has {y.shape[-1]} columns, and the y of fit had {len(self.classes)} classes"
                )
            return y
        shape = y.shape[:-1] if self.has_steps else (len(y),)
        return positions(_flat(y), self.classes).reshape(shape)

    def are_indices(self, targets: _Array) -> bool:
        """Return whether validated targets are indices of classes, not rows."""
        return targets.ndim == (2 if self.has_steps else 1)

    def for_loss(self, targets: _Array, loss: Any, units: int | None, where: str) -> _Array:
        """Return validated targets in the form that a loss needs; see the function `for_loss`."""
        n_classes = len(self.classes)
        if not self.is_indicator:
            are_indices = self.are_indices(targets)
            return for_loss(targets, n_classes, loss, units, where, are_indices=are_indices)
        if units not in (None, n_classes) or _is_sparse(loss, units, n_classes):
            raise EstimatorError(
                f"The loss {_name(loss)} and {units} output units don't suit rows of {n_classes} "
                "labels",
                where=where,
                cause="y is a label indicator matrix, in which a sample may have several labels",
                cure="give the last layer one sigmoid unit per label, and compile with "
                "binary_crossentropy",
            )
        return targets.astype("float32")

    def weights(self, class_weight: Any, targets: _Array) -> _Array:
        """Return the weight of each sample or time step by its class.

        Parameters
        ----------
        class_weight : "balanced", mapping, or list of mappings
            As for the function `sample_weights`; for a label indicator matrix a list with the
            weights of each column, whose products weight the samples.
        targets : ndarray
            Validated targets.
        """
        if self.is_indicator:
            return np.asarray(compute_sample_weight(class_weight, targets))
        position = targets if self.are_indices(targets) else targets.argmax(axis=-1)
        return sample_weights(class_weight, position, self.classes)

    def probabilities(self, raw: _Array, loss: Any) -> _Array:
        """Return the probability of each class or label for the output of a model."""
        if self.is_indicator:
            return expit(raw) if getattr(loss, "from_logits", False) else raw
        return probabilities(raw, loss, len(self.classes), has_steps=self.has_steps)

    def predicted(self, probability: _Array) -> _Array:
        """Return the most probable label, or the rows of a label indicator matrix."""
        if self.is_indicator:
            return (probability > 0.5).astype(int)
        likely: _Array = self.classes[probability.argmax(axis=-1)]
        return likely

    def accuracy(self, y: Any, predicted: _Array, sample_weight: Any = None) -> float:
        """Return the fraction of samples, or time steps, with correct labels."""
        true = np.asarray(y)
        if not self.is_indicator and true.ndim > 1 and true.shape[-1] > 1:
            true = self.classes[true.argmax(axis=-1)]
        if self.has_steps:
            shape = predicted.shape if self.is_indicator else (*predicted.shape, 1)
            true, predicted = true.reshape(shape), predicted.reshape(shape)
        return scoring.accuracy(true, predicted, sample_weight)


def are_columns_of_labels(y: _Array) -> bool:
    """Return whether an array has a column of labels for each output of a model.

    Other arrays of several columns have a column for each class, or for each of several labels.
    """
    if y.ndim != 2 or y.shape[1] < 2:
        return False
    is_number = y.dtype.kind in "biuf"
    return not is_number or (y.dtype.kind in "iu" and not _are_rows(y))


def times(weights: _Array, of_samples: _Array | None) -> _Array:
    """Return weights of samples or time steps, multiplied by weights of samples."""
    if of_samples is None:
        return weights
    is_of_steps = 0 < of_samples.ndim < weights.ndim
    product: _Array = weights * (of_samples[:, None] if is_of_steps else of_samples)
    return product


def _flat(y: _Array) -> _Array:
    """Return labels in one dimension."""
    flat: _Array = y.reshape(-1) if y.ndim > 2 else column_or_1d(y, warn=True)
    return flat


def _check_rows(y: _Array) -> None:
    if not (y.dtype.kind in "biuf" and _are_rows(y)):
        raise ValueError(
            "Each row of y must be one-hot, or probabilities that sum to 1, or 0 and 1 for each of "
            "several labels. Columns of labels are for models with an output for each column. "
            "Labels of time steps need an axis of length 1: y[..., None]"
        )


def _are_rows(y: _Array) -> bool:
    return _is_distribution(y) or bool(np.isin(y, (0, 1)).all())


def _is_distribution(y: _Array) -> bool:
    return bool(y.min() >= 0 and np.allclose(y.sum(axis=-1), 1))


def positions(labels: _Array, classes: _Array) -> _Array:
    """Return the index of each label in the sorted `classes`.

    Raises
    ------
    ValueError
        If a label is none of the classes.
    """
    unknown = np.setdiff1d(labels, classes)
    if unknown.size:
        raise ValueError(
            f"Found unknown categories: y has labels that fit has not seen: {unknown.tolist()}"
        )
    return np.searchsorted(classes, labels)


def for_loss(
    y: _Array, n_classes: int, loss: Any, units: int | None, where: str, *, are_indices: bool
) -> _Array:
    """Return targets in the form that a loss needs.

    Parameters
    ----------
    y : ndarray
        Indices of classes, of shape (n_samples,) or (n_samples, n_steps); or probabilities, with
        one more axis.
    n_classes : int
        Number of classes.
    loss : object
        The loss that the output of a model is compiled with.
    units : int or None
        Number of units of this output; None if it is not known.
    where : str
        The parameter that gave the model, for the error message.
    are_indices : bool
        Whether `y` has indices.

    Raises
    ------
    EstimatorError
        If the model has too few output units.
    """
    if units is not None and units < n_classes and (units > 1 or n_classes > 2):
        raise EstimatorError(
            f"The model has {units} output units for {n_classes} classes",
            where=where,
            cure="give the last layer one unit per class (for two classes, one is enough)",
        )
    sparse = _is_sparse(loss, units, n_classes)
    if are_indices and sparse is False:
        # A fold may lack a class that the model has a unit for.
        return np.eye(units or n_classes, dtype="float32")[y]
    if not are_indices and (sparse or units == 1) and (y.max(axis=-1) == 1).all():
        y, are_indices = y.argmax(axis=-1), True
    # Without an axis of units, Keras would take the axis of steps for it.
    return y[..., None] if are_indices and y.ndim > 1 and units == 1 else y


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
    return _name(loss).lower().replace("_", "")


def _name(loss: Any) -> str:
    return loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)


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
