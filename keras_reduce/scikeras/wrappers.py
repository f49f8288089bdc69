"""Estimators with the parameters of SciKeras.

Parameters are routed by a prefix: ``model__units`` to the build function, ``optimizer__...``,
``loss__...``, ``metrics__...`` and ``callbacks__...`` to the classes given by these names,
``compile__...``, ``fit__...`` and ``predict__...`` to Keras's methods, ``score__...`` to `scorer`.
The implementation is that of all estimators of this package: `keras_reduce.estimators`.

Wire format: pickles name these classes by their paths.
"""

# ruff: noqa: N803  scikit-learn calls its matrix X, and passes it by that name.

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import type_of_target

from ..errors import EstimatorError, EstimatorTypeError
from ..estimators import callbacks, data, labels, scoring, seeding
from ..estimators.base import (
    KerasEstimator,
    KerasIncrementalClassifier,
    copied_model,
    is_model,
)
from ..estimators.construction import constructed
from ..estimators.encoding import KerasEncoder
from ..estimators.parameters import (
    COMPILE,
    FIT,
    KERAS,
    PREDICT,
    names,
    pick,
    routed,
    similar,
    takes_any,
    title,
)
from ..families import named_parts
from .utils.transformers import ClassifierLabelEncoder, Identity, RegressorTargetEncoder

__all__ = ["BaseWrapper", "KerasClassifier", "KerasRegressor", "KerasTransformer"]

_Array = NDArray[Any]

_PREFIXES = frozenset(
    {
        "callbacks",
        "compile",
        "fit",
        "loss",
        "metrics",
        "model",
        "optimizer",
        "predict",
        "score",
        "weighted_metrics",
    }
)
_CALLBACKS = ("callbacks", "fit__callbacks", "predict__callbacks")


