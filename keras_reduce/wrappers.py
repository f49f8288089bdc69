"""`KerasRegressor` and `KerasClassifier`: Keras models as scikit-learn estimators.

The constructor is that of TensorFlow's wrappers until 2.12, so old code keeps its ``build_fn`` and
its keyword arguments. The estimators follow the current conventions of scikit-learn.
"""

# ruff: noqa: N803  scikit-learn calls its matrix X, and passes it by that name.

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from .errors import EstimatorError
from .estimators import callbacks, data, labels, scoring
from .estimators.base import KerasEstimator, is_model
from .estimators.parameters import (
    DEFAULTS,
    FIT,
    KERAS,
    PREDICT,
    RETIRED,
    names,
    pick,
    similar,
    takes_any,
    title,
)

_Array = NDArray[Any]

__all__ = ["BaseWrapper", "EstimatorError", "KerasClassifier", "KerasRegressor"]


class BaseWrapper(KerasEstimator):
    """Base class of both estimators: parameters and their routing, building, training, pickling."""

    _BUILDER = "build_fn"
    build_fn: Any

    def __init__(
        self,
        build_fn: Callable[..., Any] | None = None,
        *,
        random_state: Any = None,
        **sk_params: Any,
    ) -> None:
        if build_fn is None and self._builder(None) is None:
            build_fn = sk_params.pop("model", None)
        self.build_fn = build_fn
        self.random_state = random_state
        # Private, since scikit-learn's constructors set nothing else that is public.
        self._sk_params = sk_params
        self.check_params(sk_params)

    # -- parameters -------------------------------------------------------------------------------

    @property
    def sk_params(self) -> dict[str, Any]:
        """Keyword arguments of the constructor."""
        return self._sk_params

    def _builder(self, build_fn: Any) -> Callable[..., Any] | None:
        """Return the callable that builds a model, given `build_fn`; None if there is none."""
        builder: Any = self if build_fn is None else build_fn
        return builder if callable(builder) else None

    def check_params(self, params: Iterable[str]) -> None:
        """Check that `build_fn` or a method of Keras accepts each parameter.

        If `build_fn` is not callable, its arguments are unknown: then all names are accepted here,
        and `fit` raises an error.

        Parameters
        ----------
        params : iterable of str
            Names of parameters, or a dict of them.

        Raises
        ------
        EstimatorError
            A subclass of ``ValueError``, if neither `build_fn` nor Keras's ``fit``, ``predict`` and
            ``evaluate`` have an argument of that name.
        """
        self._check_params(params, self.build_fn)

    def _check_params(self, params: Iterable[str], build_fn: Any) -> None:
        builder = self._builder(build_fn)
        if builder is None or takes_any(builder):
            return
        legal = KERAS | names(builder)
        for name in params:
            if name not in legal:
                raise EstimatorError(
                    f"{name} is not a legal parameter",
                    where=type(self).__name__,
                    cause=f"neither {title(builder)} nor fit, predict or evaluate of a Keras "
                    "model takes an argument of that name",
                    cure=_cure(name, legal),
                )

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of this estimator.

        Parameters
        ----------
        deep : bool, default=True
            Whether to add the parameters of `build_fn` if it is itself an estimator, and the
            defaults of parameters for ``fit`` and ``predict`` that the constructor was not given,
            such as ``epochs``, which searches may vary. Parameters that `build_fn` has as well
            are left out.

        Returns
        -------
        dict
            ``build_fn``, ``random_state`` and each keyword argument given.
        """
        parameters = {**super().get_params(deep), **self.sk_params}
        if not deep:
            return parameters
        builder = self._builder(self.build_fn)
        taken = parameters.keys() | (names(builder) if builder else ())
        defaults = {name: value for name, value in DEFAULTS.items() if name not in taken}
        return {**parameters, **defaults}

    def set_params(self, **params: Any) -> Self:
        """Set parameters, including those that the constructor was not given.

        Parameters
        ----------
        **params
            ``build_fn``, ``random_state``, or arguments of the build function or of Keras's ``fit``
            and ``predict``. `model` means `build_fn`, unless that has an argument `model`.

        Returns
        -------
        KerasRegressor or KerasClassifier
            This estimator. Nothing is set if one of the parameters is refused.

        Raises
        ------
        EstimatorError
            A subclass of ``ValueError``, if a parameter is not accepted; see `check_params`.
        """
        if "model" in params and "build_fn" not in params:
            builder = self._builder(self.build_fn)
            if builder is None or "model" not in names(builder):
                params["build_fn"] = params.pop("model")
        constructor_params = {
            name: value
            for name, value in params.items()
            if name.partition("__")[0] in self._get_param_names()
        }
        other_params = {
            name: value for name, value in params.items() if name not in constructor_params
        }
        self._check_params(other_params, constructor_params.get("build_fn", self.build_fn))
        super().set_params(**constructor_params)
        self._sk_params = {**self.sk_params, **other_params}
        return self

    def filter_sk_params(
        self, fn: Callable[..., Any], override: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return those keyword arguments of the constructor that `fn` accepts.

        Parameters
        ----------
        fn : callable
            The function to call.
        override : mapping, optional
            Further arguments; they take precedence over the constructor's.

        Returns
        -------
        dict
            Arguments for `fn`.
        """
        return {**pick(self.sk_params, names(fn)), **(override or {})}

    def _arguments(self, model: Any, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments for a `method` of `model`: defaults, the constructor's, then `given`."""
        method_names = FIT if method == "fit" else PREDICT
        fn = getattr(model, method)
        accepted = method_names if takes_any(fn) else (method_names | RETIRED) & names(fn)
        arguments = {"verbose": 0, **pick(self.sk_params, accepted), **given}
        if "callbacks" in arguments and "callbacks" not in given:
            # Callbacks keep state from a fit. The next fit, of this estimator or of a clone, must
            # start from the callback as it was given.
            arguments["callbacks"] = callbacks.copied(arguments["callbacks"])
        return arguments

    def _callback_parameters(self) -> dict[str, Any]:
        return pick(self.sk_params, {"callbacks"})

    def _replace(self, values: Mapping[str, Any]) -> None:
        self._sk_params = {**self._sk_params, **values}

    def _path_of(self, name: str) -> str:
        return name if name in self._get_param_names() else f"sk_params[{name!r}]"

    def _holds_parameters(self, attribute: str) -> bool:
        return attribute in ("build_fn", "_sk_params")

    # -- the fitted model -------------------------------------------------------------------------

    @property
    def model(self) -> Any:
        """The fitted Keras model; the old name of `model_`.

        It can be set, for example to a model that was saved separately, or to None to remove the
        model. The constructor's argument ``model=`` is available as `build_fn`.

        Raises
        ------
        NotFittedError
            A subclass of ``AttributeError``, if `fit` has not been called.
        """
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                f"This {type(self).__name__} instance has no model yet. Call 'fit' first; what "
                "builds the model is the parameter 'build_fn'."
            )
        return self.model_

    @model.setter
    def model(self, model: Any) -> None:
        # The history belongs to the old model, and would keep it alive.
        for name in ("model_", "history_"):
            self.__dict__.pop(name, None)
        if model is not None:
            self.model_ = model

    # -- building and training --------------------------------------------------------------------

    def _build_function(self) -> Callable[..., Any]:
        builder = self._builder(self.build_fn)
        if builder is None:
            raise EstimatorError(
                "There is nothing to build a model with",
                where=f"{type(self).__name__}.build_fn",
                cause=f"build_fn is {self.build_fn!r}, and this class has no __call__",
                cure="pass a function that returns a compiled Keras model",
            )
        if is_model(builder):
            raise EstimatorError(
                "build_fn is a model",
                where=f"{type(self).__name__}.build_fn",
                cause="each fit trains a new model, so it needs to know how to build one",
                cure="pass the function that builds and compiles the model; "
                "keras_reduce.scikeras has estimators that take a model",
            )
        return builder

    def _build_arguments(self, build_function: Callable[..., Any]) -> dict[str, Any]:
        self.check_params(self.sk_params)
        accepted = names(build_function)
        # **kwargs gets only arguments that Keras does not have: not `epochs`, for example.
        extra = self.sk_params.keys() - KERAS if takes_any(build_function) else set()
        arguments = pick(self.sk_params, accepted | extra)
        if "meta" in accepted:
            arguments.setdefault("meta", self._meta())
        if self.random_state is not None and "random_state" in accepted:
            arguments["random_state"] = self.random_state
        return arguments

    def _build(self) -> Any:
        model = super()._build()
        if getattr(model, "optimizer", None) is None:
            raise EstimatorError(
                "The build function returned a model that is not compiled",
                where=f"{type(self).__name__}.build_fn",
                cure="call model.compile(optimizer=..., loss=...) before returning it",
            )
        return model

    def _meta(self) -> dict[str, Any]:
        """Return properties of the data, for a build function with an argument `meta`."""
        property_names = {
            "n_features_in_",
            "X_shape_",
            "n_outputs_",
            "classes_",
            "n_classes_",
            "target_type_",
        }
        return pick(vars(self), property_names)

    def _targets(self, y: Any, *, reset: bool = False) -> _Array:
        targets: _Array = self._check_array(y, "y", ensure_2d=False, allow_nd=True)
        if reset:
            self.n_outputs_ = targets.shape[-1] if targets.ndim > 1 else 1
            self.target_type_ = "continuous-multioutput" if self.n_outputs_ > 1 else "continuous"
        return targets

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None, **kwargs: Any) -> Self:
        """Build a new model and train it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of Keras
            The samples. Also arrays of more dimensions, arrays of strings for a model that reads
            text, and a list or dict of arrays for a model with several inputs. The number of
            features and their names are remembered and checked for two dimensions only.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_steps), optional
            Weights, as Keras's losses apply them; of steps where the output of a regressor's model
            has an axis of steps before that of its units.
        **kwargs
            Further arguments for Keras's ``fit``; they take precedence over the
            constructor's. ``validation_data`` is validated and encoded like `X` and `y`.

        Returns
        -------
        KerasRegressor or KerasClassifier
            This estimator, fitted. (TensorFlow's wrappers returned the ``History``; it is now the
            attribute `history_`.)

        Raises
        ------
        EstimatorError
            If there is no valid build function, or its model doesn't fit the targets.
        ValueError
            If scikit-learn's validation of `X`, `y` or `sample_weight` fails.
        """
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        self.history_ = self._train(X, y, sample_weight, kwargs)
        return self

    def partial_fit(
        self, X: Any, y: Any, sample_weight: ArrayLike | None = None, **kwargs: Any
    ) -> Self:
        """Train the fitted model for one more epoch, or a new model for its first.

        The result is bit for bit that of Keras's ``fit`` for this epoch.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        **kwargs
            As for `fit`, without ``epochs`` and ``initial_epoch``.

        Returns
        -------
        KerasRegressor or KerasClassifier
            This estimator; `history_` is that of this epoch.

        Raises
        ------
        EstimatorError
            As for `fit`.
        """
        self._refuse_epochs(kwargs)
        epochs = self.history_.epoch if self.__sklearn_is_fitted__() and self._has_history() else []
        epoch = epochs[-1] + 1 if epochs else 0
        span = {"initial_epoch": epoch, "epochs": epoch + 1}
        self.history_ = self._train(X, y, sample_weight, {**kwargs, **span}, resumed_at=epoch)
        return self

    def _has_history(self) -> bool:
        return "history_" in vars(self)  # Not with a model that was set by hand.

    def _output(self, X: Any, kwargs: Mapping[str, Any]) -> _Array:
        """Return the one output of the model for `X`."""
        return data.single_output(self._raw(X, kwargs), f"{type(self).__name__}.predict")


