"""Paths of the parts of a Keras 2 object: a rebuilt copy has the same paths.

Paths are wire format: a payload's weights are matched by them. A layer of a functional or
sequential model is found by its name, any other part by the attribute that holds it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

from ...identities import Identity
from .._shared import tree
from .bookkeeping import SECOND_PLACES
from .framework import is_built_in, keras, private
from .kinds import is_a, is_layer, is_part, is_variable

# The steps that a model has counted, which it keeps apart from its weights.
_COUNTERS = ("_train_counter", "_test_counter", "_predict_counter")


def nodes(obj: Any) -> dict[str, Any]:
    """Return `obj` and every layer, optimizer and metric below it, by path."""
    return tree.walk(obj, _children)[0]


def is_container(node: Any) -> bool:
    """Return whether `node` knows its layers by name (functional and sequential models)."""
    return isinstance(node, functional_class())  # Which a sequential model is as well.


def is_sequential(node: Any) -> bool:
    """Return whether `node` is a sequential model."""
    return isinstance(node, keras().Sequential)


@functools.cache
def functional_class() -> Any:
    """Return the class that ``keras.Model(inputs, outputs)`` makes."""
    # Private: it has no public name.
    return private("engine.functional").Functional


def layers_of(model: Any) -> list[Any]:
    """Return the layers of a functional or sequential model, with the one that Keras hides.

    A sequential model shows no input layer.
    """
    layers: list[Any] = functional_class().layers.fget(model)
    return layers


def named_variables(node: Any) -> list[tuple[str, Any]]:
    """Return the variables that `node` itself owns, by names that its copy has too."""
    named = [(str(position), variable) for position, variable in enumerate(own_variables(node))]
    if is_a(node, "model"):
        counters = ((name, vars(node).get(name)) for name in _COUNTERS)
        named += [(f"counter/{n.strip('_')}", v) for n, v in counters if is_variable(v)]
    if isinstance(node, keras().layers.RNN) and node.stateful:
        # Keras leaves them out of its tracking.
        flat = _flat(node.states)
        named += [(f"states/{i}", v) for i, v in enumerate(flat) if is_variable(v)]
    if is_a(node, "optimizer"):
        named += untold_variables(node)
    if is_layer(node) and not is_built_in(type(node)):
        named += _of_trackables(node)
    generator = generator_of(node)
    if generator is not None:
        named.append(("random_generator", generator.state))
    return named


def identities(tree: tree.Tree) -> list[Identity | None]:
    """Return the tokens of a tree's own variables, with None for those that no optimizer trains."""
    trained = {
        id(variable)
        for node in tree.own.values()
        for variable in (vars(node).get("_trainable_weights") or () if is_layer(node) else ())
    }
    trained |= {id(tree.root)} if is_variable(tree.root) else set()
    variables = tree.own_variables.values()
    return [identity_of(variable) if id(variable) in trained else None for variable in variables]


def identity_of(variable: Any) -> Identity | None:
    """Return the token of a variable of TensorFlow, which optimizers know by a text only."""
    key = getattr(variable, "_unique_id", None)
    return None if key is None else Identity.named(key)


