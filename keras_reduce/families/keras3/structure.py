"""Facts that a Keras 3 config leaves out: found in one object, restored in another."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ... import identities
from ...core import weights
from ...core.array_backends import dtype_name
from ...core.payload import PLAIN
from ...errors import ReduceError
from ...weak_references import attach_within
from .._shared import facts, tree
from .._shared.facts import Fact, Survey
from .assets import assets, restore_assets
from .attributes import decoder, encoder
from .compilation import compile_all
from .kinds import as_module, is_a, is_built_in, is_module
from .layouts import rename
from .making import replace, tie
from .optimizers import exclusions_of, optimizers_of, restore_optimizers
from .order import order_of, restore_order
from .part_states import (
    part_states,
    restore_links,
    restore_part_attributes,
    restore_part_states,
    transfer_part_states,
    unlocked,
)
from .patches import current
from .reading import deserialize, make
from .rules import describes_itself, has_identity, overrides
from .seeds import global_seed, restore_global_seed
from .settings import restore_settings, settings
from .tree import Tree, is_container, is_functional, is_optimizer, nodes, own_variables, variables
from .writing import is_lambda_layer, is_policy_map, serialize, ties_of

if TYPE_CHECKING:
    from ...custom_objects import Table


def _refuse_what_fails_when_called(model: Any) -> None:
    """Refuse layers that Keras can't call: a functional model is rebuilt by calling its layers.

    Keras has no forward pass for LoRA in float8. A layer that says what shape it returns is not
    called for that.
    """
    for position, child in enumerate(model.layers):
        for layer in child._flatten_layers():
            is_called = not is_built_in(type(layer)) and not overrides(
                layer, "compute_output_shape"
            )
            if is_called and any(map(_is_lora_in_float8, layer._flatten_layers())):
                raise ReduceError(
                    f"A {type(layer).__qualname__} with LoRA in float8 can't be carried in a "
                    "functional model",
                    where=f".layers[{position}]",
                    cause="a functional model is rebuilt by calling its layers, and Keras can't "
                    "call a layer with LoRA that was quantized to float8",
                    cure="quantize it in another mode, such as int8; or define "
                    f"compute_output_shape() on {type(layer).__qualname__}",
                )


def _is_lora_in_float8(layer: Any) -> bool:
    is_lora = getattr(layer, "lora_enabled", False)
    return bool(is_lora and getattr(layer, "quantization_mode", None) == "float8")


def structure(tree: Tree, table: Table) -> dict[str, Any]:
    """Return the facts that the config lacks and `construct` needs for the same variables."""
    if is_functional(tree.root):
        _refuse_what_fails_when_called(tree.root)
    survey = facts.Survey(tree, table, lambda node: is_a(node, "layer"))
    return facts.found_in(survey, FACTS, is_identified=has_identity(tree.root))


# --- facts ----------------------------------------------------------------------------------


def _build_configs(survey: Survey) -> list[tuple[str, Any]]:
    """Return build configs of layers that a custom class holds, by path."""
    custom: list[str] = []
    configs: list[tuple[str, Any]] = []
    for path, layer in survey.layers.items():
        if any(path.startswith(prefix) for prefix in custom):
            config = layer.get_build_config() if layer.built else None
            configs += [] if config is None else [(path, serialize(config))]
        if not is_container(layer) and not is_built_in(type(layer)):
            custom.append(f"{path}/" if path else "")
    return configs


def _names_of_layers(survey: Survey) -> dict[str, list[str]]:
    """Return the names of the layers of models that a constructor makes, by the model's path."""
    return {
        path: [layer.name for layer in node.layers]
        for path, node in survey.parts.items()
        if is_container(node) and (path or not is_built_in(type(node)))
    }


def _odd_flags(survey: Survey) -> dict[str, bool]:
    """Return the ``trainable`` of variables that differ from their layer."""
    flags: dict[str, bool] = {}
    for layer in survey.all_layers.values():
        stored = {id(variable) for variable in layer._trainable_variables}
        for variable in own_variables(layer):
            usual = id(variable) in stored and layer._trainable
            if id(variable) in survey.paths and bool(variable.trainable) != usual:
                flags[survey.paths[id(variable)]] = bool(variable.trainable)
    return flags


