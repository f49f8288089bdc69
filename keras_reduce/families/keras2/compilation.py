"""Compilation of Keras 2 models: arguments of ``compile``, and what the first batch has resolved.

Keras resolves ``metrics=["accuracy"]`` at the first batch, when it sees shapes. A payload has no
batch, so it carries what was resolved.
"""

from __future__ import annotations

from typing import Any

from .._shared import compile_methods
from .configs import compiling, deserialize, serialize, serialized_metric
from .framework import keras
from .kinds import is_a, is_layer
from .rules import describes_itself, is_compiled_plainly, lost_by_compiling, overrides
from .tree import Tree, nodes


def compilation(tree: Tree) -> dict[str, Any] | None:
    """Return how an object, and models inside it, were compiled; None if nothing was."""
    specs = {
        path: {**_specification(node), **_switched_since(node, tree)}
        for path, node in tree.own.items()
        if getattr(node, "_is_compiled", False) and hasattr(node, "_compile_config")
    }
    for path, node in tree.own.items():
        if path not in specs and is_a(node, "model") and vars(node).get("optimizer") is not None:
            # Set by a custom training loop.
            specs[path] = {"optimizer": serialize(node.optimizer)}
    return specs or None


def compile_all(obj: Any, specs: dict[str, Any]) -> None:
    """Compile `obj`, and models inside it, as `compilation` found them.

    Raises
    ------
    PayloadError
        If a model that was compiled is not there.
    """
    with compiling(obj, Tree(obj)):
        for path, model, spec in compile_methods.compiled_models(specs, lambda: nodes(obj)):
            _compile(obj, model, spec, path)


def _compile(obj: Any, model: Any, spec: dict[str, Any], path: str) -> None:
    if "optimizer" in spec:
        model.optimizer = deserialize(spec["optimizer"])
        return
    arguments = deserialize(spec["config"])
    is_own = overrides(model, "compile")
    if spec["plainly"] or (is_own and not compile_methods.accepts(model.compile, arguments)):
        # What a user-defined compile() sets beyond that are attributes, carried as such.
        keras().Model.compile(model, **arguments)
    elif is_own:
        compile_methods.call(model.compile, path, **arguments)
    else:  # A class of Keras's may have a method of its own, too.
        model.compile(**arguments)
    parts = nodes(obj) if "trained" in spec else {}
    for name, trainable in spec.get("trained", {}).items():
        model._compiled_trainable_state[parts[name]] = trainable
    _restore_metrics(model.compiled_metrics, spec.get("metrics"))
    _restore_loss(model.compiled_loss, spec.get("loss"))


def _specification(model: Any) -> dict[str, Any]:
    # Private: the arguments as `compile` received them. What may have been set since is read from
    # the model, the live optimizer above all.
    arguments = {
        **model._compile_config.config,
        "optimizer": model.optimizer,
        "run_eagerly": model._run_eagerly,
        "jit_compile": model._jit_compile,
    }
    plainly = is_compiled_plainly(model)
    if plainly and describes_itself(model):
        compile_methods.warn_of_loss(model, lost_by_compiling(model))
    groups = {"metrics": model.compiled_metrics, "loss": model.compiled_loss}
    resolved = {
        name: _RESOLVED[name](group)
        for name, group in groups.items()
        if group is not None and group.built
    }
    return {"config": _serialized(arguments), "plainly": plainly, **resolved}


def _switched_since(model: Any, tree: Tree) -> dict[str, Any]:
    """Return the layers whose `trainable` was another one when `model` was compiled.

    It trains them as they were then, which adversarial networks rely on.
    """
    # Private: there is no public name for what fit() restores while it runs.
    compiled = getattr(model, "_compiled_trainable_state", None) or {}
    switched = {
        path: compiled[node]
        for path, node in tree.nodes.items()
        if is_layer(node) and node in compiled and compiled[node] != node.trainable
    }
    return {"trained": switched} if switched else {}


def _serialized(arguments: dict[str, Any]) -> Any:
    return {
        name: _by_leaf(value) if "metrics" in name else serialize(value)
        for name, value in arguments.items()
    }


def _by_leaf(metrics: Any) -> Any:
    """Return the config of a nest of metrics, with their own configs in place of numbers."""
    if isinstance(metrics, dict):
        return {key: _by_leaf(value) for key, value in metrics.items()}
    if isinstance(metrics, (list, tuple)):
        return [_by_leaf(value) for value in metrics]
    return serialized_metric(metrics)


def _made_of_metrics(group: Any) -> dict[str, Any]:
    # Private: what the first batch has made of the metrics, output by output.
    return {
        "names": list(group._output_names),
        "metrics": _by_leaf(group._metrics),
        "weighted": _by_leaf(group._weighted_metrics),
    }


def _made_of_loss(group: Any) -> dict[str, Any]:
    per_output = (metric and metric.name for metric in group._per_output_metrics)
    return {
        "names": list(group._output_names),
        "losses": [serialize(loss) for loss in group._losses],
        "weights": serialize(list(group._loss_weights), exactly=False),
        "per_output": list(per_output),
    }


_RESOLVED = {"metrics": _made_of_metrics, "loss": _made_of_loss}


def _restore_metrics(group: Any, resolved: dict[str, Any] | None) -> None:
    if resolved is None:
        return
    group._output_names = resolved["names"]
    group._metrics = deserialize(resolved["metrics"])
    group._weighted_metrics = deserialize(resolved["weighted"])
    group._create_ordered_metrics()
    group._built = True


def _restore_loss(group: Any, resolved: dict[str, Any] | None) -> None:
    if resolved is None:
        return
    group._output_names = resolved["names"]
    group._losses = [deserialize(loss) for loss in resolved["losses"]]
    for loss in group._losses:
        if loss is not None:
            loss._allow_sum_over_batch_size = True  # As the first batch does.
    group._loss_weights = deserialize(resolved["weights"])
    mean = keras().metrics.Mean
    group._per_output_metrics = [name and mean(name) for name in resolved["per_output"]]
    group._built = True
