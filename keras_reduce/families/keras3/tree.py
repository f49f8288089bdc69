"""Every part of a Keras object under a path that its rebuilt twin gives the same part.

Paths are wire format: a payload's weights are matched by them. A layer of a functional or
sequential model is found by its name, which the config keeps; any other part by the attribute that
holds it, since auto-generated names differ from process to process.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from .kinds import attributes_of, is_a, is_saveable

# What Keras calls a variable that was not given a name; the counter differs between processes.
_AUTO_NAME = re.compile(r"(backend_)?variable(_\d+)?")

# Keras's own bookkeeping, in which a tracked part is found as well; its position there is the
# name of last resort.
_STORES = {"_layers": "layer", "_metrics": "metric", "_seed_generators": "seed_generator"}
_BOOKKEEPING = frozenset(
    {
        *_STORES,
        "_trainable_variables",
        "_non_trainable_variables",
        "_tracker",
        "_operations",
        "_operations_by_depth",
        "_nodes",
        "_nodes_by_depth",
        "_functional",
        "_compiled_trainable_state",
        "_obj_reference_counts_dict",
        "_self_unconditional_checkpoint_dependencies",
        "_self_unconditional_dependency_names",
        "_self_unconditional_deferred_dependencies",
    }
)


def nodes(obj: Any) -> dict[str, Any]:
    """Return `obj` and every layer, optimizer, metric and seed generator below it, by path.

    Parents precede their children. A part that is reached twice stands under its first path.
    """
    return _walk(obj)[0]


def _walk(obj: Any) -> tuple[dict[str, Any], dict[int, list[int]]]:
    """Return what `nodes` does, and for each node, by id, the ids of its children."""
    found: dict[str, Any] = {}
    below: dict[int, list[int]] = {}

    def visit(node: Any, path: str) -> None:
        if id(node) in below:
            return
        children = below[id(node)] = []
        found[_unique(path, found)] = node
        for name, child in _children(node):
            children.append(id(child))
            visit(child, f"{path}/{name}" if path else name)

    visit(obj, "")
    return found, below


class Tree:
    """Everything below an object, and which of it travels on its own.

    Parameters
    ----------
    root : object
        A Keras object.
    children : iterable of object or str
        Parts of it that have payloads of their own, with all that is below them; or their paths.
        What is not part of it is ignored.

    Attributes
    ----------
    nodes, own : dict
        Every layer, optimizer, metric and seed generator by path; those that no child has.
    children : dict
        The children by path, as far as they are found below `root`.
    """

    def __init__(self, root: Any, children: Iterable[Any] = ()) -> None:
        self.root = root
        self.nodes, self._below = _walk(root)
        self._set_apart(children)

    def with_children(self, children: Iterable[Any]) -> Tree:
        """Return the same tree with other `children`; what is below them is not looked at anew."""
        tree = copy.copy(self)
        vars(tree).pop("own_variables", None)
        tree._set_apart(children)
        return tree

    def _set_apart(self, children: Iterable[Any]) -> None:
        ids = {id(self.nodes[c] if isinstance(c, str) else c) for c in _flat(list(children))}
        apart: set[int] = set()
        open_ends = [number for number in ids if number in self._below]
        while open_ends:
            number = open_ends.pop()
            if number not in apart:
                apart.add(number)
                open_ends += self._below[number]
        self.own = {path: node for path, node in self.nodes.items() if id(node) not in apart}
        self.children = {path: node for path, node in self.nodes.items() if id(node) in ids}

    @functools.cached_property
    def parts(self) -> frozenset[int]:
        """The ids of the object, of every Keras object below it, and of the variables."""
        return frozenset(map(id, (*self.nodes.values(), *self.variables.values())))

    @property
    def private(self) -> frozenset[int]:
        """The ids of what has no payload of its own: all but the layers that a config lists."""
        shared: set[int] = set()
        open_ends = list(self.children.values())
        while open_ends:
            layer = open_ends.pop()
            shared.add(id(layer))
            open_ends += layer.layers if is_container(layer) else ()
        return self.parts - shared

    def places(self) -> Iterator[tuple[Any, str]]:
        """Yield the object, what is below it, and the variables, each with a name for it."""
        for path, node in self.nodes.items():
            yield node, f"part {path}"
        for path, variable in self.variables.items():
            yield variable, f"variable {path}"

    @functools.cached_property
    def variables(self) -> dict[str, Any]:
        """Every variable by its path, each once."""
        return {path: variable for path, (_, variable) in self._located.items()}

    @functools.cached_property
    def own_variables(self) -> dict[str, Any]:
        """The variables that no child owns."""
        return {
            path: variable for path, (node, variable) in self._located.items() if node in self.own
        }

    @functools.cached_property
    def _located(self) -> dict[str, tuple[str, Any]]:
        found: dict[str, tuple[str, Any]] = {}
        seen: set[int] = set()
        for path, node in self.nodes.items():
            for name, variable in named_variables(node):
                if id(variable) not in seen:
                    seen.add(id(variable))
                    found[_unique(f"{path}/{name}" if path else name, found)] = path, variable
        return found


def layer_names(node: Any) -> list[str]:
    """Return the attributes that hold the layers which `node` tracks, in the order of tracking."""
    stored = {id(layer): layer for layer in getattr(node, "_layers", ())}
    names = _names_by_attribute(node, stored)
    return [names.get(key, "") for key in stored]


def variables(obj: Any) -> dict[str, Any]:
    """Return every variable below `obj` by its path, each once."""
    return Tree(obj).variables


def named_variables(node: Any) -> list[tuple[str, Any]]:
    """Return the variables that `node` itself owns, with names that are the same in its twin."""
    own = own_variables(node)
    states = [(f"states/{i}", state) for i, state in enumerate(_recurrent_states(node))]
    names = [str(variable.name) for variable in own]
    # An optimizer names its slots after the variables' paths, which auto-generated names enter.
    if is_a(node, "variable"):
        names = ["value"]
    elif (
        is_optimizer(node)
        or len(set(names)) < len(names)
        or any(_AUTO_NAME.fullmatch(name) for name in names)
    ):
        names = [str(position) for position in range(len(own))]
    return [*zip(names, own, strict=True), *states]


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


def _recurrent_states(node: Any) -> list[Any]:
    """Return the states of a stateful recurrent layer, which Keras leaves out of its tracking."""
    import keras

    if not isinstance(node, keras.layers.RNN) or not node.stateful:
        return []
    flat: list[Any] = keras.tree.flatten(node.states)
    return [state for state in flat if isinstance(state, keras.Variable)]


def is_optimizer(node: Any) -> bool:
    """Tell whether `node` is an optimizer."""
    return is_a(node, "optimizer")


def is_container(node: Any) -> bool:
    """Tell whether `node` knows its layers by name (functional and sequential models)."""
    import keras

    return isinstance(node, keras.Sequential) or is_functional(node)


def is_functional(node: Any) -> bool:
    """Tell whether `node` is a model made of inputs and outputs."""
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
        for store, label in _STORES.items()
        for position, part in enumerate(getattr(node, store, ()))
        if id(part) not in named
    }
    if isinstance(node, keras.Sequential):
        # A built Sequential wraps its layers in a functional model; they are named already.
        stored.pop(id(getattr(node, "_functional", None)), None)
    by_attribute = _names_by_attribute(node, stored) if stored else {}
    for key, (fallback, part) in stored.items():
        yield by_attribute.get(key, fallback), part

    # In an order that does not depend on which was set first.
    yield from sorted(_optimizers(node), key=lambda found: found[0])
    if isinstance(node, keras.Model):
        yield from compiled_metrics(node)


def _is_leaf(node: Any) -> bool:
    """Tell at once, as most parts are leaves, that there is nothing below `node`."""
    tracks = vars(node).get
    return not any(map(tracks, _STORES)) and not _may_hold_optimizers(node)


def _may_hold_optimizers(node: Any) -> bool:
    # Among Keras's own classes only these do.
    return is_a(node, "model", "optimizer") or type(node).__module__.partition(".")[0] != "keras"


def _optimizers(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the optimizers in the attributes of `node`: Keras tracks none."""
    if _may_hold_optimizers(node):
        for name, value in _below_attributes(node):
            if is_optimizer(value):
                yield name, value


