"""Graphs as bytes: what another process needs to run a trace without tracing.

A trace is a function of TensorFlow and the functions that it calls. Their definitions are data,
which any process with the same version may register. They are renamed after the digest of the
trace's key, since the numbers in TensorFlow's own names mean other functions elsewhere.

TensorFlow optimizes a function when it is first called, which takes longer than tracing for a deep
model. So the optimized graph is kept as well (`optimized`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from . import optimized
from .graphs import Trace, is_known, size_of
from .keys import TraceKey


class Definition(NamedTuple):
    """A trace as bytes.

    Attributes
    ----------
    library : bytes
        ``FunctionDefLibrary``: the functions, the one to call first.
    output : bytes
        ``SerializedTraceType``: the nest of what the function returns.
    optimized : bytes
        ``OptimizedFunctionGraph`` of TensorFlow for the first function; empty if there is none.
    places : list of int
        As in `Trace`.
    is_stateful : bool
        Whether the function has effects beside what it returns.
    """

    library: bytes
    output: bytes
    optimized: bytes
    places: list[int]
    is_stateful: bool


# --- out --------------------------------------------------------------------------------------


def written(trace: Trace, graphs: Any, digest: str) -> Definition | None:
    """Return the definition of a trace; None if it can't leave this process.

    Parameters
    ----------
    trace : Trace
        A trace that has run once.
    graphs : iterable of GraphDef
        What TensorFlow has optimized in its first call.
    digest : str
        Digest of its key.
    """
    # Private, both: the form in which TensorFlow stores definitions and types.
    from tensorflow.core.framework import function_pb2
    from tensorflow.core.function.trace_type import serialization

    function = trace.function
    functions = _reached(function)
    names = {old: _name(digest, place) for place, old in enumerate(functions)}
    library = function_pb2.FunctionDefLibrary()
    for old, definition in functions.items():
        copied = library.function.add()
        copied.CopyFrom(definition)
        copied.signature.name = names[old]
        # Debugging information, and what belongs to the program in which it was traced.
        copied.attr.pop("_construction_context", None)
        _rename(copied.node_def, names)
    returned = function.function_type.output
    if not _is_plain(returned):
        return None
    output = serialization.serialize(returned)
    graph = optimized.of(library.function[0], graphs)
    if graph is not None:
        nodes = graph.function_graph.node
        _rename(nodes, names)
        # TensorFlow may have made further functions, which are not in the library.
        if any(name not in names.values() for node in nodes for name in _called(node)):
            graph = None
    return Definition(
        library.SerializeToString(deterministic=True),
        output.SerializeToString(deterministic=True),
        b"" if graph is None else graph.SerializeToString(deterministic=True),
        trace.places,
        function.call_options.is_stateful,
    )


def _name(digest: str, place: int) -> str:
    # TensorFlow drops a last number from the name of a file with an optimized graph.
    return f"keras_reduce_{digest}_{'graph' if place == 0 else f'part{place}'}_0"


def _reached(function: Any) -> dict[str, Any]:
    """Return the definitions of a function and of all that it calls, by name."""
    eager = function._bound_context  # Private: TensorFlow's table of functions.
    reached: dict[str, Any] = {}
    names = [function.name.decode()]
    while names:
        name = names.pop()
        if name not in reached:
            reached[name] = eager.get_function_def(name)
            for node in reached[name].node_def:
                called = (node.op, *_called(node))
                names += [each for each in called if eager.has_function(each)]
    return reached


def _called(node: Any) -> Iterator[str]:
    """Yield the names of functions that an operation calls in its attributes."""
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        for each in value.list.func:
            yield each.name


def _rename(nodes: Any, names: dict[str, str]) -> None:
    for node in nodes:
        node.op = names.get(node.op, node.op)
        for value in node.attr.values():
            if value.HasField("func"):
                value.func.name = names.get(value.func.name, value.func.name)
            for each in value.list.func:
                each.name = names.get(each.name, each.name)


def _is_plain(returned: Any) -> bool:
    """Return whether TensorFlow can write the type of a result and read it without loss."""
    import tensorflow as tf

    # Private: types of nests.
    from tensorflow.core.function.trace_type import default_types

    if isinstance(returned, default_types.Dict):
        # Private: the class of the dictionary, which TensorFlow does not write.
        is_dict = returned._placeholder_type is dict
        return is_dict and all(map(_is_plain, returned.mapping.values()))
    if isinstance(returned, default_types.List):
        return _is_plain(returned.components_tuple)
    if isinstance(returned, default_types.Tuple):
        return all(map(_is_plain, returned.components))
    return isinstance(returned, tf.TypeSpec)


# --- back -------------------------------------------------------------------------------------


def read(definition: Definition, parameters: Any, followed: TraceKey) -> Trace:
    """Return the trace of a definition, registered with TensorFlow.

    Parameters
    ----------
    definition : Definition
        A definition that was written under the same key.
    parameters : sequence of Parameter
        The arguments, as in the key.
    followed : TraceKey
        Key and variables of the model.

    Raises
    ------
    ValueError
        If it has another operation than traces in the cache may have, or other names.
    google.protobuf.message.DecodeError
        If it can't be parsed.
    """
    # Private, all: TensorFlow's table of functions, and what its own functions consist of.
    from tensorflow.core.framework import function_pb2
    from tensorflow.core.function.polymorphism.function_type import FunctionType
    from tensorflow.core.function.trace_type import serialization
    from tensorflow.python.eager import context
    from tensorflow.python.eager.polymorphic_function.atomic_function import (
        AtomicFunction,
        CallOptions,
    )

    library, output = function_pb2.FunctionDefLibrary(), serialization.SerializedTraceType()
    library.ParseFromString(definition.library)
    output.ParseFromString(definition.output)
    returned = _with_classes(serialization.deserialize(output))
    functions = {each.signature.name for each in library.function}
    if not functions or any(_NAME.fullmatch(each) is None for each in functions):
        raise ValueError("functions of other names than a trace has")
    for each in library.function:
        for node in each.node_def:
            if not (node.op in functions or is_known(node.op)):
                raise ValueError(f"the operation {node.op!r}, which no trace in the cache has")
    eager = context.context()
    eager.ensure_initialized()
    for each in library.function:
        if not eager.has_function(each.signature.name):
            eager.add_function_def(each)
    first, *others = (each.signature.name for each in library.function)
    # They are dropped with the first one.
    parts = [AtomicFunction(name, eager, FunctionType([])) for name in others]
    function = AtomicFunction(
        first,
        eager,
        FunctionType(parameters, return_annotation=returned),
        parts,
        CallOptions(is_stateful=definition.is_stateful),
    )
    size = size_of(library.function[0], followed) + len(definition.optimized)
    prepared = optimized.Prepared(function, definition.optimized)
    return Trace(prepared, list(definition.places), size)


def _with_classes(returned: Any) -> Any:
    """Return the type of a result that was read, with the class of its dictionaries."""
    # Private: types of nests.
    from tensorflow.core.function.trace_type import default_types

    if isinstance(returned, default_types.Dict):
        items = {name: _with_classes(each) for name, each in returned.mapping.items()}
        return default_types.Dict(items, placeholder_type=dict)
    if isinstance(returned, default_types.List):
        return default_types.List(*_with_classes(returned.components_tuple).components)
    if isinstance(returned, default_types.Tuple):
        return default_types.Tuple(*map(_with_classes, returned.components))
    return returned


_NAME = re.compile(r"keras_reduce_[0-9a-f]{40}_(graph|part[0-9]+)_0")
