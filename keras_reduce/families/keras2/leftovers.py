"""Facts that Keras 2 leaves out of the configs of its classes, and that layers gather in use.

``manners`` are attributes, by path: arguments of constructors that no config mentions. ``called``
are names of layers that a constructor made, and would give others the next time. ``added`` are
metrics that ``add_metric`` made in a call. ``losses`` counts the functions given to ``add_loss``.
``seeds`` are those with which random layers go on: they count up from the one that was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import PayloadError, ReduceError
from .._shared import assigned_attributes
from .._shared.facts import Survey
from .attributes import added_losses
from .bookkeeping import DEFAULTS, LEFT_OUT
from .configs import deserialize, serialize, serialized_metric
from .framework import is_built_in, keras
from .kinds import is_layer
from .rules import describes_itself
from .tree import functional_class, is_container, layers_of, nodes

# --- names ----------------------------------------------------------------------------------


def names_in(survey: Survey) -> dict[str, Any]:
    """Return the names of layers, by path: see `_names`."""
    by_path = {path: _names(layer, path) for path, layer in survey.layers.items()}
    return {path: names for path, names in by_path.items() if names}


def _names(layer: Any, path: str) -> dict[str, Any]:
    """Return the names of a layer, and of those in it, that a constructor chooses by a counter."""
    names: dict[str, Any] = {"name": layer.name} if path else {}
    if not is_container(layer):
        return names
    if not path and (type(layer) in _plain_containers() or not describes_itself(layer)):
        return {}  # Its own config has them.
    entries, others = _sorted(layer)
    names["layers"] = [each.name for each in others]
    names["entries"] = [each.name for each in entries]
    if getattr(layer, "_is_graph_network", False):
        names["inputs"], names["outputs"] = list(layer.input_names), list(layer.output_names)
    return names


def _plain_containers() -> tuple[Any, ...]:
    return keras().Sequential, functional_class()


def _sorted(model: Any) -> tuple[list[Any], list[Any]]:
    """Return the input layers of a model, one of which may come with the first batch; the rest."""
    layers, kind = layers_of(model), keras().layers.InputLayer
    return (
        [layer for layer in layers if isinstance(layer, kind)],
        [layer for layer in layers if not isinstance(layer, kind)],
    )


def renamed(obj: Any, called: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of `obj` by path, once those that are there are called as they were."""
    parts = nodes(obj)
    for path, names in called.items():
        if path in parts and is_layer(parts[path]) and _rename(parts[path], names):
            parts = nodes(obj)  # Paths go by names.
    return parts


def _rename(layer: Any, names: Mapping[str, Any]) -> bool:
    """Give a layer and those in it their names; tell whether any had another one."""
    pairs = [(layer, names["name"])] if "name" in names else []
    if is_container(layer) and "layers" in names:
        for here, wanted in zip(_sorted(layer), (names["entries"], names["layers"]), strict=True):
            pairs += zip(here, wanted, strict=True) if len(here) == len(wanted) else ()
        if "inputs" in names and getattr(layer, "_is_graph_network", False):
            layer.input_names, layer.output_names = names["inputs"], names["outputs"]
    changed = [(each, name) for each, name in pairs if each._name != name]
    for each, name in changed:
        each._name = name  # Private: the public name is read-only.
    return bool(changed)


# --- unlisted attributes --------------------------------------------------------------------


def unlisted_attributes(node: Any) -> dict[str, Any]:
    """Return attributes of a part that no config mentions, unless they are as by default."""
    if not describes_itself(node):
        return {}  # Its attributes travel, all of them.
    names = [base.__name__ for base in type(node).__mro__ if is_built_in(base)]
    defaults = {k: v for name in names for k, v in LEFT_OUT.get(name, {}).items()}
    if is_layer(node) and not is_container(node):
        defaults |= {name: DEFAULTS[name] for name in DEFAULTS if name != "_input_spec"}
        defaults["_supports_masking"] = _masks(type(node))
    changed = {
        name: serialize(getattr(node, name))
        for name, default in defaults.items()
        if getattr(node, name, default) != default
    }
    return changed | _of_legacy_optimizer(node)


def _masks(cls: type) -> bool:
    """Return whether the code of a class says that it can handle masks."""
    return any("supports_masking" in assigned_attributes.set_by(base) for base in cls.__mro__[:-1])


