"""Full names of losses and metrics; `transformers` has the encoders of the estimators."""

from __future__ import annotations

from typing import Any

from ...errors import EstimatorTypeError
from ...families import named_parts

__all__ = ["loss_name", "metric_name"]


def loss_name(loss: Any) -> str:
    """Return the full name of a loss, such as "mean_squared_error".

    Parameters
    ----------
    loss : str, class, function or keras.losses.Loss
        The loss; a short name such as "mse" is one of a loss of Keras.

    Raises
    ------
    EstimatorTypeError
        If `loss` is something else.
    ValueError
        If Keras has no loss with this name.
    """
    return _full_name(loss, "loss", "losses")


def metric_name(metric: Any) -> str:
    """Return the full name of a metric, such as "mean_squared_error".

    Parameters
    ----------
    metric : str, class, function or keras.metrics.Metric
        The metric; a short name such as "mse" is one of a metric of Keras.

    Raises
    ------
    EstimatorTypeError
        If `metric` is something else.
    ValueError
        If Keras has no metric with this name.
    """
    return _full_name(metric, "metric", "metrics")


def _full_name(part: Any, kind: str, plural: str) -> str:
    if not (isinstance(part, str) or callable(part)) or part is object:
        raise EstimatorTypeError(
            f"``{kind}`` must be a {kind}, not {part!r}",
            where=kind,
            cure=f"pass a name, a function, or a {kind} of Keras or its class",
        )
    return named_parts.full_name(part, plural)
