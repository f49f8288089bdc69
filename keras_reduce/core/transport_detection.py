"""Detection of the transport of a pickle, from the callers of the unpickler.

The pickle itself can't tell: the same bytes may be in a message to a worker and in a file that a
task in the worker reads. A message sets up the worker; a file changes nothing.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from .call_stacks import PACKAGE

__all__ = ["are_errors_lost", "is_passing", "is_sent"]


class _Channel(NamedTuple):
    """Functions of other libraries that unpickle messages from other processes.

    Most are private. If a later version renames one, models that it unpickles don't set up the
    worker. Tests send a model through each of them.
    """

    module: str  # or a package
    functions: frozenset[str] = frozenset()  # none: all of them
    loses_errors: bool = False


_CHANNELS = (
    _Channel("multiprocessing.connection"),
    # A worker of a pool ends if it can't unpickle a task, and the program waits for ever.
    _Channel("multiprocessing.queues", loses_errors=True),
    _Channel("multiprocessing.spawn"),
    _Channel("joblib.externals.loky"),
    _Channel("loky"),
    _Channel("keras_reduce.parallel.worker"),
    # A Dask worker unpickles messages in its event loop or, if they are large, in another thread.
    # If that fails it ends, and only its log has the reason.
    _Channel("distributed.protocol", loses_errors=True),
    _Channel("ray._private"),
    # Other functions of this module run user-defined code for each item of a stream.
    _Channel("pyspark.serializers", frozenset({"loads"})),
    _Channel("pyspark.core.broadcast", frozenset({"load"})),
)
# Modules that call each other while one object is unpickled.
_UNPICKLERS = (PACKAGE, "pickle", "cloudpickle")


def is_sent() -> bool:
    """Return whether the current pickle was sent to this process by another one."""
    return _channel() is not None


def are_errors_lost() -> bool:
    """Return whether an error in unpickling would end this worker and be lost."""
    channel = _channel()
    if channel is None or not channel.loses_errors:
        return False
    # Private: the state of a thread that runs a Dask task, which may receive further data.
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
    """Return whether a scheduler unpickles a graph that it will pickle for its workers."""
    if "distributed.scheduler" not in sys.modules:
        return False
    for frame in _callers():
        # Private: the method by which Dask's scheduler unpickles a graph.
        is_scheduler = frame.f_globals.get("__name__") == "distributed.scheduler"
        if is_scheduler and frame.f_code.co_name == "update_graph":
            # With workers in this process, as of Client(processes=False), it pickles nothing again.
            scheduler = frame.f_locals.get("self")
            return not str(getattr(scheduler, "address", "")).startswith("inproc://")
    return False


def _callers() -> Iterator[types.FrameType]:
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")