class KerasRegressor(RegressorMixin, BaseWrapper):  # type: ignore[misc]
    """A Keras model as a scikit-learn regressor.

    Parameters
    ----------
    build_fn : callable, optional
        Function, or object with ``__call__``, that returns a compiled Keras model. None if a
        subclass has a ``__call__`` that does so. ``model=`` is accepted as another name for it,
        unless `build_fn` is given or ``__call__`` exists.

        It is called with those of `sk_params` that it accepts. An argument ``meta`` gets a dict of
        properties of the data: ``n_features_in_``, ``X_shape_``, ``n_outputs_`` and
        ``target_type_``. Nothing else is passed to it.
    random_state : int, RandomState instance or None, default=None
        Seed for Python, NumPy and the framework, set before `build_fn` is called. None sets no
        seed. Also passed to a `build_fn` with an argument of this name. All threads share these
        random generators: a seeded fit runs alone in its process, and waits for fits in other
        threads.
    **sk_params
        Arguments of `build_fn`, and of Keras's ``fit`` and ``predict``, routed by their names. A
        `build_fn` with ``**kwargs`` gets there all that Keras's methods don't have. All are
        parameters in the sense of scikit-learn: a search may vary them, whether or not the
        constructor was given them. Callbacks are copied for each fit; parts that can't be copied
        are shared. ``verbose`` is 0 by default.

    Attributes
    ----------
    model_ : keras.Model
        The fitted model; can also be read and set as ``model``.
    history_ : keras.callbacks.History
        Return value of Keras's ``fit``.
    n_features_in_ : int
        Number of features, if `X` had two dimensions.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if `X` had names that are strings.
    X_shape_ : tuple of int
        Shape of `X`, if it was one array.
    n_outputs_ : int
        Number of columns of `y`.
    target_type_ : str
        "continuous", or "continuous-multioutput" if `y` has several columns.

    Raises
    ------
    EstimatorError
        A subclass of ``ValueError``, if neither `build_fn` nor Keras's methods accept a parameter.

    Examples
    --------
    >>> import keras, keras_reduce, numpy as np
    >>> def build(units=4):
    ...     layers = [keras.Input((2,)), keras.layers.Dense(units), keras.layers.Dense(1)]
    ...     model = keras.Sequential(layers)
    ...     model.compile("adam", "mse")
    ...     return model
    >>> estimator = keras_reduce.KerasRegressor(build, units=3, epochs=2)
    >>> estimator.fit(np.ones((8, 2)), np.ones(8)).predict(np.ones((5, 2))).shape
    (5,)
    """

    # The default for a model set by hand, for which no y is known.
    _flat = True

    def _targets(self, y: Any, *, reset: bool = False) -> _Array:
        targets: _Array = super()._targets(y, reset=reset)
        if reset:
            self._flat = targets.ndim == 1
        return targets

    def __sklearn_tags__(self) -> Any:
        """Return the estimator tags of scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def predict(self, X: Any, **kwargs: Any) -> _Array:
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of `fit`
            The samples.
        **kwargs
            Further arguments for Keras's ``predict``; they take precedence over the
            constructor's.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The predictions, one-dimensional if the `y` of `fit` was.

        Raises
        ------
        EstimatorError
            If the model has several outputs.
        NotFittedError
            If `fit` has not been called.
        """
        y = self._output(X, kwargs)
        return y[:, 0] if self._flat and y.ndim == 2 and y.shape[1] == 1 else y

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None, **kwargs: Any) -> float:
        """Return the coefficient of determination, R².

        (TensorFlow's wrappers returned the negative loss.)

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of `fit`
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The true targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights.
        **kwargs
            Further arguments for Keras's ``predict``.

        Returns
        -------
        float
            R² of the predictions.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        """
        return scoring.r2(y, self.predict(X, **kwargs), sample_weight)


