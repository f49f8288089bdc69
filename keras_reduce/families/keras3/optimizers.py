"""Optimizers: which variables their slots belong to, and how they get them back."""

from __future__ import annotations

import functools
import logging
import re
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...core.array_backends import dtype_name
from ...identities import Identity, by_number
from .patches import current
from .tree import Tree, is_optimizer, nodes

if TYPE_CHECKING:
    from ...custom_objects import Table

_log = logging.getLogger(__package__)


def optimizers_of(tree: Tree, paths: Mapping[int, str], table: Table) -> dict[str, list[Any]]:
    """Return the variables that each optimizer was built for, by its path.

    By their paths; or, for those that are not part of the object, as shape, dtype, path in Keras,
    number of their identity token, and whether an optimizer overwrites them with their gradient. An
    optimizer inside another one is built by that. Variables that quantizing has replaced are left
    out, with a logged warning.
    """
    by_path: dict[str, list[Any]] = {}
    for path, node in tree.own.items():
        inside = any(path.startswith(f"{outer}/".lstrip("/")) for outer in by_path)
        if is_optimizer(node) and node._trainable_variables and not inside:
            _warn_of_gone(node, tree.gone_from(node), path)
            by_path[path] = [
                paths[id(v)] if id(v) in paths else _description(v, table)
                for v in _kept(node, tree)
            ]
    return by_path


def _description(variable: Any, table: Table) -> list[Any]:
    token = variable.identity if isinstance(variable, _Absent) else Identity.of(variable)
    overwritten = bool(getattr(variable, "overwrite_with_gradient", False))
    number = table.token(token)
    return [list(variable.shape), dtype_name(variable), variable.path, number, overwritten]


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


def _undecayed(optimizer: Any, variables: list[Any]) -> dict[str, Any]:
    # Private: exclude_from_weight_decay() has no counterpart that tells what was excluded.
    pattern = optimizer._exclude_from_weight_decay_pattern
    return {
        "pattern": pattern and pattern.pattern,
        "variables": [
            position
            for position, variable in enumerate(variables)
            if (optimizer._var_key(variable) if optimizer.built else position)
            in optimizer._exclude_from_weight_decay
        ],
    }


def restore_optimizers(
    obj: Any,
    optimizers: Mapping[str, list[Any]],
    exclusions: Mapping[str, Any],
    identities: Sequence[Any] = (),
) -> None:
    """Build the optimizers below `obj` for the variables that `optimizers_of` found."""
    _build_optimizers(obj, optimizers, identities)
    if not exclusions:
        return
    parts = nodes(obj)
    # What was rebuilt before has its exclusions, maybe of other positions.
    reused = {id(part) for each in current.reading.reused.values() for part in nodes(each).values()}
    for path, excluded in exclusions.items():
        if path in parts and id(parts[path]) not in reused:
            _exclude_from_decay(parts[path], excluded)


def _build_optimizers(
    obj: Any, optimizers: Mapping[str, list[Any]], identities: Sequence[Any]
) -> None:
    if not optimizers:
        return
    tree = Tree(obj)
    by_path, parts = tree.variables, tree.nodes
    for path, references in optimizers.items():
        optimizer = parts.get(path)
        if optimizer is None or optimizer.built:
            continue
        if any(isinstance(ref, str) and ref not in by_path for ref in references):
            continue  # `weights.assign` will name the paths that are missing.
        targets = [
            by_path[ref] if isinstance(ref, str) else _Absent(*ref, identities=identities)
            for ref in references
        ]
        awaiting = vars(optimizer).get("build")
        if isinstance(awaiting, _Binding):
            # It has been rebuilt before, alone; see `Identity`. With slots for what quantizing has
            # replaced, of which the payload of the model knows nothing.
            gone = set(map(id, tree.gone_from(optimizer)))
            kept = iter(targets)
            variables = optimizer._trainable_variables
            awaiting.bind([v if id(v) in gone else next(kept) for v in variables])
            continue
        # An optimizer asks its variables for more than a shape while it makes slots for them.
        stand_ins = [v.stand_in() if isinstance(v, _Absent) else v for v in targets]
        optimizer.build(stand_ins)
        if any(isinstance(v, _Absent) for v in targets):
            _Binding(optimizer, targets, stand_ins).wait(is_alone=not path)