def _variables_of(node: Any) -> list[Any]:
    return [] if is_optimizer(node) else own_variables(node)


def _made_by_metric(metric: Any) -> dict[str, Any]:
    """Return the variables and plain attributes of a metric that built itself on its first data.

    R2Score, FBetaScore, AUC of several labels (private: each has a ``_build`` of its own).
    """
    is_built = is_a(metric, "metric") and getattr(metric, "_built", False)
    if not is_built or not describes_itself(metric):
        return {}
    holders = {id(value): name for name, value in vars(metric).items()}
    config = metric.get_config()
    return {
        "variables": [
            [holders.get(id(v)), list(v.shape), dtype_name(v), v.name]
            for v in own_variables(metric)
        ],
        "attributes": {
            name: value
            for name, value in vars(metric).items()
            if name == "_built" or (type(value) in (int, float) and name not in config)
        },
    }


def _make_in(metric: Any, created: Mapping[str, Any]) -> None:
    facts.make_in_metric(metric, created, own_variables(metric))


def _settings(survey: Survey) -> dict[str, Any]:
    by_path = {}
    for path, layer in survey.layers.items():
        above = path.rpartition("/")[0]
        while above and above not in survey.tree.nodes:
            above = above.rpartition("/")[0]
        owner_name = getattr(survey.tree.nodes[above], "name", "")
        encode = functools.partial(_encoded, layer, survey.table)
        changed = settings(layer, encode, is_root=not path, owner_name=owner_name)
        by_path.update({path: changed} if changed else {})
    return by_path


def _encoded(layer: Any, table: Table, value: Any, path: str) -> Any:
    # Made when it is needed, as it looks at all variables of the layer.
    return value if type(value) in PLAIN else encoder(layer, serialize, table)(value, path)


def _restore_settings(layer: Any, changed: Mapping[str, Any]) -> None:
    layer_variables = own_variables(layer)
    restore_settings(
        layer, changed, decoder(layer, layer_variables, deserialize, current.reading.objects)
    )


def _orders(survey: Survey) -> dict[str, Any]:
    return {
        path: names
        for path in sorted(survey.table.extended & survey.layers.keys())
        if (names := order_of(survey.layers[path]))
    }


def _drawn_seeds(node: Any) -> dict[str, int]:
    """Return the seeds that the initializers of a layer that is yet to be built have drawn."""
    to_be_used = is_a(node, "initializer") or (is_a(node, "layer") and not node.built)
    return {name: value.seed for name, value in _initializers(node)} if to_be_used else {}


def _restore_seeds(node: Any, drawn: Mapping[str, int]) -> None:
    for name, initializer in _initializers(node):
        initializer.seed = drawn.get(name, initializer.seed)


def _initializers(layer: Any) -> list[tuple[str, Any]]:
    """Return the initializers of a layer that have drawn a seed, as none was given.

    An initializer alone is its own.
    """
    attributes = {"": layer} if is_a(layer, "initializer") else vars(layer)
    return [
        (name, value)
        for name, value in attributes.items()
        if is_a(value, "initializer")
        and isinstance(getattr(value, "seed", None), int)
        and value.get_config().get("seed", 0) is None
    ]


def _paths_in_keras(survey: Survey) -> list[str]:
    """Return Keras's paths of the variables: a layer alone is not built in its model's scope."""
    return [str(getattr(variable, "path", "")) for variable in survey.tree.own_variables.values()]


def _odd_rules(survey: Survey) -> dict[str, list[Any]]:
    """Return regularizer and constraint of variables that have others than their layer."""
    by_path: dict[str, list[Any]] = {}
    for node in survey.layers.values():
        of_layer = {id(value) for value in list(vars(node).values())} | {id(None)}
        for variable in own_variables(node):
            rules = [variable.regularizer, variable.constraint]
            if not {id(rule) for rule in rules} <= of_layer and describes_itself(node):
                by_path[survey.paths[id(variable)]] = [serialize(rule) for rule in rules]
    return by_path