class KerasClassifier(ClassifierMixin, BaseWrapper):  # type: ignore[misc]
    """A Keras model as a scikit-learn classifier.

    Labels may be of any type. The loss gets them as indices into `classes_`, or one-hot encoded if
    one of Keras's own losses needs that: if the model has more than one output unit and the loss is
    not a ``sparse_`` one. User-defined losses get indices.

    Parameters
    ----------
    build_fn : callable, optional
        Function, or object with ``__call__``, that returns a compiled Keras model. None if a
        subclass has a ``__call__`` that does so. ``model=`` is accepted as another name for it,
        unless `build_fn` is given or ``__call__`` exists.

        It is called with those of `sk_params` that it accepts. An argument ``meta`` gets a dict of
        properties of the data: ``n_features_in_``, ``X_shape_``, ``classes_``, ``n_classes_``
        and ``target_type_``. Nothing else is passed to it.
    random_state : int, RandomState instance or None, default=None
        Seed for Python, NumPy and the framework, set before `build_fn` is called. None sets no
        seed. Also passed to a `build_fn` with an argument of this name. All threads share these
        random generators: a seeded fit runs alone in its process, and waits for fits in other
        threads.
    **sk_params
        Arguments of `build_fn`, and of Keras's ``fit`` and ``predict``, routed by their names. A
        `build_fn` with ``**kwargs`` gets there all that Keras's methods don't have. All are
        parameters in the sense of scikit-learn: a search may vary them, whether or not the
        constructor was given them. Callbacks are copied for each fit; parts that can't be copied
        are shared. ``verbose`` is 0 by default.

        ``class_weight`` is "balanced" or a dict. Its keys are labels, or, if not all of them are,
        indices into `classes_`, as in Keras.

    Attributes
    ----------
    model_ : keras.Model
        The fitted model; can also be read and set as ``model``.
    history_ : keras.callbacks.History
        What Keras's ``fit`` returned.
    classes_ : ndarray of shape (`n_classes_`,)
        The labels, sorted; the numbers of the columns if `y` was one-hot.
    n_classes_ : int
        Number of classes.
    n_features_in_ : int
        Number of features, if `X` had two dimensions.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if `X` had names that are strings.
    X_shape_ : tuple of int
        Shape of `X`, if it was one array.
    target_type_ : str
        "binary" or "multiclass".

    Raises
    ------
    EstimatorError
        A subclass of ``ValueError``, if neither `build_fn` nor Keras's methods accept a parameter.

    Examples
    --------
    >>> import keras, keras_reduce, numpy as np
    >>> def build(meta):
    ...     outputs = keras.layers.Dense(meta["n_classes_"], "softmax")
    ...     model = keras.Sequential([keras.Input((meta["n_features_in_"],)), outputs])
    ...     model.compile("sgd", "sparse_categorical_crossentropy")
    ...     return model
    >>> classifier = keras_reduce.KerasClassifier(build, epochs=2)
    >>> classifier.fit(np.ones((6, 2)), ["no", "yes", "maybe"] * 2).classes_.tolist()
    ['maybe', 'no', 'yes']
    >>> classifier.predict_proba(np.ones((5, 2))).shape
    (5, 3)
    """

    classes_: _Array
    # Whether y has an axis of time steps. The default is for files of the first releases.
    _has_steps = False
    # The labels that `partial_fit` was given.
    _categories: _Array | None = None

    def _targets(self, y: Any, *, reset: bool = False) -> _Array:
        """Return indices into `classes_`, or rows of probabilities if `y` has them."""
        given: _Array = self._check_array(y, "y", ensure_2d=False, allow_nd=True, dtype=None)
        if reset:
            self._has_steps = given.ndim > 2
        if given.ndim > 1 and given.shape[-1] > 1:
            return self._rows(given, reset=reset)
        shape = given.shape[:-1] if self._has_steps else (len(given),)
        given = column_or_1d(given.reshape(-1) if self._has_steps else given, warn=True)
        if reset:
            check_classification_targets(given)
            self._learn(np.unique(given) if self._categories is None else self._categories)
        return labels.positions(given, self.classes_).reshape(shape)

    def _rows(self, y: _Array, *, reset: bool) -> _Array:
        if y.dtype.kind not in "biuf" or y.min() < 0 or not np.allclose(y.sum(axis=-1), 1):
            raise ValueError(
                "Each row of a two-dimensional y must be one-hot, or probabilities that sum to 1; "
                "multi-label targets are not supported. Labels of time steps need an axis of "
                "length 1: y[..., None]"
            )
        if reset:
            self._learn(np.arange(y.shape[-1]))
        return y

    def _are_indices(self, targets: _Array) -> bool:
        return targets.ndim == (2 if self._has_steps else 1)

    def _learn(self, classes: _Array) -> None:
        if len(classes) < 2:
            raise ValueError("y has 1 class, and a classifier needs at least two classes")
        self.classes_ = classes
        self.n_classes_ = len(classes)
        self.target_type_ = "binary" if self.n_classes_ == 2 else "multiclass"

    def _encode(self, model: Any, y: _Array) -> _Array:
        where, are_indices = f"{type(self).__name__}.build_fn", self._are_indices(y)
        return labels.for_loss(model, y, len(self.classes_), where, are_indices=are_indices)

    def _weighted(
        self, model: Any, inputs: Any, targets: Any, arguments: dict[str, Any]
    ) -> tuple[Any, Any]:
        if arguments.get("sample_weight") is not None:
            super()._weighted(model, inputs, self._encode(model, targets), arguments)
        class_weight = arguments.pop("class_weight", None)
        if class_weight is not None:
            # Keras refuses both kinds of weights at once, and identifies classes by index only.
            position = targets if self._are_indices(targets) else targets.argmax(axis=-1)
            weights = labels.sample_weights(class_weight, position, self.classes_)
            of_samples = np.asarray(arguments.get("sample_weight", 1.0))
            if 0 < of_samples.ndim < weights.ndim:
                of_samples = of_samples[:, None]
            arguments["sample_weight"] = weights * of_samples
        return inputs, targets

    def partial_fit(  # type: ignore[override]
        self,
        X: Any,
        y: Any,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        **kwargs: Any,
    ) -> Self:
        """Train the fitted model for one more epoch, or a new model for its first.

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
            This estimator; `history_` is that of this epoch.

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

    def predict_proba(self, X: Any, **kwargs: Any) -> _Array:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of `fit`
            The samples.
        **kwargs
            Further arguments for Keras's ``predict``; they take precedence over the
            constructor's.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`, two of them if the model has one output unit. If
            the loss has ``from_logits=True``, the model's logits are converted to probabilities.

        Raises
        ------
        EstimatorError
            If the model has several outputs.
        NotFittedError
            If `fit` has not been called.
        """
        raw = self._output(X, kwargs)
        n_classes, has_steps = len(self.classes_), self._has_steps
        return labels.probabilities(raw, self.model_.loss, n_classes, has_steps=has_steps)

    def predict(self, X: Any, **kwargs: Any) -> _Array:
        """Predict labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of `fit`
            The samples.
        **kwargs
            Further arguments for Keras's ``predict``; they take precedence over the
            constructor's.

        Returns
        -------
        ndarray of shape (n_samples,)
            The most probable label of each sample.

        Raises
        ------
        EstimatorError
            If the model has several outputs.
        NotFittedError
            If `fit` has not been called.
        """
        position = self.predict_proba(X, **kwargs).argmax(axis=-1)
        predicted: _Array = self.classes_[position]
        return predicted

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None, **kwargs: Any) -> float:
        """Return the accuracy of the predicted labels.

        (TensorFlow's wrappers called the model's ``evaluate``, so the model had to be compiled with
        an accuracy metric.)

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of `fit`
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            The true labels, or one-hot rows.
        sample_weight : array-like of shape (n_samples,), optional
            Weights.
        **kwargs
            Further arguments for Keras's ``predict``.

        Returns
        -------
        float
            Fraction of samples with a correctly predicted label.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        """
        predicted = self.predict(X, **kwargs)
        true = np.asarray(y)
        if true.ndim > 1 and true.shape[-1] > 1:
            true = self.classes_[true.argmax(axis=-1)]
        if self._has_steps:
            true, predicted = true.reshape(*predicted.shape, 1), predicted[..., None]
        return scoring.accuracy(true, predicted, sample_weight)


def _cure(name: str, legal: Iterable[str]) -> str:
    """Return a cure for a parameter that does not exist."""
    prefix, _, plain = name.partition("__")
    if plain and prefix in ("model", "fit", "predict", "optimizer", "loss"):
        return (
            f"leave out SciKeras's prefix: {plain} is passed to build_fn if that has an argument "
            "of this name, else to fit and predict; keras_reduce.scikeras has estimators with "
            "prefixes"
        )
    if name == "model":
        return "pass the function as build_fn"
    if name in ("optimizer", "loss", "metrics"):
        return f"call compile() in build_fn; to choose from outside, give it an argument {name!r}"
    return similar(name, legal)
