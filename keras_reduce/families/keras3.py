"""Keras 3."""

from __future__ import annotations

from typing import Any

NAME = "keras3"
ROOT_MODULE = "keras"


def set_random_seed(seed: int) -> None:
    """Seed Python, NumPy and the framework."""
    import keras

    keras.utils.set_random_seed(seed)


def is_model(obj: Any) -> bool:
    """Tell whether `obj` is a Keras 3 model."""
    import keras

    return isinstance(obj, keras.Model)


def owns(obj: Any) -> bool:
    """Tell whether `obj` is an instance of a Keras 3 class."""
    import keras

    return isinstance(obj, (keras.Operation, keras.Loss, keras.Metric, keras.optimizers.Optimizer))
