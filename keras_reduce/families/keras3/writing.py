"""From Keras 3 objects to configs, with every custom object keyed.

Keras's own serialization names custom classes and functions by their bare ``__name__``, dumps
lambdas as bytecode without their globals, and gives up on other callables. While `writing` is
entered, this thread's configs name each of them by a key of the payload's table instead.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .attributes import describe, describes_itself, is_built_in
from .patches import Patch, Patches, current

if TYPE_CHECKING:
    from ...custom_objects import Table


def architecture(obj: Any) -> dict[str, Any]:
    """Return the config from which `construct` makes an object like `obj`."""
    config: dict[str, Any] = serialize(obj)
    return config


def serialize(obj: Any) -> Any:
    """Return the config of `obj`, keyed if this thread is `writing`."""
    # Through the module, where `writing` has put its own: the public name is bound to the original.
    from keras.src.saving import serialization_lib

    return serialization_lib.serialize_keras_object(obj)


@contextmanager
def writing(table: Table) -> Iterator[None]:
    """Enter the user's classes and functions into `table` while this thread makes configs."""
    with _patches(table=table):
        yield


def _points() -> list[Patch]:
    # Private: the points that every route takes from an object to its config, public functions
    # that were bound before included, as they look these names up in their modules.
    from keras.src.saving import object_registration, serialization_lib
    from keras.src.utils import python_utils

    return [
        (object_registration, "get_registered_name", _keyed_name),
        (serialization_lib, "serialize_keras_object", _keyed_object),
        (serialization_lib, "get_build_and_compile_config", _without_compile_config),
        (python_utils, "func_dump", _keyed_lambda),
    ]


_patches = Patches(_points)


def _keyed_name(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def get_registered_name(obj: Any) -> Any:
        table = getattr(current, "table", None)
        name = original(obj)
        if table is None or obj.__module__.partition(".")[0] in ("keras", "builtins"):
            return name
        return table.key(obj, name if name != obj.__name__ else None)

    return get_registered_name


def _keyed_object(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def serialize_keras_object(obj: Any) -> Any:
        table = getattr(current, "table", None)
        if table is None:
            return original(obj)
        if _is_opaque(obj):
            return _function_config(table.key(obj))
        if not _is_saveable(obj):
            config = original(obj)
            return _completed(obj, config) if hasattr(obj, "get_config") else config
        own = describes_itself(obj)
        config = _configured(obj, original, table) if own else _described(obj, table)
        # Everywhere, not only where Keras sees an object again: which occurrence comes first in
        # the finished text is not known here. Those that stay alone lose it in the payload.
        config["shared_object_id"] = id(obj)
        return config

    return serialize_keras_object


def _described(obj: Any, table: Table) -> dict[str, Any]:
    cls = type(obj)
    return {
        "module": cls.__module__,
        "class_name": cls.__name__,
        "registered_name": table.key(cls, _registered_name(cls)),
        "config": {},
        "attributes": describe(obj, serialize, table),
    }


def _configured(obj: Any, original: Callable[[Any], Any], table: Table) -> dict[str, Any]:
    try:
        config: dict[str, Any] = _completed(obj, original(obj))
    except NotImplementedError:
        if is_built_in(type(obj)):
            raise
        return _described(obj, table)  # A get_config() that says it has none.
    inner = config["config"]
    if is_lambda_layer(obj):
        for name, value in inner.items():
            if isinstance(value, dict) and value.get("class_name") == "__lambda__":
                inner[name] = _function_config(value["config"]["code"])
    # A get_config() of the user's may leave out what Keras's own would have put in.
    if "name" not in inner and isinstance(getattr(obj, "name", None), str):
        config["name"] = obj.name
    if "dtype" not in inner and hasattr(obj, "dtype_policy"):
        config["dtype"] = serialize(obj.dtype_policy)
    return config


def _completed(obj: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Add constructor arguments of built-in classes that their get_config() forgets.

    Huber's ``delta``, CosineSimilarity's ``axis``, the dtype of every loss, Identity's ``gain``
    (Keras 3.15).
    """
    inner = config.get("config")
    constructor: Callable[..., Any] = type(obj)
    if not is_built_in(type(obj)) or not isinstance(inner, dict):
        return config
    for name, default in _parameters(constructor):
        if name not in inner:
            value = getattr(obj, "_fn_kwargs", {}).get(name, getattr(obj, name, default))
            if isinstance(value, (bool, int, float, str)) and value != default:
                inner[name] = value
    return config


@functools.cache
def _parameters(cls: Callable[..., Any]) -> list[tuple[str, Any]]:
    """Return the named parameters of a constructor with their defaults."""
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(cls).parameters.values()
    return [(parameter.name, parameter.default) for parameter in found if parameter.kind in kinds]


def _registered_name(cls: type) -> str | None:
    import keras

    # Bound before any patch of ours, so it answers what was registered, not a key.
    name = str(keras.saving.get_registered_name(cls))
    return name if name != cls.__name__ else None


def _without_compile_config(original: Callable[..., Any]) -> Callable[..., Any]:
    def get_build_and_compile_config(obj: Any, config: dict[str, Any]) -> Any:
        if getattr(current, "table", None) is None:
            return original(obj, config)
        # How models were compiled, those inside others too, is written apart (`compilation`).
        build_config = obj.get_build_config() if hasattr(obj, "get_build_config") else None
        if build_config is not None:
            config["build_config"] = serialize(build_config)
        return None

    return get_build_and_compile_config


def _keyed_lambda(original: Callable[..., Any]) -> Callable[..., Any]:
    def func_dump(func: Any) -> Any:
        table = getattr(current, "table", None)
        return original(func) if table is None else (table.key(func), None, None)

    return func_dump


def _is_opaque(obj: Any) -> bool:
    """Tell whether Keras has no config for `obj`, or one that forgets what it holds."""
    if isinstance(obj, types.FunctionType):
        return obj.__name__ == "<lambda>"
    if isinstance(obj, type) or not hasattr(obj, "get_config"):
        return callable(obj)
    # An initializer, regularizer or constraint of the user's that has no get_config of its own.
    return callable(obj) and not _is_saveable(obj) and not describes_itself(obj)


def _is_saveable(obj: Any) -> bool:
    import keras

    kinds = (keras.Operation, keras.losses.Loss, keras.metrics.Metric)
    return isinstance(obj, (*kinds, keras.optimizers.Optimizer))


def is_lambda_layer(obj: Any) -> bool:
    """Tell whether `obj` is a Lambda layer, which writes and reads its functions in its own way."""
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
