"""State that parts of a layer got after their constructor ran, which no config knows.

A constructor makes the inner layers of an attention layer, or of a class with ``get_config()``. A
program may change them later: enable LoRA, quantize, set attributes. Quantization and LoRA also
change which variables a layer has, and in which order, in ways that its config doesn't tell. So
the header holds the state of such parts as it is now, and rebuilding brings the new parts into it.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ...custom_objects import Table
from .._shared.lookups import LOOKUPS
from .._shared.lost_attributes import warn_of_missing_parts
from .._shared.nests import unwrapped
from .attributes import (
    decoder,
    describe_variable,
    encoder,
    is_plain_state,
    make_variable,
)
from .kinds import attributes_of, is_a
from .order import order_of, restore_order
from .reading import deserialize
from .rules import own_attributes, set_by_code, set_by_the_user
from .settings import restore_settings, settings
from .tree import Tree, is_converted, own_variables
from .writing import is_policy_map, serialize


def part_states(
    tree: Tree, table: Table, serialize: Callable[[Any], Any] = serialize
) -> dict[str, dict[str, Any]]:
    """Return the states of converted layers, and of layers that a constructor made, by path.

    Children have states of their own. For each layer ``attributes``: plain values, functions,
    regularizers and constraints by name, see `attributes.encoder`; ``dtype``: config of its dtype
    policy, unless that is the policy of the object; ``variables``: its variables in their order, if
    LoRA or quantization has changed them. Configs are made by `serialize`; `table` takes what only
    a pickler can carry.
    """
    states: dict[str, dict[str, Any]] = {}
    for path, node in tree.own.items():
        if is_a(node, "layer") and (path or is_converted(node)):
            states[path] = _state(node, tree.root, table, serialize)
    return {path: state for path, state in states.items() if state}


def _state(layer: Any, root: Any, table: Table, serialize: Callable[[Any], Any]) -> dict[str, Any]:
    variables = own_variables(layer)
    encode = encoder(layer, serialize, table)
    state: dict[str, Any] = {}
    changes = is_converted(layer)
    ids = set(map(id, variables)) if changes else ()
    by_keras, _ = set_by_code(type(layer))
    values = {name: _plain_shape(value) for name, value in own_attributes(layer).items()}
    values |= _of_keras(layer)
    attributes = {
        name: encode(value, name)
        # Sorted, as building sets them in another order than quantizing, and both are hashed.
        for name, value in sorted(values.items())
        if (is_plain_state(value, layer) and (name in by_keras or not _is_function(value)))
        or isinstance(value, _quantization_classes())
        or id(value) in ids
    }
    if attributes:
        state["attributes"] = attributes
    if not _same_policy(layer, root):
        state["dtype"] = serialize(layer._dtype_policy)
    if changes:
        stored = {id(variable) for variable in layer._trainable_variables}
        state["variables"] = [describe_variable(v, id(v) in stored, serialize) for v in variables]
    return state


def _of_keras(layer: Any) -> dict[str, Any]:
    """Return attributes of every layer that its config has, if it has one; see also `settings`."""
    return {name: getattr(layer, name, None) for name in ("activity_regularizer", "autocast")}


def _is_function(value: Any) -> bool:
    return isinstance(value, types.FunctionType)


def _plain_shape(value: Any) -> Any:
    # Of TensorFlow, which EinsumDense keeps when it is quantized.
    return tuple(value.as_list()) if type(value).__name__ == "TensorShape" else value


@functools.cache
def _quantization_classes() -> tuple[type, ...]:
    import keras

    # Keras 3.13 has configs for some modes only, and no public base class.
    names = ("Quantizer", "QuantizationConfig", "GPTQConfig", "AWQConfig")
    return tuple(filter(None, (getattr(keras.quantizers, name, None) for name in names)))


def _same_policy(layer: Any, root: Any) -> bool:
    policy, general = getattr(layer, "_dtype_policy", None), getattr(root, "_dtype_policy", None)
    if policy is general:
        return True
    # Maps of policies can't be compared (Keras 3.15).
    return type(policy) is type(general) and not is_policy_map(policy) and bool(policy == general)


def restore_part_states(
    parts: Mapping[str, Any],
    states: Mapping[str, Any],
    objects: Sequence[Any],
    deserialize: Callable[[Any], Any] = deserialize,
) -> None:
    """Bring the layers `parts` of a rebuilt object into the states that `part_states` found.

    What this version of a class has no part for is lost, with a warning; if the part had variables,
    `weights.assign` names them and raises.
    """
    import keras

    # It makes more layers when it has its vocabularies again, as they are by default.
    spaces = [path for path, part in parts.items() if isinstance(part, keras.utils.FeatureSpace)]
    missing = []
    for path, state in states.items():
        if path in parts:
            _restore(parts[path], state, parts[""], objects, deserialize)
        elif not any(path.startswith(f"{space}/".lstrip("/")) for space in spaces):
            missing += [f"{path}:{name}" for name in state.get("attributes", ())]
    warn_of_missing_parts(parts, missing)


def _restore(
    layer: Any,
    state: Mapping[str, Any],
    root: Any,
    objects: Sequence[Any],
    deserialize: Callable[[Any], Any],
) -> None:
    attributes = state.get("attributes", {})
    # Private: the setter of the property would quantize the layer again.
    if "dtype" in state:
        layer._dtype_policy = deserialize(state["dtype"])
    elif not _same_policy(layer, root):
        layer._dtype_policy = root._dtype_policy
    with unlocked(layer):
        variables = own_variables(layer)
        if "variables" in state and not _has_variables(layer, state["variables"], attributes):
            variables = _replace_variables(layer, state["variables"], deserialize)
        decode = decoder(layer, variables, deserialize, objects)
        for name, value in attributes.items():
            decoded, present = decode(value), vars(layer).get(name, layer)
            # Spelled out, as 1 and True are equal, and so are 0.0 and -0.0.
            if present is not decoded and repr(unwrapped(present)) != repr(decoded):
                setattr(layer, name, decoded)


@contextmanager
def unlocked(layer: Any) -> Iterator[None]:
    """Let a layer that is built take variables and parts."""
    if not hasattr(layer, "_tracker"):
        yield
        return
    # Private: as Keras's own quantize() does.
    locked = layer._tracker.locked
    layer._tracker.unlock()
    try:
        yield
    finally:
        if locked:
            layer._lock_state()


def restore_part_attributes(
    parts: Mapping[str, Any], tracked: Mapping[str, int], objects: Sequence[Any]
) -> bool:
    """Set the attributes that `state.state` named ``path:attribute``; return if there are any."""
    inner = [place for place in tracked if place.rpartition(":")[0]]
    present = [place for place in inner if place.rpartition(":")[0] in parts]
    warn_of_missing_parts(parts, set(inner) - set(present))
    for place in present:
        path, _, name = place.rpartition(":")
        with unlocked(parts[path]):
            setattr(parts[path], name, objects[tracked[place]])
    return bool(present)


def restore_links(parts: Mapping[str, Any], links: Mapping[str, str]) -> None:
    """Set attributes, given as ``path:attribute``, to the parts of the paths that they hold."""
    for place, target in links.items():
        path, _, name = place.rpartition(":")
        if path in parts and target in parts:
            with unlocked(parts[path]):
                setattr(parts[path], name, parts[target])


def _has_variables(layer: Any, specs: Sequence[Any], attributes: Mapping[str, Any]) -> bool:
    """Return whether building a layer has made the same variables as its original has."""
    variables = own_variables(layer)
    stored = {id(variable) for variable in layer._trainable_variables}
    built = [(list(v.shape), str(v.dtype), v.name, id(v) in stored) for v in variables]
    wanted = [(s["shape"], s["dtype"], s["name"], s["trainable"]) for s in specs]
    positions = {id(variable): position for position, variable in enumerate(variables)}
    held = {n: positions[id(v)] for n, v in vars(layer).items() if id(v) in positions}
    return built == wanted and held == {
        name: value["variable"]
        for name, value in attributes.items()
        if isinstance(value, dict) and "variable" in value
    }


def _replace_variables(
    layer: Any, specs: Sequence[Any], deserialize: Callable[[Any], Any]
) -> list[Any]:
    """Give a layer variables by `specs` in place of all that building made; return them."""
    variables = own_variables(layer)
    ids = set(map(id, variables))
    for name in [name for name, value in attributes_of(layer).items() if id(value) in ids]:
        # Not by delattr, for which Keras collects garbage each time.
        vars(layer).pop(name, None)
    for variable in variables:
        layer._untrack_variable(variable)
    return [make_variable(layer, spec, deserialize) for spec in specs]


def transfer_part_states(source: Tree, target: Tree) -> None:
    """Bring the layers of `target` into the states of the layers of `source`."""
    table = Table(None, LOOKUPS)
    states = part_states(source, table, _as_it_is)
    restore_part_states(target.nodes, states, table.objects, _as_it_is)
    for path, layer in source.nodes.items():
        if path in target.nodes and is_a(layer, "layer"):
            rebuilt = target.nodes[path]
            with unlocked(rebuilt):
                for name, value in set_by_the_user(layer):
                    setattr(rebuilt, name, unwrapped(value))
            restore_settings(rebuilt, settings(layer, _held), _as_it_is)
            restore_order(rebuilt, order_of(layer))


def _as_it_is(value: Any) -> Any:
    return value


def _held(value: Any, _: str) -> Any:
    return value
