"""Compilation of models: arguments of ``compile``, and metrics and losses resolved since.

Keras resolves ``metrics=["accuracy"]`` at the first batch, when it sees shapes. A payload has no
batch, so it carries what was resolved.
"""

from __future__ import annotations

from typing import Any

from ...core.payload import PLAIN
from .._shared import compile_methods
from .attributes import decoder
from .patches import current
from .reading import deserialize
from .rules import describes_itself, is_compiled_plainly, lost_by_compiling, overrides
from .tree import Tree, nodes
from .writing import serialize


def compilation(tree: Tree) -> dict[str, Any] | None:
    """Return how an object, and models inside it, were compiled; None if nothing was."""
    specs = {
        path: _specification(node)
        for path, node in tree.own.items()
        if getattr(node, "compiled", False) and hasattr(node, "get_compile_config")
    }
    return specs or None


def compile_all(obj: Any, specs: dict[str, Any], written_on: str = "") -> None:
    """Compile `obj`, and models inside it, as `compilation` found them on the backend `written_on`.

    Raises
    ------
    PayloadError
        If a model that was compiled is not there or refuses.
    """
    models = compile_methods.compiled_models(specs, lambda: nodes(obj))
    with current.reading.compiling(obj, Tree(obj)):
        for path, model, spec in models:
            _compile_as(model, spec, path, written_on)


def _compile_as(model: Any, spec: dict[str, Any], path: str, written_on: str) -> None:
    config = spec["config"]
    if isinstance(config, dict) and _is_what_auto_means(config.get("jit_compile"), written_on):
        config = {**config, "jit_compile": "auto"}
    _compile(model, config, path, plainly=spec.get("plainly", False))
    if "recorded" in spec:
        _restore_record(model, spec["recorded"])
    if "unrolled" in spec:
        model.unrolled_steps_per_execution = spec["unrolled"]
    if spec.get("metrics") is not None:
        _restore_metrics(model._compile_metrics, spec["metrics"])
    if spec.get("loss") is not None:
        _restore_loss(model._compile_loss, spec["loss"])


def _is_what_auto_means(jit_compile: Any, backend: str) -> bool:
    """Return whether `jit_compile` is the value that "auto" has on another `backend`.

    Where XLA compiles, that costs little; Torch's compiler is another matter.
    """
    import keras

    if backend in ("", keras.backend.backend()):
        return False
    return jit_compile is (backend != "torch")


def _specification(model: Any) -> dict[str, Any]:
    plainly, recorded = False, None
    has_own_way = overrides(model, "compile_from_config") or not overrides(model, "compile")
    if overrides(model, "get_compile_config") and has_own_way:
        config = model.get_compile_config()
    else:
        # Private: the arguments as `compile` received them. What may have been set since is read
        # from the model, the live optimizer above all.
        arguments = {
            **model._compile_config.config,
            "optimizer": model.optimizer,
            "run_eagerly": model.run_eagerly,
            "steps_per_execution": model.steps_per_execution,
            "jit_compile": model.jit_compile,
            **_kept_by_keras(model),
        }
        plainly = is_compiled_plainly(model)
        if plainly and describes_itself(model):
            compile_methods.warn_of_loss(model, lost_by_compiling(model))
        config = serialize(arguments)
        recorded = _record(model, arguments)
    spec: dict[str, Any] = {"config": config, "plainly": plainly}
    if recorded:
        spec["recorded"] = recorded
    if getattr(model, "unrolled_steps_per_execution", 1) != 1:
        spec["unrolled"] = model.unrolled_steps_per_execution
    metrics, loss = model._compile_metrics, model._compile_loss
    if metrics is not None and metrics.built:
        spec["metrics"] = {
            # Keras 3.14.0, between two that have it, keeps what was given only.
            "output_names": getattr(metrics, "_resolved_output_names", metrics.output_names),
            "flat": [_metrics_list(item) for item in metrics._flat_metrics],
            "weighted": [_metrics_list(item) for item in metrics._flat_weighted_metrics],
        }
    if loss is not None and loss.built:
        spec["loss"] = {
            "flat": [
                [list(path), serialize(function), weight, name]
                for path, function, weight, name in loss._flat_losses
            ],
            "y_pred": _skeleton(loss._y_pred_build_structure),
            "y_true": _skeleton(loss._y_true_build_structure),
        }
    return spec


