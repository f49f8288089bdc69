"""The implementation beneath all estimators: building, training, predicting, cloning, pickling.

The subclasses differ in their parameters, and in how they encode data. They are `BaseWrapper` of
`keras_reduce.wrappers`, with parameters by name, and that of `keras_reduce.scikeras.wrappers`, with
routed parameters.
"""

# ruff: noqa: N803  scikit-learn calls its matrix X, and passes it by that name.

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # scikit-learn 1.5, the last version that works with the wrappers of Keras 2.12

    def validate_data(estimator: Any, X: Any, *, reset: bool, **_: Any) -> None:
        """Remember names and number of the columns, or compare them with the remembered ones."""
        estimator._check_feature_names(X, reset=reset)
        estimator._check_n_features(X, reset=reset)


from .. import families
from ..core import keras_backend
from ..custom_objects import by_value
from ..dry_run import dry_pickler
from ..errors import EstimatorError, EstimatorTypeError, ReduceError
from ..families._shared.lookups import LOOKUPS
from ..trace_cache.cache import build_optimizer
from . import callbacks, data, seeding
from .fit_tasks import CallbackSupportMixin, FitTask, with_callbacks
from .parameters import FIT, title

__all__ = ["KerasEstimator", "KerasIncrementalClassifier", "copied_model", "is_model"]

_Array = NDArray[Any]


def is_model(obj: Any) -> bool:
    """Return whether `obj` is a Keras model."""
    family = families.of(obj)
    return family is not None and family.is_model(obj)


def copied_model(model: Any, where: str) -> Any:
    """Return a copy of a model that was given in place of a build function.

    Parameters
    ----------
    model : keras.Model
        The model, which keeps its weights while the copy is trained.
    where : str
        The parameter that gave it, for the error message.

    Raises
    ------
    EstimatorError
        If the model can't be copied.
    """
    copied = callbacks.copied(model)
    if copied is model:
        raise EstimatorError(
            "The model can't be copied for a fit",
            where=where,
            cause="each fit trains a copy of the model, and Keras can't make one",
            cure="call keras_reduce.install(), which makes more models copyable; or pass a "
            "function that builds the model",
        )
    return copied