def _exclude_from_decay(optimizer: Any, excluded: Mapping[str, Any]) -> None:
    variables = optimizer._trainable_variables
    keys = {
        optimizer._var_key(variables[position]) if optimizer.built else position
        for position in excluded["variables"]
    }
    pattern = excluded["pattern"]
    vars(optimizer).update(
        _exclude_from_weight_decay=keys,
        _exclude_from_weight_decay_pattern=pattern and re.compile(pattern),
        _exclude_from_weight_decay_cache={},
    )


class _Absent:
    """A variable that an optimizer has slots for, but that is not part of its payload.

    With what `optimizers_of` has found of it; its token is one of the `identities` of the payload.
    """

    def __init__(
        self,
        shape: list[int],
        dtype: str,
        path: str,
        number: int | None = None,
        overwrite_with_gradient: bool = False,
        *,
        identities: Sequence[Any] = (),
    ) -> None:
        self.shape, self.dtype, self.path = tuple(shape), dtype, path
        self.name = path.rpartition("/")[2]
        self.overwrite_with_gradient = overwrite_with_gradient
        self.identity = by_number(identities, number)

    def stand_in(self) -> Any:
        """Return a variable that an optimizer takes for this one."""
        import keras

        variable = keras.Variable("zeros", shape=self.shape, dtype=self.dtype, name=self.name)
        variable._path = self.path  # Private; a MultiOptimizer goes by it.
        variable.overwrite_with_gradient = self.overwrite_with_gradient
        return variable


def _kind(variable: Any) -> tuple[Any, ...]:
    return tuple(variable.shape), dtype_name(variable)


def _kind_and_path(variable: Any) -> tuple[Any, ...]:
    return (*_kind(variable), getattr(variable, "path", None))


class _Binding:
    """The ``build`` of an optimizer whose slots belong to variables that are elsewhere.

    Their identity tokens lead to those that are in the same pickle, whichever of them is rebuilt
    first. If none of them is, or not all, the optimizer takes the variables that it is applied to,
    or compiled with: Keras calls ``build`` of an optimizer that is not built. The slots have been
    made for variables `built_for`; `targets` are variables, or placeholders for absent ones.
    """

    def __init__(self, optimizer: Any, targets: list[Any], built_for: list[Any]) -> None:
        self._optimizer = optimizer
        self._targets = list(targets)
        self._absent = {i: v for i, v in enumerate(targets) if isinstance(v, _Absent)}
        self._stand_ins = {position: built_for[position] for position in self._absent}
        positions = {id(variable): position for position, variable in enumerate(built_for)}
        self._parts = [_Part(part, positions) for part in nodes(optimizer).values()]

    def wait(self, *, is_alone: bool) -> None:
        """Bind the variables as they are rebuilt.

        An optimizer that is part of a model, and not alone (`is_alone`), goes on with those of the
        model and takes no others.
        """
        if is_alone:
            self._stand_ins = {}
            self._set(self._targets, built=False)
            vars(self._optimizer)["build"] = self
        for position, variable in self._absent.items():
            variable.identity.follow(functools.partial(self._note, position))

    def _note(self, position: int, variable: Any) -> None:
        """Bind the slots in a position to a variable that has been rebuilt."""
        if _kind(variable) != _kind(self._absent[position]):
            return  # Its class has changed; what uses the slots will say so.
        self._targets[position] = variable
        if self._is_waiting and any(isinstance(v, _Absent) for v in self._targets):
            self._set(self._targets, built=False)
        else:
            self.bind(self._targets)

    @property
    def _is_waiting(self) -> bool:
        return vars(self._optimizer).get("build") is self

    def bind(self, variables: list[Any]) -> None:
        """Let the slots belong to `variables`, in their order, and the optimizer be built."""
        self._targets = list(variables)
        for position, variable in enumerate(self._targets):
            if isinstance(variable, _Absent) and position not in self._stand_ins:
                self._stand_ins[position] = variable.stand_in()
        given = [
            self._stand_ins[position] if isinstance(variable, _Absent) else variable
            for position, variable in enumerate(self._targets)
        ]
        self._set(given, built=True)
        if self._is_waiting:
            vars(self._optimizer).pop("build")

    def _set(self, variables: list[Any], *, built: bool) -> None:
        for part in self._parts:
            part.bind(variables, built=built)

    def __call__(self, variables: Any) -> None:
        """Take the `variables` for those that the slots belong to.

        Raises
        ------
        ValueError
            If they are others, or could be in another order.
        """
        received = {id(variable): variable for variable in variables}
        present = [None if isinstance(v, _Absent) else v for v in self._targets]
        originals = [v.identity.original if isinstance(v, _Absent) else v for v in self._targets]
        if any(id(variable) in received for variable in originals):
            present = originals
        rest = [v for v in received.values() if not any(v is one for one in present)]
        absent = {i: self._targets[i] for i, variable in enumerate(present) if variable is None}
        matched = self._matched(rest, absent) if rest else {}
        # What is neither known nor meant stays absent.
        bound = [matched.get(i, variable) for i, variable in enumerate(present)]
        self.bind([v if one is None else one for one, v in zip(bound, self._targets, strict=True)])

    def _matched(self, received: list[Any], absent: dict[int, Any]) -> dict[int, Any]:
        """Return the variables by the positions of the absent ones with the same path, or shape."""
        for traits in (_kind_and_path, _kind):
            positions = {traits(variable): position for position, variable in absent.items()}
            matched = {positions.get(traits(variable), -1): variable for variable in received}
            if len(matched) == len(received) == len(absent) and -1 not in matched:
                return matched
        kinds = [list(map(_kind, group)) for group in (absent.values(), received)]
        if kinds[0] == kinds[1] and getattr(current, "reading", None) is not None:
            # An optimizer around this one is being rebuilt, which builds it as it did before.
            return dict(zip(absent, received, strict=True))
        if Counter(kinds[0]) != Counter(kinds[1]):
            shapes = [[tuple(v.shape) for v in group] for group in (absent.values(), received)]
            raise ValueError(
                f"This optimizer carries state for {len(absent)} variables of shapes {shapes[0]}, "
                f"but meets {len(received)} of shapes {shapes[1]}. Apply it to the model that it "
                "was trained with, to all of its variables at once, or call its build() with all "
                f"of them first; or make a new one: {_A_NEW_ONE}."
            )
        raise ValueError(
            "This optimizer carries state for variables of equal shapes, and meets others of which "
            "their names do not tell which is which: it would go on with the state of the wrong "
            f"ones. It was built for {[v.path for v in absent.values()]}, and meets "
            f"{[getattr(v, 'path', v.name) for v in received]}. Pickle the optimizer in one object "
            "with its models, such as {'model': model, 'optimizer': optimizer}, so that they stay "
            f"together; or make a new one: {_A_NEW_ONE}."
        )


