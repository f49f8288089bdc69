"""Kinds of Keras 2 objects that are carried: one row for each."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any

from .framework import keras

if TYPE_CHECKING:
    from ..protocol import Kind


def kind(obj: Any) -> Kind | None:
    """Return the kind of the Keras 2 object `obj`; None if this package does not carry it."""
    cls = type(obj)
    if cls not in _kinds:
        _kinds[cls] = next((name for name, base in bases().items() if issubclass(cls, base)), None)
    return _kinds[cls]


_kinds: weakref.WeakKeyDictionary[type, Kind | None] = weakref.WeakKeyDictionary()


def public_classes() -> tuple[type, ...]:
    """Return the classes of which everything that we carry is a subclass."""
    return tuple(cls for row in bases().values() for cls in row)


@functools.cache
def bases() -> dict[Kind, tuple[type, ...]]:
    """Return the base classes of each kind; the first that fits an object is its kind."""
    api = keras()
    return {
        "model": (api.Model,),
        # A metric is a layer here.
        "metric": (api.metrics.Metric,),
        "layer": (api.layers.Layer,),
        "optimizer": (api.optimizers.Optimizer, api.optimizers.legacy.Optimizer),
        "loss": (api.losses.Loss,),
        "initializer": (api.initializers.Initializer,),
        "regularizer": (api.regularizers.Regularizer,),
        "constraint": (api.constraints.Constraint,),
        "schedule": (api.optimizers.schedules.LearningRateSchedule,),
        "policy": (api.mixed_precision.Policy,),
        "callback": (api.callbacks.Callback,),
    }


def is_a(obj: Any, *kinds: Kind) -> bool:
    """Return whether `obj` is of one of `kinds`."""
    return kind(obj) in kinds


def is_layer(obj: Any) -> bool:
    """Return whether `obj` is a layer or a model, but no metric."""
    return kind(obj) in ("layer", "model")


def is_part(obj: Any) -> bool:
    """Return whether Keras tracks `obj` where it is an attribute."""
    return kind(obj) in ("layer", "model", "metric", "optimizer") or is_variable(obj)


def is_variable(obj: Any) -> bool:
    """Return whether `obj` is a variable of TensorFlow."""
    return isinstance(obj, _variable_class())


@functools.cache
def _variable_class() -> Any:
    import tensorflow as tf

    return tf.Variable
