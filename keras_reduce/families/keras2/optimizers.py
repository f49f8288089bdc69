"""Optimizers of Keras 2: which variables their slots belong to, and how they get them back.

There are two kinds: those of today, and those of before Keras 2.11, which are called legacy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import ReduceError
from ...identities import Identity, by_number
from .framework import keras
from .kinds import is_a, is_variable
from .tree import identity_of, own_variables, untold_variables

if TYPE_CHECKING:
    from ...custom_objects import Table


def optimizers_of(
    parts: Mapping[str, Any], variables: Mapping[str, Any], table: Table
) -> dict[str, Any]:
    """Return, by path, what each optimizer was built for.

    The paths of its variables; for one that is alone and whose variables are elsewhere, which of
    its own variables each of its attributes holds, and the numbers of the identity tokens of those.

    Raises
    ------
    ReduceError
        If an optimizer has state for variables that are not part of the object around it.
    """
    specs: dict[str, Any] = {}
    traced = _traced(parts)
    for path, node in parts.items():
        if isinstance(vars(node).get("build") if is_a(node, "optimizer") else None, _Awaiting):
            tokens = [table.token(identity) for identity in node.build.tokens()]
            specs[path] = {**node.build.spec, "identities": tokens}
            continue
        if not is_a(node, "optimizer") or not _is_built(node):
            continue
        by_key = {_key(node, variable): name for name, variable in variables.items()}
        keys = list(node._slots if _is_legacy(node) else node._index_dict)
        if all(key in by_key for key in keys):
            specs[path] = {"variables": [by_key[key] for key in keys]}
            # The trace to come begins where that of the original began.
            specs[path] |= _counted(node, len(keys) if id(node) in traced else 0)
        elif path or _is_legacy(node):
            raise ReduceError(
                "An optimizer has state for variables that are not part of the object around it",
                where=path,
                cause="it was built for another model"
                if path
                else "a legacy optimizer knows its variables by their numbers in this process only",
                cure="pickle it in its own model, as its optimizer",
            )
        else:
            tokens = [table.token(Identity.named(str(key))) for key in keys]
            specs[path] = {**_alone(node, len(keys)), **_counted(node), "identities": tokens}
    return specs


def _traced(parts: Mapping[str, Any]) -> set[int]:
    """Return the ids of optimizers whose steps are traced."""
    optimizers = [
        model.optimizer
        for model in parts.values()
        if vars(model).get("train_function") and not model.run_eagerly
    ]
    return {id(getattr(optimizer, "inner_optimizer", optimizer)) for optimizer in optimizers}


def _counted(optimizer: Any, since: int = 0) -> dict[str, Any]:
    """Return the counter that Nadam keeps in Python, as it was `since` variables ago.

    It tells by that whether a step has begun; a trace keeps what it found when it was made.
    """
    counter = vars(optimizer).get("_u_product_counter")
    return {} if counter is None else {"counter": counter - since}


def restore_optimizers(
    parts: Mapping[str, Any],
    optimizers: Mapping[str, Any],
    variables: Mapping[str, Any],
    identities: Sequence[Any],
) -> None:
    """Build the optimizers for the variables that `optimizers_of` found."""
    import tensorflow as tf

    for path, spec in optimizers.items():
        optimizer = parts.get(path)
        if optimizer is None:
            continue
        with tf.init_scope():
            if "variables" not in spec:
                tokens = [by_number(identities, number) for number in spec.get("identities", ())]
                _fill(optimizer, spec, tokens)
            elif all(name in variables for name in spec["variables"]):
                _build(optimizer, [variables[name] for name in spec["variables"]])
            # Otherwise `weights.assign` will name the paths that are missing.
        if "counter" in spec:
            optimizer._u_product_counter = spec["counter"]


def undecayed_of(parts: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return, by path, what each optimizer excludes from weight decay."""
    by_path: dict[str, Any] = {}
    for path, node in parts.items():
        keys = vars(node).get("_exclude_from_weight_decay") if is_a(node, "optimizer") else None
        names = getattr(node, "_exclude_from_weight_decay_names", None)
        if keys or names:
            excluded = [n for n, v in variables.items() if _key(node, v) in (keys or ())]
            by_path[path] = {"names": list(names or ()), "variables": excluded}
    return by_path


def restore_undecayed(
    parts: Mapping[str, Any], undecayed: Mapping[str, Any], variables: Mapping[str, Any]
) -> None:
    """Exclude from weight decay what `undecayed_of` found."""
    for path, spec in undecayed.items():
        optimizer = parts.get(path)
        if optimizer is not None:
            excluded = [variables[name] for name in spec["variables"] if name in variables]
            optimizer._exclude_from_weight_decay = [_key(optimizer, v) for v in excluded]
            optimizer._exclude_from_weight_decay_names = spec["names"]


def _is_legacy(optimizer: Any) -> bool:
    return isinstance(optimizer, keras().optimizers.legacy.Optimizer)


def _is_built(optimizer: Any) -> bool:
    if hasattr(optimizer, "inner_optimizer"):
        return False  # The optimizer in it is a part of its own.
    if _is_legacy(optimizer):
        return bool(optimizer._weights)
    return bool(getattr(optimizer, "_built", False)) or hasattr(optimizer, "_index_dict")


def _key(optimizer: Any, variable: Any) -> Any:
    # Private: the name by which an optimizer knows a variable, in this process.
    return variable._unique_id if hasattr(variable, "_unique_id") else id(variable)


def _build(optimizer: Any, variables: list[Any]) -> None:
    awaiting = vars(optimizer).get("build")
    if isinstance(awaiting, _Awaiting):
        awaiting.bind(variables)  # It has been rebuilt before, alone; see `Identity`.
    elif _is_legacy(optimizer):
        optimizer._create_all_weights(variables)
    else:
        optimizer.build(variables)


