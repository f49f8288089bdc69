"""Facts that a Keras 2 config leaves out: found in one object, restored in another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ... import identities
from ...core import array_backends
from ...weak_references import attach_within
from .._shared import facts
from .._shared.facts import Fact, Survey
from .._shared.tree import payloads_below
from . import leftovers
from .compilation import compile_all
from .configs import deserialize, make, serialize
from .framework import is_built_in, keras
from .kinds import is_a, is_layer
from .optimizers import optimizers_of, restore_optimizers, restore_undecayed, undecayed_of
from .patches import current
from .rules import describes_itself, has_identity, own_attributes
from .state import await_state
from .tree import Tree, generator_of, is_container, named_variables, nodes, own_variables

if TYPE_CHECKING:
    from ...custom_objects import Table


def structure(tree: Tree, table: Table) -> dict[str, Any]:
    """Return the facts that the config lacks and `construct` needs for the same variables."""
    survey = facts.Survey(tree, table, is_layer)
    for path, node in survey.layers.items():
        if not is_built_in(type(node)):
            leftovers.refuse_filled_tables(node, path)
    return facts.found_in(survey, FACTS, is_identified=has_identity(tree.root))


# --- facts ----------------------------------------------------------------------------------


def _build_configs(survey: Survey) -> list[tuple[str, Any]]:
    configs: list[tuple[str, Any]] = []
    for path, layer in survey.layers.items():
        if is_container(layer) or not layer.built or not describes_itself(layer):
            continue
        config = layer.get_build_config()
        if config is not None:
            configs.append((path, serialize({**config, **_mended_shape(layer)})))
    return configs


def _mended_shape(layer: Any) -> dict[str, Any]:
    """Return the shape that a layer was called with, where it remembers another.

    ``TimeDistributed.build`` takes note of that of one step.
    """
    called_with = layer._saved_model_inputs_spec
    if called_with is None or not isinstance(layer, keras().layers.TimeDistributed):
        return {}
    return {"input_shape": tuple(called_with.shape)}


def _variables_of(node: Any) -> list[Any]:
    return own_variables(node) if is_layer(node) else []


def _made_by(metric: Any) -> dict[str, Any]:
    """Return the variables and plain attributes of a metric that builds itself on its first data.

    MeanTensor, and AUC of several labels (private: each has a ``_build`` of its own). What a
    user-defined metric does is not known.
    """
    is_own = not is_built_in(type(metric))
    if not is_a(metric, "metric") or not describes_itself(metric):
        return {}
    if not is_own and not getattr(metric, "_built", False):
        return {}
    holders = {id(value): name for name, value in vars(metric).items()}
    return {
        "variables": [
            [holders.get(id(v)), list(v.shape), v.dtype.base_dtype.name, v.name.partition(":")[0]]
            for v in own_variables(metric)
        ],
        "attributes": {
            name: list(value) if hasattr(value, "as_list") else value
            for name, value in (own_attributes(metric) if is_own else vars(metric)).items()
            if (type(value) in (bool, int, float, str) if is_own else name in _LEARNT)
        },
    }


_LEARNT = ("_built", "_num_labels", "_shape")


def _make_in(metric: Any, created: Mapping[str, Any]) -> None:
    facts.make_in_metric(metric, created, own_variables(metric))


def _make_generator(layer: Any, _: Any) -> None:
    # Private: which kind of random numbers is the program's to choose, for all layers to come.
    holder = layer._random_generator
    holder._rng_type, holder._built = holder.RNG_STATEFUL, False
    holder._maybe_init()


FACTS: dict[str, Fact] = {
    "children": facts.CHILDREN,
    "apart": facts.APART,
    # Build configs of layers, by path.
    "built": Fact(_build_configs),
    "frozen": facts.FROZEN,
    "optimizers": Fact(lambda s: optimizers_of(s.parts, s.tree.variables, s.table)),
    "undecayed": Fact(lambda survey: undecayed_of(survey.parts, survey.tree.variables)),
    "aliases": Fact(lambda survey: facts.aliases(survey, _variables_of)),
    "metrics": Fact(facts.of_parts(_made_by), _make_in),
    # Layers that draw from a generator with a state (not by default).
    "generators": Fact(
        facts.layers_that(lambda layer: generator_of(layer) is not None), _make_generator
    ),
    # What TensorFlow calls the variables: a layer alone is not built within the scope of its model.
    "names": Fact(lambda s: [v.name.partition(":")[0] for v in s.tree.own_variables.values()]),
    "called": Fact(leftovers.names_in),
    "manners": Fact(
        facts.of_parts(leftovers.unlisted_attributes), leftovers.restore_unlisted_attributes
    ),
    "added": Fact(leftovers.metrics_in, leftovers.add_metrics),
    "losses": Fact(leftovers.losses_in),
    "seeds": Fact(leftovers.seeds_in, leftovers.restore_seed),
}


# --- rebuilding -----------------------------------------------------------------------------


def construct(
    architecture: dict[str, Any],
    structure: dict[str, Any],
    compilation: dict[str, Any] | None,
    objects: Sequence[Any],
) -> Any:
    """Return a new object with all its variables created, their values to be overwritten."""
    with _without_initializers():
        obj = make(architecture)
        for name, number in structure.get("tracked", {}).items():
            setattr(obj, name, objects[number])
            attach_within(obj, name)
        called = structure.get("called", {})
        _restore_attributes(leftovers.renamed(obj, called), structure)
        for path, config in structure.get("built", ()):
            # Looked up again each time, as building a layer may create others below it.
            _build(leftovers.renamed(obj, called).get(path), deserialize(config))
    parts, aliases = leftovers.renamed(obj, called), structure.get("aliases", {})
    _restore_attributes(parts, structure)
    for given, rebuilt in facts.made_again(parts, structure.get("children", {}), objects):
        source, target = Tree(given).variables, Tree(rebuilt).variables
        for name, variable in source.items():
            target[name].assign(variable)
            identities.replace(variable, target[name])
    by_path = Tree(obj).variables if aliases else {}
    facts.tie_variables(by_path, parts, aliases, own_variables, _replace)
    frozen = set(structure.get("frozen", ()))
    for path, node in parts.items():
        if is_layer(node):
            # Set without the property, which would pass it on to the layers below.
            node._trainable = path not in frozen
    facts.restore(FACTS, structure, parts, "generators")
    if compilation:
        compile_all(obj, compilation)
    parts = nodes(obj)
    optimizers = {path: node for path, node in parts.items() if is_a(node, "optimizer")}
    facts.restore(FACTS, structure, optimizers, "manners")
    leftovers.check_losses(parts, structure.get("losses", {}))
    facts.restore(FACTS, structure, parts, "metrics")
    by_path = Tree(obj).variables
    restore_undecayed(parts, structure.get("undecayed", {}), by_path)
    restore_optimizers(parts, structure.get("optimizers", {}), by_path, current.identities)
    tree = Tree(obj, payloads_below(structure))
    _drop_counters(tree, {path for path, *_ in structure["weights"]})
    _restore_names(tree, structure.get("names", ()))
    await_state(obj)
    return obj


def _restore_attributes(parts: Mapping[str, Any], structure: Mapping[str, Any]) -> None:
    layers = {path: node for path, node in parts.items() if is_layer(node)}
    facts.restore(FACTS, structure, layers, "manners", "added", "seeds")


@contextlib.contextmanager
def _without_initializers() -> Iterator[None]:
    """Let this thread's new variables begin with nothing: their values are about to come.

    Random initializers are slow, and would advance the program's random numbers.
    """
    import tensorflow as tf

    def create(next_creator: Any, **arguments: Any) -> Any:
        shape, dtype = tf.TensorShape(arguments.get("shape")), arguments.get("dtype")
        is_known = shape.is_fully_defined() and dtype is not None
        if callable(arguments.get("initial_value")) and is_known and tf.executing_eagerly():
            given = array_backends.placeholder(tuple(shape), tf.as_dtype(dtype).name)
            arguments["initial_value"] = arguments["initial_value"] if given is None else given
        return next_creator(**arguments)

    with tf.variable_creator_scope(create):
        yield


def _build(layer: Any, config: Any) -> None:
    import tensorflow as tf

    if layer is None or layer.built:
        return
    # Private: the scope in which Keras builds a layer that is called.
    with tf.name_scope(layer._name_scope()):
        layer.build_from_config(_acceptable(layer, config))
    layer.built = True
    if "input_shape" in config:
        layer._build_input_shape = config["input_shape"]  # As a call of the layer does.


def _acceptable(layer: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Return a build config that Keras takes: a model wants shapes of several inputs in a list."""
    shapes = config.get("input_shape")
    if not is_a(layer, "model") or not isinstance(shapes, tuple):
        return config
    is_one = all(size is None or isinstance(size, int) for size in shapes)
    return config if is_one else {**config, "input_shape": list(shapes)}


def _replace(layer: Any, old: Any, new: Any) -> None:
    # Private: Keras has no way to put another variable in the place of one.
    for stored in (layer._trainable_weights, layer._non_trainable_weights):
        stored[:] = [new if variable is old else variable for variable in stored]
    for name, value in list(vars(layer).items()):
        if value is old:
            vars(layer)[name] = new


def _drop_counters(tree: Tree, carried: set[str]) -> None:
    """Take the counters off models that had none: Keras makes none within a traced function."""
    for path, node in tree.own.items():
        for name, variable in named_variables(node) if is_a(node, "model") else ():
            full = f"{path}/{name}" if path else name
            if name.startswith("counter/") and full not in carried:
                for attribute, value in list(vars(node).items()):
                    if value is variable:
                        del vars(node)[attribute]


def _restore_names(tree: Tree, names: Sequence[str]) -> None:
    for variable, name in zip(tree.own_variables.values(), names, strict=False):
        if hasattr(variable, "_handle_name") and variable._handle_name.partition(":")[0] != name:
            variable._handle_name = f"{name}:0"  # Private: the public name is read-only.
