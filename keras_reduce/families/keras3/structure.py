"""What a config leaves out and an object like the original needs: a list of small things."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ... import identities
from ...core import weights
from ...core.array_backends import dtype_name
from ...errors import PayloadError, ReduceError
from ...weak_references import attach_within
from .._shared import tree
from .assets import assets, restore_assets
from .attributes import PLAIN, decoder, describes_itself, encoder, overrides
from .compilation import compile_all
from .kinds import as_module, has_identity, is_a, is_built_in, is_module
from .making import tie
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
    """Return what the config leaves out and `construct` needs to create the same variables.

    Parameters
    ----------
    tree : Tree
        The object, and its children.
    table : Table
        The user's code in it, and what is left to the pickler.

    Returns
    -------
    dict
        ``children``: numbers of the parts that have payloads of their own, by path; ``apart``:
        paths of such parts within attributes that the user has set; ``built``:
        build configs of layers that a custom class holds, by path; ``called``: names of the layers
        of models that a constructor makes, by the model's path; ``frozen``: paths of layers
        that are not trainable; ``flags``: the ``trainable`` of variables that differ from their
        layer; ``optimizers``: the variables that each optimizer was built for, by path, or, where
        they are not part of the object, as shape, dtype and path in Keras; ``undecayed``: which of
        them are excluded from weight decay; ``aliases``: variables that a second layer holds as
        well; ``metrics``: what metrics have made since they saw data; ``parts``: see
        `part_states`; ``links``: attributes that hold parts which a constructor made, by
        ``path:attribute``; ``seeds``: what the initializers of layers that are yet to be built
        have drawn; ``global_seed``: see `seeds`; ``paths``: what
        Keras calls the variables, as a layer alone is not built within the scope of its model;
        ``built_alone``: paths of layers that are built without variables; ``rules``: regularizer
        and constraint of variables that have others than their layer; ``overwritten``: variables
        that an optimizer overwrites with their gradient; ``ties``: layers that a constructor
        makes and other parts hold as well, by path; ``evaluating``: paths of layers that, as
        modules of Torch, were last switched to evaluation; ``unlisted``: of those that are built,
        but don't list their variables as parameters of the module; ``unadapted``: paths of
        feature spaces that are yet to be adapted, of which Keras's own loading says that they are;
        ``layer_paths``: what Keras calls the parents of layers, and these, where a map of dtype
        policies goes by it; ``settings``: see `settings`; ``order``: of variables and parts where a
        program has set some, see `order`.
    """
    if is_functional(tree.root):
        _refuse_what_fails_when_called(tree.root)
    parts = tree.own
    paths = {id(variable): path for path, variable in tree.variables.items()}
    numbers = {id(value): number for number, value in enumerate(table.objects)}
    layers = {path: node for path, node in parts.items() if is_a(node, "layer")}
    # Flags of the children as well: what a constructor here sets would pass on to them.
    all_layers = {path: node for path, node in tree.nodes.items() if is_a(node, "layer")}
    found: dict[str, Any] = {
        "children": {
            path: numbers[id(child)]
            for path, child in tree.children.items()
            if id(child) in numbers
        },
        "apart": [path for path, child in tree.children.items() if id(child) not in numbers],
        "built": _build_configs(layers),
        "called": {
            path: [layer.name for layer in node.layers]
            for path, node in parts.items()
            if is_container(node) and (path or not is_built_in(type(node)))
        },
        "frozen": [path for path, layer in all_layers.items() if not layer._trainable],
        "flags": _odd_flags(all_layers, paths),
        "optimizers": optimizers_of(tree, paths, table),
        "undecayed": exclusions_of(tree),
        "aliases": _aliases(tree.nodes, paths),
        "ties": ties_of(table),
        "metrics": {
            path: _made_by_metric(node)
            for path, node in parts.items()
            if is_a(node, "metric") and getattr(node, "_built", False) and describes_itself(node)
        },
        "parts": part_states(tree, table),
        "settings": {
            path: changed
            for path, layer in layers.items()
            if (changed := _settings(path, layer, tree, table))
        },
        "order": {
            path: names
            for path in sorted(table.extended & layers.keys())
            if (names := order_of(layers[path]))
        },
        "links": table.links,
        "seeds": {path: seeds for path, node in parts.items() if (seeds := _drawn_seeds(node))},
        "global_seed": global_seed(table.code),
        "paths": _keras_paths(tree),
        "evaluating": [path for path, layer in layers.items() if not as_module(layer)[0]],
        "unlisted": [path for path, layer in layers.items() if not as_module(layer)[1]],
        "rules": _odd_rules(parts, paths),
        "overwritten": [
            path
            for path, variable in tree.own_variables.items()
            if getattr(variable, "overwrite_with_gradient", False)
        ],
        "built_alone": [
            path
            for path, layer in layers.items()
            if layer.built and is_built_in(type(layer)) and not layer.variables
        ],
        "layer_paths": _paths_in_keras(all_layers),
        "unadapted": [path for path, node in layers.items() if _is_unadapted(node)],
    }
    if has_identity(tree.root):
        found["identity"] = table.identity(tree.root)
    return {name: value for name, value in found.items() if value or name == "identity"}


def _encoder(layer: Any, table: Table) -> Callable[[Any, str], Any]:
    def encode(value: Any, path: str) -> Any:
        # Made when it is needed, as it looks at all variables of the layer.
        return value if type(value) in PLAIN else encoder(layer, serialize, table)(value, path)

    return encode


def _restore_settings(
    parts: Mapping[str, Any], structure: Mapping[str, Any], objects: Sequence[Any]
) -> None:
    for path, found in structure.get("settings", {}).items():
        if path in parts:
            decode = decoder(parts[path], own_variables(parts[path]), deserialize, objects)
            restore_settings(parts[path], found, decode)
    for path, found in structure.get("order", {}).items():
        if path in parts:
            restore_order(parts[path], found)


def _paths_in_keras(layers: Mapping[str, Any]) -> dict[str, list[str | None]]:
    if not any(is_policy_map(layer.dtype_policy) for layer in layers.values()):
        return {}
    return {path: [layer._parent_path, layer._path] for path, layer in layers.items()}


def _name_scope(structure: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """Return the scope in which Keras has built the original, if anything goes by it."""
    import keras

    outer, _ = structure.get("layer_paths", {}).get("", (None, None))
    if not outer:
        return contextlib.nullcontext()
    above, _, name = outer.rpartition("/")
    scope: AbstractContextManager[Any] = keras.name_scope(name, override_parent=above)
    return scope


def _is_unadapted(layer: Any) -> bool:
    import keras

    return isinstance(layer, keras.utils.FeatureSpace) and not layer._is_adapted


def _build_configs(layers: Mapping[str, Any]) -> list[tuple[str, Any]]:
    custom: list[str] = []
    found: list[tuple[str, Any]] = []
    for path, layer in layers.items():
        if any(path.startswith(prefix) for prefix in custom):
            config = layer.get_build_config() if layer.built else None
            found += [] if config is None else [(path, serialize(config))]
        if not is_container(layer) and not is_built_in(type(layer)):
            custom.append(f"{path}/" if path else "")
    return found


def _settings(path: str, layer: Any, tree: Tree, table: Table) -> dict[str, Any]:
    """Return the settings of a layer below the root of `tree`, or of the root."""
    above = path.rpartition("/")[0]
    while above and above not in tree.nodes:
        above = above.rpartition("/")[0]
    owner_name = getattr(tree.nodes[above], "name", "")
    return settings(layer, _encoder(layer, table), is_root=not path, owner_name=owner_name)


def _odd_flags(layers: Mapping[str, Any], paths: Mapping[int, str]) -> dict[str, bool]:
    flags: dict[str, bool] = {}
    for layer in layers.values():
        stored = {id(variable) for variable in layer._trainable_variables}
        for variable in own_variables(layer):
            usual = id(variable) in stored and layer._trainable
            if id(variable) in paths and bool(variable.trainable) != usual:
                flags[paths[id(variable)]] = bool(variable.trainable)
    return flags


def _odd_rules(parts: Mapping[str, Any], paths: Mapping[int, str]) -> dict[str, list[Any]]:
    """Return regularizer and constraint of the variables on which somebody else has set them."""
    found: dict[str, list[Any]] = {}
    for node in parts.values():
        if not is_a(node, "layer"):
            continue
        of_layer = {id(value) for value in list(vars(node).values())} | {id(None)}
        for variable in own_variables(node):
            rules = [variable.regularizer, variable.constraint]
            if not {id(rule) for rule in rules} <= of_layer and describes_itself(node):
                found[paths[id(variable)]] = [serialize(rule) for rule in rules]
    return found


def _aliases(nodes: Mapping[str, Any], paths: Mapping[int, str]) -> dict[str, dict[str, str]]:
    owners: dict[int, str] = {}
    found: dict[str, dict[str, str]] = {}
    for path, node in nodes.items():
        for position, variable in enumerate(() if is_optimizer(node) else own_variables(node)):
            if owners.setdefault(id(variable), path) != path:
                found.setdefault(path, {})[str(position)] = paths[id(variable)]
    return found


def _keras_paths(tree: Tree) -> list[str]:
    return [str(getattr(variable, "path", "")) for variable in tree.own_variables.values()]


def _restore_paths(tree: Tree, structure: Mapping[str, Any]) -> None:
    """Give variables the names by which regular expressions of optimizers know them."""
    paths = structure.get("paths", ())
    names = [name for name, *_ in structure["weights"]]
    for name, path in zip(names, paths, strict=False):
        if name in tree.own_variables:
            _rename(tree.own_variables[name], path)


def _restore_facts(tree: Tree, structure: Mapping[str, Any]) -> None:
    for path, rules in structure.get("rules", {}).items():
        if path in tree.variables:
            variable = tree.variables[path]
            variable.regularizer, variable.constraint = (deserialize(rule) for rule in rules)
    for path in structure.get("overwritten", ()):
        if path in tree.variables:
            tree.variables[path].overwrite_with_gradient = True


def _rename(variable: Any, path: str) -> None:
    if getattr(variable, "path", path) != path:
        variable._path = path  # Private: the public name is read-only.


def _drawn_seeds(node: Any) -> dict[str, int]:
    to_be_used = is_a(node, "initializer") or (is_a(node, "layer") and not node.built)
    return {name: value.seed for name, value in _initializers(node)} if to_be_used else {}


def _initializers(layer: Any) -> list[tuple[str, Any]]:
    """Return the initializers of a layer that have drawn a seed, as none was given.

    An initializer alone is its own.
    """
    found = {"": layer} if is_a(layer, "initializer") else vars(layer)
    return [
        (name, value)
        for name, value in found.items()
        if is_a(value, "initializer")
        and isinstance(getattr(value, "seed", None), int)
        and value.get_config().get("seed", 0) is None
    ]


def _made_by_metric(metric: Any) -> dict[str, Any]:
    """Return the variables and plain attributes of a metric that builds itself on its first data.

    R2Score, FBetaScore, AUC of several labels (private: each has a ``_build`` of its own).
    """
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


def construct(
    architecture: dict[str, Any],
    structure: dict[str, Any],
    compilation: dict[str, Any] | None,
    objects: Sequence[Any],
) -> Any:
    """Return a new object with all its variables created, their values to be overwritten."""
    tracked = structure.get("tracked", {})
    with _name_scope(structure):
        obj = make(architecture)
        for name, number in tracked.items():
            if ":" not in name:
                with unlocked(obj):
                    setattr(obj, name, objects[number])
                attach_within(obj, name)
        _name_layers(obj, structure.get("called", {}))
        _build_parts(obj, structure.get("built", ()))
    _name_layers(obj, structure.get("called", {}))  # Of what has been made by building.
    tie(obj, structure.get("ties", {}))
    tree = Tree(obj)
    restore_part_states(tree.nodes, structure.get("parts", {}), objects)
    if restore_part_attributes(tree.nodes, tracked, objects):
        tree = Tree(obj)
    parts = tree.nodes
    restore_links(parts, structure.get("links", {}))
    _restore_settings(parts, structure, objects)
    is_changed = _adopt(parts, structure.get("children", {}), objects)
    _tie_variables(obj, parts, structure.get("aliases", {}))
    _mend_lambda_masks(parts)
    # Of files written before there were states of parts: building forgets the scaling of LoRA.
    for path, alpha in structure.get("lora", {}).items():
        if path in parts:
            parts[path].lora_alpha = alpha
    for path, drawn in structure.get("seeds", {}).items():
        for name, initializer in _initializers(parts[path]) if path in parts else ():
            initializer.seed = drawn.get(name, initializer.seed)
    _set_flags(obj, parts, structure)
    for path, in_keras in structure.get("layer_paths", {}).items():
        if path in parts:
            parts[path]._parent_path, parts[path]._path = in_keras  # Private.
    for path in structure.get("unadapted", ()):
        if path in parts:
            parts[path]._is_adapted = False  # Private: build_from_config() sets it.
    for path in structure.get("built_alone", ()):
        if path in parts and not parts[path].built:
            parts[path].built = True
    # To walk through a tree takes long: once is enough for most layers.
    if is_changed or not structure.keys().isdisjoint(("parts", "links", "aliases")):
        tree = Tree(obj)
    tree = tree.with_children(payloads_below(structure))
    _restore_paths(tree, structure)
    _restore_facts(tree, structure)
    if compilation:
        compile_all(obj, compilation, structure.get("versions", {}).get("backend", ""))
        restore_links(nodes(obj), structure.get("links", {}))  # To what compiling has made.
    made_by_metrics = structure.get("metrics", {})
    parts = nodes(obj) if made_by_metrics else {}
    for path, made_by_metric in made_by_metrics.items():
        if path in parts:
            _make_in_metric(parts[path], made_by_metric)
    restore_optimizers(
        obj,
        structure.get("optimizers", {}),
        structure.get("undecayed", {}),
        current.reading.identities,
    )
    if current.reading.reused:
        whole = Tree(obj, payloads_below(structure))
        current.reading.filled = _filled_elsewhere(whole, structure)
    if compilation or made_by_metrics or "optimizers" in structure or current.reading.filled:
        tree = Tree(obj, payloads_below(structure))
        _restore_paths(tree, structure)
    _restore_modules(tree.own, structure)
    restore_global_seed(structure.get("global_seed"))
    return obj


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


def _adopt(parts: Mapping[str, Any], children: Mapping[str, int], objects: Sequence[Any]) -> bool:
    """Give parts that a constructor made anew what the payloads of their originals hold.

    A constructor may take a layer for a pattern only (Bidirectional), or make its layers by itself
    although the config lists them.

    Returns
    -------
    bool
        Whether there are any.
    """
    import keras

    adopted = False
    for path, number in children.items():
        given, made = objects[number], parts.get(path)
        if made is None:
            raise PayloadError(
                "A layer that travelled on its own has no place in the rebuilt object",
                where=path,
                cause="the class that holds this layer has changed since",
                cure="load it with the code that wrote it",
            )
        if made is not given:
            adopted = True
            transfer_part_states(Tree(given), Tree(made))
            source, target = Tree(given), Tree(made)
            restore_assets(target, assets(source))
            weights.transfer(source.variables, target.variables, keras.backend.backend())
            for name, variable in source.variables.items():
                _rename(target.variables[name], variable.path)
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


def _tie_variables(obj: Any, parts: Mapping[str, Any], aliases: Mapping[str, Any]) -> None:
    """Let layers hold the very variables of other layers that their originals held."""
    if not aliases:
        return
    by_path = variables(obj)
    for path, by_position in aliases.items():
        for position, target in by_position.items():
            own = own_variables(parts[path]) if path in parts else []
            if target in by_path and int(position) < len(own):
                _replace_variable(parts[path], own[int(position)], by_path[target])


def _replace_variable(node: Any, old: Any, new: Any) -> None:
    # Private: Keras can untrack a variable, but not put another one in its place.
    if old is new:
        return
    identities.replace(old, new)
    for name, (_, store) in node._tracker.config.items():
        for position, value in enumerate(store):
            if value is old:
                store[position] = new
                node._tracker.stored_ids[name].discard(id(old))
                node._tracker.stored_ids[name].add(id(new))
    for name, value in list(vars(node).items()):
        if value is old:
            vars(node)[name] = new


def _make_in_metric(metric: Any, made: Mapping[str, Any]) -> None:
    existing = len(own_variables(metric))
    for holder, shape, dtype, name in made["variables"][existing:]:
        variable = metric.add_variable(
            shape=tuple(shape), initializer="zeros", dtype=dtype, name=name
        )
        if holder:
            setattr(metric, holder, variable)
    vars(metric).update(made["attributes"])


def _name_layers(obj: Any, called: Mapping[str, list[str]]) -> None:
    """Give layers that a constructor made the names of their originals, which paths go by.

    Where nobody has named them, their names count what the process has made.
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
    for path, build_config in built:
        # Looked up anew each time, as building a layer may create others below it.
        node = nodes(obj).get(path)
        if node is not None and not node.built:
            node.build_from_config(build_config)
            node.built = True


def _mend_lambda_masks(parts: Mapping[str, Any]) -> None:
    # Lambda.from_config leaves a mask function in its serialized form (Keras 3.15).
    for node in parts.values():
        if is_lambda_layer(node) and isinstance(node.mask, dict) and "class_name" in node.mask:
            node.mask = deserialize(node.mask)
