"""What a Keras 2 config leaves out: found in one object, restored in another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ... import identities
from ...core import array_backends
from ...errors import PayloadError
from ...weak_references import attach_within
from .._shared.tree import payloads_below
from . import leftovers
from .attributes import await_state, describes_itself, own_attributes
from .compilation import compile_all
from .configs import current, deserialize, make, serialize
from .framework import is_built_in, keras
from .kinds import has_identity, is_a, is_layer
from .optimizers import optimizers_of, restore_optimizers, restore_undecayed, undecayed_of
from .tree import Tree, generator_of, is_container, named_variables, nodes, own_variables

if TYPE_CHECKING:
    from ...custom_objects import Table


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
        paths of such parts within attributes that the user has set; ``built``: build configs of
        layers, by path; ``frozen``: paths of layers that are not trainable; ``optimizers`` and
        ``undecayed``: see `optimizers`; ``aliases``: variables that a second layer holds as well;
        ``metrics``: what metrics have made since they saw data; ``generators``: paths of layers
        that draw from a generator with a state (not by default); ``names``: what TensorFlow calls
        the variables, as a layer alone is not built within the scope of its model; ``called``,
        ``manners``, ``added``, ``losses`` and ``seeds``: see `leftovers`.
    """
    numbers = {id(value): number for number, value in enumerate(table.objects)}
    layers = {path: node for path, node in tree.own.items() if is_layer(node)}
    found: dict[str, Any] = {
        "children": {
            path: numbers[id(child)]
            for path, child in tree.children.items()
            if id(child) in numbers
        },
        "apart": [path for path, child in tree.children.items() if id(child) not in numbers],
        "built": _build_configs(layers),
        "frozen": [
            path for path, node in tree.nodes.items() if is_layer(node) and not node._trainable
        ],
        "optimizers": optimizers_of(tree.own, tree.variables, table),
        "undecayed": undecayed_of(tree.own, tree.variables),
        "aliases": _aliases(tree),
        "metrics": {
            path: made
            for path, node in tree.own.items()
            if is_a(node, "metric") and describes_itself(node) and (made := _made_by(node))
        },
        "generators": [path for path, node in tree.own.items() if generator_of(node) is not None],
        "names": [v.name.partition(":")[0] for v in tree.own_variables.values()],
        **leftovers.found_in(tree),
    }
    if has_identity(tree.root):
        found["identity"] = table.identity(tree.root)
    return {name: value for name, value in found.items() if value or name == "identity"}


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
        leftovers.restore_manners(leftovers.renamed(obj, called), structure)
        for path, config in structure.get("built", ()):
            # Looked up anew each time, as building a layer may create others below it.
            _build(leftovers.renamed(obj, called).get(path), deserialize(config))
    parts = leftovers.renamed(obj, called)
    leftovers.restore_manners(parts, structure)
    _adopt(parts, structure.get("children", {}), objects)
    _tie_variables(obj, parts, structure.get("aliases", {}))
    frozen = set(structure.get("frozen", ()))
    for path, node in parts.items():
        if is_layer(node):
            # Set without the property, which would pass it on to the layers below.
            node._trainable = path not in frozen
    for path in structure.get("generators", ()):
        if path in parts:
            _make_generator(parts[path]._random_generator)
    if compilation:
        compile_all(obj, compilation)
    parts = nodes(obj)
    leftovers.restore_optimizers_manners(parts, structure)
    for path, made in structure.get("metrics", {}).items():
        if path in parts:
            _make_in(parts[path], made)
    by_path = Tree(obj).variables
    restore_undecayed(parts, structure.get("undecayed", {}), by_path)
    restore_optimizers(parts, structure.get("optimizers", {}), by_path, current.identities)
    tree = Tree(obj, payloads_below(structure))
    _drop_counters(tree, {path for path, *_ in structure["weights"]})
    _restore_names(tree, structure.get("names", ()))
    await_state(obj)
    return obj


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


def _build_configs(layers: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for path, layer in layers.items():
        if is_container(layer) or not layer.built or not describes_itself(layer):
            continue
        config = layer.get_build_config()
        if config is not None:
            found.append((path, serialize({**config, **_mended_shape(layer)})))
    return found


def _mended_shape(layer: Any) -> dict[str, Any]:
    """Return the shape that a layer was called with, where it remembers another.

    ``TimeDistributed.build`` takes note of that of one step.
    """
    called_with = layer._saved_model_inputs_spec
    if called_with is None or not isinstance(layer, keras().layers.TimeDistributed):
        return {}
    return {"input_shape": tuple(called_with.shape)}


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


def _adopt(parts: Mapping[str, Any], children: Mapping[str, int], objects: Sequence[Any]) -> None:
    """Give parts that a constructor made anew the values of those that travelled on their own."""
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
            source, target = Tree(given).variables, Tree(made).variables
            for name, variable in source.items():
                target[name].assign(variable)
                identities.replace(variable, target[name])


def _aliases(tree: Tree) -> dict[str, dict[str, str]]:
    paths = {id(variable): path for path, variable in tree.variables.items()}
    owners: dict[int, str] = {}
    found: dict[str, dict[str, str]] = {}
    for path, node in tree.nodes.items():
        for position, variable in enumerate(own_variables(node) if is_layer(node) else ()):
            if owners.setdefault(id(variable), path) != path:
                found.setdefault(path, {})[str(position)] = paths[id(variable)]
    return found


def _tie_variables(obj: Any, parts: Mapping[str, Any], aliases: Mapping[str, Any]) -> None:
    """Let layers hold the very variables of other layers that their originals held."""
    by_path = Tree(obj).variables if aliases else {}
    for path, by_position in aliases.items():
        own = own_variables(parts[path]) if path in parts else []
        for position, target in by_position.items():
            if target in by_path and int(position) < len(own):
                _replace(parts[path], own[int(position)], by_path[target])


def _replace(layer: Any, old: Any, new: Any) -> None:
    identities.replace(old, new)
    # Private: Keras has no way to put another variable in the place of one.
    for own in (layer._trainable_weights, layer._non_trainable_weights):
        own[:] = [new if variable is old else variable for variable in own]
    for name, value in list(vars(layer).items()):
        if value is old:
            vars(layer)[name] = new


def _made_by(metric: Any) -> dict[str, Any]:
    """Return the variables and plain attributes of a metric that builds itself on its first data.

    MeanTensor, and AUC of several labels (private: each has a ``_build`` of its own). What a metric
    of the user's does, nobody knows.
    """
    is_own = not is_built_in(type(metric))
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


def _make_in(metric: Any, made: Mapping[str, Any]) -> None:
    existing = len(own_variables(metric))
    for holder, shape, dtype, name in made["variables"][existing:]:
        variable = metric.add_weight(
            name=name, shape=tuple(shape), initializer="zeros", dtype=dtype
        )
        if holder:
            setattr(metric, holder, variable)
    vars(metric).update(made["attributes"])


def _make_generator(holder: Any) -> None:
    # Private: which kind of random numbers is the program's to choose, for all layers to come.
    holder._rng_type, holder._built = holder.RNG_STATEFUL, False
    holder._maybe_init()


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
