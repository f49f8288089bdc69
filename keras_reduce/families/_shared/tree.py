"""Paths of the parts of a Keras object: a rebuilt copy has the same paths.

Paths are wire format: a payload's weights are matched by them.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

from .nests import innermost, reached

Children = Callable[[Any], Iterable[tuple[str, Any]]]


def walk(obj: Any, children_of: Children) -> tuple[dict[str, Any], dict[int, list[int]]]:
    """Return `obj` and all below it by path, and for each node, by id, the ids of its children.

    Parents precede their children. A part that is reached twice has its first path.
    """
    by_path: dict[str, Any] = {}
    below: dict[int, list[int]] = {}

    def visit(node: Any, path: str) -> None:
        if id(node) in below:
            return
        children = below[id(node)] = []
        by_path[unique(path, by_path)] = node
        for name, child in children_of(node):
            children.append(id(child))
            visit(child, f"{path}/{name}" if path else name)

    visit(obj, "")
    return by_path, below


class Tree:
    """Everything below a Keras object, and which of it travels on its own.

    A family tells what is below one node. `children` are parts that have payloads of their own,
    with all that is below them, or the paths of such parts. What is not part of the object is
    ignored.
    """

    def __init__(self, root: Any, children: Iterable[Any] = ()) -> None:
        self.root = root
        # Every layer, optimizer, metric and seed generator by path. Of these, `own` are those that
        # no child has, and `children` the children that are there.
        self.nodes, self._below = walk(root, self.children_of)
        self._set_apart(children)

    # The layers, optimizers, metrics and seed generators that a node holds, by name; its own
    # variables, with names that are the same in its copy; and the layers that its config lists,
    # each with a payload of its own.
    children_of: Children
    named_variables: Children
    listed: Callable[[Any], Iterable[Any]]

    def variables_of(self, node: Any) -> Iterable[tuple[str, Any]]:
        """Return the `named_variables` of a node that are to be carried."""
        return self.named_variables(node)

    def with_children(self, children: Iterable[Any]) -> Self:
        """Return the same tree with other `children`; what is below them is not walked again."""
        tree = copy.copy(self)
        vars(tree).pop("own_variables", None)
        tree._set_apart(children)
        return tree

    def _set_apart(self, children: Iterable[Any]) -> None:
        ids: set[int] = set()
        for child in children:
            # A text is a path here, but not inside a container that holds parts.
            members = [self.nodes.get(child)] if isinstance(child, str) else innermost(child)
            ids |= set(map(id, members))
        apart = set(reached(ids & self._below.keys(), self._below.__getitem__))
        self.own = {path: node for path, node in self.nodes.items() if id(node) not in apart}
        self.children = {path: node for path, node in self.nodes.items() if id(node) in ids}

    @functools.cached_property
    def parts(self) -> frozenset[int]:
        """The ids of the object, of every Keras object below it, and of the variables."""
        return frozenset(map(id, (*self.nodes.values(), *self.variables.values())))

    @functools.cached_property
    def parents(self) -> dict[int, frozenset[int]]:
        """The ids of the nodes that hold a node, by its id."""
        by_node: dict[int, set[int]] = {}
        for holder, held in self._below.items():
            for number in held:
                by_node.setdefault(number, set()).add(holder)
        return {number: frozenset(holders) for number, holders in by_node.items()}

    def below(self, number: int) -> frozenset[int]:
        """Return the ids of all nodes below the one of an id, without its own."""
        return frozenset(reached(self._below.get(number, ()), self._below.__getitem__)) - {number}

    @property
    def private(self) -> frozenset[int]:
        """The ids of what has no payload of its own: all but the layers that a config lists."""
        shared: set[int] = set()
        open_ends = list(self.children.values())
        while open_ends:
            layer = open_ends.pop()
            shared.add(id(layer))
            open_ends += self.listed(layer)
        return self.parts - shared

    def expression(self, place: str) -> str:
        """Return a Python expression, without a dot in front, for ``path:attribute``.

        Or for an attribute of the root, which has no path.
        """
        path, _, name = place.rpartition(":")
        spelled, above, is_item = "", "", False
        for piece in filter(None, path.split("/")):
            above = f"{above}/{piece}" if above else piece
            if is_item:
                spelled += f"[{piece if piece.isdecimal() else repr(piece)}]"
            else:
                spelled += f".{piece}" if piece.isidentifier() else f".<{piece}>"
            is_item = above not in self.nodes
        return f"{spelled}.{name}".removeprefix(".")

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
        located: dict[str, tuple[str, Any]] = {}
        seen: set[int] = set()
        for path, node in self.nodes.items():
            for name, variable in self.variables_of(node):
                if id(variable) not in seen:
                    seen.add(id(variable))
                    located[unique(f"{path}/{name}" if path else name, located)] = path, variable
        return located


def payloads_below(structure: Mapping[str, Any]) -> list[str]:
    """Return the paths of the parts that have payloads of their own, as a header tells them."""
    return [*structure.get("children", ()), *structure.get("apart", ())]


def below_attributes(
    attributes: dict[str, Any], without: frozenset[str]
) -> Iterator[tuple[str, Any]]:
    """Yield the values in `attributes`, and in containers there, by name and position.

    But not what is in the attributes `without`: Keras's own bookkeeping.
    """
    # Not by recursion, since every attribute of every part comes by here.
    items = list(attributes.items())  # At once: another thread may be setting some.
    pending = [(name, value, 4) for name, value in items if name not in without]
    pending.reverse()
    while pending:
        name, value, depth = pending.pop()
        if depth and isinstance(value, (list, tuple, dict)):
            inner = list(value.items() if isinstance(value, dict) else enumerate(value))
            pending += [(f"{name}/{key}", item, depth - 1) for key, item in reversed(inner)]
        else:
            yield name, value


def unique(path: str, taken: dict[str, Any]) -> str:
    """Return `path`, or the first of its numbered variants that is not `taken`."""
    if path not in taken:
        return path
    repetition = 1
    while f"{path}#{repetition}" in taken:
        repetition += 1
    return f"{path}#{repetition}"