def _of_trackables(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the variables of what TensorFlow tracks in attributes of a layer, and Keras doesn't.

    Modules of TensorFlow, whose variables Keras trains, and generators of random numbers.
    """
    for name, value in tree.below_attributes(vars(layer), SECOND_PLACES):
        if is_trackable(value):
            # In the order of its attributes' names.
            held = value.variables if hasattr(value, "variables") else [value.state]
            yield from ((f"{name}/{position}", variable) for position, variable in enumerate(held))


def is_trackable(value: Any) -> bool:
    """Return whether `value` is a module or a generator of TensorFlow, but nothing of Keras."""
    return isinstance(value, _trackable_classes()) and not is_part(value)


@functools.cache
def _trackable_classes() -> tuple[type, ...]:
    import tensorflow as tf

    return tf.Module, tf.random.Generator


def generator_of(node: Any) -> Any:
    """Return the generator with a state that a layer draws from; None by default.

    Programs ask for it by ``keras.backend.experimental.enable_tf_random_generator()``.
    """
    return getattr(getattr(node, "_random_generator", None), "_generator", None)


def own_variables(node: Any) -> list[Any]:
    """Return the variables that `node` itself owns, in the order of its own lists.

    They are private: the public ``variables`` also holds those of the children.
    """
    if is_a(node, "optimizer"):
        return _of_optimizer(node)
    if not (is_layer(node) or is_a(node, "metric")):
        return []
    if is_layer(node) and hasattr(node, "_update_trackables"):
        node._update_trackables()  # What was added to a list of variables since.
    lists = (*node._trainable_weights, *node._non_trainable_weights)
    # A metric that has seen data also lists those of the metrics in it.
    inner = node._metrics if is_a(node, "metric") else ()
    not_own = {id(variable) for metric in inner for variable in metric.variables}
    # There may be a lookup table in place of a variable; see `assets`.
    by_id = {id(item): item for item in lists if is_variable(item) and id(item) not in not_own}
    return list(by_id.values())


def _of_optimizer(optimizer: Any) -> list[Any]:
    if hasattr(optimizer, "inner_optimizer"):
        # Private: the state of a dynamic loss scale. The inner optimizer is a part of its own.
        scale = optimizer._loss_scale
        return [scale.current_loss_scale, scale.counter] if optimizer.dynamic else []
    if hasattr(optimizer, "_weights"):  # The optimizers of before Keras 2.11.
        return list(optimizer._weights)
    return list(optimizer._variables)


def untold_variables(optimizer: Any) -> list[tuple[str, Any]]:
    """Return the variables that an optimizer holds and doesn't list, by attribute.

    Nadam has a product of its momentums, Adafactor has place holders.
    """
    # Private: by which names an optimizer knows the variables that it was built for.
    listed = {id(variable) for variable in _of_optimizer(optimizer)}
    foreign = getattr(optimizer, "_index_dict", {})
    below = tree.below_attributes(vars(optimizer), _TOLD_BY_CONFIGS | SECOND_PLACES)
    return [
        (f"attribute/{name}", value)
        for name, value in below
        if is_variable(value) and id(value) not in listed and value._unique_id not in foreign
    ]


# Learning rates, and the slots of legacy optimizers by the variables that they belong to.
_TOLD_BY_CONFIGS = frozenset({"_learning_rate", "_current_learning_rate", "_hyper", "_slots"})


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    if is_container(node):
        for layer in layers_of(node):
            yield f"layers/{layer.name}", layer
    if _may_hold_parts(node):
        below = tree.below_attributes(vars(node), SECOND_PLACES)
        parts = [(name, part) for name, part in below if is_part(part) and not is_variable(part)]
        # In an order that does not depend on which was set first.
        yield from sorted(parts, key=lambda item: item[0])
    if is_layer(node):
        for position, metric in enumerate(node._metrics):
            yield f"metric#{position}", metric
    if is_a(node, "model"):
        yield from compiled_metrics(node)


def _may_hold_parts(node: Any) -> bool:
    if is_a(node, "metric"):
        return not is_built_in(type(node))
    return is_layer(node) or (is_a(node, "optimizer") and hasattr(node, "inner_optimizer"))


def compiled_metrics(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the metrics that ``compile`` and the first batch have made, by role and position."""
    for role in ("compiled_loss", "compiled_metrics"):
        group = getattr(model, role, None)
        for position, metric in enumerate(group.metrics if group is not None else ()):
            yield f"{role}/{position}", metric


def _flat(nest: Any) -> list[Any]:
    import tensorflow as tf

    flat: list[Any] = tf.nest.flatten(nest)
    return flat


class Tree(tree.Tree):
    """Everything below a Keras 2 object, and which of it travels on its own."""

    children_of = staticmethod(_children)
    named_variables = staticmethod(named_variables)

    @staticmethod
    def listed(node: Any) -> Iterable[Any]:
        """Return the layers that the config of `node` lists, each with a payload of its own."""
        return layers_of(node) if is_container(node) else ()
