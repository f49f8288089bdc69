"""Parts of Keras by the names that its method ``compile`` accepts, parts of models, and text.

They are taken from the module `keras`, of either generation. Each function imports it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

__all__ = [
    "epoch_callback",
    "floatx",
    "full_name",
    "layer_output",
    "loss",
    "metric",
    "optimizer",
    "part_model",
    "text_tensor",
]

# Keras chooses the function for these names itself, by the loss and the shape of the output.
_LEFT_TO_KERAS = ("acc", "accuracy", "ce", "crossentropy")


def optimizer(name: str, *, has_parameters: bool = False) -> Any:
    """Return the class of optimizers with this name."""
    import keras

    return type(keras.optimizers.get(name))


def loss(name: str, *, has_parameters: bool = False) -> Any:
    """Return the loss with this name: a function, or a class.

    Parameters
    ----------
    name : str
        Name of a function or class, such as "mse" or "Huber".
    has_parameters : bool, default=False
        Whether the loss will be given parameters, which a function doesn't take: then the name of a
        function gives the class for it, such as ``Huber`` for "huber".
    """
    import keras

    return _class_of(keras.losses.get(name), keras.losses if has_parameters else None)


def metric(name: str, *, has_parameters: bool = False) -> Any:
    """Return the metric with this name: a class, a function, or a name that Keras resolves.

    Parameters
    ----------
    name, has_parameters
        As for `loss`.
    """
    import keras

    if name in _LEFT_TO_KERAS and not has_parameters:
        return name
    return _class_of(keras.metrics.get(name), keras.metrics if has_parameters else None)


def _class_of(part: Any, module: Any) -> Any:
    """Return the class of an instance; of a function, the class in `module` that computes it."""
    if not inspect.isfunction(part):
        return part if isinstance(part, type) else type(part)
    classes = [each for each in vars(module).values() if isinstance(each, type)] if module else []
    return next((each for each in classes if _snake(each.__name__) == part.__name__), part)


def full_name(part: Any, kind: str) -> str:
    """Return the full name of a loss or metric, such as "mean_squared_error" for "mse".

    Parameters
    ----------
    part : str, class, function or instance
        The loss or metric.
    kind : str
        "losses" or "metrics".

    Raises
    ------
    ValueError
        If Keras has none of this name.
    """
    import keras

    if isinstance(part, str):
        part = getattr(keras, kind).get(part)
    if isinstance(part, str):
        return part
    named = part if isinstance(part, type) or inspect.isfunction(part) else type(part)
    return _snake(named.__name__)


def _snake(name: str) -> str:
    """Return a name such as ``KLDivergence`` as ``kl_divergence``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def floatx() -> str:
    """Return the name of the type that Keras computes with by default, such as "float32"."""
    import keras

    return str(keras.backend.floatx())


def text_tensor(strings: Any) -> Any:
    """Return an array of strings as Keras takes it for a model with a TextVectorization.

    On TensorFlow, Keras converts an array of objects with one axis itself, but no other one.
    """
    import keras

    if keras.backend.backend() != "tensorflow" or strings.ndim == 1:
        return strings
    import tensorflow as tf

    return tf.constant(strings)


def epoch_callback(on_epoch_end: Callable[[int, Any], None]) -> Any:
    """Return a callback of Keras that calls a function at the end of each epoch."""
    import keras

    return keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)


def layer_output(model: Any, name: str) -> Any:
    """Return the symbolic output of a layer within a functional or sequential model.

    Parameters
    ----------
    model : keras.Model
        The model.
    name : str
        The name of the layer, which may be a model itself.

    Returns
    -------
    KerasTensor or None
        None if the model has no such layer, or no graph of layers.
    """
    import keras

    if not getattr(model, "inputs", None):
        return None
    try:
        layer = model.get_layer(name)
    except ValueError:
        return None
    # A functional model has an ``output`` of its own: that of its own graph. In the graph around
    # it, it is an operation.
    operation = getattr(keras, "Operation", None)
    return layer.output if operation is None else operation.output.fget(layer)


def part_model(inputs: Any, outputs: Any) -> Any:
    """Return a model of the layers between symbolic tensors.

    Raises
    ------
    ValueError
        If `outputs` can't be computed from `inputs` alone.
    """
    import keras

    return keras.Model(inputs, outputs)
