"""Which kinds of Keras 3 objects are carried, and how: one row for each."""

from __future__ import annotations

import functools
import sys
import weakref
from typing import TYPE_CHECKING, Any

from .private import find

if TYPE_CHECKING:
    from .._base import Kind


def kind(obj: Any) -> Kind | None:
    """Tell which kind of Keras 3 object `obj` is; None if it is none that we carry."""
    cls = type(obj)
    if cls not in _kinds:
        _kinds[cls] = next((name for name, base in bases().items() if issubclass(cls, base)), None)
    return _kinds[cls]


_kinds: weakref.WeakKeyDictionary[type, Kind | None] = weakref.WeakKeyDictionary()


def public_classes() -> tuple[type, ...]:
    """Return the classes of which everything that we carry is a subclass."""
    return tuple(bases().values())


@functools.cache
def bases() -> dict[Kind, type]:
    """Return the base class of each kind; the first that fits an object is its kind."""
    import keras

    found: dict[Kind, type] = {
        "model": keras.Model,
        "layer": keras.Layer,
        "function": keras.Function,
        "operation": keras.Operation,
        "optimizer": keras.optimizers.Optimizer,
        "metric": keras.metrics.Metric,
        "loss": keras.losses.Loss,
        "initializer": keras.initializers.Initializer,
        "regularizer": keras.regularizers.Regularizer,
        "constraint": keras.constraints.Constraint,
        "schedule": keras.optimizers.schedules.LearningRateSchedule,
        "policy": keras.dtype_policies.DTypePolicy,
        "callback": keras.callbacks.Callback,
        "seed_generator": keras.random.SeedGenerator,
        "variable": keras.Variable,
        "tensor": keras.KerasTensor,
    }
    # Private: the call of an operation that made a symbolic tensor; it has no public name.
    node = find("keras.src.ops.node:Node")
    if node is not None:
        found["node"] = node
    if keras.backend.backend() == "tensorflow":
        found["tf_function"] = type(sys.modules["tensorflow"].function(len))
    return found


def is_a(obj: Any, *kinds: Kind) -> bool:
    """Tell whether `obj` is of one of `kinds`, by its base class alone."""
    return isinstance(obj, _classes(kinds))


@functools.cache
def _classes(kinds: tuple[Kind, ...]) -> tuple[type, ...]:
    return tuple(cls for name, cls in bases().items() if name in kinds)


def is_saveable(obj: Any) -> bool:
    """Tell whether Keras tracks what is below `obj`: it has variables, or parts that have."""
    return isinstance(obj, _classes(_SAVEABLE))


_SAVEABLE: tuple[Kind, ...] = ("operation", "layer", "optimizer", "metric", "loss")


def has_config(obj: Any) -> bool:
    """Tell whether `obj` is of a kind that Keras describes by configs."""
    return is_saveable(obj) or is_a(
        obj, "initializer", "regularizer", "constraint", "schedule", "policy", "seed_generator"
    )
