"""Graphs without the model for which they were traced: only their variables differ."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from .keys import TraceKey

_BYTES_OF_AN_ITEM = 50  # of a key: a reference, and most of a small object


class Trace(NamedTuple):
    """Graph without the variables of the model for which it was traced.

    Attributes
    ----------
    function : AtomicFunction
        TensorFlow's function, without the Python graph, which refers to that model.
    places : list of int
        For each captured input of the graph, the position of the variable in `TraceKey.variables`.
    size : int
        Bytes of the graph's definition and of its cache key.
    """

    function: Any
    places: list[int]
    size: int


def without_model(function: Any, followed: TraceKey) -> Trace | None:
    """Return the trace of a function if it captures nothing but variables, else None."""
    places = {id(handle_of(variable)): place for place, variable in enumerate(followed.variables)}
    captured = function.captured_inputs
    if any(id(tensor) not in places for tensor in captured):
        return None
    atomic = function.inference_fn
    if not _is_repeatable(atomic):
        return None
    bare = _bare(atomic)
    size = size_of(bare.cached_definition, followed)
    return Trace(bare, [places[id(tensor)] for tensor in captured], size)


def size_of(definition: Any, followed: TraceKey) -> int:
    """Return the bytes of a graph's definition and of its cache key."""
    return int(definition.ByteSize()) + _BYTES_OF_AN_ITEM * len(followed.key)


def _bare(atomic: Any) -> Any:
    """Return a TensorFlow function without its Python graph."""
    children = [_bare(child) for child in atomic.children]
    # Private: there is no public way to call a graph with other variables.
    return type(atomic)(
        atomic.name, atomic._bound_context, atomic.function_type, children, atomic.call_options
    )


def _is_repeatable(atomic: Any) -> bool:
    """Return whether a graph works for another model: no state except variables and iterators.

    Random operations without a variable have a seed from the time of tracing; others call Python
    functions.
    """
    if atomic.call_options.control_captures:
        return False
    operations = {node.op for node in atomic.cached_definition.node_def}
    return all(map(is_known, operations)) and all(map(_is_repeatable, atomic.children))


@functools.cache
def is_known(operation: str) -> bool:
    """Return whether an operation has no state, except for variables and iterators."""
    # Private: the list of TensorFlow's operations.
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(operation)
    if operation in _STATEFUL or operation.startswith(_STATEFUL_GROUPS):
        return True
    return definition is not None and not definition.is_stateful and "PyFunc" not in operation


_STATEFUL_GROUPS = ("Assign", "Iterator", "Resource")
_STATEFUL = frozenset(
    {
        "ReadVariableOp",
        "VarIsInitializedOp",
        "VariableShape",
        "Assert",
        "PrintV2",
        "PartitionedCall",
        "StatefulPartitionedCall",
        "If",
        "While",
        "Case",
        "OptionalFromValue",
        "OptionalGetValue",
        "OptionalHasValue",
        "OptionalNone",
    }
)


def handle_of(variable: Any) -> Any:
    """Return the tensor by which graphs capture a variable of Keras."""
    return variable._value.handle  # Private: the public value may be a cast of it.