def _of_legacy_optimizer(node: Any) -> dict[str, Any]:
    """Return the transformers and the aggregator of gradients of a legacy optimizer."""
    if not isinstance(node, keras().optimizers.legacy.Optimizer):
        return {}
    settings: dict[str, Any] = {}
    if getattr(node, "gradient_transformers", None):
        settings["gradient_transformers"] = serialize(list(node.gradient_transformers))
    aggregator = getattr(node, "gradient_aggregator", None)
    if aggregator is not None and not is_built_in(aggregator):
        settings["gradient_aggregator"] = serialize(aggregator)
    return settings


def restore_unlisted_attributes(node: Any, attributes: Any) -> None:
    """Give a part the attributes that `unlisted_attributes` returned."""
    vars(node).update(deserialize(attributes))


# --- what layers gather ---------------------------------------------------------------------


def metrics_in(survey: Survey) -> dict[str, Any]:
    """Return the metrics that ``add_metric`` has made, which no attribute of a layer holds."""
    by_path = {}
    for path, layer in survey.layers.items():
        held = {id(value) for value in vars(layer).values()}
        added = [serialized_metric(each) for each in layer._metrics if id(each) not in held]
        by_path.update({path: added} if added else {})
    return by_path


def add_metrics(layer: Any, metrics: list[Any]) -> None:
    """Give a layer the metrics that `metrics_in` found."""
    there = {metric.name for metric in layer._metrics}
    restored = map(deserialize, metrics)
    layer._metrics.extend(metric for metric in restored if metric.name not in there)


def seeds_in(survey: Survey) -> dict[str, int]:
    """Return the seeds with which random layers go on, unless they are those that were given."""
    return {
        path: int(seed)
        for path, layer in survey.layers.items()
        if (seed := _seed_of(layer)) not in (None, getattr(layer, "seed", None))
    }


def restore_seed(layer: Any, seed: int) -> None:
    """Give a random layer what `seeds_in` found."""
    if _seed_of(layer) is not None:
        layer._random_generator._seed = seed


def _seed_of(layer: Any) -> int | None:
    # Private: the counter has no public name.
    seed: int | None = getattr(vars(layer).get("_random_generator"), "_seed", None)
    return seed


def refuse_filled_tables(layer: Any, path: str) -> None:
    """Refuse a layer of a user-defined class with a lookup table that has been filled.

    Raises
    ------
    ReduceError
        If there is one among its attributes.
    """
    import tensorflow as tf

    tables = (tf.lookup.experimental.MutableHashTable, tf.lookup.experimental.DenseHashTable)
    for name, value in list(vars(layer).items()):
        if isinstance(value, tables) and int(value.size()):
            raise ReduceError(
                "A lookup table that has been filled can't be carried",
                where=f"{path}.{name}",
                cause="its content is not in a variable, and Keras does not record it",
                cure="use keras.layers.StringLookup or IntegerLookup, or a tf.lookup."
                "StaticHashTable that the constructor makes",
            )


def losses_in(survey: Survey) -> dict[str, int]:
    """Return how many functions were given to ``add_loss`` of layers, by path.

    Raises
    ------
    ReduceError
        If one is a layer of Keras's own.
    """
    counts = {path: _count_losses(layer, path) for path, layer in survey.layers.items()}
    return {path: count for path, count in counts.items() if count}


def _count_losses(layer: Any, path: str) -> int:
    count = len(added_losses(layer))
    if count and is_built_in(type(layer)):
        raise ReduceError(
            f"{type(layer).__qualname__} has a loss that was added by add_loss(function)",
            where=path,
            cause="Keras does not record where it was added, so it would be lost",
            cure="add the loss in the call() of a layer of your own; or, to a functional model, "
            "as a tensor",
        )
    return count if describes_itself(layer) else 0


def check_losses(parts: Mapping[str, Any], counts: Mapping[str, int]) -> None:
    """Check that layers have as many losses as `losses_in` found.

    Raises
    ------
    PayloadError
        If a layer lacks some.
    """
    for path, count in counts.items():
        if path in parts and len(added_losses(parts[path])) < count:
            raise PayloadError(
                "A loss that was added by add_loss(function) has not come back",
                where=path,
                cause="it was added from outside the class of this layer",
                cure="add it in the constructor, or in call()",
            )
