"""From Keras 3 objects to configs, with every custom object keyed.

Keras's own serialization names custom classes and functions by their bare ``__name__``, dumps
lambdas as bytecode without their globals, and gives up on other callables. While `writing` is
entered, this thread's configs name each of them by a key of the payload's table instead.
"""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...core.code_objects import root_module
from ...core.payload import PLAIN
from ...errors import ReduceError
from .._shared.nests import unwrapped
from .._shared.patches import Patch
from .._shared.registered import registered_name
from .assembled import is_assembled, take_apart
from .attributes import describe
from .kinds import has_config, is_a, is_built_in, is_saveable
from .making import MadePart, made_parts, ties
from .patches import WRITING, current
from .rules import describes_itself, has_identity, overrides, set_by_the_user, travels_by_attributes
from .state import state
from .torch_modules import pickle_parametrized
from .tree import Tree

if TYPE_CHECKING:
    from ...custom_objects import Table


def architecture(obj: Any) -> dict[str, Any]:
    """Return the config from which `reading.make` makes an object like `obj`."""
    table: Table = current.table
    if is_assembled(obj):
        kind, plain, values = take_apart(obj)
        numbers = [table.defer_to_pickler(value) for value in values]
        return {"class_name": type(obj).__name__, "assembly": [kind, plain, numbers]}
    if travels_by_attributes(obj):
        key = table.key(type(obj), location=_public_location(type(obj)))
        return {"class_name": type(obj).__name__, "class": key}
    config: dict[str, Any] = serialize(obj)
    return config


def serialize(obj: Any) -> Any:
    """Return the config of `obj`, keyed if this thread is `writing`."""
    # Through the module, where `writing` has put its own: the public name is bound to the original.
    return _library().serialize_keras_object(obj)


@functools.cache
def _library() -> Any:
    from keras.src.saving import serialization_lib

    return serialization_lib


writing = WRITING.writing


@WRITING.points
def _points() -> list[Patch]:
    # Private: the points that every route takes from an object to its config. A public function
    # that a user's get_config() was bound to before skips serialize_keras_object, but not the
    # others, which it looks up in its module.
    import keras
    from keras.src.models import functional
    from keras.src.saving import object_registration, serialization_lib
    from keras.src.utils import python_utils

    return [
        (functional, "copy", _NotCopying),
        (keras.saving, "serialize_keras_object", _keyed_object),
        (object_registration, "get_registered_name", _keyed_name),
        (serialization_lib, "serialize_keras_object", _keyed_object),
        (serialization_lib, "get_build_and_compile_config", _without_compile_config),
        (serialization_lib, "record_object_after_serialization", _completed_config),
        (python_utils, "func_dump", _keyed_lambda),
    ]


class _NotCopying:
    """The module `copy` for a functional model, whose config is copied while it is written."""

    def __init__(self, original: types.ModuleType) -> None:
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def deepcopy(self, config: Any) -> Any:
        return (
            self._original.deepcopy(config) if getattr(current, "table", None) is None else config
        )


