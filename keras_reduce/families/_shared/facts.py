"""Facts about an object that its config leaves out: found in one object, restored in another."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ... import identities
from ...errors import PayloadError

if TYPE_CHECKING:
    from ...custom_objects import Table


class Survey:
    """An object of which facts are found: its `tree`, and the `table` of its payload."""

    def __init__(self, tree: Any, table: Table, is_layer: Callable[[Any], bool]) -> None:
        # What no child has, by path, and the layers among it; with those of the children.
        self.tree, self.table, self.parts = tree, table, tree.own
        self.layers = {path: node for path, node in tree.own.items() if is_layer(node)}
        self.all_layers = {path: node for path, node in tree.nodes.items() if is_layer(node)}

    @functools.cached_property
    def paths(self) -> dict[int, str]:
        """The paths of all variables by their ids."""
        return {id(variable): path for path, variable in self.tree.variables.items()}

    @functools.cached_property
    def numbers(self) -> dict[int, int]:
        """The numbers by which the payload knows other objects, by their ids."""
        return {id(value): number for number, value in enumerate(self.table.objects)}


class Fact(NamedTuple):
    """Functions that find a fact about an object, and that restore it."""

    find: Callable[[Survey], Any]  # Returns it for a `Survey`; something empty if it is as usual.
    # Gives it to a rebuilt part or variable, for facts by path; `construct` sees to all others.
    restore: Callable[[Any, Any], None] = lambda part, fact: None


def of_parts(find: Callable[[Any], Any]) -> Callable[[Survey], dict[str, Any]]:
    """Return a function that finds a fact about each part that no child has, by path."""
    return lambda survey: {p: each for p, n in survey.parts.items() if (each := find(n))}


def layers_that(is_so: Callable[[Any], bool]) -> Callable[[Survey], list[str]]:
    """Return a function that finds the paths of the layers for which `is_so` is true."""
    return lambda survey: [path for path, layer in survey.layers.items() if is_so(layer)]


def found_in(survey: Survey, facts: Mapping[str, Fact], *, is_identified: bool) -> dict[str, Any]:
    """Return the facts about an object that are not as usual, by name."""
    unusual = {name: value for name, fact in facts.items() if (value := fact.find(survey))}
    if is_identified:
        unusual["identity"] = survey.table.identity(survey.tree.root)
    return unusual


def restore(
    facts: Mapping[str, Fact], structure: Mapping[str, Any], parts: Mapping[str, Any], *names: str
) -> None:
    """Give rebuilt parts, or variables, the facts of these `names`."""
    for name in names:
        recorded = structure.get(name, ())
        for path in recorded:
            if path in parts:
                facts[name].restore(
                    parts[path], recorded[path] if isinstance(recorded, dict) else True
                )


# Numbers of the parts that have payloads of their own, by path, and paths of such parts within
# attributes that the user has set.
CHILDREN = Fact(
    lambda survey: {
        path: survey.numbers[id(child)]
        for path, child in survey.tree.children.items()
        if id(child) in survey.numbers
    },
)
APART = Fact(
    lambda survey: [
        path for path, child in survey.tree.children.items() if id(child) not in survey.numbers
    ],
)
# Paths of layers that are not trainable. Those of the children as well: what a constructor here
# sets would pass on to them.
FROZEN = Fact(
    lambda survey: [path for path, layer in survey.all_layers.items() if not layer._trainable],
)


def aliases(survey: Survey, variables_of: Callable[[Any], Sequence[Any]]) -> dict[str, Any]:
    """Return the variables that a second part holds as well: path, position there, path."""
    owners: dict[int, str] = {}
    shared: dict[str, dict[str, str]] = {}
    for path, node in survey.tree.nodes.items():
        for position, variable in enumerate(variables_of(node)):
            if owners.setdefault(id(variable), path) != path:
                shared.setdefault(path, {})[str(position)] = survey.paths[id(variable)]
    return shared


def tie_variables(
    variables: Mapping[str, Any],
    parts: Mapping[str, Any],
    aliases: Mapping[str, Any],
    variables_of: Callable[[Any], Sequence[Any]],
    replace: Callable[[Any, Any, Any], None],
) -> None:
    """Let parts hold the very variables of other parts that their originals held."""
    for path, by_position in aliases.items():
        for position, target in by_position.items():
            held = variables_of(parts[path]) if path in parts else []
            if target in variables and int(position) < len(held):
                old, new = held[int(position)], variables[target]
                if old is not new:
                    identities.replace(old, new)
                    replace(parts[path], old, new)


def made_again(
    parts: Mapping[str, Any], children: Mapping[str, int], objects: Sequence[Any]
) -> Iterator[tuple[Any, Any]]:
    """Yield parts that travelled on their own, each with one that a constructor made in its place.

    A constructor may take a layer for a pattern only (Bidirectional), or make its layers by itself
    although the config lists them.

    Raises
    ------
    PayloadError
        If there is none in its place.
    """
    for path, number in children.items():
        if path not in parts:
            raise PayloadError(
                "A layer that travelled on its own has no place in the rebuilt object",
                where=path,
                cause="the class that holds this layer has changed since the pickle was written",
                cure="load it with the code that wrote it",
            )
        if parts[path] is not objects[number]:
            yield objects[number], parts[path]


def make_in_metric(metric: Any, created: Mapping[str, Any], variables: Sequence[Any]) -> None:
    """Make what a metric, of which these `variables` are there, has made since it saw data."""
    for holder, shape, dtype, name in created["variables"][len(variables) :]:
        variable = metric.add_weight(
            name=name, shape=tuple(shape), initializer="zeros", dtype=dtype
        )
        if holder:
            setattr(metric, holder, variable)
    vars(metric).update(created["attributes"])