def _restore_rules(variable: Any, rules: list[Any]) -> None:
    variable.regularizer, variable.constraint = map(deserialize, rules)


def _paths_of_layers(survey: Survey) -> dict[str, list[str | None]]:
    """Return Keras's paths of the parents of layers, and of these, if dtype policies go by them."""
    if not any(is_policy_map(layer.dtype_policy) for layer in survey.all_layers.values()):
        return {}
    return {path: [layer._parent_path, layer._path] for path, layer in survey.all_layers.items()}


def _restore_path(layer: Any, in_keras: list[str | None]) -> None:
    layer._parent_path, layer._path = in_keras  # Private.


def _is_unadapted(layer: Any) -> bool:
    import keras

    return isinstance(layer, keras.utils.FeatureSpace) and not layer._is_adapted


def _is_built_alone(layer: Any) -> bool:
    return layer.built and is_built_in(type(layer)) and not layer.variables


def _giving(name: str, value: Any = None) -> Callable[[Any, Any], None]:
    """Return a function that sets an attribute to `value`, or to the fact in the payload."""
    return lambda part, fact: setattr(part, name, fact if value is None else value)


FACTS: dict[str, Fact] = {
    "children": facts.CHILDREN,
    "apart": facts.APART,
    "built": Fact(_build_configs),
    "called": Fact(_names_of_layers),
    "frozen": facts.FROZEN,
    "flags": Fact(_odd_flags),
    "optimizers": Fact(lambda survey: optimizers_of(survey.tree, survey.paths, survey.table)),
    "undecayed": Fact(lambda survey: exclusions_of(survey.tree)),
    "aliases": Fact(lambda survey: facts.aliases(survey, _variables_of)),
    # Layers that a constructor makes and other parts hold as well, by path.
    "ties": Fact(lambda survey: ties_of(survey.table)),
    "metrics": Fact(facts.of_parts(_made_by_metric), _make_in),
    "parts": Fact(lambda survey: part_states(survey.tree, survey.table)),
    "settings": Fact(_settings, _restore_settings),
    # Of variables and parts where a program has set some.
    "order": Fact(_orders, restore_order),
    # Attributes that hold parts which a constructor made, by ``path:attribute``.
    "links": Fact(lambda survey: survey.table.links),
    "seeds": Fact(facts.of_parts(_drawn_seeds), _restore_seeds),
    "global_seed": Fact(lambda survey: global_seed(survey.table.code)),
    "paths": Fact(_paths_in_keras),
    # Layers that, as modules of Torch, were last switched to evaluation; of those that are built,
    # the ones that don't list their variables as parameters of the module.
    "evaluating": Fact(facts.layers_that(lambda layer: not as_module(layer)[0])),
    "unlisted": Fact(facts.layers_that(lambda layer: not as_module(layer)[1])),
    "rules": Fact(_odd_rules, _restore_rules),
    # Variables that an optimizer overwrites with their gradient.
    "overwritten": Fact(
        lambda survey: [
            path
            for path, variable in survey.tree.own_variables.items()
            if getattr(variable, "overwrite_with_gradient", False)
        ],
        _giving("overwrite_with_gradient"),
    ),
    # Layers that are built without variables.
    "built_alone": Fact(
        facts.layers_that(_is_built_alone),
        lambda layer, _: None if layer.built else setattr(layer, "built", True),
    ),
    "layer_paths": Fact(_paths_of_layers, _restore_path),
    # Feature spaces that are yet to be adapted. Private: build_from_config() says that they are.
    "unadapted": Fact(facts.layers_that(_is_unadapted), _giving("_is_adapted", value=False)),
    # Of files written before there were states of parts: building forgets the scaling of LoRA.
    "lora": Fact(lambda survey: None, _giving("lora_alpha")),
}


# --- rebuilding -----------------------------------------------------------------------------


