"""The description of a Keras 3 object: written by Keras, with every custom object keyed.

Keras's own serialization names custom classes and functions by their bare ``__name__``, dumps
lambdas as bytecode without their globals, and gives up on other callables. While `writing` is
entered, this thread's configs name each of them by a key of the payload's table instead; `reading`
lets Keras find them again under these keys.
"""

from __future__ import annotations

import random
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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
    # Private: the one place where Keras draws seeds that nobody gave. Rebuilding an object must
    # not advance the program's random numbers.
    from keras.src.random import seed_generator

    return [(seed_generator, "python_random", _PrivateRandom)]


_while_writing = _Patches(_writing_patches)
_while_reading = _Patches(_reading_patches)


@contextmanager
def writing(table: Table) -> Iterator[None]:
    """Enter the user's classes and functions into `table` while this thread makes configs."""
    from keras.src.saving.serialization_lib import ObjectSharingScope

    outer = getattr(_thread, "table", None)
    _thread.table = table
    try:
        # Private: without the scope, a layer that two submodels share would be written twice.
        with _while_writing(), ObjectSharingScope():
            yield
    finally:
        _thread.table = outer


@contextmanager
def reading(custom_objects: Mapping[str, tuple[Any, str | None]]) -> Iterator[None]:
    """Let Keras find `custom_objects` by their keys in this thread."""
    import keras
    from keras.src.saving.serialization_lib import ObjectSharingScope

    for obj, registered_name in custom_objects.values():
        if registered_name and keras.saving.get_registered_object(registered_name) is None:
            # Code that travelled by value: importing it would have registered it.
            package, _, name = registered_name.rpartition(">")
            keras.saving.register_keras_serializable(package or "Custom", name)(obj)
    outer = getattr(_thread, "reading", False)
    _thread.reading = True
    try:
        scope = keras.saving.custom_object_scope({k: v for k, (v, _) in custom_objects.items()})
        with _while_reading(), scope, ObjectSharingScope():
            yield
    finally:
        _thread.reading = outer


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
        config = original(obj)
        if _is_lambda_layer(obj):
            for name, value in config["config"].items():
                if isinstance(value, dict) and value.get("class_name") == "__lambda__":
                    config["config"][name] = _function_config(value["config"]["code"])
        return config

    return serialize_keras_object


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
        source = self._private if getattr(_thread, "reading", False) else self._original
        return getattr(source, name)


def _is_opaque(obj: Any) -> bool:
    """Tell whether Keras has no config for `obj`, although it can be called."""
    if isinstance(obj, types.FunctionType):
        return obj.__name__ == "<lambda>"
    return callable(obj) and (isinstance(obj, type) or not hasattr(obj, "get_config"))


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
    import keras

    # A pickle is trusted or not as a whole: Keras's own check of a part of it adds nothing here.
    return keras.saving.deserialize_keras_object(config, safe_mode=False)


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
            if node._trainable_variables and not any(path.startswith(p + "/") for p in optimizers):
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
        if not is_container(node) and type(node).__module__.partition(".")[0] != "keras":
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
    by_path = variables(obj)
    parts = nodes(obj)
    for path, references in optimizers.items():
        optimizer = parts.get(path)
        if optimizer is None or optimizer.built:
            continue
        targets = [
            by_path.get(ref) if isinstance(ref, str) else _StandIn(*ref) for ref in references
        ]
        if any(target is None for target in targets):
            continue  # `restore` names the paths that are missing
        optimizer.build(targets)
        if any(isinstance(target, _StandIn) for target in targets):
            _await_variables(optimizer)


class _StandIn:
    """What an optimizer asks of a variable while it creates slots, for one that is not here."""

    trainable = True

    def __init__(self, shape: list[int], dtype: str, path: str) -> None:
        self.shape, self.dtype, self.path = tuple(shape), dtype, path
        self.name = path.rpartition("/")[2]


def _await_variables(optimizer: Any) -> None:
    """Make a lone optimizer take the first variables of the right shapes for its own.

    Its slots belong to variables that travelled elsewhere or not at all. Keras calls ``build`` of
    an optimizer that is not built as soon as it is applied to, or compiled with, variables.
    """

    def build(variables: Any) -> None:
        variables = list(variables)
        expected = [(tuple(v.shape), _dtype(v)) for v in optimizer._trainable_variables]
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
            part._trainable_variables = variables[:]
            part._trainable_variables_indices = {
                part._var_key(v): position for position, v in enumerate(variables)
            }
            part.built = True

    optimizer.built = False
    vars(optimizer)["build"] = build


def _dtype(variable: Any) -> str:
    return str(getattr(variable.dtype, "name", variable.dtype))