class KerasEstimator(CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """A Keras model as a scikit-learn estimator, whose subclasses define the parameters."""

    # Arguments that metadata routing may pass, if they are requested: scikit-learn finds those that
    # a method names by itself.
    __metadata_request__fit = dict.fromkeys(FIT - {"sample_weight"})
    __metadata_request__partial_fit = dict.fromkeys(
        FIT - {"epochs", "initial_epoch", "sample_weight"}
    )

    # The parameter that holds the build function, and the attributes that hold parameters.
    _BUILDER: str
    random_state: Any
    model_: Any
    history_: Any

    # -- parameters: for subclasses to define -----------------------------------------------------

    def _build_function(self) -> Callable[..., Any]:
        """Return the function that builds a model; raise an error if there is none."""
        raise NotImplementedError

    def _build_arguments(self, build_function: Callable[..., Any]) -> dict[str, Any]:
        """Return the arguments for the build function."""
        raise NotImplementedError

    def _arguments(self, model: Any, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments for a `method` of `model`: defaults, the constructor's, then `given`."""
        raise NotImplementedError

    def _callback_parameters(self) -> dict[str, Any]:
        """Return those parameters that were given and are callbacks."""
        raise NotImplementedError

    def _replace(self, values: Mapping[str, Any]) -> None:
        """Set parameters that were given before, without a check."""
        raise NotImplementedError

    def _path_of(self, name: str) -> str:
        """Return the path of a parameter below the estimator."""
        return name

    def _holds_parameters(self, attribute: str) -> bool:
        """Return whether an attribute is a parameter, or holds several of them."""
        raise NotImplementedError

    # -- data: for subclasses to extend -----------------------------------------------------------

    @property
    def feature_encoder(self) -> Any:
        """Transformer of `X`; subclasses override it, for example to split columns into inputs."""
        return None

    _default_feature_encoder = feature_encoder

    def _inputs(self, X: Any, *, reset: bool = False) -> Any:
        """Return `X`, validated and in a form for Keras; with `reset`, remember its shape."""
        if self._encodes_frame(X):
            validate_data(self, X, reset=reset, skip_check_array=True)
            if reset:
                self.X_shape_ = X.shape
            return X
        if data.is_ragged(X):
            if reset:
                self.X_shape_ = tuple(X.shape)
            return self._array(X)
        if isinstance(X, Mapping) and not issparse(X):  # SciPy's DOK format is a dict
            return {name: self._array(part) for name, part in X.items()}
        if isinstance(X, (list, tuple)) and X and all(getattr(x, "ndim", 0) > 1 for x in X):
            return [self._array(part) for part in X]
        array = self._array(X)
        if reset:
            self.X_shape_ = array.shape
        if array.ndim == 2:
            # With three or more dimensions, the second may be time, and free to vary.
            validate_data(self, X, reset=reset, skip_check_array=True)
        return array

    def _encodes_frame(self, X: Any) -> bool:
        """Return whether `X` is a frame with other columns than numbers, for a user's encoder."""
        has_encoder = type(self).feature_encoder is not type(self)._default_feature_encoder
        return has_encoder and hasattr(X, "columns") and np.asarray(X).dtype.kind in "OUS"

    def _array(self, X: Any) -> Any:
        if issparse(X):
            # Keras takes rows of this format, batch by batch, so that no dense copy of all exists.
            return self._check_array(X, "X", accept_sparse="csr")
        if data.is_ragged(X):
            values = np.asarray(X.flat_values)
            self._check_array(values, "X", ensure_2d=False, allow_nd=True, dtype=None)
            return X
        with data.naming_ragged(X, "X"):
            array = np.asarray(X)
            if array.dtype.kind in "US" or (
                array.dtype.kind == "O"
                and array.size > 0
                and all(isinstance(value, str) for value in array.flat)
            ):
                # Text, for a model with its own TextVectorization or StringLookup. Keras accepts
                # strings as an object array only.
                return array.astype(object)
            return self._check_array(X, "X", allow_nd=True)

    def _check_array(self, values: Any, name: str, **options: Any) -> Any:
        """Return an array that scikit-learn has validated; NaN is allowed by a tag only."""
        data.check_not_masked(values, name)
        # scikit-learn 1.5 has other tags, and none of its versions has one for targets.
        has_tags = hasattr(BaseEstimator, "__sklearn_tags__")
        if has_tags and self.__sklearn_tags__().input_tags.allow_nan:
            options["ensure_all_finite"] = "allow-nan"
        return check_array(values, input_name=name, estimator=self, **options)

    def _targets(self, y: Any, *, reset: bool = False) -> Any:
        """Return `y`, validated; with `reset`, remember its shape and type."""
        raise NotImplementedError

    def _features(self, inputs: Any) -> Any:
        """Return validated inputs in the form that the model needs."""
        if self._is_encoded("feature"):
            inputs = self.feature_encoder_.transform(inputs)
        return data.with_text_tensors(inputs)

    def _fit_encoder(self, kind: str, values: Any) -> None:
        encoder = getattr(self, f"{kind}_encoder")
        if encoder is None:
            self.__dict__.pop(f"{kind}_encoder_", None)  # Of a fit before the class was changed.
            return
        setattr(self, f"{kind}_encoder_", encoder.fit(values))
        self.__dict__.update(encoder.get_metadata() if hasattr(encoder, "get_metadata") else {})

    def _is_encoded(self, kind: str) -> bool:
        return f"{kind}_encoder_" in vars(self)  # Not with a model that was set by hand.

    def _encode(self, model: Any, y: Any) -> Any:
        """Return validated targets in the form that the loss of `model` needs."""
        return y

    def _weighted(
        self, model: Any, inputs: Any, targets: Any, arguments: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Validate the weights among the `arguments` in place; return inputs and targets for them.

        Parameters
        ----------
        model : keras.Model
            The model to train.
        inputs, targets : object
            Validated data.
        arguments : dict
            Arguments for Keras's ``fit``.
        """
        if arguments.get("sample_weight") is not None:
            shape = data.output_shape(model)
            weights = data.checked_weights(arguments["sample_weight"], targets, shape)
            arguments["sample_weight"] = weights
        return inputs, targets

    def _sized(self, arguments: dict[str, Any], features: Any) -> dict[str, Any]:
        """Return arguments for a method of a model that gets these `features`."""
        return arguments

    # -- building and training --------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there is a model to predict with."""
        return "model_" in vars(self)

    def __sklearn_tags__(self) -> Any:
        """Return the estimator tags of scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        tags.input_tags.three_d_array = True
        tags.input_tags.sparse = True
        return tags

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _build(self) -> Any:
        """Return a new model from the build function."""
        build_function = self._build_function()
        arguments = self._build_arguments(build_function)
        if self.random_state is not None:
            seeding.set_seed(self._seed())
        model = build_function(**arguments)
        if not is_model(model):
            raise EstimatorError(
                f"The build function returned {title(model)}, not a Keras model",
                where=f"{type(self).__name__}.{self._BUILDER}",
                cause=f"{title(build_function)} has no return statement" if model is None else "",
                cure="return the compiled model",
            )
        return model

    def _begin(self, X: Any, y: Any) -> tuple[Any, Any, Any]:
        """Validate the data of a first fit and build a model; return model, inputs and targets."""
        inputs, targets = self._validated(X, y, reset=True)
        self._fit_encoder("feature", inputs)
        return self._build(), inputs, targets

    def _validated(self, X: Any, y: Any, *, reset: bool = False) -> tuple[Any, Any]:
        """Return validated inputs and targets of as many samples."""
        y = self._own_targets(X, y)
        inputs = self._inputs(X, reset=reset)
        with data.naming_ragged(y, "y"):
            targets = self._targets(self._separated(y, inputs), reset=reset)
        data.check_lengths(inputs, targets)
        return inputs, targets

    def _own_targets(self, X: Any, y: Any) -> Any:
        """Return the values that the model is trained to predict."""
        return y

    def _separated(self, y: Any, inputs: Any) -> Any:
        """Return targets of several outputs as a dict; others as they are."""
        return y

    def _resume(self, X: Any, y: Any, epoch: int) -> tuple[Any, Any, Any]:
        """Validate the data of a further fit; return the fitted model, inputs and targets."""
        inputs, targets = self._validated(X, y)
        if self.random_state is not None:
            # With the same seed at each call, all epochs would have the same order of samples.
            seeding.set_seed((self._seed() + epoch) % 2**31)
        return self.model_, inputs, targets

    @with_callbacks
    def _train(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        kwargs: Mapping[str, Any],
        resumed_at: int | None = None,
    ) -> Any:
        """Train a new model, or the fitted one if there is one; return Keras's history.

        Parameters
        ----------
        X, y, sample_weight : object
            The data.
        kwargs : mapping
            Arguments for Keras's ``fit`` that take precedence over the parameters.
        resumed_at : int, optional
            The epoch from which the fitted model is trained further; None for a new model.
        """
        keras_backend.require_training(f"{type(self).__name__}.fit")
        # Random seeds are global to the process.
        with seeding.fitting(is_seeded=self.random_state is not None):
            if resumed_at is not None and self.__sklearn_is_fitted__():
                model, inputs, targets = self._resume(X, y, resumed_at)
            else:
                model, inputs, targets = self._begin(X, y)
            given = dict(kwargs)
            if sample_weight is not None:
                given["sample_weight"] = sample_weight
            arguments = self._arguments(model, "fit", given)
            inputs, targets = self._weighted(model, inputs, targets, arguments)
            held_out = arguments.get("validation_data")
            if isinstance(held_out, (tuple, list)):
                X_val, y_val, *rest = held_out  # noqa: N806
                unseen, expected = self._validated(X_val, y_val)
                arguments["validation_data"] = (
                    self._features(unseen),
                    self._encode(model, expected),
                    *rest,
                )
            features = self._features(inputs)
            arguments = self._sized(arguments, features)
            metadata = None if sample_weight is None else {"sample_weight": sample_weight}
            task = FitTask(self, model, {"X": X, "y": y, "metadata": metadata})
            task.begin(arguments)
            if families.of(model) is families.by_name("keras3"):
                build_optimizer(model)
            with data.naming_ragged(features, "X"):
                history = model.fit(x=features, y=self._encode(model, targets), **arguments)
            self.model_ = model
            task.end()
            return history

    def _require_targets(self, y: Any) -> None:
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None, **kwargs: Any) -> Self:
        """Build a new model and train it."""
        raise NotImplementedError

    def partial_fit(
        self, X: Any, y: Any, sample_weight: ArrayLike | None = None, **kwargs: Any
    ) -> Self:
        """Train the model for one more epoch, or a new model for its first.

        The result is bit for bit that of Keras's ``fit`` for this epoch.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        **kwargs
            As for `fit`, without ``epochs`` and ``initial_epoch``.

        Returns
        -------
        BaseWrapper
            This estimator, with the epoch in `history_`.

        Raises
        ------
        EstimatorError
            As for `fit`.
        """
        self._require_targets(y)
        for name in ("epochs", "initial_epoch"):
            if name in kwargs:
                raise EstimatorTypeError(
                    f"Invalid argument {name} of partial_fit",
                    where=f"{type(self).__name__}.partial_fit",
                    cause="it trains for one epoch, from the current one",
                    cure="call partial_fit once for each epoch",
                )
        epoch = self._next_epoch()
        span = {"initial_epoch": epoch, "epochs": epoch + 1}
        self._record(self._train(X, y, sample_weight, {**kwargs, **span}, resumed_at=epoch))
        return self

    def _next_epoch(self) -> int:
        """Return the number of the epoch that follows those of `history_`."""
        raise NotImplementedError

    def _record(self, history: Any) -> None:
        """Keep Keras's history of a fit as `history_`."""
        raise NotImplementedError

    def _raw(self, X: Any, kwargs: Mapping[str, Any]) -> Any:
        """Return the prediction of the model for `X`."""
        check_is_fitted(self)
        features = self._features(self._inputs(X))
        arguments = self._sized(self._arguments(self.model_, "predict", kwargs), features)
        with data.naming_ragged(features, "X"):
            predicted = self.model_.predict(x=features, **arguments)
        return data.in_dtypes_of_numpy(predicted)

    # -- cloning and pickling ---------------------------------------------------------------------

    def __sklearn_clone__(self) -> Self:
        """Return an unfitted estimator with copies of the parameters.

        Parts of callbacks that can't be copied are shared, since a clone stays in this process.

        Raises
        ------
        EstimatorError
            If another parameter can't be copied.
        """
        given = self._callback_parameters()
        original = copy.copy(self)
        original._replace(dict.fromkeys(given))
        try:
            twin: Self = super(KerasEstimator, original).__sklearn_clone__()
        except Exception as error:
            self._refuse_to_copy(original.get_params(deep=False), error)
            raise
        # A callback that was used refers to its model, which a clone doesn't need.
        memo = {id(self.model_): None} if self.__sklearn_is_fitted__() else {}
        twin._replace({name: callbacks.copied(each, memo) for name, each in given.items()})
        return twin

    def _refuse_to_copy(self, parameters: Mapping[str, Any], error: Exception) -> None:
        """Raise an error for the first part of the `parameters` that can't be copied, if any."""
        for name, value in parameters.items():
            root = f"{type(self).__name__}.{self._path_of(name)}"
            for obstacle in dry_pickler.obstacles(value, root, "deepcopy"):
                raise EstimatorError(
                    f"The parameter {name} can't be copied for a clone",
                    where=obstacle.path,
                    cause=obstacle.why,
                    cure=f"{obstacle.cure}; or use a function, which clones share",
                ) from error

    # A build function is often a lambda, a closure or defined in __main__. Plain pickle can't carry
    # such a function and calls no reducer for functions, so the estimator replaces it.

    def __getstate__(self) -> dict[str, Any]:
        """Return the state, with functions that the receiver can't import by value.

        Raises
        ------
        ReduceError
            If a callback can't be pickled.
        """
        self._check_callbacks()
        state: dict[str, Any] = super().__getstate__()
        parameters = {name: state[name] for name in state if self._holds_parameters(name)}
        attributes = {name: state[name] for name in state if name not in parameters}

        def checks_itself(value: Any) -> bool:
            # An attribute may refer back to the estimator, as scikit-learn's requests of metadata.
            return isinstance(value, KerasEstimator) or families.of(value) is not None

        try:
            dry_pickler.check(self, attributes, name="", skip=checks_itself)
        except ReduceError as error:
            raise dry_pickler.located(error, self) from error
        # One level more than the default, for attributes that hold several parameters.
        packed = {name: by_value(value, LOOKUPS, levels=5) for name, value in parameters.items()}
        return {**state, **packed}

    def _check_callbacks(self) -> None:
        given = {self._path_of(name): each for name, each in self._callback_parameters().items()}
        try:
            dry_pickler.check(self, given, name=type(self).__name__, skip=lambda _: False)
        except ReduceError as error:
            raise ReduceError(
                "A callback can't be pickled",
                where=error.where,
                cause=error.cause,
                cure="fit with n_jobs=1 or in threads, where that part is shared; or pass the "
                f"callback to fit(callbacks=...), which doesn't keep it; or {error.cure}",
            ) from error

    # A copy stays in this process, so it shares functions.

    def __copy__(self) -> Self:
        """Return a copy that shares all attributes with this estimator."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a deep copy, which shares functions and classes only."""
        twin = memo[id(self)] = type(self).__new__(type(self))
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin


class KerasIncrementalClassifier(KerasEstimator):
    """Base class of classifiers, whose `partial_fit` takes the labels that come later."""

    # The labels that `partial_fit` was given.
    _categories: _Array | None = None

    def partial_fit(  # type: ignore[override]
        self,
        X: Any,
        y: Any,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        **kwargs: Any,
    ) -> Self:
        """Train the model for one more epoch, or a new model for its first.

        The result is bit for bit that of Keras's ``fit`` for this epoch.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array-like of shape (n_classes,), optional
            All labels, if `y` of the first call lacks some of them.
        **kwargs
            As for `fit`, without ``epochs`` and ``initial_epoch``.

        Returns
        -------
        KerasClassifier
            This estimator, with the epoch in `history_`.

        Raises
        ------
        EstimatorError
            As for `fit`.
        """
        if classes is not None:
            self._categories = np.unique(classes)
        try:
            return super().partial_fit(X, y, sample_weight, **kwargs)
        finally:
            self.__dict__.pop("_categories", None)
