"""Paths of the parts of a Keras object: a rebuilt copy has the same paths.

Paths are wire format: a payload's weights are matched by them. A layer of a functional or
sequential model is found by its name, which the config keeps; any other part by the attribute that
holds it, since auto-generated names differ from process to process.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...identities import Identity
from ...weak_references import PROXIES
from .._shared import tree
from .bookkeeping import PARTS, SECOND_PLACES
from .kinds import attributes_of, bases, is_a, is_built_in, is_saveable

# What Keras calls a variable that was not given a name; the counter differs between processes.
_AUTO_NAME = re.compile(r"(backend_)?variable(_\d+)?")


def nodes(obj: Any) -> dict[str, Any]:
    """Return `obj` and every layer, optimizer, metric and seed generator below it, by path.

    Parents precede their children. A part that is reached twice has its first path.
    """
    return tree.walk(obj, _children)[0]


def is_converted(layer: Any) -> bool:
    """Return whether LoRA or quantization has changed which variables a built layer has."""
    # Private: a layer that was quantized has no public flag.
    changed = getattr(layer, "lora_enabled", False) or getattr(layer, "_is_quantized", False)
    return bool(changed and layer.built)


def _slots_of(optimizer: Any, gone: list[Any]) -> set[int]:
    """Return the ids of the slots of an optimizer for variables that are gone."""
    import keras

    trained = optimizer._trainable_variables
    ids = set(map(id, gone))
    # The placeholder for a variable that has not been rebuilt has no key.
    real = [variable for variable in gone if isinstance(variable, keras.Variable)]
    keys = {key for v in real for key in (optimizer._var_key(v), v.path)}
    slots: list[Any] = []
    for name, value in list(vars(optimizer).items()):
        # Keras's optimizers keep slots in lists, in the order of the variables, or by key.
        if name in ("_variables", "_trainable_variables"):
            continue
        if isinstance(value, list) and len(value) == len(trained):
            slots += [slot for v, slot in zip(trained, value, strict=True) if id(v) in ids]
        elif isinstance(value, dict):
            slots += [slot for key, slot in value.items() if key in keys]
    return {id(slot) for slot in slots if isinstance(slot, keras.Variable)}


def layer_names(node: Any) -> list[str]:
    """Return the attributes that hold the layers which `node` tracks, in the order of tracking."""
    tracked = getattr(node, "_layers", ())
    stored = {id(layer): layer for layer in tracked if type(layer) not in PROXIES}
    names = _names_by_attribute(below_attributes(node), stored)
    return [names.get(key, "") for key in stored]


def variables(obj: Any) -> dict[str, Any]:
    """Return every variable below `obj` by its path, each once."""
    return Tree(obj).variables


def named_variables(node: Any) -> list[tuple[str, Any]]:
    """Return the variables of `node` itself, with names that are the same in its copy."""
    node_variables = own_variables(node)
    states = [(f"states/{i}", state) for i, state in enumerate(_recurrent_states(node))]
    names = [str(variable.name) for variable in node_variables]
    # An optimizer names its slots after the variables' paths, which auto-generated names enter.
    if is_a(node, "variable"):
        names = ["value"]
    elif (
        is_optimizer(node) or len(set(names)) < len(names) or any(map(_AUTO_NAME.fullmatch, names))
    ):
        names = [str(position) for position in range(len(node_variables))]
    return [*zip(names, node_variables, strict=True), *states]


def own_variables(node: Any) -> list[Any]:
    """Return the variables that `node` itself owns.

    These are the lists that Keras's own saving goes through (``save_own_variables``), but without
    the conversions that some layers make there, such as merging LoRA factors. They are private:
    the public ``variables`` also holds those of the children.
    """
    if is_a(node, "variable"):
        return [node]
    if not is_saveable(node):
        return [node.state] if is_a(node, "seed_generator") else []
    if hasattr(node, "_non_trainable_variables"):
        return [*node._trainable_variables, *node._non_trainable_variables]
    if hasattr(node, "_variables"):
        return list(node._variables)
    return []


def trainable_of(node: Any, node_variables: Sequence[Any]) -> list[Any]:
    """Return the variables of `node` itself, with None for each that no optimizer has slots for.

    Those of a layer may be frozen for a while; an optimizer that was built before has their slots.
    """
    if is_a(node, "variable"):
        return list(node_variables)
    # Private: which variables are listed there does not change when a layer is frozen.
    count = len(vars(node).get("_trainable_variables") or ()) if is_a(node, "layer") else 0
    return [*node_variables[:count], *[None] * (len(node_variables) - count)]


def identities(tree: tree.Tree) -> list[Identity | None]:
    """Return the tokens of a tree's own variables, with None for those that no optimizer trains."""
    trained = {
        id(variable)
        for node in tree.own.values()
        for variable in trainable_of(node, own_variables(node))
    }
    tree_variables = tree.own_variables.values()
    return [
        Identity.of(variable) if id(variable) in trained else None for variable in tree_variables
    ]


def _recurrent_states(node: Any) -> list[Any]:
    """Return the states of a stateful recurrent layer, which Keras leaves out of its tracking."""
    import keras

    if not isinstance(node, keras.layers.RNN) or not node.stateful:
        return []
    flat: list[Any] = keras.tree.flatten(node.states)
    return [state for state in flat if isinstance(state, keras.Variable)]


