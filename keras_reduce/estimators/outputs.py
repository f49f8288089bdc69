"""Models with several outputs: their targets, losses, weights and predictions.

Targets of several outputs are a dict by key in this package. The keys are the names of the outputs
if the program gave a dict, else their positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import EstimatorError

__all__ = [
    "Head",
    "heads",
    "joined",
    "keyed",
    "matched",
    "nested",
    "parts",
    "separated",
    "split",
    "weighted",
]

_Array = NDArray[Any]
Key = str | int


class Head(NamedTuple):
    """An output of a model.

    Attributes
    ----------
    name : str or int
        Its name; its position if the model has no name for it.
    shape : tuple or None
        Its shape, with None for sizes that vary; None if it is not known.
    loss : object
        The loss that it is compiled with.
    """

    name: Key
    shape: tuple[int | None, ...] | None
    loss: Any

    @property
    def units(self) -> int | None:
        """Length of the last axis; None if it is not known."""
        return self.shape[-1] if self.shape else None


def heads(model: Any) -> list[Head]:
    """Return the outputs of a model that has several; an empty list for another or unknown one."""
    nest = _nest(model)
    if isinstance(nest, Mapping):
        items = list(nest.items())
    elif isinstance(nest, (list, tuple)):
        names = getattr(model, "output_names", ())
        # A layer that is called twice gives its name to two outputs.
        are_names = len(set(names)) == len(nest)
        items = list(zip(names if are_names else range(len(nest)), nest, strict=True))
    else:
        return []
    if len(items) < 2 or not all(hasattr(tensor, "shape") for _, tensor in items):
        return []
    return [
        Head(name, tuple(tensor.shape), _loss(model, name, position))
        for position, (name, tensor) in enumerate(items)
    ]


def _nest(model: Any) -> Any:
    """Return the symbolic outputs of a model; None if it has none."""
    try:
        return model.output
    except (AttributeError, RuntimeError, ValueError):  # A model that is not built, or subclassed.
        return None


def _loss(model: Any, name: Key, position: int) -> Any:
    loss = getattr(model, "loss", None)
    if isinstance(loss, Mapping):
        return loss.get(name)
    return loss[position] if isinstance(loss, (list, tuple)) else loss


def parts(values: Any, n_samples: int) -> dict[Key, Any] | None:
    """Return targets or weights of several outputs by key; None if they are for one output.

    Parameters
    ----------
    values : object
        A dict of arrays, or a list or tuple of arrays that are not samples. Others are one array.
    n_samples : int
        The number of samples: a list of so many arrays is a list of samples.
    """
    if isinstance(values, Mapping):
        return dict(values)
    if not isinstance(values, (list, tuple)) or len(values) in (0, n_samples):
        return None
    is_array = [each is None or getattr(each, "ndim", 0) > 0 for each in values]
    return dict(enumerate(values)) if all(is_array) else None


def keyed(values: Any) -> dict[Key, Any]:
    """Return the items of a dict or list by key."""
    return dict(values) if isinstance(values, Mapping) else dict(enumerate(values))


def matched(model: Any, keys: Any, where: str) -> dict[Key, Head]:
    """Return the output of a model for each key, in the order of the outputs.

    Parameters
    ----------
    model : keras.Model
        The model.
    keys : collection of str or int
        Keys of the targets.
    where : str
        The parameter that gave the model, for error messages.

    Raises
    ------
    EstimatorError
        If there are other outputs than targets.
    """
    model_heads = heads(model)
    if not model_heads and len(getattr(model, "outputs", None) or ()) != 1:
        return {key: Head(key, None, _loss(model, key, i)) for i, key in enumerate(keys)}
    if all(isinstance(key, int) for key in keys) and len(model_heads) == len(keys):
        return dict(enumerate(model_heads))
    by_name = {head.name: head for head in model_heads}
    if set(by_name) != set(keys):
        names = ", ".join(map(str, by_name)) or "one output"
        raise EstimatorError(
            f"The outputs of the model don't match the {len(keys)} targets",
            where=where,
            cause=f"the model has {names}, and y has {', '.join(map(str, keys))}",
            cure="give the model an output for each item or column of y, and in a dict the names "
            "of the outputs; labels of time steps need an axis of length 1: y[..., None]",
        )
    return dict(by_name)


def nested(model: Any, values: Mapping[Key, Any]) -> Any:
    """Return values of several outputs in the structure of the outputs, for Keras.

    Parameters
    ----------
    model : keras.Model
        The model.
    values : mapping
        A value for each key, in the order of the outputs.
    """
    model_heads = heads(model)
    if isinstance(_nest(model), Mapping):
        return {head.name: each for head, each in zip(model_heads, values.values(), strict=True)}
    if not model_heads and any(isinstance(key, str) for key in values):
        return dict(values)
    return list(values.values())


def separated(model: Any, predicted: Any, keys: Any, where: str) -> dict[Key, _Array]:
    """Return the prediction of a model with several outputs by the keys of its targets.

    Raises
    ------
    EstimatorError
        If the model predicts something else.
    """
    if isinstance(predicted, (list, tuple)):
        names = [head.name for head in heads(model)] or range(len(predicted))
        predicted = dict(zip(names, predicted, strict=True))
    if isinstance(predicted, Mapping) and len(predicted) == len(keys):
        by_position = dict(enumerate(predicted.values()))
        if all(key in predicted or key in by_position for key in keys):
            return {
                key: np.asarray(predicted[key] if key in predicted else by_position[key])
                for key in keys
            }
    got = list(predicted) if isinstance(predicted, Mapping) else type(predicted).__name__
    raise EstimatorError(
        "The outputs of the model are not those that it was fitted with",
        where=where,
        cause=f"the targets were {list(keys)}, and the model predicts {got}",
        cure="set a model with the same outputs, or call fit",
    )


def joined(values: Mapping[Key, Any]) -> Any:
    """Return values of several outputs in the form of their targets: a dict, or a list."""
    is_dict = any(isinstance(key, str) for key in values)
    return dict(values) if is_dict else [values[key] for key in sorted(values)]


def split(y: _Array, model_heads: list[Head], where: str) -> dict[Key, _Array]:
    """Return the columns of `y` for each output, as many as it has units.

    Raises
    ------
    EstimatorError
        If there are more or fewer columns than units.
    """
    widths = [head.units if len(head.shape or ()) == 2 else None for head in model_heads]
    total = sum(width or 0 for width in widths)
    if None in widths or y.ndim != 2 or y.shape[1] != total:
        shapes = ", ".join(str(head.shape) for head in model_heads)
        raise EstimatorError(
            f"The model has {len(model_heads)} outputs, and y is an array of shape {y.shape}",
            where=where,
            cause=f"the outputs have the shapes {shapes}",
            cure="pass y as a dict of arrays by the names of the outputs, or as a list; or as one "
            "array with a column for each unit of all outputs",
        )
    ends = list(itertools.accumulate(width or 0 for width in widths))
    return dict(enumerate(np.split(y, ends[:-1], axis=1)))


def weighted(weights: Mapping[Key, _Array | None], targets: Mapping[Key, _Array]) -> Any:
    """Return the weights of each output, ones where there are none; None if there are none at all.

    Parameters
    ----------
    weights, targets : mapping
        Weights and targets of the outputs.
    """
    if all(each is None for each in weights.values()):
        return None
    return {
        key: np.ones(len(targets[key])) if each is None else each for key, each in weights.items()
    }
