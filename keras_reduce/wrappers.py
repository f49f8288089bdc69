"""`KerasRegressor` and `KerasClassifier`: Keras models as scikit-learn estimators.

The constructor is that of TensorFlow's wrappers until 2.12, so old code keeps its ``build_fn`` and
its keyword arguments. The estimators follow the current conventions of scikit-learn.
"""

# ruff: noqa: N803  scikit-learn calls its matrix X, and passes it by that name.

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Callable, Container, Iterable, Mapping
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import check_array, check_random_state, column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # scikit-learn 1.5, the last version that works with the wrappers of Keras 2.12

    def validate_data(estimator: Any, X: Any, *, reset: bool, **_: Any) -> None:
        """Remember names and number of the columns, or compare them with the remembered ones."""
        estimator._check_feature_names(X, reset=reset)
        estimator._check_n_features(X, reset=reset)


from . import families
from .custom_objects import by_value
from .dry_run import dry_pickler
from .errors import EstimatorError, ReduceError
from .estimators import callbacks, data, seeding
from .families._shared.lookups import LOOKUPS

_Array = NDArray[Any]

__all__ = ["BaseWrapper", "EstimatorError", "KerasClassifier", "KerasRegressor"]

# Arguments of Keras's own methods. They are listed here so that an estimator can be created, cloned
# and searched over in a process that has not imported Keras. `callbacks` are for `fit` only: early
# stopping has no effect in `predict`, which would mark the callback as used.
_FIT = frozenset(
    {
        "batch_size",
        "callbacks",
        "class_weight",
        "epochs",
        "initial_epoch",
        "sample_weight",
        "shuffle",
        "steps_per_epoch",
        "validation_batch_size",
        "validation_data",
        "validation_freq",
        "validation_split",
        "validation_steps",
        "verbose",
    }
)
_PREDICT = frozenset({"batch_size", "steps", "verbose"})
# Their defaults, except for data and objects. Here, `verbose` is 0.
_DEFAULTS: dict[str, Any] = {
    "batch_size": None,
    "epochs": 1,
    "initial_epoch": 0,
    "shuffle": True,
    "steps": None,
    "steps_per_epoch": None,
    "validation_batch_size": None,
    "validation_freq": 1,
    "validation_split": 0.0,
    "validation_steps": None,
    "verbose": 0,
}
# Arguments of Keras 2 only. They affect speed, not results, so they are accepted and ignored where
# Keras has dropped them.
_RETIRED = frozenset({"max_queue_size", "use_multiprocessing", "workers"})
_KERAS = _FIT | _PREDICT | _RETIRED


