"""Layers that the constructor of another layer makes, and that other objects hold as well.

A class that is described by a config makes some of its layers itself: the config does not list
them, so they have no payload of their own. Where another part of the same object holds such a
layer (an output layer tied to the embedding of a backbone), it must get the very layer that the
constructor has made again, and not a copy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from .._shared.nests import is_nest
from .kinds import is_a, is_built_in
from .rules import describes_itself
from .tree import Tree, is_container, nodes


class MadePart(NamedTuple):
    """A layer that a maker's constructor makes."""

    maker: Any  # A layer below the object that is being written, with a payload of its own.
    path: str  # Path of the layer below its maker.


def made_parts(tree: Tree, listed_by: Callable[[Any], Iterable[Any]]) -> dict[int, MadePart]:
    """Return the layers, by id, that a layer below the root makes and something outside it holds.

    The function `listed_by` returns the parts that the config of a layer lists, each with a payload
    of its own.
    """
    parents = tree.parents
    shared = {number for number, holders in parents.items() if len(holders) > 1}
    if not shared:
        return {}
    by_id: dict[int, MadePart] = {}
    for node in tree.nodes.values():
        below = tree.below(id(node))
        candidates = shared & below - by_id.keys()
        if node is tree.root or not candidates or not _may_make(node):
            continue
        inside = below | {id(node)}
        outward = {each for each in candidates if not parents[each] <= inside}
        if not outward:
            continue
        listed: set[int] = set()
        for part in listed_by(node):
            listed |= {id(part)} | tree.below(id(part))
        unlisted = outward - listed
        paths = {id(part): path for path, part in nodes(node).items()} if unlisted else {}
        for each in unlisted:
            if id(node) not in tree.below(each):
                by_id[each] = MadePart(node, paths[each])
    return by_id


def _may_make(node: Any) -> bool:
    if not is_a(node, "layer") or not describes_itself(node):
        return False
    # Keras's own containers list all their layers.
    return not (is_container(node) and is_built_in(type(node)))


def ties(tree: Tree, made_by_id: Mapping[int, MadePart]) -> dict[str, str]:
    """Return where other parts hold the layers of `made_by_id`: path there, path below the maker.

    Only what the root has to see to: parts that are below one child of the root, together with
    the maker, are tied by that child.
    """
    tied: dict[str, str] = {}
    paths = {id(node): path for path, node in tree.nodes.items()}
    for holder_path, holder in tree.nodes.items():
        if holder is tree.root or not is_a(holder, "layer"):
            continue
        for name, part in tree.children_of(holder):
            maker, path = made_by_id.get(id(part), (None, ""))
            if maker is None or id(holder) in tree.below(id(maker)) | {id(maker)}:
                continue
            if any(_is_around(tree, node, maker, holder) for node in tree.nodes.values()):
                continue
            if is_container(holder):
                _warn_of_copy(part, maker, holder)
                continue
            tied[_joined(holder_path, name)] = _joined(paths[id(maker)], path)
    return tied


def _is_around(tree: Tree, node: Any, maker: Any, holder: Any) -> bool:
    """Return whether `node` is a child that ties `maker` and `holder` by itself."""
    if node is tree.root or not is_a(node, "layer"):
        return False
    below = tree.below(id(node))
    return id(maker) in below and (holder is node or id(holder) in below)


def _warn_of_copy(part: Any, maker: Any, holder: Any) -> None:
    logging.getLogger("keras_reduce").warning(
        "The layer %r, which the constructor of %r makes, is also a layer of the model %r. The "
        "model comes back with a copy of it. To keep one layer, let the class of %r list its "
        "layers in get_config().",
        part.name,
        maker.name,
        holder.name,
        maker.name,
    )


def tie(obj: Any, paths: Mapping[str, str]) -> None:
    """Let parts of `obj` hold the layers that they shared in the original; see `ties`."""
    for held, origin in paths.items():
        parts = nodes(obj)
        holder_path, name = _holder_of(held, parts)
        children = dict(Tree.children_of(parts[holder_path])) if holder_path is not None else {}
        if origin in parts and name in children and children[name] is not parts[origin]:
            replace(parts[holder_path], children[name], parts[origin])


def _holder_of(path: str, parts: Mapping[str, Any]) -> tuple[Any, str]:
    """Split a path into that of a part and the name below it, which may contain slashes."""
    pieces = path.split("/")
    for length in range(len(pieces) - 1, -1, -1):
        holder = "/".join(pieces[:length])
        if holder in parts:
            return holder, "/".join(pieces[length:])
    return None, ""


def replace(holder: Any, old: Any, new: Any) -> None:
    """Put a layer or variable in the place of another, in attributes and in Keras's lists."""
    # Private: Keras can untrack one, but not put another one in its place.
    for name, (_, store) in holder._tracker.config.items():
        for position, value in enumerate(store):
            if value is old:
                store[position] = new
                holder._tracker.stored_ids[name].discard(id(old))
                holder._tracker.stored_ids[name].add(id(new))
    attributes = vars(holder)
    for name, value in list(attributes.items()):
        attributes[name] = _replaced(value, old, new)


def _replaced(value: Any, old: Any, new: Any) -> Any:
    """Return `value` with one layer in the place of another; lists and dicts are changed."""
    if value is old:
        return new
    if not is_nest(value):
        return value
    if isinstance(value, tuple):
        items = [_replaced(item, old, new) for item in value]
        is_same = all(item is before for item, before in zip(items, value, strict=True))
        return value if is_same else tuple(items)
    # Past the methods by which Keras's lists and dictionaries track what is put into them.
    put = dict.__setitem__ if isinstance(value, dict) else list.__setitem__
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        replaced = _replaced(item, old, new)
        if replaced is not item:
            put(value, key, replaced)
    return value


def _joined(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
