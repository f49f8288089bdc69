"""What a config leaves out and the same variables need: built parts, flags, optimizers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import ReduceError
from .attributes import describes_itself, is_built_in
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
        where they are not part of `obj`, as shape, dtype and path in Keras; ``undecayed``: which
        of them are excluded from weight decay; ``aliases``: variables that a second layer holds as
        well; ``metrics``: what metrics have made since they saw data; ``lora``: scaling of LoRA
        factors, which a config has but building forgets; ``seeds``: what the initializers of
        layers that are yet to be built have drawn.
    """
    parts = nodes(obj)
    built: list[tuple[str, Any]] = []
    frozen: list[str] = []
    flags: dict[str, bool] = {}
    optimizers: dict[str, list[Any]] = {}
    undecayed: dict[str, Any] = {}
    aliases: dict[str, dict[str, str]] = {}
    metrics: dict[str, Any] = {}
    lora: dict[str, float] = {}
    seeds: dict[str, dict[str, int]] = {}
    custom: list[str] = []
    owners: dict[int, str] = {}
    paths = {id(variable): path for path, variable in variables(obj).items()}
    for path, node in parts.items():
        if is_optimizer(node):
            inside = any(path.startswith(f"{outer}/".lstrip("/")) for outer in optimizers)
            if node._trainable_variables and not inside:
                optimizers[path] = _references(node, path, paths)
            if getattr(node, "_exclude_from_weight_decay", None) is not None:
                undecayed[path] = _undecayed(node)
            continue
        if getattr(node, "_built", False) and describes_itself(node):
            metrics[path] = _made_by_metric(node)
        for position, variable in enumerate(own_variables(node)):
            if owners.setdefault(id(variable), path) != path:
                aliases.setdefault(path, {})[str(position)] = paths[id(variable)]
        if not hasattr(node, "get_build_config"):
            continue
        if not node.built:
            drawn = {name: value.seed for name, value in _initializers(node)}
            seeds.update({path: drawn} if drawn else {})
        if getattr(node, "lora_enabled", False) and hasattr(node, "lora_alpha"):
            lora[path] = node.lora_alpha
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
    found = {
        "built": built,
        "frozen": frozen,
        "flags": flags,
        "optimizers": optimizers,
        "undecayed": undecayed,
        "aliases": aliases,
        "metrics": metrics,
        "lora": lora,
        "seeds": seeds,
    }
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


def _initializers(layer: Any) -> list[tuple[str, Any]]:
    """Return the initializers of a layer that have drawn a seed, as none was given."""
    import keras

    return [
        (name, value)
        for name, value in vars(layer).items()
        if isinstance(value, keras.initializers.Initializer)
        and isinstance(getattr(value, "seed", None), int)
        and value.get_config().get("seed", 0) is None
    ]


def _undecayed(optimizer: Any) -> dict[str, Any]:
    # Private: exclude_from_weight_decay() has no counterpart that tells what was excluded.
    pattern = optimizer._exclude_from_weight_decay_pattern
    return {
        "pattern": pattern and pattern.pattern,
        "variables": [
            position
            for position, variable in enumerate(optimizer._trainable_variables)
            if (optimizer._var_key(variable) if optimizer.built else position)
            in optimizer._exclude_from_weight_decay
        ],
    }


def _made_by_metric(metric: Any) -> dict[str, Any]:
    """Return the variables and plain attributes of a metric that builds itself on its first data.

    R2Score, FBetaScore, AUC of several labels (private: each has a ``_build`` of its own).
    """
    holders = {id(value): name for name, value in vars(metric).items()}
    return {
        "variables": [
            [holders.get(id(v)), list(v.shape), _dtype(v), v.name] for v in own_variables(metric)
        ],
        "attributes": {
            name: value
            for name, value in vars(metric).items()
            if name == "_built" or (type(value) in (int, float) and name not in metric.get_config())
        },
    }


def construct(
    architecture: dict[str, Any],
    structure: dict[str, Any],
    compilation: dict[str, Any] | None,
) -> Any:
    """Return a new object with all its variables created, their values to be overwritten."""
    obj = deserialize(architecture)
    _build_parts(obj, structure.get("built", ()))
    parts = nodes(obj)
    _tie_variables(obj, parts, structure.get("aliases", {}))
    _mend_lambda_masks(parts)
    for path, alpha in structure.get("lora", {}).items():
        if path in parts:
            parts[path].lora_alpha = alpha
    for path, drawn in structure.get("seeds", {}).items():
        for name, initializer in _initializers(parts[path]) if path in parts else ():
            initializer.seed = drawn.get(name, initializer.seed)
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
    parts = nodes(obj)
    for path, made in structure.get("metrics", {}).items():
        if path in parts:
            _make_in_metric(parts[path], made)
    _build_optimizers(obj, structure.get("optimizers", {}))
    for path, excluded in structure.get("undecayed", {}).items():
        if path in parts:
            _exclude_from_decay(parts[path], excluded)
    return obj


def _tie_variables(obj: Any, parts: Mapping[str, Any], aliases: Mapping[str, Any]) -> None:
    """Let layers hold the very variables of other layers that their originals held."""
    if not aliases:
        return
    by_path = variables(obj)
    for path, by_position in aliases.items():
        for position, target in by_position.items():
            own = own_variables(parts[path]) if path in parts else []
            if target in by_path and int(position) < len(own):
                _replace_variable(parts[path], own[int(position)], by_path[target])


def _replace_variable(node: Any, old: Any, new: Any) -> None:
    # Private: Keras can untrack a variable, but not put another one in its place.
    if old is new:
        return
    for name, (_, store) in node._tracker.config.items():
        for position, value in enumerate(store):
            if value is old:
                store[position] = new
                node._tracker.stored_ids[name].discard(id(old))
                node._tracker.stored_ids[name].add(id(new))
    for name, value in list(vars(node).items()):
        if value is old:
            vars(node)[name] = new


def _make_in_metric(metric: Any, made: Mapping[str, Any]) -> None:
    existing = len(own_variables(metric))
    for holder, shape, dtype, name in made["variables"][existing:]:
        variable = metric.add_variable(
            shape=tuple(shape), initializer="zeros", dtype=dtype, name=name
        )
        if holder:
            setattr(metric, holder, variable)
    vars(metric).update(made["attributes"])


def _exclude_from_decay(optimizer: Any, excluded: Mapping[str, Any]) -> None:
    own = optimizer._trainable_variables
    keys = {
        optimizer._var_key(own[position]) if optimizer.built else position
        for position in excluded["variables"]
    }
    pattern = excluded["pattern"]
    vars(optimizer).update(
        _exclude_from_weight_decay=keys,
        _exclude_from_weight_decay_pattern=pattern and re.compile(pattern),
        _exclude_from_weight_decay_cache={},
    )


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
            if vars(part).get("_exclude_from_weight_decay"):
                part._exclude_from_weight_decay = {
                    part._var_key(variables[position])
                    for position in part._exclude_from_weight_decay
                }
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
