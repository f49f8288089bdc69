"""Optimized graphs, which TensorFlow takes from a file in place of optimizing a function.

If the variable ``TF_GRAPH_CACHING`` names a folder when a function is first called, TensorFlow
looks in it for a file named after the function. It does not look at what is in the function, so the
variable names a folder only while a function is called whose name is the digest of its contents
and for which there is a file.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from . import kernels

_VARIABLE = "TF_GRAPH_CACHING"
# One function at a time may find a file, or leave its graph. Others do without.
_lock = threading.Lock()
_BY_THE_PROGRAM = 2  # OptimizedFunctionGraph.OptimizationSource.JIT


def prepare() -> None:
    """Set the variable to an empty text, so that later values don't reallocate the environment."""
    os.environ.setdefault(_VARIABLE, "")


# --- out --------------------------------------------------------------------------------------


@contextlib.contextmanager
def collected(graphs: list[Any]) -> Iterator[None]:
    """Add the graphs that TensorFlow optimizes in this block to a list.

    None are listed where they could be those of others: of another thread in such a block, of a
    program that records graphs itself, or on other devices than the CPU.
    """
    import tensorflow as tf

    # Private, both: TensorFlow's record of graphs, and whether `tf.summary` uses it.
    from tensorflow.python.eager import context
    from tensorflow.python.ops import summary_ops_v2

    if (
        summary_ops_v2._current_trace_context is not None
        or tf.config.list_logical_devices("GPU")
        or not _lock.acquire(blocking=False)
    ):
        yield
        return
    try:
        eager = context.context()
        eager.enable_graph_collection()
        try:
            yield
        finally:
            metadata = eager.export_run_metadata()
            eager.disable_graph_collection()
    finally:
        _lock.release()
    graphs += [each.post_optimization_graph for each in metadata.function_graphs]


def of(function: Any, graphs: Iterable[Any]) -> Any:
    """Return the optimized graph of a function as TensorFlow stores it; None if it is not there.

    Parameters
    ----------
    function : FunctionDef
        The function.
    graphs : iterable of GraphDef
        What `collected` has listed, while the function was called for the first time.
    """
    # Private: the form of the file.
    from tensorflow.core.framework import optimized_function_graph_pb2

    if function.attr["_XlaMustCompile"].b:
        return None  # XLA compiles it, wherever it runs.
    arguments = [each.type for each in function.signature.input_arg]
    results = [each.type for each in function.signature.output_arg]
    fitting = [
        graph
        for graph in graphs
        if _types(graph, "_Arg", "_DeviceArg") == arguments
        and _types(graph, "_Retval", "_DeviceRetval") == results
    ]
    # More than one may fit if a function calls another of the same form.
    if len(fitting) != 1:
        return None
    return optimized_function_graph_pb2.OptimizedFunctionGraph(
        name=function.signature.name,
        function_graph=fitting[0],
        node_name_to_control_ret={node: name for name, node in function.control_ret.items()},
        ret_types=results,
        num_return_nodes=len(results),
        source=_BY_THE_PROGRAM,
    )


def _types(graph: Any, *operations: str) -> list[int]:
    """Return the types of a graph's arguments or results, in their order."""
    nodes = [node for node in graph.node if node.op in operations]
    return [node.attr["T"].type for node in sorted(nodes, key=lambda node: node.attr["index"].i)]


# --- back -------------------------------------------------------------------------------------


class Prepared:
    """Function whose optimized graph is known: the part of its interface that callers use.

    Parameters
    ----------
    function : AtomicFunction
        A function that is named after the digest of its contents.
    graph : bytes
        Its ``OptimizedFunctionGraph``; TensorFlow optimizes the function if it is empty.
    """

    def __init__(self, function: Any, graph: bytes) -> None:
        self._function, self._graph = function, graph
        self.function_type = function.function_type
        # How often TensorFlow had forgotten all kernels when this function was called last.
        self._forgotten: int | None = None

    def call_preflattened(self, arguments: Any) -> Any:
        """Call the function, as `AtomicFunction.call_preflattened` does."""
        forgotten = kernels.times_cleared()
        is_first, self._forgotten = forgotten != self._forgotten, forgotten
        if not is_first or not self._graph:
            return self._function.call_preflattened(arguments)
        with self._offered():
            return self._function.call_preflattened(arguments)

    @contextlib.contextmanager
    def _offered(self) -> Iterator[None]:
        """Let TensorFlow find the optimized graph in this block."""
        if os.environ.get(_VARIABLE) != "" or not _lock.acquire(blocking=False):
            yield  # A folder of the program's own, or the one of another thread.
            return
        try:
            with tempfile.TemporaryDirectory(prefix="keras_reduce-") as folder:
                # TensorFlow leaves out the last number of the name.
                name = self._function.name.decode().rpartition("_")[0]
                nodes = len(self._function.cached_definition.node_def)
                Path(folder, f"_-1_{name}_{nodes}").write_bytes(self._graph)
                os.environ[_VARIABLE] = folder
                try:
                    yield
                finally:
                    os.environ[_VARIABLE] = ""
        finally:
            _lock.release()
