"""Optimizers: which variables their slots belong to, and how they get them back."""

from __future__ import annotations

import logging
import re
import weakref
from collections.abc import Mapping
from typing import Any

from ...errors import ReduceError
from ...tensors import dtype_name
from .tree import Tree, is_optimizer, nodes, variables

_log = logging.getLogger(__package__)


def optimizers_of(tree: Tree, paths: Mapping[int, str]) -> dict[str, list[Any]]:
    """Return the variables that each optimizer was built for, by its path.

    By their paths; or, for a lone optimizer, whose variables are elsewhere, as shape, dtype and
    path in Keras. An optimizer inside another one is built by that. Variables that quantizing has
    replaced are left out, with a logged warning.
    """
    found: dict[str, list[Any]] = {}
    for path, node in tree.own.items():
        inside = any(path.startswith(f"{outer}/".lstrip("/")) for outer in found)
        if is_optimizer(node) and node._trainable_variables and not inside:
            _warn_of_gone(node, tree.gone_from(node), path)
            found[path] = _references(_kept(node, tree), path, paths)
    return found


def exclusions_of(tree: Tree) -> dict[str, Any]:
    """Return which variables each optimizer excludes from weight decay, by its path."""
    return {
        path: _undecayed(node, _kept(node, tree))
        for path, node in tree.own.items()
        if is_optimizer(node) and getattr(node, "_exclude_from_weight_decay", None) is not None
    }


def _kept(optimizer: Any, tree: Tree) -> list[Any]:
    gone = set(map(id, tree.gone_from(optimizer)))
    return [variable for variable in optimizer._trainable_variables if id(variable) not in gone]


def _warn_of_gone(optimizer: Any, gone: list[Any], path: str) -> None:
    if gone and optimizer not in _told:
        _told.add(optimizer)
        _log.warning(
            "The slots of an optimizer (%s) for %d variables that quantizing has replaced, %r for "
            "one, are left behind. Iterations, learning rate and all other slots are carried. "
            "Pickle a model before you quantize it to keep them",
            path,
            len(gone),
            gone[0].path,
        )


# The optimizers that a warning was given for: a model is reduced many times.
_told: weakref.WeakSet[Any] = weakref.WeakSet()


def _references(own: list[Any], path: str, paths: Mapping[int, str]) -> list[Any]:
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
        return [[list(v.shape), dtype_name(v), v.path] for v in own]
    return [paths[id(variable)] for variable in own]


def _undecayed(optimizer: Any, own: list[Any]) -> dict[str, Any]:
    # Private: exclude_from_weight_decay() has no counterpart that tells what was excluded.
    pattern = optimizer._exclude_from_weight_decay_pattern
    return {
        "pattern": pattern and pattern.pattern,
        "variables": [
            position
            for position, variable in enumerate(own)
            if (optimizer._var_key(variable) if optimizer.built else position)
            in optimizer._exclude_from_weight_decay
        ],
    }


def restore_optimizers(
    obj: Any, optimizers: Mapping[str, list[Any]], exclusions: Mapping[str, Any]
) -> None:
    """Build the optimizers below `obj` for the variables that `optimizers_of` found."""
    _build_optimizers(obj, optimizers)
    parts = nodes(obj) if exclusions else {}
    for path, excluded in exclusions.items():
        if path in parts:
            _exclude_from_decay(parts[path], excluded)


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
            made = [
                keras.Variable("zeros", shape=v.shape, dtype=v.dtype, name=v.name) for v in absent
            ]
            for variable, original in zip(made, absent, strict=True):
                variable._path = original.path  # Private; a MultiOptimizer goes by it.
            optimizer.build(made)
            _await_variables(optimizer, absent, made)
        elif all(ref in by_path for ref in references):
            optimizer.build([by_path[ref] for ref in references])
        # Otherwise `weights.assign` will name the paths that are missing.


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


class _Absent:
    """A variable that an optimizer has slots for, but that is not part of its payload."""

    def __init__(self, shape: list[int], dtype: str, path: str) -> None:
        self.shape, self.dtype, self.path = tuple(shape), dtype, path
        self.name = path.rpartition("/")[2]


def _await_variables(optimizer: Any, absent: list[_Absent], made: list[Any]) -> None:
    """Make a lone optimizer take the first variables of the right shapes for its own.

    Its slots belong to variables that travelled elsewhere or not at all; it has been built for some
    that were `made` in their place. Keras calls ``build`` of an optimizer that is not built as soon
    as it is applied to, or compiled with, variables.
    """
    positions = {id(variable): position for position, variable in enumerate(made)}
    parts = [_Awaiting(part, positions) for part in nodes(optimizer).values()]

    def build(variables: Any) -> None:
        variables = list(variables)
        expected = [(v.shape, v.dtype) for v in absent]
        received = [(tuple(v.shape), dtype_name(v)) for v in variables]
        if expected != received:
            raise ValueError(
                f"This optimizer carries state for {len(expected)} variables of shapes "
                f"{[shape for shape, _ in expected]}, but meets {len(received)} of shapes "
                f"{[shape for shape, _ in received]}. Apply it to the model that it was trained "
                "with, or make a new one: optimizer.from_config(optimizer.get_config())."
            )
        for part in parts:
            vars(part.optimizer).pop("build", None)
            part.bind(variables, built=True)

    for part in parts:
        part.bind(absent, built=False)
    vars(optimizer)["build"] = build


class _Awaiting:
    """An optimizer, or one inside it, and which of the variables are its own, by position."""

    def __init__(self, optimizer: Any, positions: Mapping[int, int]) -> None:
        self.optimizer = optimizer
        own = optimizer._trainable_variables
        self._positions = [positions[id(variable)] for variable in own]
        # Private: which of its optimizers a MultiOptimizer has chosen for each.
        chosen = getattr(optimizer, "_var_to_optimizer_idx", None)
        self._chosen = chosen and [chosen[optimizer._var_key(variable)] for variable in own]

    def bind(self, variables: list[Any], *, built: bool) -> None:
        """Take the variables, which stand for absent ones as long as it is not `built`."""
        own = [variables[position] for position in self._positions]
        # Not by setattr, which would count the variables among the optimizer's own.
        attributes = vars(self.optimizer)
        attributes.update(_trainable_variables=own, _trainable_variables_indices={}, built=built)
        if not built:
            return
        keys = [self.optimizer._var_key(variable) for variable in own]
        attributes["_trainable_variables_indices"] = {key: i for i, key in enumerate(keys)}
        if self._chosen is not None:
            attributes["_var_to_optimizer_idx"] = dict(zip(keys, self._chosen, strict=True))
        if attributes.get("_exclude_from_weight_decay"):
            excluded = attributes["_exclude_from_weight_decay"]
            attributes["_exclude_from_weight_decay"] = {keys[position] for position in excluded}
