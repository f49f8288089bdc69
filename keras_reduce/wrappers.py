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

from .errors import EstimatorError, EstimatorTypeError
from .estimators import callbacks, data, outputs, scoring
from .estimators.base import KerasIncrementalClassifier, copied_model, is_model
from .estimators.encoding import KerasEncoder
from .estimators.labels import Labels, are_columns_of_labels, times
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
from .estimators.several_outputs import KerasEstimatorOfOutputs

_Array = NDArray[Any]

__all__ = [
    "BaseWrapper",
    "EstimatorError",
    "KerasClassifier",
    "KerasRegressor",
    "KerasTransformer",
]


class BaseWrapper(KerasEstimatorOfOutputs):
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
        if builder is None or (takes_any(builder) and not is_model(builder)):
            return
        legal = KERAS | _arguments_of(builder)
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
        taken = parameters.keys() | (_arguments_of(builder) if builder else ())
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
            if builder is None or "model" not in _arguments_of(builder):
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
            raise EstimatorTypeError(
                "There is nothing to build a model with",
                where=f"{type(self).__name__}.build_fn",
                cause=f"build_fn is {self.build_fn!r}, and this class has no __call__",
                cure="pass a function that returns a compiled Keras model",
            )
        if is_model(builder):
            return lambda: copied_model(builder, f"{type(self).__name__}.build_fn")
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

    # -- training ---------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None, **kwargs: Any) -> Self:
        """Build a new model and train it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of Keras
            The samples. Also arrays of more dimensions, arrays of strings for a model that reads
            text, and a list or dict of arrays for a model with several inputs. The number of
            features and their names are remembered and checked for two dimensions only.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), or a dict or list of arrays
            The targets. For a model with several outputs, a dict of arrays by the names of the
            outputs, or a list of arrays in their order; or one array with the columns of all
            outputs side by side, which a search can slice: a column for each unit, or for a
            classifier a column of labels for each output.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_steps), optional
            Weights, as Keras's losses apply them; of steps where the output of a regressor's model
            has an axis of steps before that of its units. For several outputs, also a dict or list
            with weights, or None, for each of them.
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
        self._require_targets(y)
        self.history_ = self._train(X, y, sample_weight, kwargs)
        return self

    def _next_epoch(self) -> int:
        # There is no history with a model that was set by hand.
        epochs = self.history_.epoch if "history_" in vars(self) else []
        return epochs[-1] + 1 if epochs else 0

    def _record(self, history: Any) -> None:
        self.history_ = history

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
        unless `build_fn` is given or ``__call__`` exists. A compiled model may be given in its
        place: each fit then trains a copy of it, from its weights and the state of its optimizer.

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

    def __sklearn_tags__(self) -> Any:
        """Return the estimator tags of scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def predict(self, X: Any, **kwargs: Any) -> Any:
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
            The predictions, one-dimensional if the `y` of `fit` was. If it was a dict or a list of
            arrays for several outputs, a dict or a list.

        Raises
        ------
        EstimatorError
            If the model has several outputs, and `fit` had targets for one.
        NotFittedError
            If `fit` has not been called.
        """
        if self._outputs is None:
            y = self._output(X, kwargs)
            return y[:, 0] if self._flat and y.ndim == 2 and y.shape[1] == 1 else y
        answers = self._answers(X, kwargs)
        if self._is_one_array:
            return np.concatenate(list(answers.values()), axis=-1)
        return outputs.joined(
            {key: data.like_targets(y, self._outputs[key][1]) for key, y in answers.items()}
        )

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
            R² of the predictions, the mean over columns or outputs.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        """
        if self._outputs is None or self._is_one_array:
            return scoring.r2(y, self.predict(X, **kwargs), sample_weight)

        def r2(key: str | int, true: Any, answer: _Array, weights: Any) -> float:
            true = np.asarray(true)
            return scoring.r2(true, data.like_targets(answer, true.ndim), weights)

        return self._score_of_outputs(X, y, sample_weight, kwargs, r2)