class BaseWrapper(KerasEstimator):
    """A Keras model as a scikit-learn estimator, with the parameters of SciKeras.

    `KerasClassifier` and `KerasRegressor` add encoders of targets and a score. This class itself
    is for other estimators, such as autoencoders; its predictions are what the model returns.

    Parameters
    ----------
    model : callable, keras.Model or None, default=None
        Function that returns a Keras model, compiled or not. None if a subclass has a method
        ``_keras_build_fn``. The function gets the parameters with the prefix ``model__``, and those
        of `kwargs` without a prefix; further, if it has arguments of these names, ``meta`` (a dict
        of properties of the data, such as ``n_features_in_``), ``compile_kwargs`` (a dict of
        arguments for ``compile``) and ``params`` (all parameters).

        A model may be given as it is. Then `fit` trains a copy of it, from the weights and the
        state of the optimizer that it has, so that each fit and each clone starts from the same.
        `initialize` takes the model itself.
    build_fn : callable, optional
        Older name of `model`.
    warm_start : bool, default=False
        Whether `fit` trains the model of the last fit further, in place of a new one.
    random_state : int, RandomState instance or None, default=None
        Seed for Python, NumPy and the framework, set before the model is built. None sets no seed.
    optimizer : str, class or keras.optimizers.Optimizer, default="rmsprop"
        The optimizer, if the build function does not compile the model. Instances are copied for
        each fit.
    loss : str, class, function or keras.losses.Loss, or a list or dict of these, optional
        The loss, if the build function does not compile the model.
    metrics : str, class, function or keras.metrics.Metric, or a list or dict of these, optional
        The metrics, if the build function does not compile the model.
    batch_size, validation_batch_size : int, optional
        As for Keras's ``fit``, and for ``predict``. -1 means all samples.
    verbose : int or str, default=1
        As for Keras's ``fit`` and ``predict``.
    callbacks : callback, class, or a list or dict of these, optional
        Callbacks of ``fit`` and ``predict``; ``fit__callbacks`` and ``predict__callbacks`` are for
        one of them. A callback is used as it is, and a clone gets a copy; a class is instantiated
        for each model.
    validation_split : float, default=0.0
        As for Keras's ``fit``.
    shuffle : bool, default=True
        As for Keras's ``fit``.
    run_eagerly : bool, default=False
        As for Keras's ``compile``.
    epochs : int, default=1
        Number of epochs of `fit`.
    **kwargs
        Parameters with a prefix, and arguments of the build function and of Keras's ``fit``,
        ``predict`` and ``compile``.

    Attributes
    ----------
    model_ : keras.Model
        The model.
    history_ : dict of str to list
        Losses and metrics of each epoch by full names, such as "mean_squared_error".
    feature_encoder_, target_encoder_ : transformer
        The encoders of `X` and `y`, fitted.
    n_features_in_ : int
        Length of the second axis of `X`.
    X_shape_, X_dtype_, y_dtype_, y_ndim_ : tuple, dtype, dtype, int
        Properties of the data of the first fit of the model.
    target_type_ : str
        Type of `y` as `sklearn.utils.multiclass.type_of_target` names it.

    Examples
    --------
    An autoencoder, which is no regressor of targets:

    >>> import keras, numpy as np
    >>> from keras_reduce.scikeras import BaseWrapper
    >>> def build(meta, units=1):
    ...     features = meta["n_features_in_"]
    ...     layers = [keras.layers.Dense(units), keras.layers.Dense(features)]
    ...     return keras.Sequential([keras.Input((features,)), *layers])
    >>> coder = BaseWrapper(build, loss="mse", model__units=2, fit__epochs=2, verbose=0)
    >>> X = np.ones((6, 3))
    >>> coder.fit(X, X).predict(X).shape
    (6, 3)
    """

    _BUILDER = "model"
    # A subclass whose model takes more arguments adds them here.
    _fit_kwargs = FIT - {"callbacks", "validation_data"}
    _predict_kwargs = PREDICT
    _compile_kwargs = COMPILE

    def __init__(
        self,
        model: Any = None,
        *,
        build_fn: Any = None,
        warm_start: bool = False,
        random_state: Any = None,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        batch_size: int | None = None,
        validation_batch_size: int | None = None,
        verbose: int | str = 1,
        callbacks: Any = None,
        validation_split: float = 0.0,
        shuffle: bool = True,
        run_eagerly: bool = False,
        epochs: int = 1,
        **kwargs: Any,
    ) -> None:
        self.model = model
        self.build_fn = build_fn
        self.warm_start = warm_start
        self.random_state = random_state
        self.optimizer = optimizer
        self.loss = loss
        self.metrics = metrics
        self.batch_size = batch_size
        self.validation_batch_size = validation_batch_size
        self.verbose = verbose
        self.callbacks = callbacks
        self.validation_split = validation_split
        self.shuffle = shuffle
        self.run_eagerly = run_eagerly
        self.epochs = epochs
        # Private, since scikit-learn's constructors set nothing public but named parameters.
        self._routed = kwargs

    def __getattr__(self, name: str) -> Any:
        """Return a parameter that has no argument of its own in the constructor."""
        if name == "__name__":
            return type(self).__name__  # As SciKeras's estimators have it.
        others = {} if name.startswith("__") else vars(self).get("_routed", {})
        if name in others:
            return others[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # -- parameters -------------------------------------------------------------------------------

    def _get_param_names(self) -> list[str]:
        """Return the names of the parameters that the constructor takes."""
        named, is_open, _ = _constructor(type(self))
        others = self._routed if is_open else ()
        return sorted({*filter(vars(self).__contains__, named), *others})

    def _parameters(self) -> dict[str, Any]:
        """Return all parameters, including those that the constructor of a subclass sets."""
        _, _, all_names = _constructor(type(self))
        return {**self._routed, **pick(vars(self), all_names)}

    def set_params(self, **params: Any) -> Self:
        """Set parameters, including those that the constructor was not given.

        Parameters
        ----------
        **params
            Arguments of the constructor, with a prefix or without, and arguments of the build
            function.

        Returns
        -------
        BaseWrapper
            This estimator. Nothing is set if one of the parameters is refused.

        Raises
        ------
        EstimatorError
            A subclass of ``ValueError``, if nothing takes a parameter of this name.
        """
        direct, nested = {}, {}
        for name, value in params.items():
            first, _, rest = name.partition("__")
            if rest and first not in _PREFIXES and hasattr(vars(self).get(first), "set_params"):
                nested[name] = value
            elif self._is_legal(name, params):
                direct[name] = value
            else:
                legal = sorted({*self._parameters(), *KERAS, *COMPILE})
                cure = similar(name, legal) or (
                    "This issue can likely be resolved by setting this parameter in the "
                    f"constructor; or give the build function an argument {name!r}"
                )
                raise EstimatorError(
                    f"Invalid parameter {name} for estimator {type(self).__name__}",
                    where=type(self).__name__,
                    cause="neither the constructor, nor the build function, nor a method of Keras "
                    "has an argument of this name",
                    cure=cure,
                )
        self._replace(direct)
        if nested:
            super().set_params(**nested)
        return self

    def _is_legal(self, name: str, params: Mapping[str, Any]) -> bool:
        first, _, rest = name.partition("__")
        if name in self._parameters() or (rest and first in _PREFIXES):
            return True
        if name in KERAS | COMPILE:
            return True
        builder = params.get("model", self.model) or params.get("build_fn", self.build_fn)
        builder = builder or getattr(self, "_keras_build_fn", None)
        if rest or not callable(builder) or is_model(builder):
            return False
        return takes_any(builder) or name in names(builder)

    def _replace(self, values: Mapping[str, Any]) -> None:
        _, _, all_names = _constructor(type(self))
        for name, value in values.items():
            if name in all_names:
                setattr(self, name, value)
        others = {name: value for name, value in values.items() if name not in all_names}
        self._routed = {**self._routed, **others}

    def _callback_parameters(self) -> dict[str, Any]:
        given = pick(self._parameters(), _CALLBACKS)
        return {name: value for name, value in given.items() if value is not None}

    def _holds_parameters(self, attribute: str) -> bool:
        return attribute == "_routed" or attribute in _constructor(type(self))[2]

    def _arguments(self, model: Any, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        is_fit = method == "fit"
        parameters = self._parameters()
        arguments = {
            **pick(parameters, self._fit_kwargs if is_fit else self._predict_kwargs),
            **pick(parameters, {"validation_data"} if is_fit else ()),
            **routed(parameters, method),
        }
        mine = self._fit_callbacks if is_fit else self._predict_callbacks
        return {**arguments, "callbacks": [*mine], **given}

    # Those of a model that `fit` or `initialize` has built.
    _fit_callbacks: Sequence[Any] = ()
    _predict_callbacks: Sequence[Any] = ()

    def _sized(self, arguments: dict[str, Any], features: Any) -> dict[str, Any]:
        for name in ("batch_size", "validation_batch_size"):
            if arguments.get(name) == -1:
                arguments[name] = data.n_samples(features)
        return arguments

    # -- building ---------------------------------------------------------------------------------

    def _build_function(self) -> Callable[..., Any]:
        given = self.build_fn if self.model is None else self.model
        method: Callable[..., Any] | None = getattr(self, "_keras_build_fn", None)
        if given is None and method is not None:
            return method
        where = f"{type(self).__name__}.model"
        if given is not None and method is not None:
            raise EstimatorError(
                "There are two ways to build a model",
                where=where,
                cause=f"model is {title(given)}; with it, the class cannot implement "
                "``_keras_build_fn``",
                cure="leave out model, or remove the method",
            )
        if is_model(given):
            taken = (
                given if getattr(self, "_takes_model_itself", False) else copied_model(given, where)
            )
            return lambda: taken
        if not callable(given):
            raise EstimatorTypeError(
                "There is nothing to build a model with",
                where=where,
                cause=f"model is {given!r}, and this class has no method _keras_build_fn",
                cure="``model`` must be a function that returns a Keras model, or a model; or the "
                "class must implement ``_keras_build_fn``",
            )
        build_function: Callable[..., Any] = given
        return build_function

    def _build_arguments(self, build_function: Callable[..., Any]) -> dict[str, Any]:
        accepted, is_open = names(build_function), takes_any(build_function)
        reserved = (KERAS | COMPILE) - accepted
        plain = {
            name: value
            for name, value in self._routed.items()
            if "__" not in name and name not in reserved
        }
        arguments = {**plain, **routed(self._parameters(), "model")}
        for name in arguments:
            if not is_open and name not in accepted:
                is_built = is_model(self.model)
                what = "the model" if is_built else title(build_function)
                cure = "leave it out"
                if not is_built:
                    cure = f"give {what} an argument {name!r}, or leave it out"
                raise EstimatorTypeError(
                    f"{name} is not a legal parameter",
                    where=type(self).__name__,
                    cause=f"{what} got an unexpected keyword argument",
                    cure=similar(name, accepted) or cure,
                )
        if is_open or "meta" in accepted:
            arguments["meta"] = self._get_metadata()
        if is_open or "compile_kwargs" in accepted:
            arguments["compile_kwargs"] = self._get_compile_kwargs()
        if is_open or "params" in accepted:
            arguments["params"] = self.get_params()
        return arguments

    def _get_metadata(self) -> dict[str, Any]:
        """Return the attributes of this estimator that describe the data."""
        return {
            name: value
            for name, value in vars(self).items()
            if name.endswith("_")
            and not name.endswith("__")
            and not name.startswith("_")
            and name not in ("model_", "history_")
        }

    def _get_compile_kwargs(self) -> dict[str, Any]:
        """Return arguments for Keras's ``compile``, with names and classes replaced by objects."""
        parameters = self._parameters()
        arguments = {
            **pick(parameters, self._compile_kwargs),
            **routed(parameters, "compile"),
        }
        parts = {
            "loss": named_parts.loss,
            "metrics": named_parts.metric,
            "optimizer": named_parts.optimizer,
            "weighted_metrics": named_parts.metric,
        }
        for name, by_name in parts.items():
            if arguments.get(name) is not None:
                # An optimizer or a metric that was used has variables of another model.
                given = callbacks.copied(arguments[name]) if name != "loss" else arguments[name]
                where = f"{type(self).__name__}.{name}"
                below = routed(parameters, name, deep=True)
                arguments[name] = constructed(given, below, where, by_name)
        for name in ("metrics", "weighted_metrics"):
            if arguments.get(name) is not None and not isinstance(arguments[name], (dict, list)):
                arguments[name] = [arguments[name]]
        return arguments

    def _compile(self, model: Any) -> None:
        """Compile the model if the build function did not, and check the result."""
        is_compiled = getattr(model, "compiled", None)  # Keras 2 has no such attribute.
        if is_compiled is None:
            is_compiled = getattr(model, "optimizer", None) is not None
        if not is_compiled:
            model.compile(**self._get_compile_kwargs())
        if getattr(model, "optimizer", None) is None:
            raise EstimatorError(
                "You must provide an optimizer",
                where=f"{type(self).__name__}.optimizer",
                cause="the model has none",
                cure="pass an optimizer, or compile the model with one",
            )
        loss = getattr(model, "loss", None)
        parts: Any = loss.values() if isinstance(loss, dict) else loss
        if isinstance(loss, (list, tuple, dict)) and all(each is None for each in parts):
            raise EstimatorError(
                "The model has no loss for any of its outputs",
                where=f"{type(self).__name__}.loss",
                cause=f"the loss is {loss!r}",
                cure="provide a loss for at least one output",
            )
        self._check_loss(model)
        outputs = getattr(model, "outputs", None)
        expected = getattr(self, "n_outputs_expected_", None)
        if expected and outputs and len(outputs) != expected:
            raise EstimatorError(
                f"The model has {len(outputs)} outputs, and there are targets for {expected}",
                where=f"{type(self).__name__}.model",
                cause="the target encoder makes targets for another number of outputs",
                cure="override target_encoder in a subclass: its transform returns a list with an "
                "array for each output, and its get_metadata their number, n_outputs_expected_",
            )

    def _check_loss(self, model: Any) -> None:
        """Check that a model that the build function has compiled has the loss of the parameter."""
        default = _constructor_defaults(type(self)).get("loss")
        given, actual = self.loss, getattr(model, "loss", None)
        if given is None or given is default or not (_is_single(given) and _is_single(actual)):
            return
        wanted, got = (named_parts.full_name(each, "losses") for each in (given, actual))
        if wanted != got:
            raise EstimatorError(
                f"The parameter loss is {wanted} but model compiled with {got}",
                where=f"{type(self).__name__}.loss",
                cause="the build function compiles the model itself",
                cure="leave out the parameter, or compile with compile_kwargs['loss']",
            )

    def _seed(self) -> int:
        if not isinstance(self.random_state, np.random.RandomState):
            return super()._seed()
        # Each fit has the same seed, also from a generator.
        generator = np.random.RandomState()
        generator.set_state(self.random_state.get_state())
        return int(generator.randint(np.iinfo(np.int32).max))

    # -- data -------------------------------------------------------------------------------------

    @property
    def feature_encoder(self) -> Any:
        """Encoder of `X`; subclasses override it, for example to split columns into inputs."""
        return Identity()

    _default_feature_encoder = feature_encoder

    @property
    def target_encoder(self) -> Any:
        """Encoder of `y`; subclasses override it.

        Its ``inverse_transform`` returns predictions for the output of the model. Its method
        ``get_metadata``, if it has one, returns attributes for the estimator.
        """
        return Identity()

    def _type_of_target(self, y: _Array) -> str:
        """Return the type of the targets; of the labels of time steps, that of all labels."""
        if y.dtype.kind == "f" and not np.isfinite(y).all():
            return "continuous" if y.ndim == 1 else "continuous-multioutput"  # With NaN.
        return str(type_of_target(y.reshape(-1) if y.ndim > 2 and y.shape[-1] == 1 else y))

    def _inputs(self, X: Any, *, reset: bool = False) -> Any:
        inputs = super()._inputs(X, reset=reset)
        if not hasattr(inputs, "ndim") or hasattr(inputs, "columns"):
            return inputs  # Several inputs, or a frame for the encoder.
        if getattr(getattr(X, "dtype", None), "kind", "") == "O" and inputs.dtype.kind == "f":
            inputs = inputs.astype(named_parts.floatx())
        if reset:
            self.X_dtype_ = inputs.dtype
            if inputs.ndim > 1:
                self.n_features_in_ = inputs.shape[1]
        elif inputs.ndim != len(getattr(self, "X_shape_", inputs.shape)):
            raise EstimatorError(
                f"X has shape {inputs.shape}, and fit had {len(self.X_shape_)} dimensions in X",
                where="X",
                cure="pass samples of the form that fit got",
            )
        return inputs

    def _targets(self, y: Any, *, reset: bool = False) -> Any:
        targets: _Array = self._check_array(
            y, "y", ensure_2d=False, allow_nd=True, dtype=self._dtype_of_targets
        )
        if reset:
            self.target_type_ = self._type_of_target(targets)
            self.y_dtype_, self.y_ndim_ = targets.dtype, targets.ndim
        elif targets.ndim != getattr(self, "y_ndim_", targets.ndim):
            raise EstimatorError(
                f"y has {targets.ndim} dimensions, but this estimator was fitted with "
                f"{self.y_ndim_}",
                where="y",
                cure="pass targets of the form that fit got",
            )
        return targets

    _dtype_of_targets: str | None = None

    def _encode(self, model: Any, y: Any) -> Any:
        return self.target_encoder_.transform(y) if self._is_encoded("target") else y

    def _decode(self, raw: Any, **options: Any) -> Any:
        if not self._is_encoded("target"):
            return raw
        return self.target_encoder_.inverse_transform(raw, **options)

    def _weighted(
        self, model: Any, inputs: Any, targets: Any, arguments: dict[str, Any]
    ) -> tuple[Any, Any]:
        weights = arguments.get("sample_weight")
        if weights is None:
            arguments.pop("sample_weight", None)
            return inputs, targets
        if isinstance(weights, dict) or _is_list_of_arrays(weights):
            return inputs, targets  # One array for each output of the model.
        weights = data.checked_weights(weights, targets, data.output_shape(model))
        if weights.ndim == 1 and not weights.all():
            # Without its samples of weight 0, a fit is what it is in scikit-learn.
            kept = weights != 0
            inputs, targets = data.selected(inputs, kept), data.selected(targets, kept)
            weights = weights[kept]
        arguments["sample_weight"] = weights
        return inputs, targets

    # -- training ---------------------------------------------------------------------------------

    @property
    def current_epoch(self) -> int:
        """Number of epochs for which the model was trained."""
        return len(getattr(self, "history_", {}).get("loss", ()))

    @property
    def initialized_(self) -> bool:
        """True if there is a model to predict with."""
        return self.__sklearn_is_fitted__()

    def _initialize(self, X: Any, y: Any = None) -> tuple[Any, Any]:
        """Validate the data, fit the encoders and build the model; return the validated data."""
        if self._own_targets(X, y) is None:
            inputs, targets = self._inputs(X, reset=True), None
        else:
            inputs, targets = self._validated(X, y, reset=True)
            self._fit_encoder("target", targets)
        self._fit_encoder("feature", inputs)
        self.model_ = self._build()
        shared = self._constructed("callbacks")
        self._fit_callbacks = shared + self._constructed("fit__callbacks")
        self._predict_callbacks = shared + self._constructed("predict__callbacks")
        return inputs, targets

    def _constructed(self, name: str) -> list[Any]:
        where, parameters = f"{type(self).__name__}.{name}", self._parameters()
        value = constructed(parameters.get(name), routed(parameters, name, deep=True), where)
        return callbacks.listed(value, where)

    def initialize(self, X: Any, y: Any = None) -> Self:
        """Build the model without training it, for example to predict with a trained model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of `fit`
            Samples of the form that the model takes.
        y : array-like, optional
            Targets, from which the encoder of targets learns, for example the classes.

        Returns
        -------
        BaseWrapper
            This estimator. A model that was given as it is becomes its `model_`, without a copy:
            `partial_fit` then trains it.

        Raises
        ------
        EstimatorError
            If there is no valid build function.
        ValueError
            If scikit-learn's validation of `X` or `y` fails.
        """
        self._takes_model_itself = True
        try:
            with seeding.fitting(is_seeded=self.random_state is not None):
                self._initialize(X, y)
        finally:
            del self._takes_model_itself
        return self

    def _begin(self, X: Any, y: Any) -> tuple[Any, Any, Any]:
        inputs, targets = self._initialize(X, y)
        self._compile(self.model_)
        return self.model_, inputs, targets

    def _resume(self, X: Any, y: Any, epoch: int) -> tuple[Any, Any, Any]:
        model, inputs, targets = super()._resume(X, y, epoch)
        self._compile(model)
        return model, inputs, targets

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None, **kwargs: Any) -> Self:
        """Build a new model and train it; with `warm_start`, train the model further.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of Keras
            The samples: an array of any number of dimensions, a sparse matrix, or a list or dict of
            arrays for a model with several inputs. A `feature_encoder` gets it validated; a frame
            with columns of text or categories, as it is.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets, in any form that `target_encoder` takes.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_steps), optional
            Weights. Samples of weight 0 are left out. For a model with several outputs, also a
            list or dict with weights for each of them.
        **kwargs
            Further arguments for Keras's ``fit``; they take precedence over parameters.
            ``validation_data`` is validated and encoded like `X` and `y`.

        Returns
        -------
        BaseWrapper
            This estimator, fitted.

        Raises
        ------
        EstimatorError
            If there is no valid build function, or its model doesn't fit the targets.
        ValueError
            If scikit-learn's validation of `X`, `y` or `sample_weight` fails.
        """
        self._require_targets(y)
        parameters = self._parameters()
        epochs = kwargs.get("epochs", parameters.get("fit__epochs", self.epochs))
        start = kwargs.get("initial_epoch", parameters.get("fit__initial_epoch", 0))
        span = {"initial_epoch": start, "epochs": start + epochs}
        resumed_at = start if self.warm_start else None
        history = self._train(X, y, sample_weight, {**kwargs, **span}, resumed_at=resumed_at)
        if not self.warm_start or start == 0:
            self.history_ = {}
        self._record(history)
        return self

    def _next_epoch(self) -> int:
        return self.current_epoch

    def _record(self, history: Any) -> None:
        """Add the epochs of Keras's history to `history_`."""
        recorded = dict(getattr(self, "history_", {}))
        for name, values in history.history.items():
            full = name
            if name != "loss" and not name.startswith("val_"):
                full = _full_metric_name(name)
            recorded[full] = [*recorded.get(full, ()), *values]
        self.history_ = recorded

    # -- predicting -------------------------------------------------------------------------------

    def predict(self, X: Any, **kwargs: Any) -> Any:
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of `fit`
            The samples.
        **kwargs
            Further arguments for Keras's ``predict``; they take precedence over parameters.

        Returns
        -------
        ndarray
            The predictions in the form that the `y` of `fit` had, or that `target_encoder` gives
            them.

        Raises
        ------
        EstimatorError
            If the form of the model's output is not that of the targets.
        NotFittedError
            If neither `fit` nor `initialize` has been called.
        """
        return self._decode(self._raw(X, kwargs))

    @staticmethod
    def scorer(y_true: Any, y_pred: Any, **kwargs: Any) -> float:
        """Return the score of predictions; subclasses override it.

        Parameters
        ----------
        y_true, y_pred : array-like
            Targets and predictions.
        **kwargs
            ``sample_weight``, and the parameters with the prefix ``score__``.

        Raises
        ------
        NotImplementedError
            If a subclass defines no score.
        """
        raise NotImplementedError("A subclass of BaseWrapper must define the method scorer")

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return the score of the predictions for `X`, by `scorer`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of `fit`
            The samples.
        y : array-like
            The true targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights.

        Returns
        -------
        float
            Accuracy for a classifier, R² for a regressor.

        Raises
        ------
        NotFittedError
            If neither `fit` nor `initialize` has been called.
        """
        predicted = self.predict(X)
        options = routed(self._parameters(), "score")
        return float(
            self.scorer(self._targets(y), predicted, sample_weight=sample_weight, **options)
        )


class KerasClassifier(ClassifierMixin, KerasIncrementalClassifier, BaseWrapper):  # type: ignore[misc]
    """A Keras model as a scikit-learn classifier, with the parameters of SciKeras.

    Labels may be of any type. A model has one output with one unit for two classes, one for each
    class, or one for each label if `y` is a label indicator matrix. For other models, a subclass
    overrides `target_encoder`.

    Parameters
    ----------
    model : callable, keras.Model or None, default=None
        As for `BaseWrapper`.
    class_weight : dict, "balanced", list of these or None, default=None
        Weights of the classes by label. They multiply ``sample_weight``. A list has one item for
        each column of labels: it weights the column's output if the model has an output for each,
        else the products of the columns' weights are those of the samples.
    **kwargs
        Parameters of `BaseWrapper`.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted.
    n_classes_ : int
        Number of classes.
    target_type_ : str
        "binary", "multiclass", "multilabel-indicator" or "multiclass-multioutput".

    Examples
    --------
    >>> import keras, numpy as np
    >>> from keras_reduce.scikeras import KerasClassifier
    >>> def build(meta):
    ...     outputs = keras.layers.Dense(meta["n_classes_"], "softmax")
    ...     return keras.Sequential([keras.Input((meta["n_features_in_"],)), outputs])
    >>> loss = "sparse_categorical_crossentropy"
    >>> classifier = KerasClassifier(build, loss=loss, optimizer__learning_rate=0.1, verbose=0)
    >>> classifier.fit(np.ones((6, 2)), ["no", "yes", "maybe"] * 2).classes_.tolist()
    ['maybe', 'no', 'yes']
    """

    classes_: Any
    # `class_weight` becomes part of ``sample_weight``.
    _fit_kwargs = BaseWrapper._fit_kwargs - {"class_weight"}

    def __init__(
        self,
        model: Any = None,
        *,
        build_fn: Any = None,
        warm_start: bool = False,
        random_state: Any = None,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        batch_size: int | None = None,
        validation_batch_size: int | None = None,
        verbose: int | str = 1,
        callbacks: Any = None,
        validation_split: float = 0.0,
        shuffle: bool = True,
        run_eagerly: bool = False,
        epochs: int = 1,
        class_weight: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            model,
            build_fn=build_fn,
            warm_start=warm_start,
            random_state=random_state,
            optimizer=optimizer,
            loss=loss,
            metrics=metrics,
            batch_size=batch_size,
            validation_batch_size=validation_batch_size,
            verbose=verbose,
            callbacks=callbacks,
            validation_split=validation_split,
            shuffle=shuffle,
            run_eagerly=run_eagerly,
            epochs=epochs,
            **kwargs,
        )
        self.class_weight = class_weight

    # That of scikit-learn's mixin does not use `scorer`.
    score = BaseWrapper.score

    def __sklearn_tags__(self) -> Any:
        """Return the estimator tags of scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.classifier_tags.multi_label = True
        # The score depends on the model, and the default is one epoch.
        tags.classifier_tags.poor_score = True
        return tags

    @property
    def target_encoder(self) -> Any:
        """Encoder of labels; subclasses override it.

        Its ``inverse_transform`` takes an argument ``return_proba``, for `predict_proba`.
        """
        categories = "auto" if self._categories is None else [self._categories]
        return ClassifierLabelEncoder(self.loss, categories)

    def _type_of_target(self, y: _Array) -> str:
        target_type = super()._type_of_target(y)
        if target_type == "binary" and self._categories is not None:
            return super()._type_of_target(self._categories)
        return target_type

    def _encode(self, model: Any, y: Any) -> Any:
        encoded = super()._encode(model, y)
        if not self._has_labels() or labels.is_categorical(self.target_encoder_.loss):
            return encoded
        # The build function may have compiled the model with another loss than the parameter.
        position, where = encoded[..., 0].astype(int), f"{type(self).__name__}.model"
        n_classes = len(self.target_encoder_.classes_)
        shape = data.output_shape(model)
        units = shape[-1] if shape else None
        suited = labels.for_loss(position, n_classes, model.loss, units, where, are_indices=True)
        return suited if suited.ndim == encoded.ndim else encoded

    def _has_labels(self) -> bool:
        """Return whether the default encoder has encoded one label for each sample."""
        encoder = vars(self).get("target_encoder_")
        return type(encoder) is ClassifierLabelEncoder and self.target_type_ in (
            "binary",
            "multiclass",
        )

    def _weighted(
        self, model: Any, inputs: Any, targets: Any, arguments: dict[str, Any]
    ) -> tuple[Any, Any]:
        if self.class_weight is not None:
            weights = self._class_weights(model, targets)
            given = arguments.get("sample_weight")
            of_samples = None if given is None else np.asarray(given)
            if isinstance(weights, dict):
                combined: Any = {k: labels.times(each, of_samples) for k, each in weights.items()}
            elif isinstance(weights, list):
                combined = [labels.times(each, of_samples) for each in weights]
            else:
                combined = labels.times(weights, of_samples)
            arguments["sample_weight"] = combined
        return super()._weighted(model, inputs, targets, arguments)

    def _class_weights(self, model: Any, targets: _Array) -> Any:
        """Return the weight of each sample or time step, or a list or dict for several outputs."""
        if targets.ndim == 2 and targets.shape[1] > 1:
            encoded = self._encode(model, targets)
            columns, given = targets.T, self.class_weight
            if isinstance(encoded, (list, dict)) and isinstance(given, (list, tuple)):
                pairs = zip(given, columns, strict=True)
                weights = [compute_sample_weight(each, column) for each, column in pairs]
                is_dict = isinstance(encoded, dict)
                return dict(zip(encoded, weights, strict=True)) if is_dict else weights
            return compute_sample_weight(given, targets)
        classes = getattr(self, "classes_", None)
        if not isinstance(classes, np.ndarray):
            classes = np.unique(targets)
        position = labels.positions(targets.reshape(-1), classes)
        shape = targets.shape[:-1] if targets.ndim > 2 else len(targets)
        return labels.sample_weights(self.class_weight, position.reshape(shape), classes)

    def predict(self, X: Any, **kwargs: Any) -> Any:
        """Predict labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of `fit`
            The samples.
        **kwargs
            Further arguments for Keras's ``predict``; they take precedence over parameters.

        Returns
        -------
        ndarray
            The most probable labels, in the form that the `y` of `fit` had.

        Raises
        ------
        EstimatorError
            If the output of the model is not one for these labels.
        NotFittedError
            If neither `fit` nor `initialize` has been called.
        """
        return self._decode(self._probabilities(X, kwargs))

    def predict_proba(self, X: Any, **kwargs: Any) -> Any:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of `fit`
            The samples.
        **kwargs
            Further arguments for Keras's ``predict``; they take precedence over parameters.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`, two of them if the model has one output unit. If
            the loss has ``from_logits=True``, the model's logits are converted to probabilities.

        Raises
        ------
        EstimatorError
            If the output of the model is not one for these labels.
        NotFittedError
            If neither `fit` nor `initialize` has been called.
        """
        return self._decode(self._probabilities(X, kwargs), return_proba=True)

    def _probabilities(self, X: Any, kwargs: Mapping[str, Any]) -> Any:
        """Return the output of the model; logits are converted for the default encoder."""
        raw = self._raw(X, kwargs)
        encoder = vars(self).get("target_encoder_")
        has_logits = getattr(self.model_.loss, "from_logits", False)
        if not has_logits or type(encoder) is not ClassifierLabelEncoder:
            return raw
        raw = data.single_output(raw, f"{type(self).__name__}.predict")
        if self.target_type_ == "multilabel-indicator" and not labels.is_categorical(
            self.model_.loss
        ):
            return expit(raw)
        has_steps = raw.ndim > 2
        return labels.probabilities(
            raw, self.model_.loss, max(raw.shape[-1], 2), has_steps=has_steps
        )

    @staticmethod
    def scorer(y_true: Any, y_pred: Any, **kwargs: Any) -> float:
        """Return the accuracy of predicted labels; subclasses may override it.

        Parameters
        ----------
        y_true, y_pred : array-like
            True and predicted labels.
        **kwargs
            Further arguments of `sklearn.metrics.accuracy_score`.

        Returns
        -------
        float
            Fraction of correctly predicted labels.
        """
        return scoring.accuracy(y_true, y_pred, **kwargs)


class KerasRegressor(RegressorMixin, BaseWrapper):  # type: ignore[misc]
    """A Keras model as a scikit-learn regressor, with the parameters of SciKeras.

    Parameters
    ----------
    model : callable, keras.Model or None, default=None
        As for `BaseWrapper`.
    **kwargs
        Parameters of `BaseWrapper`.

    Attributes
    ----------
    n_outputs_ : int
        Number of columns of `y`.
    target_type_ : str
        Type of `y` as `sklearn.utils.multiclass.type_of_target` names it.

    Examples
    --------
    >>> import keras, numpy as np
    >>> from keras_reduce.scikeras import KerasRegressor
    >>> def build(units):
    ...     layers = [keras.Input((2,)), keras.layers.Dense(units), keras.layers.Dense(1)]
    ...     return keras.Sequential(layers)
    >>> estimator = KerasRegressor(build, loss="mse", optimizer="adam", model__units=3, verbose=0)
    >>> estimator.fit(np.ones((8, 2)), np.ones(8)).predict(np.ones((5, 2))).shape
    (5,)
    """

    _dtype_of_targets = "numeric"

    # That of scikit-learn's mixin does not use `scorer`.
    score = BaseWrapper.score

    def __sklearn_tags__(self) -> Any:
        """Return the estimator tags of scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        # The score depends on the model, and the default is one epoch.
        tags.regressor_tags.poor_score = True
        return tags

    @property
    def target_encoder(self) -> Any:
        """Encoder of targets; subclasses override it."""
        return RegressorTargetEncoder()

    @staticmethod
    def scorer(y_true: Any, y_pred: Any, **kwargs: Any) -> float:
        """Return the coefficient of determination, R²; subclasses may override it.

        Parameters
        ----------
        y_true, y_pred : array-like
            Targets and predictions.
        **kwargs
            Further arguments of `sklearn.metrics.r2_score`.

        Returns
        -------
        float
            R² of the predictions.
        """
        return scoring.r2(y_true, y_pred, **kwargs)


class KerasTransformer(KerasEncoder, BaseWrapper):
    """A Keras model as a scikit-learn transformer, for example an autoencoder.

    SciKeras has none; the parameters are those of its estimators.

    Parameters
    ----------
    model : callable, keras.Model or None, default=None
        As for `BaseWrapper`.
    encoder : str, callable or None, default=None
        The part of the model that `transform` answers with: the name of a layer of a functional or
        sequential model, whose output is the code; the name of an attribute of a subclassed model;
        or a function from the fitted model to a model. None means the whole model.
    decoder : str, callable or None, default=None
        The part for `inverse_transform`: the name of an attribute of the model, or a function from
        the fitted model to a model. None means the layers after the `encoder`.
    supervised : bool, default=False
        Whether `fit` trains the model on `y`, which are numbers then. Otherwise the model learns to
        reproduce `X`, and `y` is ignored, as in other transformers.
    **kwargs
        Parameters of `BaseWrapper`.

    Examples
    --------
    >>> import keras, numpy as np
    >>> from keras_reduce.scikeras import KerasTransformer
    >>> def build(meta, units):
    ...     features = meta["n_features_in_"]
    ...     code = keras.layers.Dense(units, "relu", name="code")
    ...     return keras.Sequential([keras.Input((features,)), code, keras.layers.Dense(features)])
    >>> transformer = KerasTransformer(
    ...     build, encoder="code", model__units=3, loss="mse", optimizer="adam", verbose=0
    ... )
    >>> transformer.fit_transform(np.ones((8, 5))).shape
    (8, 3)
    """

    _dtype_of_targets = "numeric"

    def __init__(
        self,
        model: Any = None,
        *,
        encoder: Any = None,
        decoder: Any = None,
        supervised: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, **kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.supervised = supervised


def _is_single(loss: Any) -> bool:
    return isinstance(loss, (str, type)) or callable(loss)


def _is_list_of_arrays(weights: Any) -> bool:
    return isinstance(weights, list) and all(np.ndim(each) > 0 for each in weights)


def _full_metric_name(name: str) -> str:
    try:
        return named_parts.full_name(name, "metrics")
    except ValueError:
        return name  # Of a user-defined metric.


def _constructor(cls: type) -> tuple[tuple[str, ...], bool, frozenset[str]]:
    """Return the arguments of a constructor, and whether it passes others on to those above it.

    Returns
    -------
    tuple of str
        The arguments that it and, if it passes others on, the constructors above it name.
    bool
        Whether any other argument may be given.
    frozenset of str
        All arguments of the constructors in the class and its base classes.
    """
    accepted: list[str] = []
    everything: set[str] = set()
    is_open = True
    for base in cls.__mro__:
        if "__init__" not in vars(base) or not issubclass(base, BaseWrapper):
            continue
        constructor = vars(base)["__init__"]
        arguments = names(constructor) - {"self"}
        everything |= arguments
        if is_open:
            accepted.extend(arguments)
            is_open = takes_any(constructor)
    return tuple(accepted), is_open, frozenset(everything)


def _constructor_defaults(cls: type) -> dict[str, Any]:
    """Return the default of each argument of a constructor, the most derived class first."""
    defaults: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if "__init__" in vars(base) and issubclass(base, BaseWrapper):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            defaults |= {each.name: each.default for each in parameters}
    return defaults