def _kept_by_keras(model: Any) -> dict[str, Any]:
    """Return the arguments of an earlier ``compile`` that a later one, without them, has kept."""
    given, kept = model._compile_config.config, {}
    if hasattr(model, "_student_loss_for_serialization"):
        # Distiller keeps from Keras what it was given, and from the public what it has made of it.
        return {"loss": model._student_loss_for_serialization}
    if given.get("loss") is None and model._compile_loss is not None:
        kept["loss"] = model._compile_loss._user_loss
        kept["loss_weights"] = model._compile_loss._user_loss_weights
    without_metrics = given.get("metrics") is given.get("weighted_metrics") is None
    if without_metrics and model._compile_metrics is not None:
        kept["metrics"] = model._compile_metrics._user_metrics
        kept["weighted_metrics"] = model._compile_metrics._user_weighted_metrics
    return kept


def _record(model: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of get_compile_config() that differ from the `arguments` for ``compile``.

    Keras notes the arguments as they were given: an optimizer before it was wrapped to scale the
    loss, and what has been set on the model since.
    """
    differing = {}
    for name, given in model._compile_config.config.items():
        used = arguments.get(name)
        if given is used or (type(given) in PLAIN and (type(given), given) == (type(used), used)):
            continue
        is_inside = name == "optimizer" and given is getattr(used, "inner_optimizer", None)
        differing[name] = {"inner_optimizer": True} if is_inside else {"given": serialize(given)}
    return differing


def _restore_record(model: Any, recorded: dict[str, Any]) -> None:
    noted = model._compile_config.config
    for name, spec in recorded.items():
        is_inside = "inner_optimizer" in spec
        noted[name] = model.optimizer.inner_optimizer if is_inside else deserialize(spec["given"])


def _compile(model: Any, config: dict[str, Any], path: str, *, plainly: bool) -> None:
    import keras

    if overrides(model, "compile_from_config"):
        compile_methods.call(model.compile_from_config, path, config)
        return
    arguments = deserialize(config)
    is_own = overrides(model, "compile")
    if plainly or (is_own and not compile_methods.accepts(model.compile, arguments)):
        # What a user-defined compile() sets beyond that are attributes, which are carried as such.
        # The optimizer that was carried is wrapped already, if it ever was.
        keras.Model.compile(model, **arguments, auto_scale_loss=False)
    elif is_own:
        compile_methods.call(model.compile, path, **arguments)
    else:  # A class of Keras's may have a method of its own, too.
        model.compile(**arguments, auto_scale_loss=False)


def _metrics_list(item: Any) -> Any:
    if item is None:
        return None
    return {"output": item.output_name, "metrics": [serialize(m) for m in item.metrics]}


def _restore_metrics(group: Any, spec: dict[str, Any]) -> None:
    # Private: the container that CompileMetrics.build makes of the metrics of one output.
    from keras.src.trainers.compile_utils import MetricsList

    def restored(items: list[Any]) -> list[Any]:
        return [
            item
            and MetricsList([deserialize(m) for m in item["metrics"]], output_name=item["output"])
            for item in items
        ]

    group._flat_metrics = restored(spec["flat"])
    group._flat_weighted_metrics = restored(spec["weighted"])
    group._resolved_output_names = spec["output_names"]
    group.built = True


def _restore_loss(group: Any, spec: dict[str, Any]) -> None:
    import keras

    group._flat_losses = [
        type(group).Loss(tuple(path), deserialize(fn), weight, name)
        for path, fn, weight, name in spec["flat"]
    ]
    if len(group._flat_losses) > 1:
        # As CompileLoss.build does: one running mean for each output's loss.
        for _, _, _, name in group._flat_losses:
            group._tracker.add_to_store("metrics", keras.metrics.Mean(name=f"{name}_loss"))
    decode = decoder(None, (), deserialize, ())
    group._y_pred_build_structure = decode(spec["y_pred"])
    group._y_true_build_structure = decode(spec["y_true"])
    group.built = True


def _skeleton(structure: Any) -> Any:
    """Write a nesting of lists, tuples and dicts around None so that JSON keeps the types."""
    if isinstance(structure, dict):
        return {"dict": [[key, _skeleton(value)] for key, value in structure.items()]}
    if isinstance(structure, (list, tuple)):
        name = "tuple" if isinstance(structure, tuple) else "list"
        return {name: [_skeleton(value) for value in structure]}
    return None
