"""Context of reducers and rebuilders, whose callers can pass them no argument.

Only this module inspects call stacks:

| fact | how it is known | if it is wrong |
| --- | --- | --- |
| who asks for a reduce value | the innermost caller outside of this package | as below |
| which call of a pickler in C it is | frame and instruction of who asks | a snapshot of weights is taken again, or serves too long |
| whether code is carried by value | who asks is a pickler that is taught it, or `copy.deepcopy` | code of `__main__` travels twice, or by name only |
| whether a copy is made | who asks, or a caller, is `copy.deepcopy` or `copy.copy` | what can't be copied is refused too late |
| the root object | a variable of the function that has started the dump | errors name no path |
| whether another process has sent a pickle | a caller is of a module that receives messages | a worker is not set up |
| whether it is only passed on | a caller is a method of Dask's scheduler | the scheduler builds models |
| whether another thread uses a part | a function of that thread, and its `self` | changing variables are read |

`tests/project/test_architecture.py` lists the modules that read bytecode or keep notes by thread.
"""  # noqa: E501

from __future__ import annotations

import contextlib
import copy
import functools
import pickle
import sys
import threading
import types
from collections.abc import Callable, Collection, Iterator
from typing import Any, Literal, NamedTuple

from . import code_objects

__all__ = [
    "PACKAGE",
    "Start",
    "Transport",
    "are_errors_lost",
    "call_of_a_pickler",
    "calling_module",
    "carries_code",
    "is_asked",
    "is_called_by",
    "is_passing",
    "is_sent",
    "one_call",
    "runs_elsewhere",
    "start_of_pickler",
    "starts",
]

# The root package of all modules of this package.
PACKAGE = __name__.partition(".")[0]

Transport = Literal["pickle", "cloudpickle", "joblib", "deepcopy"]


# --- callers ----------------------------------------------------------------------------------


def _callers() -> Iterator[types.FrameType]:
    """Yield the frames of this thread, from that of the caller on."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _module(frame: types.FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_ours(frame: types.FrameType) -> bool:
    return _module(frame).partition(".")[0] == PACKAGE


def _asking() -> types.FrameType | None:
    """Return the frame of the innermost caller outside of this package."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and _is_ours(frame):
        frame = frame.f_back
    return frame


def is_called_by(function: Callable[..., Any]) -> bool:
    """Return whether it is `function` that has called the caller of this function."""
    # There is no calling frame where a thread has begun with a function in C.
    frame = sys._getframe(1).f_back
    return frame is not None and frame.f_code is function.__code__


def calling_module(plumbing: tuple[str, ...], depth: int) -> str:
    """Return the module of the innermost caller that begins with none of `plumbing`.

    Those less than `depth` calls away are passed over. Empty if there is none.
    """
    frame: types.FrameType | None = sys._getframe(depth)
    while frame is not None and _module(frame).startswith(plumbing):
        frame = frame.f_back
    return "" if frame is None else _module(frame)


def runs_elsewhere(methods: Collection[str], is_wanted: Callable[[Any], bool]) -> bool:
    """Return whether another thread runs one of `methods` of an object that is wanted."""
    frames = sys._current_frames()
    # A frame that refers to itself would keep its variables alive.
    del frames[threading.get_ident()]
    here: types.FrameType | None = None
    try:
        for here in frames.values():
            while here is not None:
                if here.f_code.co_name in methods and is_wanted(here.f_locals.get("self")):
                    return True
                here = here.f_back
        return False
    finally:
        frames.clear()
        here = None


# --- who asks for a reduce value ----------------------------------------------------------------

# By which the standard library's pickler in Python, and so joblib's and ours, asks.
_SAVE = pickle._Pickler.save.__code__  # type: ignore[attr-defined]


@functools.lru_cache(maxsize=256)
def _asks(code: types.CodeType) -> bool:
    """Return whether `code` mentions ``__reduce__`` or ``__reduce_ex__``."""
    return not _ASKING.isdisjoint((*code.co_names, *code_objects.texts(code)))


_ASKING = frozenset({"__reduce__", "__reduce_ex__"})


def is_asked() -> bool:
    """Return whether a pickler asks for a reduce value, and not a program by `reducers.reduce`."""
    for frame in _callers():
        if not _is_ours(frame):
            return False
        if frame.f_code.co_name == "__reduce__":
            return True
    return False


