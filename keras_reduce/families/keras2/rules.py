"""Rules by which the attributes of Keras 2 objects are carried: see `_shared.rules`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from .._shared import assigned_attributes, completeness
from .._shared.bookkeeping import TRACKING
from .._shared.nests import leaves
from .._shared.rules import Rules
from . import others
from .bookkeeping import DEFAULTS
from .framework import is_built_in, keras
from .kinds import bases, is_a, is_layer, is_part, is_variable
from .patches import WRITING
from .tree import is_container, is_sequential, is_trackable, own_variables


@functools.cache
def _abstract_classes() -> tuple[type, ...]:
    named = (cls for kind, row in bases().items() if kind != "optimizer" for cls in row)
    return (*named, completeness.owner(keras().layers.Layer, "get_config"))


class _Rules(Rules):
    DEFAULTS: ClassVar = DEFAULTS
    WITHOUT_PARTS: ClassVar = ("initializer", "regularizer", "constraint", "schedule", "loss")
    abstract_classes = staticmethod(_abstract_classes)
    is_a = staticmethod(is_a)
    is_built_in = staticmethod(is_built_in)
    is_container = staticmethod(is_container)
    is_framework = staticmethod(is_built_in)
    may_be_remade = staticmethod(is_layer)

    # What only Keras 3 has.
    holds_weak = takes_no_arguments = staticmethod(lambda value: False)
    attributes_of = staticmethod(lambda obj: dict(vars(obj)))

    def describes_itself(self, obj: Any) -> bool:
        is_lost = is_layer(obj) and _has_lost_its_shape(obj)
        return not is_lost and super().describes_itself(obj)

    def is_made_by_config(self, obj: Any) -> bool:
        return is_built_in(type(obj)) and self.describes_itself(obj)

    @staticmethod
    def general_classes() -> frozenset[type]:
        return frozenset()

    @staticmethod
    def is_compiled(model: Any) -> bool:
        return bool(model._is_compiled)

    @staticmethod
    def is_tensor(value: Any) -> bool:
        return isinstance(value, _tensor_class()) and value.dtype.name not in _HANDLES

    @staticmethod
    def holds_parts(value: Any) -> bool:
        return any(map(is_part, leaves(value)))

    def modules_in(self, obj: Any, attributes: Mapping[str, Any]) -> tuple[set[str], set[str]]:
        """Return modules of TensorFlow: those made of variables of `obj`, and all others.

        Some of the latter can be pickled, but not unpickled (the distributions of TensorFlow
        Probability 0.25).
        """
        modules = {name: value for name, value in attributes.items() if is_trackable(value)}
        ids = {id(variable) for variable in own_variables(obj)} if modules else ()
        made_of_own = {
            name
            for name, value in modules.items()
            if any(is_variable(v) and id(v) in ids for v in getattr(value, "variables", ()))
        }
        return made_of_own, set(modules)

    @staticmethod
    def internal_names(obj: Any) -> frozenset[str]:
        root = next((name for name in ("optimizer", "metric", "model") if is_a(obj, name)), "layer")
        if is_container(obj):
            root = "sequential" if is_sequential(obj) else "functional"
        return _declared(root) | others.left_by_loading(obj)


_HANDLES = ("resource", "variant")


def _has_lost_its_shape(layer: Any) -> bool:
    """Return whether a layer has variables, but no note of the shape that they were made for.

    Keras takes one when it builds a layer itself, but not when a program calls ``build()``.
    """
    lookups = (keras().layers.StringLookup, keras().layers.IntegerLookup)
    # Their one variable is made by the constructor.
    if is_container(layer) or isinstance(layer, lookups) or not own_variables(layer):
        return False
    return layer.get_build_config() is None


@functools.cache
def _tensor_class() -> Any:
    import tensorflow as tf

    return type(tf.zeros(()))  # It has no public name.


@functools.cache
def _declared(root: str) -> frozenset[str]:
    """Return the attributes that Keras's own constructor and methods of a kind set."""
    api = keras()
    name = "keras_reduce_specimen"  # Named, so that no counter of automatic names moves.
    makers: dict[str, Callable[[], Any]] = {
        "layer": lambda: api.layers.Layer(name=name),
        "model": lambda: api.Model(name=name),
        "sequential": lambda: api.Sequential(name=name),
        "functional": lambda: _functional_specimen(name),
        "metric": lambda: _metric_specimen(name),
        "optimizer": lambda: api.optimizers.Optimizer(name=name),
    }
    specimen = makers[root]()
    methods = (assigned_attributes.set_by(base) for base in type(specimen).__mro__[:-1])
    # What a lone optimizer that has travelled waits for; see `optimizers`.
    # One that says it is built would make no slots.
    tracking = {"build", "_built"} if root == "optimizer" else {"_auto_config", "_auto_get_config"}
    # What a metric answered last, in a trace a tensor without a value.
    tracking |= {"_call_result"} if root == "metric" else set()
    return frozenset(vars(specimen)).union(TRACKING, tracking, *methods)


def _metric_specimen(name: str) -> Any:
    methods = {"update_state": lambda self: None, "result": lambda self: None}
    return type("Specimen", (keras().metrics.Metric,), methods)(name=name)


def _functional_specimen(name: str) -> Any:
    inputs = keras().Input((1,), name=name)
    return keras().Model(inputs, inputs, name=f"{name}_model")


_RULES = _Rules(WRITING)
describes_itself = _RULES.describes_itself
is_compiled_plainly = _RULES.is_compiled_plainly
left_out = _RULES.left_out
lost_by_compiling = _RULES.lost_by_compiling
overrides = _RULES.overrides
has_identity = _RULES.has_identity
holds_parts = _RULES.holds_parts
owner = _RULES.owner
own_attributes = _RULES.own_attributes
set_by_the_user = _RULES.set_by_the_user
travels_by_attributes = _RULES.travels_by_attributes
