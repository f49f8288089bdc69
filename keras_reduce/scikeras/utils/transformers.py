"""Encoders between data as scikit-learn has it, and data as a Keras model takes it.

They are the defaults of the properties `feature_encoder` and `target_encoder` of the estimators.
Wire format: pickles of fitted estimators name these classes by their paths.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted

from ...errors import EstimatorError
from ...estimators import data, labels
from ...families import named_parts

__all__ = ["ClassifierLabelEncoder", "Identity", "RegressorTargetEncoder", "TargetReshaper"]

_Array = NDArray[Any]


class Identity(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Encoder that returns its input, of any kind: arrays, or a list or dict of them."""

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        """Return this encoder."""
        return self

    def transform(self, X: Any) -> Any:  # noqa: N803
        """Return `X`."""
        return X

    def inverse_transform(self, X: Any, *, return_proba: bool = False) -> Any:  # noqa: N803
        """Return `X`."""
        return X


class TargetReshaper(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Encoder that makes one-dimensional targets a column, and a column one-dimensional again.

    Attributes
    ----------
    ndim_ : int
        Number of dimensions of the targets that `fit` got.
    """

    def fit(self, y: _Array) -> Self:
        """Remember the number of dimensions of `y`."""
        self.ndim_ = y.ndim
        return self

    def transform(self, y: _Array) -> _Array:
        """Return `y` with at least two dimensions."""
        return y[:, None] if y.ndim == 1 else y

    def inverse_transform(self, y: _Array) -> _Array:
        """Return `y` with one dimension if that of `fit` had one, and `y` is one column."""
        check_is_fitted(self, msg="This %(name)s is not initialized. Call 'fit' first.")
        return y[:, 0] if self.ndim_ == 1 and y.ndim == 2 else y


class ClassifierLabelEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Default encoder of a classifier's targets.

    Labels are encoded as indices into `classes_`, in a column, or one-hot for the loss
    "categorical_crossentropy". Rows of a label indicator matrix stay as they are.

    Parameters
    ----------
    loss : str, class, function, keras.losses.Loss or None, default=None
        The loss that gets the targets.
    categories : "auto" or list of one ndarray, default="auto"
        All labels. With "auto", those of the `y` of `fit`.

    Attributes
    ----------
    classes_ : ndarray or None
        The labels, sorted; None if `y` has several columns of labels.
    n_classes_ : int or None
        Number of classes.
    n_outputs_ : int
        1, as a loss takes the targets for one output.
    n_outputs_expected_ : int
        Number of outputs that the model must have.
    """

    def __init__(self, loss: Any = None, categories: Any = "auto") -> None:
        self.loss = loss
        self.categories = categories

    def fit(self, y: _Array) -> Self:
        """Learn the classes.

        Raises
        ------
        EstimatorError
            If `y` is neither labels nor a label indicator matrix.
        """
        self._has_steps = y.ndim > 2 and y.shape[-1] == 1
        target_type = type_of_target(y.reshape(-1) if self._has_steps else y)
        has_categories = not isinstance(self.categories, str)
        if target_type == "binary" and has_categories:
            target_type = type_of_target(self.categories[0])
        self._y_shape, self._y_dtype = y.shape, y.dtype
        self.classes_: Any = None
        if target_type in ("binary", "multiclass"):
            self.classes_ = np.asarray(self.categories[0]) if has_categories else np.unique(y)
        elif target_type == "multilabel-indicator":
            self.classes_ = np.arange(y.shape[1])
            if y.min() == 0 and (y.sum(axis=1) == 1).all():
                target_type = "multiclass-onehot"
        elif target_type != "multiclass-multioutput":
            raise EstimatorError(
                f"Unknown label type: {target_type}",
                where="y",
                cause="a classifier takes labels, or a label indicator matrix",
                cure="use KerasRegressor for numbers; for other targets, override target_encoder "
                "in a subclass",
            )
        self._target_type = target_type
        self.n_classes_ = None if self.classes_ is None else len(self.classes_)
        self.n_outputs_ = 1
        self.n_outputs_expected_ = 1
        return self

    def transform(self, y: _Array) -> _Array:
        """Return targets for the loss.

        Raises
        ------
        EstimatorError
            If the number of columns is not that of the `y` of `fit`.
        ValueError
            If `y` has labels that `fit` has not seen.
        """
        if y.shape[1:] != self._y_shape[1:] and not (y.ndim > 2 and self._has_steps):
            raise EstimatorError(
                f"Detected ``y`` to have shape {y.shape}, and the y of fit had {self._y_shape}",
                where="y",
                cure="pass as many columns, or features, of y as to fit",
            )
        if self._target_type not in ("binary", "multiclass"):
            return y
        position = labels.positions(y.reshape(-1), self.classes_)
        position = position.reshape(y.shape[:-1] if self._has_steps else len(y))
        if self._target_type == "multiclass" and labels.is_categorical(self.loss):
            return np.eye(len(self.classes_), dtype=named_parts.floatx())[position]
        return position[..., None].astype(named_parts.floatx())

    def inverse_transform(self, y: Any, return_proba: bool = False) -> _Array:
        """Return labels for the output of a model.

        Parameters
        ----------
        y : ndarray
            Probabilities: one column for each class or label, or one column for two classes.
        return_proba : bool, default=False
            Whether to return the probabilities, with two columns for two classes.

        Returns
        -------
        ndarray
            Labels, in the form that `y` of `fit` had; or probabilities.

        Raises
        ------
        EstimatorError
            If there are several outputs, or columns of labels, for which a subclass must define
            the labels.
        """
        raw = data.single_output(y, f"{type(self).__name__}.inverse_transform")
        if self._target_type in ("binary", "multiclass"):
            n_classes = len(self.classes_)
            units = raw.shape[-1] if raw.ndim > 1 else 1
            if units < n_classes and (units > 1 or n_classes > 2):
                raise EstimatorError(
                    f"The model has {units} output units for {n_classes} classes",
                    where="model",
                    cure="give the last layer one unit per class",
                )
            raw = labels.probabilities(raw, None, max(n_classes, 2), has_steps=self._has_steps)
            if n_classes == 1:
                raw = np.ones_like(raw[..., :1])
        if return_proba:
            return raw
        if self._target_type in ("binary", "multiclass"):
            predicted: _Array = self.classes_[raw.argmax(axis=-1)]
            if self._has_steps:
                return predicted[..., None]
        elif self._target_type == "multiclass-onehot":
            predicted = np.eye(raw.shape[1], dtype=int)[raw.argmax(axis=1)]
        elif self._target_type == "multilabel-indicator":
            predicted = (raw > 0.5).astype(int)
        else:
            raise EstimatorError(
                "Labels are not defined for several columns of classes",
                where="predict",
                cause=f"y is of the type {self._target_type!r}, and the output of the model may "
                "mean anything",
                cure="override target_encoder with an encoder whose inverse_transform returns the "
                "labels",
            )
        return predicted.reshape(-1, *self._y_shape[1:])

    def get_metadata(self) -> dict[str, Any]:
        """Return attributes for the estimator, and for `meta` of the build function."""
        return {
            "classes_": self.classes_,
            "n_classes_": self.n_classes_,
            "n_outputs_": self.n_outputs_,
            "n_outputs_expected_": self.n_outputs_expected_,
        }


class RegressorTargetEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Default encoder of a regressor's targets, which gives predictions the form of the targets.

    Attributes
    ----------
    n_outputs_ : int
        Number of columns of `y`.
    n_outputs_expected_ : int
        Number of outputs that the model must have.
    """

    def fit(self, y: _Array) -> Self:
        """Remember the shape of `y`."""
        self._y_shape = y.shape
        self.n_outputs_ = 1 if y.ndim == 1 else y.shape[-1]
        self.n_outputs_expected_ = 1
        return self

    def transform(self, y: _Array) -> _Array:
        """Return `y`.

        Raises
        ------
        EstimatorError
            If the number of columns is not that of the `y` of `fit`.
        """
        if y.ndim == 2 and y.shape[1:] != self._y_shape[1:]:
            raise EstimatorError(
                f"Detected ``y`` to have shape {y.shape}, and the y of fit had {self._y_shape}",
                where="y",
                cure="pass as many columns as to fit",
            )
        return y

    def inverse_transform(self, y: Any) -> _Array:
        """Return the output of a model with as many dimensions as the `y` of `fit`.

        Raises
        ------
        EstimatorError
            If the output has another form than the targets.
        """
        raw = data.single_output(y, f"{type(self).__name__}.inverse_transform")
        return data.like_targets(raw, len(self._y_shape))

    def get_metadata(self) -> dict[str, Any]:
        """Return attributes for the estimator, and for `meta` of the build function."""
        return {"n_outputs_": self.n_outputs_, "n_outputs_expected_": self.n_outputs_expected_}