def _keyed_name(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def get_registered_name(obj: Any) -> Any:
        table = getattr(current, "table", None)
        name = original(obj)
        return name if table is None else _key(obj, name, table)

    return get_registered_name


def _key(obj: Any, name: str, table: Table) -> str:
    """Return the name in configs of a class or function that Keras calls `name`."""
    if root_module(obj) not in ("keras", "builtins"):
        return table.key(obj, name if name != obj.__name__ else None)
    if isinstance(obj, types.FunctionType) and not is_found_by_name(obj):
        return table.key(obj, location=_public_location(obj))
    return name


def is_found_by_name(function: types.FunctionType) -> bool:
    """Return whether Keras finds a function of its own by its bare name."""
    import keras

    homes = (keras.activations, keras.losses, keras.metrics, keras.initializers)
    return any(getattr(home, function.__name__, None) is function for home in homes)


def _public_location(obj: types.FunctionType | type) -> tuple[str, str] | None:
    # Private: what Keras exports a function or class as. Its own module may move.
    paths = vars(obj).get("_api_export_path", ())
    path = paths if isinstance(paths, str) else next(iter(paths), "")
    module, _, name = path.rpartition(".")
    return (module, name) if module else None


def _keyed_object(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def serialize_keras_object(obj: Any) -> Any:
        table = getattr(current, "table", None)
        if table is None:
            return original(obj)
        cls: Any = type(obj)
        if cls in PLAIN or (cls is _ChildConfig and obj.keys() <= _OF_CHILDREN):
            return obj
        if cls in (list, tuple):
            # Most items are plain, which need not be asked.
            return cls([i if type(i) in PLAIN else serialize_keras_object(i) for i in obj])
        if cls is dict or cls is _ChildConfig:
            return {
                key: value if type(value) in PLAIN else serialize_keras_object(value)
                for key, value in obj.items()
            }
        if _is_child(obj, table):
            return _child_config(obj, table)
        if cls is keras.KerasTensor:  # A functional config has one for each call.
            return original(obj)
        if getattr(obj, "quantization_layer_structure", None) is not None and is_built_in(cls):
            return original(_without_structure(obj))
        if table.is_compiling and table.is_outermost(obj):
            return _root_config(obj)
        if _is_opaque(obj):
            return _function_config(table.key(obj))
        if cls is types.FunctionType:
            name = keras.saving.get_registered_name(obj)
            return _function_config(_key(obj, name, table))
        if is_saveable(obj) and not describes_itself(obj):
            return _described(obj, table)
        if is_torch_wrapper(obj):
            return _wrapper_config(obj, table)
        _refuse_incomplete_jax_layer(obj)
        if is_policy_map(obj):
            return _policy_map_config(obj)
        public = _public_name(cls) if has_config(obj) and is_built_in(cls) else None
        if public is not None:
            return _config_of(obj, public, table)
        try:
            return original(obj)
        except NotImplementedError:
            # A get_config() that says it has none.
            if not is_saveable(obj) or is_built_in(cls):
                raise
            return _described(obj, table)

    import keras

    return serialize_keras_object


@functools.cache
def _public_name(cls: type) -> tuple[str, str] | None:
    """Return the module and name under which Keras exports one of its classes."""
    # Private: the name that Keras's own serialization goes by.
    from keras.src.api_export import get_name_from_symbol

    # Private: on Torch, the public classes of optimizers make objects of others, which an object's
    # class inherits from first.
    is_private = cls.__module__.startswith("keras.src.backend.")
    symbols = map(get_name_from_symbol, cls.__mro__ if is_private else [cls])
    module, _, name = next(filter(None, symbols), "").rpartition(".")
    return (module, name) if module else None


def _config_of(obj: Any, public: tuple[str, str], table: Table) -> dict[str, Any]:
    """Serialize an object of Keras's own as Keras does, without its detours.

    Keras asks of each value whether it is a tensor, a NumPy number, a type of TensorFlow.
    """
    value = _value_of(obj)
    config = _configs.get(value) if value else None
    if config is None:
        config = {
            "module": public[0],
            "class_name": public[1],
            "config": serialize(obj.get_config()),
            "registered_name": None,
        }
        _add_build_config(obj, config)
        _record(obj, config, table)
        if value and all(type(item) in PLAIN for item in config["config"].values()):
            _configs[value] = config
            if len(_configs) > 1000:
                _configs.clear()
    return {**config, "config": {**config["config"]}}


# The same few zeros, ones and dtype policies are in every layer.
_configs: dict[tuple[Any, ...], dict[str, Any]] = {}


def is_policy_map(obj: Any) -> bool:
    """Return whether `obj` is Keras's map of dtype policies by the paths of layers."""
    import keras

    return type(obj) is keras.dtype_policies.DTypePolicyMap


def _policy_map_config(policies: Any) -> dict[str, Any]:
    """Return the config of a map of dtype policies, with its default and the names of the others.

    Without a default, its get_config() takes these away, from the policies themselves: each would
    become the global policy of the process that reads (Keras 3.15).
    """
    config: dict[str, Any] = {
        # Private: the global policy of when the map was made, if no default was given.
        "default_policy": serialize(policies._default_policy),
        "policy_map": {path: serialize(policies._policy_map[path]) for path in policies},
    }
    return {
        "module": "keras.dtype_policies",
        "class_name": "DTypePolicyMap",
        "config": config,
        "registered_name": None,
    }


def _complete_policy(policy: Any, config: dict[str, Any]) -> None:
    """Put into the config of a policy the name that Keras has taken away, or spells otherwise."""
    inner = config["config"]
    name_key = "source_name" if "source_name" in inner else "name"
    if inner.get(name_key, "") is None:
        compute, variable = policy.compute_dtype, policy.variable_dtype
        inner[name_key] = compute if compute == variable else f"mixed_{compute}"
    elif (
        name_key == "source_name" and policy.name != f"{inner['mode']}_from_{inner['source_name']}"
    ):
        # "gptq/4/32_from_None" for one that took its source from the global policy (Keras 3.15).
        inner["keras_reduce_name"] = policy.name


def is_torch_wrapper(obj: Any) -> bool:
    """Return whether `obj` is a layer around a module of Torch."""
    import keras

    return type(obj) is keras.layers.TorchModuleWrapper


def _refuse_incomplete_jax_layer(obj: Any) -> None:
    """Refuse a layer around functions of JAX or a module of Flax that can't be made again.

    The configs of these leave out the initial parameters (Keras 3.15).
    """
    import keras

    cls = type(obj)
    if cls is keras.layers.FlaxLayer:
        raise ReduceError(
            "A FlaxLayer can't be carried",
            where=obj.name,
            cause="modules of Flax hold local functions, which no pickler takes by name",
            cure="use keras.layers.JaxLayer with two functions that make the module and call its "
            "apply() and init()",
        )
    if cls is keras.layers.JaxLayer and keras.backend.backend() != "jax":
        raise ReduceError(
            "A JaxLayer can't be carried on this backend",
            where=obj.name,
            cause="on TensorFlow, one that is made again has other variables than the original",
            cure="set KERAS_BACKEND=jax",
        )
    if cls is keras.layers.JaxLayer and obj.init_fn is None and obj.variables:
        raise ReduceError(
            "A JaxLayer without an init_fn can't be carried",
            where=obj.name,
            cause="its config leaves out params and state",
            cure="give it an init_fn that makes parameters of the same structure, beside params",
        )


def _wrapper_config(wrapper: Any, table: Table) -> dict[str, Any]:
    """Serialize the wrapper of a Torch module as Keras does, but leave the module to the pickler.

    Its config would hold a pickle of the module, with all weights, as text.
    """
    config = super(type(wrapper), wrapper).get_config()
    pickle_parametrized(wrapper.module)
    module = _child_reference(wrapper.module, table.defer_to_pickler(wrapper.module, "module"))
    inner = {**serialize(config), "output_shape": wrapper.output_shape, "module": module}
    wrapped = {
        "module": "keras.layers",
        "class_name": "TorchModuleWrapper",
        "config": inner,
        "registered_name": None,
    }
    _record(wrapper, wrapped, table)
    return wrapped


def _value_of(obj: Any) -> tuple[Any, ...] | None:
    """Return the cache key of an object of Keras's own without variables; None if it has none.

    It has none if its attributes are no plain values, or if they hold a seed, which is its alone.
    """
    attributes = vars(obj)
    if is_saveable(obj) or "seed" in attributes:
        return None
    # With the types, and spelled out: 1, 1.0 and True are equal, and so are 0.0 and -0.0.
    value = [(name, type(item), repr(item)) for name, item in attributes.items()]
    plain = all(cls in PLAIN for _, cls, _ in value)
    return (type(obj), *value) if plain else None


def _completed_config(original: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def record_object_after_serialization(obj: Any, config: dict[str, Any]) -> None:
        table = getattr(current, "table", None)
        if table is None:
            original(obj, config)
        else:
            _record(obj, config, table)

    return record_object_after_serialization


def _record(obj: Any, config: dict[str, Any], table: Table) -> None:
    """Complete a config that Keras's serialization has made."""
    if is_saveable(obj) and not describes_itself(obj):
        # Here by way of a public function: its guess at a config gives way.
        config.clear()
        config.update(_described(obj, table))
        return
    if _is_child(obj, table):
        config.clear()
        config.update(_child_config(obj, table))
        return
    if table.is_compiling and table.is_outermost(obj):
        config.clear()
        config.update(_root_config(obj))
        return
    config["module"] = None if config["module"] == "__main__" else config["module"]
    if not hasattr(obj, "get_config"):
        return
    _complete(obj, config)
    live = _live_arguments(obj)
    if live:
        config["keras_reduce_live"] = live
    if not is_saveable(obj) or table.is_outermost(obj):
        return
    # An optimizer, metric or loss in a compile config; what has a payload of its own has a
    # state for its attributes.
    set_since = dict(set_by_the_user(obj) if describes_itself(obj) else ())
    of_root = [n for n, v in set_since.items() if table.is_compiling and table.is_outermost(v)]
    if of_root:
        config["keras_reduce_of_root"] = of_root
    attributes = {
        name: table.defer_to_pickler(unwrapped(value), f"<{type(obj).__name__}>.{name}")
        for name, value in set_since.items()
        if name not in of_root
    }
    config.update({"keras_reduce_attributes": attributes} if attributes else {})
    if has_identity(obj):
        config["keras_reduce_identity"] = table.identity(obj)
    # Everywhere, not only where Keras sees an object again: which occurrence comes first in the
    # finished text is not known here. Those that stay alone lose it in the payload.
    config["shared_object_id"] = id(obj)


def _live_arguments(obj: Any) -> list[str]:
    """Return the arguments in a config that the constructor takes as they are, not as configs.

    A user-defined class may put layers, functions or arrays into its config. An inherited
    ``from_config`` hands on what Keras has made of them, which JSON can hold.
    """
    cls = type(obj)
    if is_built_in(cls) or overrides(obj, "from_config") or not overrides(obj, "get_config"):
        return []
    arguments = obj.get_config().items()
    return [name for name, value in arguments if name != "dtype" and _is_live(value)]


def _is_live(value: Any) -> bool:
    if type(value) in PLAIN:
        return False
    if isinstance(value, dict):
        return any(map(_is_live, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_is_live, value))
    return True


def _is_child(obj: Any, table: Table) -> bool:
    """Return whether `obj` has a payload of its own, within the one that `table` is for."""
    return is_a(obj, "layer", "seed_generator") and not table.is_outermost(obj)


def _child_config(obj: Any, table: Table) -> dict[str, Any]:
    """Return a config that says where the pickler will have put a child, and how it is wired."""
    made_part = _made_parts(table).get(id(obj))
    if made_part is not None:
        config = _child_reference(obj, table.child(made_part.maker))
        config["keras_reduce_part"] = made_part.path
        return config
    return _child_reference(obj, table.child(obj))


def _root_config(obj: Any) -> dict[str, Any]:
    """Return the config of the object itself, in something that is compiled into it."""
    config = _child_reference(obj, 0)
    del config["keras_reduce_child"]
    return {**config, "keras_reduce_root": True}


def _made_parts(table: Table) -> dict[int, MadePart]:
    """Return the cached result of `making.made_parts` for the object that is being written."""
    if current.made is None:
        tree = table.tree
        current.made = {} if tree is None else made_parts(tree, _listed_by)
    parts: dict[int, MadePart] = current.made
    return parts


def ties_of(table: Table) -> dict[str, str]:
    """Return the result of `making.ties` for the object that is being written."""
    parts = _made_parts(table)
    return ties(table.tree, parts) if parts else {}


def _listed_by(layer: Any) -> list[Any]:
    """Return the parts that the config of `layer`, and attributes set on it, list."""
    table = current.table.empty(layer)
    with writing(table):
        architecture(layer)
        return [*table.children, *state(layer, Tree(layer, table.children))[1].values()]


class _ChildConfig(dict[str, Any]):
    """A config that refers to a child: nothing is left to serialize, and a copy is not needed.

    Keras's models serialize and copy what they have put together of the configs of their layers.
    What other code has put into one is serialized.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> _ChildConfig:
        return self


# The last two a functional model adds, serialized.
_OF_CHILDREN = frozenset(
    {
        "module",
        "class_name",
        "config",
        "keras_reduce_child",
        "keras_reduce_part",
        "name",
        "inbound_nodes",
    }
)


def _child_reference(obj: Any, number: int) -> _ChildConfig:
    return _ChildConfig(
        module="keras_reduce",
        class_name=type(obj).__name__,
        config={},
        keras_reduce_child=number,
    )


def _described(obj: Any, table: Table) -> dict[str, Any]:
    import keras

    cls = type(obj)
    identity = {"keras_reduce_identity": table.identity(obj)} if has_identity(obj) else {}
    return {
        **identity,
        "module": "__main__" if cls.__module__ == "__mp_main__" else cls.__module__,
        "class_name": cls.__name__,
        "registered_name": table.key(cls, registered_name(keras.saving, cls)),
        "config": {},
        "keras_reduce": describe(obj, serialize, table),
        "shared_object_id": id(obj),
    }


def _complete(obj: Any, config: dict[str, Any]) -> None:
    """Add the entries to a config that its get_config() forgets."""
    import keras

    inner = config["config"]
    if not isinstance(inner, dict):
        return
    if is_a(obj, "policy") and is_built_in(type(obj)):
        _complete_policy(obj, config)
    elif is_built_in(type(obj)):
        # Huber's delta, CosineSimilarity's axis, the dtype of every loss, Identity's gain
        # (Keras 3.15).
        constructor: Callable[..., Any] = type(obj)
        for name, default in _parameters(constructor):
            if name not in inner:
                value = getattr(obj, "_fn_kwargs", {}).get(name, getattr(obj, name, default))
                if isinstance(value, (bool, int, float, str)) and value != default:
                    inner[name] = value
        if isinstance(obj, keras.layers.RandomShear):
            # Its constructor makes (-0.5, 0.5) of 0.5, and refuses what it has made (Keras 3.15).
            for name in ("x_factor", "y_factor"):
                lower, upper = inner[name]
                inner[name] = upper if lower < 0 else inner[name]
    if isinstance(obj, keras.layers.TextVectorization) and "vocabulary_size" in inner:
        # Its config has the size of now, for the size that adapt() fixes: a copy of one that has
        # yet to be adapted would refuse to be (Keras 3.15). Private, as is the layer inside.
        inner["vocabulary_size"] = obj._lookup_layer._frozen_vocab_size
    if inner.get("vocabulary", "") is None and getattr(obj, "_has_input_vocabulary", False):
        inner["has_input_vocabulary"] = True  # It came from a file: adapt() is refused.
    # A user-defined get_config() may leave out what Keras's own would have put in.
    if "name" not in inner and is_saveable(obj) and isinstance(getattr(obj, "name", None), str):
        config["name"] = obj.name
    if "dtype" not in inner and hasattr(obj, "dtype_policy"):
        config["dtype"] = serialize(obj.dtype_policy)


@functools.cache
def _parameters(cls: Callable[..., Any]) -> list[tuple[str, Any]]:
    """Return the named parameters of a constructor with their defaults."""
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(cls).parameters.values()
    return [
        (parameter.name, parameter.default) for parameter in parameters if parameter.kind in kinds
    ]


def _without_compile_config(original: Callable[..., Any]) -> Callable[..., Any]:
    def get_build_and_compile_config(obj: Any, config: dict[str, Any]) -> Any:
        if getattr(current, "table", None) is None:
            return original(obj, config)
        # How models were compiled, those inside others too, is written apart (`compilation`).
        _add_build_config(obj, config)
        return None

    return get_build_and_compile_config


def _add_build_config(obj: Any, config: dict[str, Any]) -> None:
    build_config = obj.get_build_config() if hasattr(obj, "get_build_config") else None
    if build_config is not None:
        config["build_config"] = serialize(build_config)


def _keyed_lambda(original: Callable[..., Any]) -> Callable[..., Any]:
    def func_dump(func: Any) -> Any:
        table = getattr(current, "table", None)
        return original(func) if table is None else (table.key(func), None, None)

    return func_dump


def _is_opaque(obj: Any) -> bool:
    """Return whether Keras has no config for `obj`, or one that forgets what it holds."""
    if isinstance(obj, types.FunctionType):
        return obj.__name__ == "<lambda>"
    if isinstance(obj, type) or not hasattr(obj, "get_config"):
        return callable(obj)
    # A user-defined initializer, regularizer or constraint that has no get_config of its own.
    return callable(obj) and not is_saveable(obj) and not describes_itself(obj)


def _without_structure(config: Any) -> Any:
    """Return a GPTQ or AWQ config without the layers that it was to go through.

    Like the data set and the tokenizer, which Keras leaves out of the config's config, they are for
    the one calibration. And the layers hold this very config, so that writing them has no end.
    """
    copied = copy.copy(config)
    copied.quantization_layer_structure = None
    return copied


def is_lambda_layer(obj: Any) -> bool:
    """Return whether `obj` is a Lambda layer, which writes and reads its own functions."""
    import keras

    return isinstance(obj, keras.layers.Lambda)


def _function_config(key: str) -> dict[str, Any]:
    """Return the config of something that Keras shall look up by its key, as it is."""
    return {
        "module": "builtins",
        "class_name": "function",
        "config": key,
        "registered_name": "function",
    }