class BaseWrapper(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Base class of both estimators: parameters and their routing, building, training, pickling."""

    build_fn: Any
    random_state: Any
    model_: Any
    history_: Any

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
        if builder is None or _takes_any(builder):
            return
        legal = _KERAS | _names(builder)
        for name in params:
            if name not in legal:
                raise EstimatorError(
                    f"{name} is not a legal parameter",
                    where=type(self).__name__,
                    cause=f"neither {_title(builder)} nor fit, predict or evaluate of a Keras "
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
        taken = parameters.keys() | (_names(builder) if builder else ())
        defaults = {name: value for name, value in _DEFAULTS.items() if name not in taken}
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
            if builder is None or "model" not in _names(builder):
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
        return {**_pick(self.sk_params, _names(fn)), **(override or {})}

    def _arguments(self, model: Any, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments for a `method` of `model`: defaults, the constructor's, then `given`."""
        method_names = _FIT if method == "fit" else _PREDICT
        fn = getattr(model, method)
        names = method_names if _takes_any(fn) else (method_names | _RETIRED) & _names(fn)
        return {"verbose": 0, **_pick(self.sk_params, names), **given}

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

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there is a model to predict with."""
        return "model_" in vars(self)

    def __sklearn_tags__(self) -> Any:
        """Return the estimator tags of scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        tags.input_tags.three_d_array = True
        return tags

    # -- building and training --------------------------------------------------------------------

    def _build(self) -> Any:
        """Return a new compiled model from the build function."""
        builder = self._builder(self.build_fn)
        if builder is None:
            raise EstimatorError(
                "There is nothing to build a model with",
                where=f"{type(self).__name__}.build_fn",
                cause=f"build_fn is {self.build_fn!r}, and this class has no __call__",
                cure="pass a function that returns a compiled Keras model",
            )
        if _is_model(builder):
            raise EstimatorError(
                "build_fn is a model",
                where=f"{type(self).__name__}.build_fn",
                cause="each fit trains a new model, so it needs to know how to build one",
                cure="pass the function that builds and compiles the model",
            )
        self.check_params(self.sk_params)
        names = _names(builder)
        # **kwargs gets only arguments that Keras does not have: not `epochs`, for example.
        extra = self.sk_params.keys() - _KERAS if _takes_any(builder) else set()
        arguments = _pick(self.sk_params, names | extra)
        if "meta" in names:
            arguments.setdefault("meta", self._meta())
        if self.random_state is not None:
            seeding.set_seed(self._seed())
            if "random_state" in names:
                arguments["random_state"] = self.random_state
        model = builder(**arguments)
        if not _is_model(model):
            raise EstimatorError(
                f"The build function returned {_title(model)}, not a Keras model",
                where=f"{type(self).__name__}.build_fn",
                cause=f"{_title(builder)} has no return statement" if model is None else "",
                cure="return the compiled model",
            )
        if getattr(model, "optimizer", None) is None:
            raise EstimatorError(
                "The build function returned a model that is not compiled",
                where=f"{type(self).__name__}.build_fn",
                cure="call model.compile(optimizer=..., loss=...) before returning it",
            )
        return model

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

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
        return _pick(vars(self), property_names)

    def _inputs(self, X: Any, *, reset: bool = False) -> Any:
        """Return `X`, validated and in a form for Keras; with `reset`, remember its shape."""
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

    def _array(self, X: Any) -> _Array:
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
            checked: _Array = check_array(X, allow_nd=True, input_name="X", estimator=self)
            return checked

    def _targets(self, y: Any, *, reset: bool = False) -> _Array:
        """Return `y`, validated; with `reset`, remember its shape and type."""
        targets: _Array = check_array(
            y, ensure_2d=False, allow_nd=True, input_name="y", estimator=self
        )
        if reset:
            self.n_outputs_ = targets.shape[1] if targets.ndim > 1 else 1
            self.target_type_ = "continuous-multioutput" if self.n_outputs_ > 1 else "continuous"
        return targets

    def _encode(self, model: Any, y: _Array) -> _Array:
        """Return validated targets in the form that the loss of `model` needs."""
        return y

    def _weights(self, model: Any, y: _Array, arguments: dict[str, Any]) -> None:
        """Validate the weights among the `arguments` for training `model` on `y`, in place."""
        if arguments.get("sample_weight") is not None:
            weights = data.checked_weights(arguments["sample_weight"], y, model)
            arguments["sample_weight"] = weights

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
        inputs = self._inputs(X, reset=True)
        with data.naming_ragged(y, "y"):
            targets = self._targets(y, reset=True)
        data.check_lengths(inputs, targets)
        # Random seeds are global to the process.
        with seeding.fitting(is_seeded=self.random_state is not None):
            return self._train(inputs, targets, sample_weight, kwargs)

    def _train(
        self, inputs: Any, targets: _Array, sample_weight: Any, kwargs: Mapping[str, Any]
    ) -> Self:
        """Build a new model and train it on validated data."""
        model = self._build()
        given = dict(kwargs)
        if "callbacks" in self.sk_params.keys() - kwargs.keys():
            # Callbacks keep state from a fit. The next fit, of this estimator or of a clone, must
            # start from the callback as it was given.
            given["callbacks"] = callbacks.copied(self.sk_params["callbacks"])
        if sample_weight is not None:
            given["sample_weight"] = sample_weight
        arguments = self._arguments(model, "fit", given)
        self._weights(model, targets, arguments)
        held_out = arguments.get("validation_data")
        if isinstance(held_out, (tuple, list)):
            X_val, y_val, *rest = held_out  # noqa: N806
            labels = self._targets(y_val)
            arguments["validation_data"] = (self._inputs(X_val), self._encode(model, labels), *rest)

        self.history_ = model.fit(inputs, self._encode(model, targets), **arguments)
        self.model_ = model
        return self

    def _raw(self, X: Any, kwargs: Mapping[str, Any]) -> _Array:
        """Return the one output of the model for `X`."""
        check_is_fitted(self)
        inputs = self._inputs(X)
        predicted = self.model_.predict(inputs, **self._arguments(self.model_, "predict", kwargs))
        return data.single_output(predicted, f"{type(self).__name__}.predict")

    # -- cloning and pickling ---------------------------------------------------------------------

    def __sklearn_clone__(self) -> Self:
        """Return an unfitted estimator with copies of the parameters.

        Parts of callbacks that can't be copied are shared, since a clone stays in this process.

        Raises
        ------
        EstimatorError
            If another parameter can't be copied.
        """
        original = copy.copy(self)
        original._sk_params = {k: v for k, v in self.sk_params.items() if k != "callbacks"}
        try:
            twin: Self = super(BaseWrapper, original).__sklearn_clone__()
        except Exception as error:
            self._refuse_to_copy(original.get_params(deep=False), error)
            raise
        if "callbacks" in self.sk_params:
            copies = callbacks.copied(self.sk_params["callbacks"])
            params = {**twin.sk_params, "callbacks": copies}
            twin._sk_params = {name: params[name] for name in self.sk_params}
        return twin

    def _refuse_to_copy(self, parameters: Mapping[str, Any], error: Exception) -> None:
        """Raise an error for the first part of the `parameters` that can't be copied, if any."""
        constructor_names = self._get_param_names()
        for name, value in parameters.items():
            path = name if name in constructor_names else f"sk_params[{name!r}]"
            obstacles = dry_pickler.obstacles(value, f"{type(self).__name__}.{path}", "deepcopy")
            for obstacle in obstacles:
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
        state = super().__getstate__()
        attributes = {name: state[name] for name in state if name not in ("build_fn", "_sk_params")}
        try:
            dry_pickler.check(self, attributes, name="", skip=lambda v: families.of(v) is not None)
        except ReduceError as error:
            raise dry_pickler.located(error, self) from error
        packed = {name: by_value(value, LOOKUPS) for name, value in self.sk_params.items()}
        return {**state, "build_fn": by_value(self.build_fn, LOOKUPS), "_sk_params": packed}

    def _check_callbacks(self) -> None:
        given = _pick(self.sk_params, {"callbacks"})
        try:
            dry_pickler.check(
                self, {"sk_params": given}, name=type(self).__name__, skip=lambda _: False
            )
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
    >>> def create_model(units=8):
    ...     model = keras.Sequential([keras.layers.Dense(units, "relu"), keras.layers.Dense(1)])
    ...     model.compile("adam", "mse")
    ...     return model
    >>> estimator = KerasRegressor(build_fn=create_model, units=16, epochs=10, random_state=0)
    >>> estimator.fit(X, y).predict(X)  # doctest: +SKIP
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
        y = self._raw(X, kwargs)
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
        return float(r2_score(y, self.predict(X, **kwargs), sample_weight=sample_weight))


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
    """

    classes_: _Array

    def _targets(self, y: Any, *, reset: bool = False) -> _Array:
        """Return indices into `classes_`, or rows of probabilities if `y` has them."""
        labels: _Array = check_array(y, ensure_2d=False, dtype=None, input_name="y", estimator=self)
        if labels.ndim == 2 and labels.shape[1] > 1:
            return self._rows(labels, reset=reset)
        labels = column_or_1d(labels, warn=True)
        if reset:
            check_classification_targets(labels)
            self._learn(np.unique(labels))
        unknown = np.setdiff1d(labels, self.classes_)
        if unknown.size:
            raise ValueError(f"y has labels that fit has not seen: {unknown.tolist()}")
        return np.searchsorted(self.classes_, labels)

    def _rows(self, y: _Array, *, reset: bool) -> _Array:
        if y.dtype.kind not in "biuf" or y.min() < 0 or not np.allclose(y.sum(axis=1), 1):
            raise ValueError(
                "Each row of a two-dimensional y must be one-hot, or probabilities that sum to 1; "
                "multi-label targets are not supported"
            )
        if reset:
            self._learn(np.arange(y.shape[1]))
        return y

    def _learn(self, classes: _Array) -> None:
        if len(classes) < 2:
            raise ValueError("y has 1 class, and a classifier needs at least two classes")
        self.classes_ = classes
        self.n_classes_ = len(classes)
        self.target_type_ = "binary" if self.n_classes_ == 2 else "multiclass"

    def _encode(self, model: Any, y: _Array) -> _Array:
        units, n_classes = _units(model), len(self.classes_)
        if units is not None and units < n_classes and (units > 1 or n_classes > 2):
            raise EstimatorError(
                f"The model has {units} output units for {n_classes} classes",
                where=f"{type(self).__name__}.build_fn",
                cure="give the last layer one unit per class (for two classes, one is enough)",
            )
        sparse = _is_sparse(model.loss, units, n_classes)
        if y.ndim == 1 and sparse is False:
            # A fold may lack a class that the model has a unit for.
            return np.eye(units or n_classes, dtype="float32")[y]
        if y.ndim == 2 and (sparse or units == 1) and (y.max(axis=1) == 1).all():
            y = y.argmax(axis=1)
        return y

    def _weights(self, model: Any, y: _Array, arguments: dict[str, Any]) -> None:
        super()._weights(model, y, arguments)
        class_weight = arguments.pop("class_weight", None)
        if class_weight is None:
            return
        # Keras refuses both kinds of weights at once, and identifies classes by index only.
        position = y.argmax(axis=1) if y.ndim == 2 else y
        positions = range(len(self.classes_))
        if class_weight == "balanced":
            present = np.unique(position)
            weights = compute_class_weight("balanced", classes=present, y=position)
            class_weight = dict(zip(present.tolist(), weights, strict=True))
        elif class_weight.keys() <= set(self.classes_.tolist()):
            class_weight = {
                position: class_weight[label]
                for position, label in enumerate(self.classes_.tolist())
                if label in class_weight
            }
        elif not class_weight.keys() <= set(positions):
            raise ValueError(
                f"class_weight has keys that are no class: {list(class_weight)}, but the classes "
                f"are {self.classes_.tolist()}"
            )
        by_position = np.array([class_weight.get(p, 1.0) for p in positions])
        arguments["sample_weight"] = by_position[position] * arguments.get("sample_weight", 1.0)

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
        raw = self._raw(X, kwargs)
        raw = raw.reshape(len(raw), -1)
        logits = getattr(self.model_.loss, "from_logits", False)
        if raw.shape[1] == 1:
            positive = expit(raw) if logits else raw
            return np.hstack([1 - positive, positive])
        # Units beyond the classes are for classes that the training data lacked.
        return (softmax(raw, axis=1) if logits else raw)[:, : len(self.classes_)]

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
        position = self.predict_proba(X, **kwargs).argmax(axis=1)
        labels: _Array = self.classes_[position]
        return labels

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
        y = np.asarray(y)
        labels = self.classes_[y.argmax(axis=1)] if y.ndim == 2 and y.shape[1] > 1 else y
        return float(accuracy_score(labels, predicted, sample_weight=sample_weight))


def _names(fn: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the arguments that `fn` takes by name."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(fn).parameters.values()
    return frozenset(p.name for p in parameters if p.kind in by_name)


def _cure(name: str, legal: Iterable[str]) -> str:
    """Return a cure for a parameter that does not exist."""
    prefix, _, plain = name.partition("__")
    if plain and prefix in ("model", "fit", "predict", "optimizer", "loss"):
        return (
            f"leave out SciKeras's prefix: {plain} is passed to build_fn if that has an argument "
            "of this name, else to fit and predict"
        )
    if name == "model":
        return "pass the function as build_fn"
    if name in ("optimizer", "loss", "metrics"):
        return f"call compile() in build_fn; to choose from outside, give it an argument {name!r}"
    close = difflib.get_close_matches(name, legal, n=1)
    return f"did you mean {close[0]}?" if close else ""


def _takes_any(fn: Callable[..., Any]) -> bool:
    """Return whether `fn` has a ``**kwargs``."""
    parameters = inspect.signature(fn).parameters.values()
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def _pick(values: Mapping[str, Any], names: Container[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}


def _title(obj: Any) -> str:
    """Return a short name for `obj`, for messages."""
    return "None" if obj is None else getattr(obj, "__name__", f"a {type(obj).__name__}")


def _is_model(obj: Any) -> bool:
    family = families.of(obj)
    return family is not None and family.is_model(obj)


def _units(model: Any) -> int | None:
    """Return the number of output units of `model`; None if it is not built yet."""
    shape = getattr(model, "output_shape", None)
    return shape[-1] if isinstance(shape, tuple) else None


def _is_sparse(loss: Any, units: int | None, n_classes: int) -> bool | None:
    """Return whether `loss` takes class indices (True) or one-hot rows (False); None if unknown."""
    named = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    name = named.lower().replace("_", "")
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
