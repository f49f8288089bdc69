"""The description of a Keras 3 object: written by Keras, with every custom object keyed.

Keras's own serialization names custom classes and functions by their bare ``__name__``, dumps
lambdas as bytecode without their globals, and gives up on other callables. While `writing` is
entered, this thread's configs name each of them by a key of the payload's table instead; `reading`
lets Keras find them again under these keys.
"""

from __future__ import annotations

import functools
import inspect
import random
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .attributes import describe, describes_itself, is_built_in, rebuild
from .compilation import compile_all
from .tree import is_container, is_optimizer, nodes, own_variables, variables

if TYPE_CHECKING:
    from ...custom_objects import Table

_thread = threading.local()


class _Patches:
    """Replacements of module attributes while at least one thread needs them.

    A replacement falls through to the original in every thread that did not ask for it.
    """

    def __init__(self, make: Callable[[], list[tuple[Any, str, Callable[[Any], Any]]]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._users = 0
        self._originals: list[tuple[Any, str, Any]] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._users:
                for module, name, replace in self._make():
                    original = getattr(module, name)
                    self._originals.append((module, name, original))
                    setattr(module, name, replace(original))
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    while self._originals:
                        setattr(*self._originals.pop())


def _writing_patches() -> list[tuple[Any, str, Callable[[Any], Any]]]:
    # Private: Keras has no hook between an object and its config. These are the points that every
    # route takes, public functions bound before included, as they look them up in their modules.
    from keras.src.saving import object_registration, serialization_lib
    from keras.src.utils import python_utils

    return [
        (object_registration, "get_registered_name", _keyed_name),
        (serialization_lib, "serialize_keras_object", _keyed_object),
        (serialization_lib, "get_build_and_compile_config", _without_compile_config),
        (python_utils, "func_dump", _keyed_lambda),
    ]


def _reading_patches() -> list[tuple[Any, str, Callable[[Any], Any]]]:
    # Private: where configs become objects, at every depth; and the one place where Keras draws
    # seeds that nobody gave (rebuilding must not advance the program's random numbers).
    from keras.src.random import seed_generator
    from keras.src.saving import serialization_lib

    return [
        (serialization_lib, "deserialize_keras_object", _rebuilt_object),
        (seed_generator, "python_random", _PrivateRandom),
    ]


_while_writing = _Patches(_writing_patches)
_while_reading = _Patches(_reading_patches)


@contextmanager
def writing(table: Table) -> Iterator[None]:
    """Enter the user's classes and functions into `table` while this thread makes configs."""
    with _thread_local(table=table), _while_writing():
        yield


@contextmanager
def reading(
    custom_objects: Mapping[str, tuple[Any, str | None]], objects: tuple[Any, ...] = ()
) -> Iterator[None]:
    """Let Keras find `custom_objects` by their keys, and `objects` by number, in this thread."""
    import keras
    from keras.src.saving.serialization_lib import ObjectSharingScope

    for obj, registered_name in custom_objects.values():
        if registered_name and keras.saving.get_registered_object(registered_name) is None:
            # Code that travelled by value: importing it would have registered it.
            package, _, name = registered_name.rpartition(">")
            keras.saving.register_keras_serializable(package or "Custom", name)(obj)
    by_key = {key: obj for key, (obj, _) in custom_objects.items()}
    scope = keras.saving.custom_object_scope(by_key)
    # Private: within the scope, configs with one shared_object_id make one object.
    with _thread_local(reading=(by_key, objects)), _while_reading(), scope, ObjectSharingScope():
        yield


@contextmanager
def _thread_local(**values: Any) -> Iterator[None]:
    outer = {name: getattr(_thread, name, None) for name in values}
    vars(_thread).update(values)
    try:
        yield
    finally:
        vars(_thread).update(outer)


def _keyed_name(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def get_registered_name(obj: Any) -> Any:
        table = getattr(_thread, "table", None)
        name = original(obj)
        if table is None or obj.__module__.partition(".")[0] in ("keras", "builtins"):
            return name
        return table.key(obj, name if name != obj.__name__ else None)

    return get_registered_name


def _keyed_object(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def serialize_keras_object(obj: Any) -> Any:
        table = getattr(_thread, "table", None)
        if table is None:
            return original(obj)
        if _is_opaque(obj):
            return _function_config(table.key(obj))
        if not _is_saveable(obj):
            config = original(obj)
            return _completed(obj, config) if hasattr(obj, "get_config") else config
        config = _described(obj, table) if not describes_itself(obj) else _configured(obj, original)
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
        "attributes": describe(obj, _serialize, table),
    }


def _configured(obj: Any, original: Callable[[Any], Any]) -> dict[str, Any]:
    config: dict[str, Any] = _completed(obj, original(obj))
    inner = config["config"]
    if _is_lambda_layer(obj):
        for name, value in inner.items():
            if isinstance(value, dict) and value.get("class_name") == "__lambda__":
                inner[name] = _function_config(value["config"]["code"])
    # A get_config() of the user's may leave out what Keras's own would have put in.
    if "name" not in inner and isinstance(getattr(obj, "name", None), str):
        config["name"] = obj.name
    if "dtype" not in inner and hasattr(obj, "dtype_policy"):
        config["dtype"] = _serialize(obj.dtype_policy)
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


def _rebuilt_object(original: Callable[..., Any]) -> Callable[..., Any]:
    def deserialize_keras_object(config: Any, *args: Any, **kwargs: Any) -> Any:
        reading = getattr(_thread, "reading", None)
        if reading is None or not isinstance(config, dict) or "class_name" not in config:
            return original(config, *args, **kwargs)
        if "attributes" in config:
            return _from_attributes(config, *reading)
        with _dtype_policy(config.get("dtype")):
            obj = original(config, *args, **kwargs)
        name = config.get("name")
        if isinstance(name, str) and getattr(obj, "name", name) != name:
            obj.name = name
        return obj

    return deserialize_keras_object


def _from_attributes(
    config: dict[str, Any], by_key: Mapping[str, Any], objects: tuple[Any, ...]
) -> Any:
    from keras.src.saving import serialization_lib

    number = config.get("shared_object_id")
    obj = None if number is None else serialization_lib.get_shared_object(number)
    if obj is None:
        cls = by_key[config["registered_name"]]
        obj = rebuild(cls, config["attributes"], deserialize, objects)
        if number is not None:
            serialization_lib.record_object_after_deserialization(obj, number)
    return obj


@contextmanager
def _dtype_policy(policy: Any) -> Iterator[None]:
    """Let this thread's new layers have `policy`, for one whose config leaves it out."""
    if policy is None:
        yield
        return
    import keras

    outer = keras.config.dtype_policy()
    keras.config.set_dtype_policy(deserialize(policy))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(outer)


def _without_compile_config(original: Callable[..., Any]) -> Callable[..., Any]:
    def get_build_and_compile_config(obj: Any, config: dict[str, Any]) -> Any:
        if getattr(_thread, "table", None) is None:
            return original(obj, config)
        # How models were compiled, those inside others too, is written apart (`compilation`).
        build_config = obj.get_build_config() if hasattr(obj, "get_build_config") else None
        if build_config is not None:
            config["build_config"] = _serialize(build_config)
        return None

    return get_build_and_compile_config


def _keyed_lambda(original: Callable[..., Any]) -> Callable[..., Any]:
    def func_dump(func: Any) -> Any:
        table = getattr(_thread, "table", None)
        return original(func) if table is None else (table.key(func), None, None)

    return func_dump


class _PrivateRandom:
    """The module `random`, except for a thread that rebuilds an object."""

    def __init__(self, original: Any) -> None:
        self._original = original
        self._private = random.Random(0)

    def __getattr__(self, name: str) -> Any:
        source = self._private if getattr(_thread, "reading", None) else self._original
        return getattr(source, name)


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


def _is_lambda_layer(obj: Any) -> bool:
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


def _serialize(obj: Any) -> Any:
    # Through the module, where `writing` has put its own: the public name is bound to the original.
    from keras.src.saving import serialization_lib

    return serialization_lib.serialize_keras_object(obj)


def deserialize(config: Any) -> Any:
    """Return the object that `config` describes."""
    from keras.src.saving import serialization_lib

    # Through the module, as in `_serialize`. A pickle is trusted or not as a whole: Keras's own
    # check of a part of it adds nothing here.
    return serialization_lib.deserialize_keras_object(config, safe_mode=False)


def architecture(obj: Any) -> dict[str, Any]:
    """Return the config from which `construct` makes an object like `obj`."""
    config: dict[str, Any] = _serialize(obj)
    return config


def structure(obj: Any) -> dict[str, Any]:
    """Return what the config leaves out and `construct` needs to create the same variables.

    Returns
    -------
    dict
        ``built``: build configs of layers that a custom class holds, by path; ``frozen``: paths of
        layers that are not trainable; ``flags``: the ``trainable`` of variables that differ from
        their layer; ``optimizers``: the variables that each optimizer was built for, by path, or,
        where they are not part of `obj`, as shape, dtype and path in Keras.
    """
    parts = nodes(obj)
    built: list[tuple[str, Any]] = []
    frozen: list[str] = []
    flags: dict[str, bool] = {}
    optimizers: dict[str, list[Any]] = {}
    custom: list[str] = []
    paths = {id(variable): path for path, variable in variables(obj).items()}
    for path, node in parts.items():
        if is_optimizer(node):
            inside = any(path.startswith(f"{outer}/".lstrip("/")) for outer in optimizers)
            if node._trainable_variables and not inside:
                optimizers[path] = [
                    paths.get(id(v)) or [list(v.shape), _dtype(v), v.path]
                    for v in node._trainable_variables
                ]
            continue
        if not hasattr(node, "get_build_config"):
            continue
        if any(path.startswith(prefix) for prefix in custom):
            build_config = node.get_build_config() if node.built else None
            if build_config is not None:
                built.append((path, _serialize(build_config)))
        if not is_container(node) and not is_built_in(type(node)):
            custom.append(f"{path}/" if path else "")
        if not node._trainable:
            frozen.append(path)
        stored = {id(v) for v in node._trainable_variables}
        for variable in own_variables(node):
            usual = id(variable) in stored and node._trainable
            if id(variable) in paths and bool(variable.trainable) != usual:
                flags[paths[id(variable)]] = bool(variable.trainable)
    found = {"built": built, "frozen": frozen, "flags": flags, "optimizers": optimizers}
    return {name: value for name, value in found.items() if value}


def construct(
    architecture: dict[str, Any],
    structure: dict[str, Any],
    compilation: dict[str, Any] | None,
) -> Any:
    """Return a new object with all its variables created, their values to be overwritten."""
    obj = deserialize(architecture)
    _build_parts(obj, structure.get("built", ()))
    parts = nodes(obj)
    _mend_lambda_masks(parts)
    frozen = set(structure.get("frozen", ()))
    for path, node in parts.items():
        if hasattr(node, "_trainable"):
            # Set without the property, which would pass it on to the layers below.
            node._trainable = path not in frozen
            for variable in node._trainable_variables:
                variable.trainable = path not in frozen
    if structure.get("flags"):
        by_path = variables(obj)
        for path, flag in structure["flags"].items():
            if path in by_path:
                by_path[path].trainable = flag
    if compilation:
        compile_all(obj, compilation, deserialize)
    _build_optimizers(obj, structure.get("optimizers", {}))
    return obj


def _build_parts(obj: Any, built: Any) -> None:
    for path, build_config in built:
        # Looked up anew each time, as building a layer may create others below it.
        node = nodes(obj).get(path)
        if node is not None and not node.built:
            node.build_from_config(build_config)
            node.built = True


def _mend_lambda_masks(parts: Mapping[str, Any]) -> None:
    # Lambda.from_config leaves a mask function in its serialized form (Keras 3.15).
    for node in parts.values():
        if _is_lambda_layer(node) and isinstance(node.mask, dict) and "class_name" in node.mask:
            node.mask = deserialize(node.mask)


def _build_optimizers(obj: Any, optimizers: Mapping[str, list[Any]]) -> None:
    if not optimizers:
        return
    import keras

    by_path = variables(obj)
    parts = nodes(obj)
    for path, references in optimizers.items():
        optimizer = parts.get(path)
        if optimizer is None or optimizer.built:
            continue
        absent = [_Absent(*ref) for ref in references if not isinstance(ref, str)]
        if absent:
            # An optimizer asks its variables for more than a shape while it makes slots for them.
            optimizer.build(
                [keras.Variable("zeros", shape=v.shape, dtype=v.dtype, name=v.name) for v in absent]
            )
            _await_variables(optimizer, absent)
        elif all(ref in by_path for ref in references):
            optimizer.build([by_path[ref] for ref in references])
        # Otherwise `restore` will name the paths that are missing.


class _Absent:
    """A variable that an optimizer has slots for, but that is not part of its payload."""

    def __init__(self, shape: list[int], dtype: str, path: str) -> None:
        self.shape, self.dtype, self.path = tuple(shape), dtype, path
        self.name = path.rpartition("/")[2]


def _await_variables(optimizer: Any, absent: list[_Absent]) -> None:
    """Make a lone optimizer take the first variables of the right shapes for its own.

    Its slots belong to variables that travelled elsewhere or not at all. Keras calls ``build`` of
    an optimizer that is not built as soon as it is applied to, or compiled with, variables.
    """

    def build(variables: Any) -> None:
        variables = list(variables)
        expected = [(v.shape, v.dtype) for v in absent]
        received = [(tuple(v.shape), _dtype(v)) for v in variables]
        if expected != received:
            raise ValueError(
                f"This optimizer carries state for {len(expected)} variables of shapes "
                f"{[shape for shape, _ in expected]}, but meets {len(received)} of shapes "
                f"{[shape for shape, _ in received]}. Apply it to the model that it was trained "
                "with, or make a new one: optimizer.from_config(optimizer.get_config())."
            )
        for part in nodes(optimizer).values():
            vars(part).pop("build", None)
            indices = {part._var_key(v): position for position, v in enumerate(variables)}
            _bind(part, variables, indices, built=True)

    for part in nodes(optimizer).values():
        _bind(part, absent, {}, built=False)
    vars(optimizer)["build"] = build


def _bind(optimizer: Any, variables: list[Any], indices: dict[Any, int], *, built: bool) -> None:
    # Not by setattr, which would count the variables among the optimizer's own.
    vars(optimizer).update(
        _trainable_variables=list(variables), _trainable_variables_indices=indices, built=built
    )


def _dtype(variable: Any) -> str:
    return str(getattr(variable.dtype, "name", variable.dtype))
