"""Kinds of Keras 3 objects that are carried, and how: one row for each."""

from __future__ import annotations

import functools
import sys
import weakref
from typing import TYPE_CHECKING, Any

from ...core.code_objects import root_module
from ...core.private_names import find
from .bookkeeping import MODULE_STORES, OF_MODULES

if TYPE_CHECKING:
    from ..protocol import Kind


def kind(obj: Any) -> Kind | None:
    """Return the kind of the Keras 3 object `obj`; None if this package does not carry it."""
    cls = type(obj)
    result = _kinds_of_built_in.get(cls)
    if result is not None:
        return result
    if cls not in _kinds:
        _kinds[cls] = next((name for name, base in bases().items() if issubclass(cls, base)), None)
    result = _kinds[cls]
    if result is not None and is_built_in(cls):
        _kinds_of_built_in[cls] = result
    return result


_kinds: weakref.WeakKeyDictionary[type, Kind | None] = weakref.WeakKeyDictionary()
# Keras's own classes only, which a lookup without weak references finds sooner.
_kinds_of_built_in: dict[type, Kind] = {}


def public_classes() -> tuple[type, ...]:
    """Return the classes of which everything that we carry is a subclass."""
    return tuple(bases().values())


@functools.cache
def bases() -> dict[Kind, type]:
    """Return the base class of each kind; the first that fits an object is its kind."""
    import keras

    classes: dict[Kind, type] = {
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
        classes["node"] = node
    if keras.backend.backend() == "tensorflow":
        classes["tf_function"] = type(sys.modules["tensorflow"].function(len))
    return classes


def is_a(obj: Any, *kinds: Kind) -> bool:
    """Return whether `obj` is of one of `kinds`, by its base class alone."""
    return isinstance(obj, _classes(kinds))


@functools.cache
def _classes(kinds: tuple[Kind, ...]) -> tuple[type, ...]:
    return tuple(cls for name, cls in bases().items() if name in kinds)


def is_built_in(cls: type) -> bool:
    """Return whether `cls` is Keras's own."""
    if cls in _built_in:
        return True
    if root_module(cls) != "keras":
        return False
    _built_in.add(cls)
    return True


# Keras's own classes only: others may come and go.
_built_in: set[type] = set()


def is_saveable(obj: Any) -> bool:
    """Return whether Keras tracks what is below `obj`: it has variables, or parts that have."""
    return isinstance(obj, _classes(_SAVEABLE))


_SAVEABLE: tuple[Kind, ...] = ("operation", "layer", "optimizer", "metric", "loss")


def attributes_of(obj: Any) -> dict[str, Any]:
    """Return the attributes of `obj`, as they are at this moment.

    On Torch a layer is a module, which keeps modules and tensors that are set on it in dictionaries
    of its own.
    """
    attributes = dict(vars(obj))  # At once: another thread may be setting some.
    if is_module(obj):
        for store in MODULE_STORES:
            attributes.update(attributes.pop(store, None) or {})
        for name in OF_MODULES:
            attributes.pop(name, None)
    return attributes


def is_module(obj: Any) -> bool:
    """Return whether `obj` is a layer on Torch, where layers are modules."""
    return "_modules" in vars(obj) and is_a(obj, "layer")


def as_module(layer: Any) -> tuple[bool, bool]:
    """Return how `layer`, as a module of Torch, is switched, and whether it lists its variables.

    For layers that are no modules, and for those that are not built, what a new layer would say.
    """
    if not is_module(layer):
        return True, True
    return vars(layer)["training"], not layer.built or "_torch_params" in vars(layer)["_modules"]


def has_config(obj: Any) -> bool:
    """Return whether `obj` is of a kind that Keras describes by configs."""
    return is_saveable(obj) or is_a(
        obj, "initializer", "regularizer", "constraint", "schedule", "policy", "seed_generator"
    )
