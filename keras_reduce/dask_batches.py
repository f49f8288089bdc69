"""joblib's backend for Dask: batches that are opened where they run, and errors that arrive.

Dask unpickles what a task is called with in its scheduler, and in the loop by which a worker talks
to it. The one would have to import all that the user's code imports, and would do nothing else
meanwhile; the other falls silent if that fails. So functions and arguments travel as bytes and
arrays, and are unpickled by the task itself.
"""

from __future__ import annotations

import functools
import pickle
import types
from collections.abc import Callable, Iterable
from typing import Any

from . import admission
from .errors import KerasReduceError, ReduceError

__all__ = ["SealedBatch", "repairs", "run_batch"]

_MARK = "keras_reduce envelope"


def repairs(current: Callable[[], Any]) -> Iterable[tuple[Any, str, Callable[[Any], Any]]]:
    """Return the methods of joblib's backend that are replaced: owner, name, and by what.

    Parameters
    ----------
    current : callable
        Gives what prepares a worker by being unpickled.
    """
    from joblib._dask import DaskDistributedBackend

    with_envelopes = functools.partial(_with_envelopes, current)
    yield DaskDistributedBackend, "_to_func_args", with_envelopes
    yield DaskDistributedBackend, "submit", _telling_of_errors


class SealedBatch:
    """A batch of joblib's for a worker that may lack this package; what is unpickled is a function.

    Parameters
    ----------
    batch : joblib._dask.Batch
        What runs the tasks.
    installation : object
        What prepares the worker by being unpickled.
    """

    def __init__(self, batch: Any, installation: Any) -> None:
        self._name, self._envelope = repr(batch), _envelope((installation, batch))
        self._wanted = admission.requirements()

    def __repr__(self) -> str:
        """Return the name of the batch, which becomes that of the task."""
        return self._name

    def __call__(self, tasks: Any) -> Any:
        """Run the tasks: called where a cluster's workers are threads of the program."""
        return run_batch(self._envelope, tasks)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Reduce to a function and what it is called with, none of which needs this package."""
        text = admission.text_of_check()
        return functools.partial, (_Opener(), text, self._wanted, self._envelope)


class _Opener:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes]]:
        return pickle.loads, (_opener(),)


@functools.cache
def _opener() -> bytes:
    """Return a pickle of `admit_and_run` by value."""
    import cloudpickle

    # A twin, which no import would give: so it is not written as a name in a module.
    code = admit_and_run.__code__
    return bytes(cloudpickle.dumps(types.FunctionType(code, {}, code.co_name)))


def admit_and_run(text, wanted, envelope, tasks):  # type: ignore[no-untyped-def]
    # Travels by value: uses nothing of this module.
    exec(text, {"__name__": "keras_reduce.workers", "wanted": wanted})
    from keras_reduce.dask_batches import run_batch

    return run_batch(envelope, tasks)


def run_batch(envelope: Any, tasks: Any) -> Any:
    """Open all that a batch consists of, in the task that it is, and run it.

    The path of this function is wire format.

    Parameters
    ----------
    envelope : tuple
        With what prepares the worker, and the batch.
    tasks : list
        Of function, arguments and keyword arguments, each in an envelope or as it is.
    """
    _, batch = _opened(envelope)
    return batch(
        tasks=[
            (
                _opened(function),
                list(map(_opened, arguments)),
                {name: _opened(value) for name, value in named.items()},
            )
            for function, arguments, named in tasks
        ]
    )


def fail(error: BaseException) -> None:
    """Raise what has befallen a task, in its place; its path is wire format."""
    raise error


def _with_envelopes(current: Callable[[], Any], original: Callable[..., Any]) -> Callable[..., Any]:
    # Private: gives a batch and its tasks, in which what is large is with the workers already.
    async def _to_func_args(self: Any, func: Any) -> tuple[Any, list[Any]]:
        try:
            batch, tasks = await original(self, func)
            sealed = [
                (
                    _envelope(function),
                    list(map(_closed, arguments)),
                    {name: _closed(value) for name, value in named.items()},
                )
                for function, arguments, named in tasks
            ]
        except Exception as error:
            # Nobody hears of what is raised here, be it by Dask, which has sent what is large.
            sealed = [(_envelope(fail), [_envelope(_told(error))], {})]
            batch = _batch()
        return SealedBatch(batch, current()), sealed

    return _to_func_args


def _batch() -> Any:
    from joblib._dask import Batch

    return Batch([(fail, [], {})])


def _told(error: Exception) -> KerasReduceError:
    """Return an error that can be sent."""
    root: BaseException | None = error
    while root is not None:
        if isinstance(root, KerasReduceError):
            return root
        root = root.__cause__
    return ReduceError(
        "A task could not be sent to Dask",
        cause=f"{type(error).__name__}: {error}",
        cure="keras_reduce.explain(object) tells which part of an argument can't be pickled; if a "
        "worker could not take it, its log says more",
    )


def _closed(argument: Any) -> Any:
    from distributed import Future

    # Of these types themselves: a class below them may be the user's.
    is_plain = type(argument) in (str, int, float, bool, type(None))
    return argument if is_plain or isinstance(argument, Future) else _envelope(argument)


def _envelope(content: Any) -> tuple[Any, ...]:
    """Return a pickle of an object, and the memory of its arrays, as arrays of bytes.

    These Dask sends as they are, without a copy.
    """
    import cloudpickle
    import numpy as np

    buffers: list[pickle.PickleBuffer] = []
    try:
        blob = cloudpickle.dumps(content, 5, buffers.append)
    except KerasReduceError:
        raise
    except Exception as error:
        raise ReduceError(
            f"An argument of a task for Dask can't be pickled: {type(content).__qualname__}",
            cause=f"{type(error).__name__}: {error}",
            cure="keras_reduce.explain(object) tells which part of it; leave that out, or give its "
            "class a __reduce__",
        ) from error
    return _MARK, blob, *(np.frombuffer(buffer.raw(), "uint8") for buffer in buffers)


def _opened(value: Any) -> Any:
    is_envelope = type(value) is tuple and value and isinstance(value[0], str) and value[0] == _MARK
    return pickle.loads(value[1], buffers=value[2:]) if is_envelope else value


def _telling_of_errors(original: Callable[..., Any]) -> Callable[..., Any]:
    def submit(self: Any, func: Any, callback: Callable[[Any], Any] | None = None) -> Any:
        future = original(self, func, callback)

        def tell(done: Any) -> None:
            # joblib waits for its callback, but its backend calls that only with results: it would
            # wait for ever for a task whose worker dies again and again.
            if callback is not None and not done.cancelled() and done.exception() is not None:
                callback(done.exception())

        future.add_done_callback(tell)
        return future

    return submit