_A_NEW_ONE = "optimizer.from_config(optimizer.get_config())"


class _Part:
    """An optimizer, or one inside it, and which of the variables are its own, by position."""

    def __init__(self, optimizer: Any, positions: Mapping[int, int]) -> None:
        self.optimizer = optimizer
        variables = optimizer._trainable_variables
        self._positions = [positions[id(variable)] for variable in variables]
        # Private: which of its optimizers a MultiOptimizer has chosen for each.
        chosen = getattr(optimizer, "_var_to_optimizer_idx", None)
        self._chosen = chosen and [chosen[optimizer._var_key(variable)] for variable in variables]

    def bind(self, variables: list[Any], *, built: bool) -> None:
        """Take the variables, with placeholders among them as long as it is not `built`."""
        of_optimizer = [variables[position] for position in self._positions]
        # Not by setattr, which would count the variables among the optimizer's own.
        attributes = vars(self.optimizer)
        excluded = self._positions_excluded(attributes)
        attributes.update(
            _trainable_variables=of_optimizer, _trainable_variables_indices={}, built=built
        )
        if not built:
            return
        keys = [self.optimizer._var_key(variable) for variable in of_optimizer]
        attributes["_trainable_variables_indices"] = {key: i for i, key in enumerate(keys)}
        if self._chosen is not None:
            attributes["_var_to_optimizer_idx"] = dict(zip(keys, self._chosen, strict=True))
        if excluded:
            attributes["_exclude_from_weight_decay"] = {keys[position] for position in excluded}
            attributes["_exclude_from_weight_decay_cache"] = {}

    def _positions_excluded(self, attributes: dict[str, Any]) -> list[int]:
        """Return the positions of the variables that are excluded from weight decay."""
        excluded = attributes.get("_exclude_from_weight_decay") or ()
        if not attributes["built"]:
            return list(excluded)  # By position already, see `_exclude_from_decay`.
        key = self.optimizer._var_key
        variables = attributes["_trainable_variables"]
        return [
            position for position, variable in enumerate(variables) if key(variable) in excluded
        ]
