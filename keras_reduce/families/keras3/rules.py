"""Rules by which the attributes of Keras 3 objects are carried: see `_shared.rules`."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from ...core.code_objects import root_module
from ...weak_references import PROXIES, holds
from .._shared import completeness
from .._shared.nests import innermost
from .._shared.rules import Rules
from .bookkeeping import DEFAULTS, SET_BY_TRAINING, SET_LATER, SETTING_ATTRIBUTES
from .kinds import attributes_of, bases, is_a, is_built_in, is_saveable
from .patches import WRITING
from .tree import functional_class, is_container, is_functional

if TYPE_CHECKING:
    from ..protocol import Kind


@functools.cache
def _abstract_classes() -> tuple[type, ...]:
    import keras

    named = (cls for kind, cls in bases().items() if kind in _ABSTRACT)
    return (*named, completeness.owner(keras.Layer, "get_config"))


class _Rules(Rules):
    DEFAULTS: ClassVar = DEFAULTS
    SETTINGS: ClassVar = SETTING_ATTRIBUTES
    WITHOUT_PARTS: ClassVar = ("initializer", "regularizer", "constraint", "schedule", "policy")
    abstract_classes = staticmethod(_abstract_classes)
    is_a = staticmethod(is_a)
    is_built_in = staticmethod(is_built_in)
    is_container = staticmethod(is_container)
    may_be_remade = staticmethod(is_saveable)
    attributes_of = staticmethod(attributes_of)
    holds_weak = staticmethod(holds)

    @staticmethod
    def is_framework(cls: Any) -> bool:
        return is_built_in(cls) or _is_of_backend(cls)

    @staticmethod
    def is_compiled(model: Any) -> bool:
        return bool(model.compiled)

    @staticmethod
    def is_tensor(value: Any) -> bool:
        if getattr(getattr(value, "dtype", None), "name", "") in ("resource", "variant"):
            return False  # A handle of TensorFlow, to what only this process has.
        is_of_jax = root_module(type(value)) in ("jax", "jaxlib")
        name = "__array__" if is_of_jax else "numpy"
        return _is_of_backend(type(value)) and hasattr(value, name)

    @staticmethod
    def holds_parts(value: Any) -> bool:
        # A weak reference that poses as a part is none.
        return any(type(item) not in PROXIES and is_part(item) for item in innermost(value))

    @staticmethod
    def takes_no_arguments(cls: Any) -> bool:
        parameters = inspect.signature(cls.__init__).parameters.items()
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return [name for name, each in parameters if each.kind in named] == ["self"]

    @staticmethod
    def internal_names(obj: Any) -> frozenset[str]:
        root = _root(obj)
        names = _internal(root)
        if root not in _MODELS:
            return names
        # Before a model is compiled, these are the user's to set.
        return names | {"optimizer"} if obj.compiled else names - {"loss"} if obj.loss else names

    @staticmethod
    def general_classes() -> frozenset[type]:
        import keras

        # Their methods also replace, for a while, attributes that only classes below them have.
        return frozenset({*keras.Model.__mro__, keras.Sequential, functional_class()})

    def compiles_from_config(self, model: Any) -> bool:
        return self.overrides(model, "compile_from_config")


def is_part(value: Any) -> bool:
    """Return whether Keras tracks `value` where it is an attribute."""
    return is_saveable(value) or is_a(value, "seed_generator", "variable")


def _is_of_backend(cls: type) -> bool:
    return root_module(cls) in ("tensorflow", "torch", "flax", "jax", "jaxlib")


_ABSTRACT = frozenset(
    {
        "model",
        "layer",
        "function",
        "operation",
        "metric",
        "loss",
        "initializer",
        "regularizer",
        "constraint",
        "schedule",
    }
)
_MODELS = ("sequential", "functional", "model")


def _root(obj: Any) -> str:
    kinds: tuple[Kind, ...] = ("optimizer", "model", "metric", "loss")
    root_name = next((kind for kind in kinds if is_a(obj, kind)), "layer")
    if root_name == "model" and is_container(obj):
        return "functional" if is_functional(obj) else "sequential"
    return root_name


@functools.cache
def _internal(root: str) -> frozenset[str]:
    """Return the attributes that Keras itself sets on its objects of a kind."""
    names = _declared(root) | SET_LATER
    if root == "optimizer":
        return names | {"build"}  # Of one that waits for its variables; see `optimizers`.
    return names | SET_BY_TRAINING if root in _MODELS else names


@functools.cache
def _declared(root: str) -> frozenset[str]:
    """Return the attributes that Keras's own constructor of a kind sets, in this version."""
    import keras

    name = "keras_reduce_specimen"  # Named, so that no counter of automatic names moves.
    if root == "functional":
        inputs = keras.Input((1,), name=name)
        outputs = keras.layers.Identity(name=f"{name}_output")(inputs)
        return frozenset(attributes_of(keras.Model(inputs, outputs, name=name)))
    if root == "optimizer":
        return frozenset(attributes_of(keras.optimizers.Optimizer(1.0, name=name)))
    classes: dict[Any, Any] = {**bases(), "sequential": keras.Sequential}
    return frozenset(attributes_of(classes[root](name=name)))


_RULES = _Rules(WRITING)
describes_itself = _RULES.describes_itself
has_identity = _RULES.has_identity
holds_parts = _RULES.holds_parts
is_compiled_plainly = _RULES.is_compiled_plainly
is_tensor = _RULES.is_tensor
left_out = _RULES.left_out
lost_by_compiling = _RULES.lost_by_compiling
overrides = _RULES.overrides
owner = _RULES.owner
own_attributes = _RULES.own_attributes
set_by_code = _RULES.set_by_code
set_by_the_user = _RULES.set_by_the_user
travels_by_attributes = _RULES.travels_by_attributes