def is_optimizer(node: Any) -> bool:
    """Return whether `node` is an optimizer."""
    return is_a(node, "optimizer")


def is_container(node: Any) -> bool:
    """Return whether `node` knows its layers by name (functional and sequential models)."""
    return isinstance(node, _container_classes())


@functools.cache
def _container_classes() -> tuple[type, ...]:
    import keras

    return keras.Sequential, functional_class()


def is_functional(node: Any) -> bool:
    """Return whether `node` is a model made of inputs and outputs."""
    return isinstance(node, functional_class())


@functools.cache
def functional_class() -> Any:
    """Return the class that ``keras.Model(inputs, outputs)`` makes."""
    # Private: it has no public name in Keras 3.
    from keras.src.models.functional import Functional

    return Functional


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    import keras

    if not is_saveable(node) or _is_leaf(node):
        return
    named: set[int] = set()
    if is_container(node):
        for layer in node.layers:
            named.add(id(layer))
            yield f"layers/{layer.name}", layer

    stored = {
        id(part): (f"{label}#{position}", part)
        for store, label in PARTS.items()
        for position, part in enumerate(getattr(node, store, ()))
        if id(part) not in named and type(part) not in PROXIES
    }
    if isinstance(node, keras.Sequential):
        # A built Sequential wraps its layers in a functional model; they are named already.
        stored.pop(id(getattr(node, "_functional", None)), None)
    may_hold_optimizers = _may_hold_optimizers(node)
    attributes = below_attributes(node) if stored or may_hold_optimizers else []
    by_attribute = _names_by_attribute(attributes, stored)
    for key, (fallback, part) in stored.items():
        yield by_attribute.get(key, fallback), part

    if may_hold_optimizers:
        # Keras tracks none. In an order that does not depend on which was set first.
        cls = bases()["optimizer"]
        optimizers = [(name, value) for name, value in attributes if isinstance(value, cls)]
        yield from sorted(optimizers, key=operator.itemgetter(0))
    if isinstance(node, keras.Model):
        yield from compiled_metrics(node)


def _is_leaf(node: Any) -> bool:
    """Return whether there is nothing below `node`; fast, as most parts are leaves."""
    tracks = vars(node).get
    return not any(map(tracks, PARTS)) and not _may_hold_optimizers(node)


def _may_hold_optimizers(node: Any) -> bool:
    # Among Keras's own classes only these do.
    return is_a(node, "model", "optimizer") or not is_built_in(type(node))


def below_attributes(node: Any) -> list[tuple[str, Any]]:
    """Return the values in the attributes of `node` and containers there, by name and position."""
    return list(tree.below_attributes(attributes_of(node), SECOND_PLACES))


def compiled_metrics(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the metrics that ``compile`` made, under names that their copies will have.

    Keras keeps them out of its tracking, in private attributes without a public view: the public
    ``metrics`` has neither their order nor their roles.
    """
    if not getattr(model, "compiled", False):
        return
    if model._loss_tracker is not None:
        yield "loss_tracker", model._loss_tracker
    for role in ("compile_metrics", "compile_loss"):
        group = getattr(model, f"_{role}")
        for position, metric in enumerate(group.metrics if group is not None else ()):
            yield f"{role}/{position}", metric


def _names_by_attribute(
    attributes: list[tuple[str, Any]], wanted: Mapping[int, Any]
) -> dict[int, str]:
    """Return the first names in `attributes`, see `below_attributes`, of the wanted ids."""
    names: dict[int, str] = {}
    for name, value in attributes if wanted else ():
        if id(value) in wanted:
            names.setdefault(id(value), name)
    return names


class Tree(tree.Tree):
    """Everything below a Keras 3 object, and which of it travels on its own."""

    children_of = staticmethod(_children)
    named_variables = staticmethod(named_variables)

    @staticmethod
    def listed(node: Any) -> Iterable[Any]:
        """Return the layers that the config of `node` lists, each with a payload of its own."""
        return node.layers if is_container(node) else ()

    def variables_of(self, node: Any) -> Iterable[tuple[str, Any]]:
        """Return `named_variables`, but no slots of an optimizer for variables that are gone."""
        gone = self.gone_from(node) if is_optimizer(node) else []
        if not gone:
            return named_variables(node)
        left_behind = _slots_of(node, gone)
        remaining = [
            variable for variable in own_variables(node) if id(variable) not in left_behind
        ]
        return [(str(position), variable) for position, variable in enumerate(remaining)]

    def gone_from(self, optimizer: Any) -> list[Any]:
        """Return the variables of an optimizer that quantizing has replaced in their layers."""
        replaced = self._replacements
        if not replaced:
            return []
        return [
            variable
            for variable in optimizer._trainable_variables
            if id(variable) not in replaced.get(variable.path, {id(variable)})
        ]

    @functools.cached_property
    def _replacements(self) -> dict[str, set[int]]:
        """The ids of the variables of layers that were quantized, by path.

        A kernel and what replaces it have the same path.
        """
        ids: dict[str, set[int]] = {}
        for node in self.nodes.values():
            if is_a(node, "layer") and is_converted(node):
                for variable in own_variables(node):
                    ids.setdefault(variable.path, set()).add(id(variable))
        return ids