def _alone(optimizer: Any, count: int) -> dict[str, Any]:
    """Return the specification of an optimizer whose variables are elsewhere."""
    variables = own_variables(optimizer)
    untold = [variable for _, variable in untold_variables(optimizer)]
    positions = {id(variable): position for position, variable in enumerate([*variables, *untold])}

    def place(value: Any) -> Any:
        if is_variable(value):
            return positions.get(id(value))
        if isinstance(value, (list, tuple)) and value and all(map(is_variable, value)):
            return [positions.get(id(item)) for item in value]
        return None

    held = {name: place(value) for name, value in vars(optimizer).items() if name != "_variables"}
    return {
        "count": count,
        "made": [_description(variable) for variable in variables],
        **({"untold": [_description(variable) for variable in untold]} if untold else {}),
        "held": {name: at for name, at in held.items() if at is not None},
    }


def _description(variable: Any) -> list[Any]:
    name = variable.name.partition(":")[0]
    return [list(variable.shape), variable.dtype.base_dtype.name, name]


def _made(shape: Any, dtype: str, name: str) -> Any:
    import tensorflow as tf

    return tf.Variable(tf.zeros(shape, dtype), name=name, trainable=False)


def _fill(optimizer: Any, spec: Mapping[str, Any], tokens: list[Identity]) -> None:
    """Make the slots of an optimizer that `_alone` has described, before it has variables."""
    told = len(own_variables(optimizer))
    optimizer._variables += [_made(*description) for description in spec["made"][told:]]
    untold = [_made(*description) for description in spec.get("untold", ())]
    variables = [*own_variables(optimizer), *untold]
    for name, at in spec["held"].items():
        setattr(
            optimizer, name, [variables[i] for i in at] if isinstance(at, list) else variables[at]
        )
    plain = {name: value for name, value in spec.items() if name != "identities"}
    _Awaiting(optimizer, plain, tokens or [Identity() for _ in range(spec["count"])]).wait()


class _Awaiting:
    """The ``build`` of an optimizer whose slots are there, but not yet its variables.

    Their identity tokens lead to those that are in the same pickle. If there are none, those that
    it is applied to first are its own: Keras builds it for them.
    """

    def __init__(self, optimizer: Any, spec: dict[str, Any], identities: list[Identity]) -> None:
        self._optimizer, self.spec, self.identities = optimizer, spec, identities

    def wait(self) -> None:
        """Bind the variables as soon as all of them have been rebuilt."""
        vars(self._optimizer)["build"] = self
        for identity in self.identities:
            identity.follow(self._note)

    def tokens(self) -> list[Identity]:
        """Return the tokens by which the variables are known to their layers."""
        newest = [each.obj is not None and identity_of(each.obj) for each in self.identities]
        return [new or old for new, old in zip(newest, self.identities, strict=True)]

    def _note(self, _: Any) -> None:
        variables = [identity.obj for identity in self.identities]
        if all(variable is not None for variable in variables):
            self.bind(variables)

    def bind(self, variables: list[Any]) -> None:
        """Let the slots belong to `variables`, in their order."""
        if vars(self._optimizer).get("build") is self:
            vars(self._optimizer).pop("build")
        self._optimizer._build_index_dict(variables)
        self._optimizer._built = True

    def __call__(self, variables: Any) -> None:
        """Take the variables for those that the slots belong to.

        Raises
        ------
        ValueError
            If they are others, or could be in another order.
        """
        variables = list(variables)
        rebuilt = {id(each.obj): each for each in self.identities if each.obj is not None}
        if rebuilt and all(id(variable) in rebuilt for variable in variables):
            # Of the others nothing is there any more.
            gone = iter(_made((), "float32", "gone") for _ in self.identities)
            self.bind([next(gone) if each.obj is None else each.obj for each in self.identities])
            return
        slots = list(self._slots())
        shapes = [tuple(variable.shape) for variable in variables]
        names = next((names for slot_shapes, names in slots if slot_shapes == shapes), [])
        if len(variables) != self.spec["count"] or (slots and not names):
            raise ValueError(
                f"This optimizer carries state for {self.spec['count']} variables of shapes "
                f"{slots[0][0] if slots else '?'}, but meets {len(variables)} of shapes {shapes}. "
                "Apply it to the model that it was trained "
                "with, or make a new one: optimizer.from_config(optimizer.get_config())."
            )
        met = [variable.name.partition(":")[0] for variable in variables]
        are_named = len(set(met)) == len(met) and all(
            f"/{slot}".endswith(f"/{name}") for slot, name in zip(names, met, strict=False)
        )
        if slots and len(set(shapes)) < len(shapes) and not are_named:
            raise ValueError(
                "This optimizer carries state for variables of equal shapes, and meets others of "
                "which their names do not tell which is which: it would go on with the state of "
                f"the wrong ones. Its slots are {names}, and it meets {met}. Pickle the optimizer "
                "in one object with its models, such as {'model': model, 'optimizer': optimizer}, "
                "so that they stay together; or make a new one: "
                "optimizer.from_config(optimizer.get_config())."
            )
        self.bind(variables)

    def _slots(self) -> Iterator[tuple[list[tuple[int, ...]], list[str]]]:
        """Yield shapes and names of slots, one for each variable."""
        descriptions, count = self.spec["made"], self.spec["count"]
        for at in self.spec["held"].values():
            if (
                isinstance(at, list)
                and len(at) == count
                and set(at) <= set(range(len(descriptions)))
            ):
                slots = [descriptions[position] for position in at]
                yield [tuple(shape) for shape, _, _ in slots], [name for *_, name in slots]
