"""Names of the arguments of Keras's methods and of build functions, and their routing."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

__all__ = [
    "COMPILE",
    "DEFAULTS",
    "FIT",
    "KERAS",
    "PREDICT",
    "RETIRED",
    "names",
    "pick",
    "routed",
    "similar",
    "takes_any",
    "title",
]

# Arguments of Keras's own methods. They are listed here so that an estimator can be created, cloned
# and searched over in a process that has not imported Keras. `callbacks` are for `fit` only: early
# stopping has no effect in `predict`, which would mark the callback as used.
FIT = frozenset(
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
PREDICT = frozenset({"batch_size", "steps", "verbose"})
COMPILE = frozenset(
    {"loss", "loss_weights", "metrics", "optimizer", "run_eagerly", "weighted_metrics"}
)
# Their defaults, except for data and objects. Here, `verbose` is 0.
DEFAULTS: dict[str, Any] = {
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
RETIRED = frozenset({"max_queue_size", "use_multiprocessing", "workers"})
KERAS = FIT | PREDICT | RETIRED


def names(fn: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the arguments that `fn` takes by name."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(fn).parameters.values()
    return frozenset(p.name for p in parameters if p.kind in by_name)


def takes_any(fn: Callable[..., Any]) -> bool:
    """Return whether `fn` has a ``**kwargs``."""
    parameters = inspect.signature(fn).parameters.values()
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def pick(values: Mapping[str, Any], selected: Container[str]) -> dict[str, Any]:
    """Return the items of `values` with the `selected` names."""
    return {name: value for name, value in values.items() if name in selected}


def routed(values: Mapping[str, Any], prefix: str, *, deep: bool = False) -> dict[str, Any]:
    """Return the parameters with a prefix, without it.

    Parameters
    ----------
    values : mapping
        Parameters by name, such as ``optimizer__learning_rate``.
    prefix : str
        The destination, such as "optimizer".
    deep : bool, default=False
        Whether to return parameters with a further prefix as well, for parts of the destination.

    Returns
    -------
    dict
        For example ``learning_rate``.
    """
    start = f"{prefix}__"
    below = {
        name.removeprefix(start): value for name, value in values.items() if name.startswith(start)
    }
    return {name: value for name, value in below.items() if deep or "__" not in name}


def similar(name: str, legal: Iterable[str]) -> str:
    """Return a question for the most similar legal name; empty if none is similar."""
    close = difflib.get_close_matches(name, legal, n=1)
    return f"did you mean {close[0]}?" if close else ""


def title(obj: Any) -> str:
    """Return a short name for `obj`, for messages."""
    return "None" if obj is None else getattr(obj, "__name__", f"a {type(obj).__name__}")