def construct(
    architecture: dict[str, Any],
    structure: dict[str, Any],
    compilation: dict[str, Any] | None,
    objects: Sequence[Any],
) -> Any:
    """Return a new object with all its variables created, their values to be overwritten."""
    tracked, called = structure.get("tracked", {}), structure.get("called", {})
    with _name_scope(structure):
        obj = make(architecture)
        for name, number in tracked.items():
            if ":" not in name:
                with unlocked(obj):
                    setattr(obj, name, objects[number])
                attach_within(obj, name)
        _name_layers(obj, called)
        _build_parts(obj, structure.get("built", ()))
    _name_layers(obj, called)  # Of what has been made by building.
    tie(obj, structure.get("ties", {}))
    tree = Tree(obj)
    restore_part_states(tree.nodes, structure.get("parts", {}), objects)
    if restore_part_attributes(tree.nodes, tracked, objects):
        tree = Tree(obj)
    parts, aliases = tree.nodes, structure.get("aliases", {})
    restore_links(parts, structure.get("links", {}))
    facts.restore(FACTS, structure, parts, "settings", "order")
    is_changed = _adopt(parts, structure.get("children", {}), objects)
    by_path = Tree(obj).variables if aliases else {}
    facts.tie_variables(by_path, parts, aliases, own_variables, replace)
    _mend_lambda_masks(parts)
    _set_flags(obj, parts, structure)
    facts.restore(
        FACTS, structure, parts, "lora", "seeds", "layer_paths", "unadapted", "built_alone"
    )
    # To walk through a tree takes long: once is enough for most layers.
    if is_changed or not structure.keys().isdisjoint(("parts", "links", "aliases")):
        tree = Tree(obj)
    tree = tree.with_children(payloads_below(structure))
    _restore_paths(tree, structure)
    facts.restore(FACTS, structure, tree.variables, "rules", "overwritten")
    if compilation:
        compile_all(obj, compilation, structure.get("versions", {}).get("backend", ""))
        restore_links(nodes(obj), structure.get("links", {}))  # To what compiling has made.
    if "metrics" in structure:
        facts.restore(FACTS, structure, nodes(obj), "metrics")
    restore_optimizers(
        obj,
        structure.get("optimizers", {}),
        structure.get("undecayed", {}),
        current.reading.identities,
    )
    if current.reading.reused:
        whole = Tree(obj, payloads_below(structure))
        current.reading.filled = _filled_elsewhere(whole, structure)
    has_more = not structure.keys().isdisjoint(("metrics", "optimizers"))
    if compilation or has_more or current.reading.filled:
        tree = Tree(obj, payloads_below(structure))
        _restore_paths(tree, structure)
    _restore_modules(tree.own, structure)
    restore_global_seed(structure.get("global_seed"))
    return obj


