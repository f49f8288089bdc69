"""What a config leaves out and the same variables need: built parts, flags, optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ReduceError
from .attributes import is_built_in
from .compilation import compile_all
from .reading import deserialize
from .tree import is_container, is_optimizer, nodes, own_variables, variables
from .writing import is_lambda_layer, serialize


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
                optimizers[path] = _references(node, path, paths)
            continue
        if not hasattr(node, "get_build_config"):
            continue
        if any(path.startswith(prefix) for prefix in custom):
            build_config = node.get_build_config() if node.built else None
            if build_config is not None:
                built.append((path, serialize(build_config)))
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


def _references(optimizer: Any, path: str, paths: Mapping[int, str]) -> list[Any]:
    own = optimizer._trainable_variables
    absent = [variable for variable in own if id(variable) not in paths]
    if absent and path:
        raise ReduceError(
            "An optimizer has state for variables that are not part of the object around it",
            where=path,
            cause=f"it was built for {absent[0].path!r}, which no layer here holds",
            cure="pickle it beside its own model, or compile this model with an optimizer of its "
            "own",
        )
    if absent:
        return [[list(v.shape), _dtype(v), v.path] for v in own]
    return [paths[id(variable)] for variable in own]


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
        compile_all(obj, compilation)
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
        if is_lambda_layer(node) and isinstance(node.mask, dict) and "class_name" in node.mask:
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