class KerasClassifier(ClassifierMixin, KerasIncrementalClassifier, BaseWrapper):  # type: ignore[misc]
    """A Keras model as a scikit-learn classifier.

    Labels may be of any type. The loss gets them as indices into `classes_`, or one-hot encoded if
    one of Keras's own losses needs that: if the model has more than one output unit and the loss is
    not a ``sparse_`` one. User-defined losses get indices. A `y` of several columns is one-hot, or
    has probabilities, if all its rows sum to 1; else a label indicator matrix, with 0 and 1; else
    it has a column of labels for each output of the model.

    Parameters
    ----------
    build_fn : callable, optional
        Function, or object with ``__call__``, that returns a compiled Keras model. None if a
        subclass has a ``__call__`` that does so. ``model=`` is accepted as another name for it,
        unless `build_fn` is given or ``__call__`` exists. A compiled model may be given in its
        place: each fit then trains a copy of it, from its weights and the state of its optimizer.

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
        indices into `classes_`, as in Keras. For several outputs, or a label indicator matrix, it
        is "balanced" or a list of these; a dict by the names of the outputs if `y` is one.

    Attributes
    ----------
    model_ : keras.Model
        The fitted model; can also be read and set as ``model``.
    history_ : keras.callbacks.History
        What Keras's ``fit`` returned.
    classes_ : ndarray of shape (`n_classes_`,), or list or dict of ndarray
        The labels, sorted; the numbers of the columns if `y` was one-hot or a label indicator
        matrix. For several outputs, those of each.
    n_classes_ : int, or list or dict of int
        Number of classes.
    n_features_in_ : int
        Number of features, if `X` had two dimensions.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if `X` had names that are strings.
    X_shape_ : tuple of int
        Shape of `X`, if it was one array.
    target_type_ : str
        "binary", "multiclass", "multilabel-indicator", or "multiclass-multioutput" for several
        outputs.

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

    classes_: Any
    n_classes_: Any
    # Whether y has an axis of time steps, and whether it is a label indicator matrix. The defaults
    # are for files of the first releases.
    _has_steps = False
    _is_indicator = False

    def __sklearn_tags__(self) -> Any:
        """Return the estimator tags of scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.classifier_tags.multi_label = True
        return tags

    def _labels(self, key: str | int | None = None) -> Labels:
        """Return the labels of the output, or of one of several."""
        if key is None or self._outputs is None:
            return Labels(self.classes_, self._has_steps, self._is_indicator)
        return Labels(*self._outputs[key])

    def _array_of_targets(self, y: Any, name: str = "y") -> _Array:
        array: _Array = self._check_array(y, name, ensure_2d=False, allow_nd=True, dtype=None)
        return array

    def _targets(self, y: Any, *, reset: bool = False) -> Any:
        """Return indices into `classes_`, or rows of probabilities if `y` has them."""
        if isinstance(y, dict):
            return self._targets_of_outputs(y, reset=reset)
        given = self._array_of_targets(y)
        is_columns = are_columns_of_labels(given) if reset else self._is_one_array
        if is_columns:
            columns = dict(enumerate(given.T))
            if reset:
                self._outputs = {key: self._learn(part) for key, part in columns.items()}
                self._is_one_array = True
                self._describe()
            return {key: self._part(key, part) for key, part in columns.items()}
        if reset:
            self._outputs, self._is_one_array = None, False
            learned = Labels.learned(given, self._categories)
            self.classes_, self._has_steps, self._is_indicator = learned
            self.n_classes_ = len(learned.classes)
            self.target_type_ = learned.target_type
        return self._labels().validated(given)

    def _columns(self, y: _Array, model_heads: list[outputs.Head]) -> dict[str | int, _Array]:
        if y.ndim == 2 and y.shape[1] == len(model_heads):
            return dict(enumerate(y.T))
        raise EstimatorError(
            f"The model has {len(model_heads)} outputs, and y is an array of shape {y.shape}",
            where=self._where,
            cause=f"the outputs are {', '.join(str(head.name) for head in model_heads)}",
            cure="pass y as a dict of arrays by the names of the outputs, or as a list; or as one "
            "array with a column of labels for each output",
        )

    def _learn(self, part: _Array) -> tuple[Any, ...]:
        """Return the fields of `Labels`; a tuple, so that files name no further class."""
        return tuple(Labels.learned(part))

    def _part(self, key: str | int, part: _Array) -> _Array:
        return self._labels(key).validated(part)

    def _describe(self) -> None:
        classes = {key: fields[0] for key, fields in (self._outputs or {}).items()}
        self.classes_ = outputs.joined(classes)
        self.n_classes_ = outputs.joined({key: len(each) for key, each in classes.items()})
        self.target_type_ = "multiclass-multioutput"

    def _encoded(self, targets: _Array, head: outputs.Head, key: str | int | None) -> _Array:
        return self._labels(key).for_loss(targets, head.loss, head.units, self._where)

    def _weighted(
        self, model: Any, inputs: Any, targets: Any, arguments: dict[str, Any]
    ) -> tuple[Any, Any]:
        if isinstance(targets, dict):
            return super()._weighted(model, inputs, targets, arguments)
        if arguments.get("sample_weight") is not None:
            super()._weighted(model, inputs, self._encode(model, targets), arguments)
        class_weight = arguments.pop("class_weight", None)
        if class_weight is not None:
            # Keras refuses both kinds of weights at once, and identifies classes by index only.
            weights = self._labels().weights(class_weight, targets)
            arguments["sample_weight"] = times(weights, arguments.get("sample_weight"))
        return inputs, targets

    def _weights_of_classes(
        self,
        targets: Mapping[str | int, _Array],
        weights: dict[str | int, _Array | None],
        arguments: dict[str, Any],
    ) -> dict[str | int, _Array | None]:
        given = arguments.pop("class_weight", None)
        if given is None:
            return weights
        parts = dict.fromkeys(targets, given) if isinstance(given, str) else outputs.keyed(given)
        if set(parts) != set(targets):
            raise EstimatorError(
                f"class_weight is for {', '.join(map(str, parts))}",
                where=f"{type(self).__name__}.class_weight",
                cause=f"the model has {len(targets)} outputs: {', '.join(map(str, targets))}",
                cure='pass "balanced", or a list with the weights of each output, or a dict of '
                "them if y is a dict; None where an output has none",
            )
        return {
            key: weights[key]
            if parts[key] is None
            else times(self._labels(key).weights(parts[key], targets[key]), weights[key])
            for key in targets
        }

    def predict_proba(self, X: Any, **kwargs: Any) -> Any:
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
            For several outputs a list with such an array for each of them, or a dict if the `y` of
            `fit` was one.

        Raises
        ------
        EstimatorError
            If the model has several outputs, and `fit` had targets for one.
        NotFittedError
            If `fit` has not been called.
        """
        return self._in_form_of_targets(self._probabilities(X, kwargs))

    def _probabilities(self, X: Any, kwargs: Mapping[str, Any]) -> dict[str | int | None, _Array]:
        """Return the probabilities by output; the key of a single output is None."""
        if self._outputs is None:
            raw = self._output(X, kwargs)
            return {None: self._labels().probabilities(raw, self.model_.loss)}
        answers = self._answers(X, kwargs)
        heads = outputs.matched(self.model_, answers, self._where)
        return {
            key: self._labels(key).probabilities(raw, heads[key].loss)
            for key, raw in answers.items()
        }

    def _in_form_of_targets(self, parts: Mapping[Any, _Array]) -> Any:
        return parts[None] if None in parts else outputs.joined(parts)

    def predict(self, X: Any, **kwargs: Any) -> Any:
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
            The most probable label of each sample; for a label indicator matrix its rows, with 1
            where the probability is above 0.5. For several outputs a column for each of them, or a
            dict or list of arrays if the `y` of `fit` was one.

        Raises
        ------
        EstimatorError
            If the model has several outputs, and `fit` had targets for one.
        NotFittedError
            If `fit` has not been called.
        """
        parts = self._probabilities(X, kwargs)
        predicted = {key: self._labels(key).predicted(each) for key, each in parts.items()}
        if self._is_one_array:
            return np.column_stack(list(predicted.values()))
        return self._in_form_of_targets(predicted)

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
            Fraction of samples with a correctly predicted label; for a label indicator matrix, with
            correct labels in all columns. For several outputs the mean of their scores.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        """
        if self._outputs is None:
            predicted = self.predict(X, **kwargs)
            return self._labels().accuracy(y, predicted, sample_weight)
        heads = outputs.matched(self.model_, self._outputs, self._where)

        def accuracy(key: str | int, true: Any, raw: _Array, weights: Any) -> float:
            each = self._labels(key)
            predicted = each.predicted(each.probabilities(raw, heads[key].loss))
            return each.accuracy(true, predicted, weights)

        return self._score_of_outputs(X, y, sample_weight, kwargs, accuracy)


class KerasTransformer(KerasEncoder, BaseWrapper):
    """A Keras model as a scikit-learn transformer, for example an autoencoder.

    Parameters
    ----------
    build_fn : callable, optional
        As for `KerasRegressor`.
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
    random_state : int, RandomState instance or None, default=None
        As for `KerasRegressor`.
    **sk_params
        As for `KerasRegressor`.

    Attributes
    ----------
    model_ : keras.Model
        The fitted model; can also be read and set as ``model``.
    history_ : keras.callbacks.History
        What Keras's ``fit`` returned.
    n_features_in_, feature_names_in_, X_shape_, n_outputs_, target_type_
        As for `KerasRegressor`.

    Raises
    ------
    EstimatorError
        A subclass of ``ValueError``, if neither `build_fn` nor Keras's methods accept a parameter.

    Examples
    --------
    >>> import keras, keras_reduce, numpy as np
    >>> def build(meta, units=2):
    ...     features = meta["n_features_in_"]
    ...     code = keras.layers.Dense(units, "relu", name="code")
    ...     layers = [keras.Input((features,)), code, keras.layers.Dense(features)]
    ...     model = keras.Sequential(layers)
    ...     model.compile("adam", "mse")
    ...     return model
    >>> transformer = keras_reduce.KerasTransformer(build, encoder="code", units=3, epochs=2)
    >>> codes = transformer.fit_transform(np.ones((8, 5)))
    >>> codes.shape, transformer.inverse_transform(codes).shape
    ((8, 3), (8, 5))
    >>> transformer.get_feature_names_out().tolist()
    ['kerastransformer0', 'kerastransformer1', 'kerastransformer2']
    """

    def __init__(
        self,
        build_fn: Callable[..., Any] | None = None,
        *,
        encoder: Any = None,
        decoder: Any = None,
        supervised: bool = False,
        random_state: Any = None,
        **sk_params: Any,
    ) -> None:
        super().__init__(build_fn, random_state=random_state, **sk_params)
        self.encoder = encoder
        self.decoder = decoder
        self.supervised = supervised

    def predict(self, X: Any, **kwargs: Any) -> Any:
        """Return the output of the whole model: for an autoencoder, `X` as it reproduces it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or another input of `fit`
            The samples.
        **kwargs
            Further arguments for Keras's ``predict``; they take precedence over the
            constructor's.

        Returns
        -------
        ndarray
            The output; a list or dict of arrays if the model has several.

        Raises
        ------
        NotFittedError
            If `fit` has not been called.
        """
        return self._raw(X, kwargs)


def _arguments_of(builder: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the arguments of a build function; none for a model."""
    return frozenset() if is_model(builder) else names(builder)


def _cure(name: str, legal: Iterable[str]) -> str:
    """Return a cure for a parameter that does not exist."""
    prefix, _, plain = name.partition("__")
    if plain and prefix in ("model", "fit", "predict", "optimizer", "loss"):
        return (
            f"leave out SciKeras's prefix: {plain} is passed to build_fn if that has an argument "
            "of this name, else to fit and predict; keras_reduce.scikeras has estimators with "
            "prefixes"
        )
    if name == "warm_start" or (plain and prefix in ("callbacks", "compile", "metrics", "score")):
        return f"use the estimators of keras_reduce.scikeras, which take SciKeras's {name}"
    if name == "model":
        return "pass the function as build_fn"
    if name in ("optimizer", "loss", "metrics"):
        return f"call compile() in build_fn; to choose from outside, give it an argument {name!r}"
    return similar(name, legal) or f"give build_fn an argument {name!r}, or leave it out"