def _name_scope(structure: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """Return the scope in which Keras has built the original, if anything goes by it."""
    import keras

    outer, _ = structure.get("layer_paths", {}).get("", (None, None))
    if not outer:
        return contextlib.nullcontext()
    above, _, name = outer.rpartition("/")
    scope: AbstractContextManager[Any] = keras.name_scope(name, override_parent=above)
    return scope


def _restore_paths(tree: Tree, structure: Mapping[str, Any]) -> None:
    """Give variables the names by which regular expressions of optimizers know them."""
    paths = structure.get("paths", ())
    names = [name for name, *_ in structure["weights"]]
    for name, path in zip(names, paths, strict=False):
        if name in tree.own_variables:
            rename(tree.own_variables[name], path)


def _adopt(parts: Mapping[str, Any], children: Mapping[str, int], objects: Sequence[Any]) -> bool:
    """Give parts that a constructor made what the payloads of their originals hold; tell if any."""
    import keras

    adopted = False
    for given, rebuilt in facts.made_again(parts, children, objects):
        adopted = True
        transfer_part_states(Tree(given), Tree(rebuilt))
        source, target = Tree(given), Tree(rebuilt)
        restore_assets(target, assets(source))
        weights.transfer(source.variables, target.variables, keras.backend.backend())
        for name, variable in source.variables.items():
            rename(target.variables[name], variable.path)
            identities.replace(variable, target.variables[name])
    return adopted


def _set_flags(obj: Any, parts: Mapping[str, Any], structure: Mapping[str, Any]) -> None:
    frozen = set(structure.get("frozen", ()))
    for path, node in parts.items():
        if is_a(node, "layer"):
            # Set without the property, which would pass it on to the layers below.
            node._trainable = path not in frozen
            for variable in node._trainable_variables:
                variable.trainable = path not in frozen
    if structure.get("flags"):
        by_path = variables(obj)
        for path, flag in structure["flags"].items():
            if path in by_path:
                by_path[path].trainable = flag


def _filled_elsewhere(tree: Tree, structure: Mapping[str, Any]) -> list[Any]:
    """Return the parts that another payload has filled, whose variables this one lists otherwise.

    That is so for an optimizer of two models, of which one was quantized: only the payload of that
    one leaves out the slots of the replaced kernels.
    """
    written = [path for path, *_ in structure["weights"]]
    return [
        node
        for path, node in tree.own.items()
        if id(node) in current.reading.reused
        and set(_below(path, written)) != set(_below(path, tree.own_variables))
    ]


def _below(path: str, paths: Iterable[str]) -> list[str]:
    return [each for each in paths if each.startswith(f"{path}/")]


def payloads_below(structure: Mapping[str, Any]) -> list[Any]:
    """Return the parts that another payload fills: their paths, or, once known, themselves."""
    return [*tree.payloads_below(structure), *current.reading.filled]


def unfilled(tree: Tree, values: dict[str, Any]) -> dict[str, Any]:
    """Return `values`, by path, without those for parts that another payload has filled."""
    filled = set(map(id, current.reading.filled))
    paths = [path for path, node in tree.children.items() if id(node) in filled]
    left_out = {name for path in paths for name in _below(path, values)}
    return {name: value for name, value in values.items() if name not in left_out}


def _restore_modules(parts: Mapping[str, Any], structure: Mapping[str, Any]) -> None:
    """Bring what makes layers modules of Torch up to date."""
    modules = {path: node for path, node in parts.items() if is_module(node)}
    for path in structure.get("evaluating", ()):
        if path in modules:
            vars(modules[path])["training"] = False
    for path, node in modules.items():
        # Private: Keras does so at the end of build(), under the names that variables then have.
        if path in structure.get("unlisted", ()):
            vars(node)["_modules"].pop("_torch_params", None)
        elif node.built:
            node._track_variables()


def _name_layers(obj: Any, called: Mapping[str, list[str]]) -> None:
    """Give layers that a constructor made the names of their originals, which paths go by.

    Automatic names count what the process has made.
    """
    import keras

    for path, names in called.items():
        model = nodes(obj).get(path)
        if model is None or not is_container(model) or len(model.layers) != len(names):
            continue
        new_names = dict(zip([layer.name for layer in model.layers], names, strict=True))
        for layer, name in zip(model.layers, names, strict=True):
            if isinstance(layer, keras.layers.InputLayer):
                layer.output.name = name  # By which a model knows what it is given.
            layer.name = name
        # Private: a sequential model that knows its inputs has a functional one within.
        for each in filter(None, (model, getattr(model, "_functional", None))):
            if hasattr(each, "output_names"):
                each.output_names = [new_names.get(name, name) for name in each.output_names]


def _build_parts(obj: Any, built: Any) -> None:
    by_path, is_current = nodes(obj), True
    for path, build_config in built:
        if path not in by_path and not is_current:
            by_path, is_current = nodes(obj), True
        node = by_path.get(path)
        if node is not None and not node.built:
            before = _ids_below(node)
            node.build_from_config(build_config)
            node.built = True
            is_current = False
            # Building a layer may create others below it. To walk over the whole model after each
            # layer would take minutes for thousands of them.
            if _ids_below(node) != before:
                by_path, is_current = nodes(obj), True


def _ids_below(node: Any) -> dict[str, int]:
    return {path: id(part) for path, part in nodes(node).items()}


def _mend_lambda_masks(parts: Mapping[str, Any]) -> None:
    # Lambda.from_config leaves a mask function in its serialized form (Keras 3.15).
    for node in parts.values():
        if is_lambda_layer(node) and isinstance(node.mask, dict) and "class_name" in node.mask:
            node.mask = deserialize(node.mask)