def compiled_metrics(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the metrics that ``compile`` made, under names that their twins will have.

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


def _names_by_attribute(node: Any, wanted: dict[int, Any]) -> dict[int, str]:
    """Return the names of the attributes (and positions in them) that hold the wanted parts."""
    names: dict[int, str] = {}
    for name, value in _below_attributes(node):
        if id(value) in wanted:
            names.setdefault(id(value), name)
    return names


def _below_attributes(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is in the attributes of `node`, and in containers there, by name and position."""
    # Not by recursion, since every attribute of every part comes by here.
    attributes = attributes_of(node).items()
    found = [(name, value, 4) for name, value in attributes if name not in _BOOKKEEPING]
    found.reverse()
    while found:
        name, value, depth = found.pop()
        if depth and isinstance(value, (list, tuple, dict)):
            items = list(value.items() if isinstance(value, dict) else enumerate(value))
            found += [(f"{name}/{key}", item, depth - 1) for key, item in reversed(items)]
        else:
            yield name, value


def _flat(nest: Any) -> Iterator[Any]:
    if isinstance(nest, (list, tuple, dict)):
        for item in nest.values() if isinstance(nest, dict) else nest:
            yield from _flat(item)
    else:
        yield nest


def _unique(path: str, taken: dict[str, Any]) -> str:
    if path not in taken:
        return path
    repetition = 1
    while f"{path}#{repetition}" in taken:
        repetition += 1
    return f"{path}#{repetition}"
