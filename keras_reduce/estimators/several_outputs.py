"""Targets and scores of models with several outputs, for estimators with parameters by name.

In `keras_reduce.scikeras`, target encoders do this instead, as in SciKeras.
"""

# ruff: noqa: N803  scikit-learn calls its matrix X, and passes it by that name.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EstimatorError
from . import data, outputs
from .base import KerasEstimator

__all__ = ["KerasEstimatorOfOutputs"]

_Array = NDArray[Any]


class KerasEstimatorOfOutputs(KerasEstimator):
    """An estimator whose targets may be those of several outputs of the model.

    The methods for one output are those of a regressor; a classifier overrides them.
    """

    # For each output of a model that has several, by key: what `_learn` returns. The defaults are
    # for files of the first releases.
    _outputs: dict[str | int, Any] | None = None
    # Whether their targets were the columns of one array.
    _is_one_array = False

    # The default for a model set by hand, for which no y is known.
    _flat = True

    def _targets(self, y: Any, *, reset: bool = False) -> Any:
        if isinstance(y, dict):
            return self._targets_of_outputs(y, reset=reset)
        targets = self._array_of_targets(y)
        if reset:
            self._outputs = None
            self._flat = targets.ndim == 1
            self.n_outputs_ = targets.shape[-1] if targets.ndim > 1 else 1
            self.target_type_ = "continuous-multioutput" if self.n_outputs_ > 1 else "continuous"
        elif self._outputs is not None:
            ends = np.cumsum([columns for columns, _ in self._outputs.values()])
            return dict(enumerate(np.split(targets, ends[:-1], axis=-1)))
        return targets

    def _learn(self, part: _Array) -> tuple[int, int]:
        """Return the number of columns, and of dimensions."""
        return (part.shape[-1] if part.ndim > 1 else 1, part.ndim)

    def _part(self, key: str | int, part: _Array) -> _Array:
        return part

    def _describe(self) -> None:
        self.n_outputs_ = sum(columns for columns, _ in (self._outputs or {}).values())
        self.target_type_ = "continuous-multioutput"

    def _separated(self, y: Any, inputs: Any) -> Any:
        parts = outputs.parts(y, data.n_samples(inputs))
        return y if parts is None else parts

    def _targets_of_outputs(self, parts: Mapping[str | int, Any], *, reset: bool) -> Any:
        """Return validated targets of several outputs."""
        arrays = {key: self._array_of_targets(part, f"y[{key!r}]") for key, part in parts.items()}
        if reset:
            self._is_one_array = False
            self._outputs = {key: self._learn(part) for key, part in arrays.items()}
            self._describe()
        elif self._outputs is None or self._is_one_array or set(self._outputs) != set(arrays):
            raise EstimatorError(
                f"y has targets of the outputs {', '.join(map(str, arrays))}",
                where="y",
                cause="the y of fit had another form",
                cure="pass targets of the form that fit got",
            )
        return {key: self._part(key, part) for key, part in arrays.items()}

    def _array_of_targets(self, y: Any, name: str = "y") -> _Array:
        array: _Array = self._check_array(y, name, ensure_2d=False, allow_nd=True)
        return array

    def _begin(self, X: Any, y: Any) -> tuple[Any, Any, Any]:
        model, inputs, targets = super()._begin(X, y)
        model_heads = outputs.heads(model)
        if model_heads and not isinstance(targets, dict):
            columns = self._columns(targets, model_heads)
            self._is_one_array = True
            self._outputs = {key: self._learn(part) for key, part in columns.items()}
            self._describe()
            targets = {key: self._part(key, part) for key, part in columns.items()}
        if isinstance(targets, dict):
            # In the order of the model's outputs.
            order = outputs.matched(model, targets, self._where)
            self._outputs = {key: self._outputs[key] for key in order}  # type: ignore[index]
            targets = {key: targets[key] for key in order}
        return model, inputs, targets

    @property
    def _where(self) -> str:
        return f"{type(self).__name__}.build_fn"

    def _columns(self, y: _Array, model_heads: list[outputs.Head]) -> dict[str | int, _Array]:
        """Return the columns of one array of targets by outputs."""
        return outputs.split(y, model_heads, self._where)

    def _encode(self, model: Any, y: Any) -> Any:
        if not isinstance(y, dict):
            shape = data.output_shape(model)
            head = outputs.Head(0, shape, getattr(model, "loss", None))
            return self._encoded(y, head, None)
        heads = outputs.matched(model, y, self._where)
        parts = {key: self._encoded(y[key], head, key) for key, head in heads.items()}
        return outputs.nested(model, parts)

    def _encoded(self, targets: _Array, head: outputs.Head, key: str | int | None) -> _Array:
        """Return validated targets of an output in the form that its loss needs."""
        return targets

    def _weighted(
        self, model: Any, inputs: Any, targets: Any, arguments: dict[str, Any]
    ) -> tuple[Any, Any]:
        if not isinstance(targets, dict):
            return super()._weighted(model, inputs, targets, arguments)
        given = arguments.pop("sample_weight", None)
        parts = outputs.parts(given, data.n_samples(inputs)) or dict.fromkeys(targets, given)
        heads = outputs.matched(model, targets, self._where)
        encoded = {key: self._encoded(targets[key], head, key) for key, head in heads.items()}
        weights = {
            key: None
            if parts.get(key) is None
            else data.checked_weights(parts[key], encoded[key], head.shape)
            for key, head in heads.items()
        }
        weights = self._weights_of_classes(targets, weights, arguments)
        complete = outputs.weighted(weights, targets)
        if complete is not None:
            arguments["sample_weight"] = outputs.nested(model, complete)
        return inputs, targets

    def _weights_of_classes(
        self,
        targets: Mapping[str | int, _Array],
        weights: dict[str | int, _Array | None],
        arguments: dict[str, Any],
    ) -> dict[str | int, _Array | None]:
        """Return the weights of samples times those of classes, for each of several outputs."""
        return weights

    def _answers(self, X: Any, kwargs: Mapping[str, Any]) -> dict[str | int, Any]:
        """Return the predictions of several outputs by key."""
        raw, where = self._raw(X, kwargs), f"{type(self).__name__}.predict"
        assert self._outputs is not None
        return outputs.separated(self.model_, raw, self._outputs, where)

    def _score_of_outputs(
        self, X: Any, y: Any, sample_weight: Any, kwargs: Mapping[str, Any], score: Any
    ) -> float:
        """Return the mean of the scores of several outputs."""
        n_samples = data.n_samples(self._inputs(X))
        answers = self._answers(X, kwargs)
        true = outputs.parts(y, n_samples)
        if true is None:
            array = np.asarray(y)
            true = {key: array[:, i] for i, key in enumerate(answers)}
        weights = outputs.parts(sample_weight, n_samples) or dict.fromkeys(answers, sample_weight)
        scores = [
            score(key, true[key], answer, weights.get(key)) for key, answer in answers.items()
        ]
        return float(np.mean(scores))