def carries_code() -> bool:
    """Return whether what asks for a reduce value carries code by value, or copies it as it is.

    That is so for cloudpickle's pickler, joblib's and ours, which are taught it, and for
    `copy.deepcopy`. To be called while a reducer runs.
    """
    frame = _asking()
    if frame is None:
        return False
    if frame.f_code is _SAVE:
        return hasattr(frame.f_locals.get("self"), "reducer_override")
    if frame.f_code is copy.deepcopy.__code__:
        return True
    # Of joblib, Ray and Spark, which bring their own, too.
    return frame.f_code.co_name == "dump" and f".{_module(frame)}".endswith(".cloudpickle")


@contextlib.contextmanager
def one_call(asking: types.CodeType = _SAVE, call: object = None) -> Iterator[None]:
    """Let a pickler written in Python, which keeps no reduce value, find this thread's snapshots.

    The block is one call of that pickler, as `pickle.dumps` is one of the pickler in C.

    Parameters
    ----------
    asking : code, optional
        That of the pickler's function that asks for reduce values.
    call : object, optional
        The call to which the block belongs, if it has several blocks.
    """
    outer = _calls.current
    _calls.current = (asking, object() if call is None else call)
    try:
        yield
    finally:
        _calls.current = outer


class _Calls(threading.local):
    current: tuple[types.CodeType, object | None] = (_SAVE, None)


_calls = _Calls()


def call_of_a_pickler() -> object | None:
    """Return a token of the call of the pickler that asks for a reduce value.

    That is frame and instruction at which other packages' code waits for a pickler in C, or the
    block of `one_call`. None if other code asks.
    """
    frame = _asking()
    if frame is None:
        return None
    asking, call = _calls.current
    if frame.f_code is asking:
        return call
    if frame.f_code is _SAVE or _asks(frame.f_code):
        return None
    return id(frame), frame.f_lasti


# --- the root object ----------------------------------------------------------------------------


class Start(NamedTuple):
    """A function that has started a dump."""

    function: str
    transport: Transport
    by_value: bool
    root: Any


# Function, in Python, that starts a dump -> its variable that holds the root.
_VARIABLES: dict[str, tuple[str, Transport]] = {
    "cloudpickle.cloudpickle.dump": ("obj", "cloudpickle"),
    "joblib.externals.cloudpickle.cloudpickle.dump": ("obj", "cloudpickle"),
    "multiprocessing.reduction.dump": ("obj", "pickle"),
    "multiprocessing.reduction.dumps": ("obj", "pickle"),
    "pickle.dump": ("obj", "joblib"),  # of the pickler in Python, which is joblib's base
    "copy.deepcopy": ("x", "deepcopy"),
    "skops.io._persist._save": ("obj", "pickle"),
}


def starts() -> Iterator[Start]:
    """Yield the dumps that are under way in this thread, the innermost first."""
    return filter(None, map(_start, _callers()))


def start_of_pickler() -> Start | None:
    """Return the start of the dump whose pickler runs a reducer; None if it is not known.

    That is so for a pickler written in C, unless a function in Python has started it.
    """
    frame = _asking()
    # This is a pickler in Python, below the function that has started it; or the function that has
    # called a pickler in C.
    if frame is None or _module(frame) == "skops.io._utils" or _asks(frame.f_code):
        return next(starts(), None)
    return _start(frame)


def _start(frame: types.FrameType) -> Start | None:
    """Return the dump that a frame has started; None for a frame of another function."""
    function = f"{_module(frame)}.{frame.f_code.co_name}"
    if function not in _VARIABLES:
        return None
    variable, transport = _VARIABLES[function]
    by_value = hasattr(frame.f_locals.get("self"), "reducer_override")
    return Start(function, transport, by_value, frame.f_locals.get(variable))


# --- the transport of a pickle --------------------------------------------------------------------
# The pickle itself can't tell: the same bytes may be in a message to a worker and in a file that a
# task in the worker reads. A message sets up the worker; a file changes nothing.


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
        module = _module(frame)
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
        is_scheduler = _module(frame) == "distributed.scheduler"
        if is_scheduler and frame.f_code.co_name == "update_graph":
            # With workers in this process, as of Client(processes=False), it pickles nothing again.
            scheduler = frame.f_locals.get("self")
            return not str(getattr(scheduler, "address", "")).startswith("inproc://")
    return False


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")
