"""Where what is being unpickled comes from: told by who has called the unpickler.

The pickle itself can't tell: the same bytes may stand in a message to a worker and in a file that a
task of the worker's reads. What is sent says how a worker is to be set up; a file changes nothing.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from .call_stacks import PACKAGE

__all__ = ["are_errors_lost", "is_passing", "is_sent"]


class _Channel(NamedTuple):
    """Functions of others that unpickle what another process has sent to this one.

    Private ones, mostly. One that a later version renames is no longer known for what it is: a
    model that it brings then leaves the worker as it is. Tests send one through each.
    """

    module: str  # or a package
    functions: frozenset[str] = frozenset()  # none: all of them
    loses_errors: bool = False


_CHANNELS = (
    _Channel("multiprocessing.connection"),
    # A worker of a pool ends if it can't read what it is to do, and the program waits for ever.
    _Channel("multiprocessing.queues", loses_errors=True),
    _Channel("multiprocessing.spawn"),
    _Channel("joblib.externals.loky"),
    _Channel("loky"),
    _Channel("keras_reduce.parallel.worker"),
    # A worker of Dask's reads messages in its event loop or, if they are large, in a thread beside
    # it; it ends if it can't, and its log alone says why.
    _Channel("distributed.protocol", loses_errors=True),
    _Channel("ray._private"),
    # Functions there also run what a task does with each item of a stream.
    _Channel("pyspark.serializers", frozenset({"loads"})),
    _Channel("pyspark.core.broadcast", frozenset({"load"})),
)
# They call each other while one object is unpickled.
_UNPICKLERS = (PACKAGE, "pickle", "cloudpickle")


def is_sent() -> bool:
    """Tell whether what is being unpickled was sent to this process by another."""
    return _channel() is not None


def are_errors_lost() -> bool:
    """Tell whether an error in what is being unpickled would end this worker and reach nobody."""
    channel = _channel()
    if channel is None or not channel.loses_errors:
        return False
    # Private: what a thread of Dask's knows of the task that it runs, which may ask for more.
    dask: Any = sys.modules.get("distributed.worker")
    return dask is None or not hasattr(dask.thread_state, "execution_state")


def _channel() -> _Channel | None:
    for frame in _callers():
        module = frame.f_globals.get("__name__", "")
        for channel in _CHANNELS:
            if _is_in(module, channel.module):
                is_one = not channel.functions or frame.f_code.co_name in channel.functions
                return channel if is_one else None
        if not any(_is_in(module, name) for name in _UNPICKLERS):
            return None
    return None


def is_passing() -> bool:
    """Tell whether what is being unpickled is on its way through a scheduler."""
    # Private: the method by which Dask's unpickles a graph.
    return "distributed.scheduler" in sys.modules and any(
        frame.f_code.co_name == "update_graph"
        and frame.f_globals.get("__name__") == "distributed.scheduler"
        for frame in _callers()
    )


def _callers() -> Iterator[types.FrameType]:
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")
