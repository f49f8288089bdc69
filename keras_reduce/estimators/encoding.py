"""Transformers of Keras models: the code of an autoencoder, or the output of any model."""

# ruff: noqa: N803  scikit-learn calls its matrix X, and passes it by that name.

from __future__ import annotations

import weakref
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ..errors import EstimatorError
from ..families import named_parts
from . import data, scoring
from .base import KerasEstimator, is_model
from .parameters import title

__all__ = ["KerasEncoder"]

_Array = NDArray[Any]

# Parts of models by the parameters that define them. Keras traces a new part at its first
# prediction, so each is made once.
_parts: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()


class KerasEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, KerasEstimator):  # type: ignore[misc]
    """Base class of the transformers with parameters by name and with routed parameters."""

    encoder: Any
    decoder: Any
    supervised: bool

    def __sklearn_tags__(self) -> Any:
        """Return the estimator tags of scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self.supervised
        # A loss of Keras can't take a sparse X as targets.
        tags.input_tags.sparse = self.supervised
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _array(self, X: Any) -> Any:
        if not self.supervised and hasattr(X, "toarray"):
            raise EstimatorError(
                "X is sparse, and a loss of Keras takes dense targets only",
                where="X",
                cause="without supervised=True, the model is trained to reproduce X",
                cure="make it dense before: sparse_output=False in OneHotEncoder, a TruncatedSVD, "
                "or X.toarray()",
            )
        return super()._array(X)

    def _holds_parameters(self, attribute: str) -> bool:
        return attribute in ("decoder", "encoder") or super()._holds_parameters(attribute)

    def _own_targets(self, X: Any, y: Any) -> Any:
        return y if self.supervised else X

    def _require_targets(self, y: Any) -> None:
        if self.supervised:
            super()._require_targets(y)

    def fit(
        self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None, **kwargs: Any
    ) -> Self:
        """Build a new model and train it, to reproduce `X` unless `supervised` is set.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of Keras
            The samples.
        y : array-like, optional
            The targets; ignored unless `supervised` is set.
        sample_weight : array-like of shape (n_samples,), optional
            Weights.
        **kwargs
            Further arguments for Keras's ``fit``; they take precedence over the constructor's.
            ``validation_data=(X, None)`` validates how samples are reproduced.

        Returns
        -------
        KerasTransformer
            This estimator, fitted.

        Raises
        ------
        EstimatorError
            If there is no valid build function, or its model doesn't fit the targets.
        ValueError
            If scikit-learn's validation of the data fails.
        """
        return super().fit(X, y, sample_weight, **kwargs)

    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None, **kwargs: Any
    ) -> Self:
        """Train the model for one more epoch, or a new model for its first.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        **kwargs
            As for `fit`, without ``epochs`` and ``initial_epoch``.

        Returns
        -------
        KerasTransformer
            This estimator.

        Raises
        ------
        EstimatorError
            As for `fit`.
        """
        return super().partial_fit(X, y, sample_weight, **kwargs)

    def transform(self, X: Any) -> _Array:
        """Return the output of the encoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of `fit`
            The samples.

        Returns
        -------
        ndarray of shape (n_samples, n_codes), or of more dimensions
            The codes.

        Raises
        ------
        EstimatorError
            If the model has no such encoder, or the encoder has several outputs.
        NotFittedError
            If `fit` has not been called.
        """
        check_is_fitted(self)
        features = self._features(self._inputs(X))
        return self._answer(self._model_part("encoder"), features)

    def inverse_transform(self, X: Any) -> _Array:
        """Return the output of the decoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_codes)
            Codes, as `transform` returns them.

        Returns
        -------
        ndarray
            Samples in the form of the model's output.

        Raises
        ------
        EstimatorError
            If the model has no decoder.
        NotFittedError
            If `fit` has not been called.
        """
        check_is_fitted(self)
        return self._answer(self._model_part("decoder"), np.asarray(X))

    def _answer(self, part: Any, features: Any) -> _Array:
        arguments = self._sized(self._arguments(part, "predict", {}), features)
        predicted = data.in_dtypes_of_numpy(part.predict(x=features, **arguments))
        return data.single_output(predicted, type(self).__name__)

    @available_if(lambda self: not self.supervised)  # type: ignore[untyped-decorator]
    def score(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """Return how well the model reproduces the samples: the share of their variance.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of `fit`
            The samples.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            Weights.

        Returns
        -------
        float
            R², weighted by the variance of each feature; 1 is perfect.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        """
        inputs = np.asarray(self._inputs(X))
        predicted = data.single_output(self._raw(X, {}), type(self).__name__)
        flat = (len(inputs), -1)
        return scoring.r2(
            inputs.reshape(flat),
            predicted.reshape(flat),
            sample_weight,
            multioutput="variance_weighted",
        )

    @property
    def _n_features_out(self) -> int:
        shape = data.output_shape(self._model_part("encoder"))
        if shape is None:
            raise AttributeError("The shape of the encoder's output is not known")
        return int(shape[-1] or 0)

    # -- parts of the model -----------------------------------------------------------------------

    def _model_part(self, name: str) -> Any:
        """Return the encoder or decoder, which is made once for each model."""
        model = self.model_
        definition = (name, self.encoder, self.decoder if name == "decoder" else None)
        cached = _parts.setdefault(model, {})
        if definition not in cached:
            part = self._new_part(name)
            if part is model:
                return model  # An entry would keep it alive.
            cached[definition] = part
        return cached[definition]

    def _new_part(self, name: str) -> Any:
        model, given, where = self.model_, getattr(self, name), f"{type(self).__name__}.{name}"
        if given is None and name == "encoder":
            return model
        if given is None:
            return self._after_encoder()
        if callable(given):
            part = given(model)
        elif name == "encoder" and named_parts.layer_output(model, given) is not None:
            return named_parts.part_model(model.inputs, named_parts.layer_output(model, given))
        else:
            part = getattr(model, given, None)
        if not is_model(part):
            raise EstimatorError(
                f"{name}={title(given) if callable(given) else given!r} gives no model",
                where=where,
                cause=f"it gives {title(part)}; the layers of the model are "
                f"{', '.join(layer.name for layer in model.layers)}",
                cure="pass the name of a layer of a functional or sequential model, or of an "
                "attribute of a subclassed one that is a model; or a function from the model to "
                "the part",
            )
        return part

    def _after_encoder(self) -> Any:
        """Return the layers of a functional or sequential model after the encoder."""
        where = f"{type(self).__name__}.decoder"
        code = (
            named_parts.layer_output(self.model_, self.encoder)
            if isinstance(self.encoder, str)
            else None
        )
        cure = "pass decoder: the name of an attribute that is a model, or a function"
        if code is None:
            raise EstimatorError(
                "There is no decoder",
                where=where,
                cause="encoder names no layer of a functional or sequential model",
                cure=cure,
            )
        try:
            return named_parts.part_model(code, self.model_.outputs)
        except ValueError as error:
            raise EstimatorError(
                "The output of the model can't be computed from the code alone",
                where=where,
                cause=f"{error}",
                cure=cure,
            ) from error
