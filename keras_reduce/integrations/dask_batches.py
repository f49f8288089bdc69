"""joblib's backend for Dask: batches that are opened where they run, and errors that arrive.

Dask unpickles what a task is called with in its scheduler, and in the loop by which a worker talks
to it. The one would have to import all that the user's code imports, and would do nothing else
meanwhile; the other falls silent if that fails. So functions and arguments travel as bytes and
arrays, and are unpickled by the task itself.
"""

from __future__ import annotations

import functools
import io
import pickle
import types
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import KerasReduceError, ReduceError
from . import worker_requirements

__all__ = ["SealedBatch", "repairs", "run_batch"]

# A pickle, the memory of its arrays, as arrays of bytes, and the futures in it, or their results.
# Dask sends arrays as they are, without a copy, and finds futures in lists and tuples.
Envelope = tuple[bytes, list[Any], list[Any]]


def repairs(order: Callable[[], Any]) -> Iterable[tuple[Any, str, Callable[[Any], Any]]]:
    """Return the methods of joblib's backend that are replaced: owner, name, and by what.

    Parameters
    ----------
    order : callable
        Returns what sets up a worker by being unpickled.
    """
    from joblib._dask import DaskDistributedBackend

    with_envelopes = functools.partial(_with_envelopes, order)
    yield DaskDistributedBackend, "_to_func_args", with_envelopes
    yield DaskDistributedBackend, "submit", _telling_of_errors


class SealedBatch:
    """A batch of joblib's for a worker that may lack this package; what is unpickled is a function.

    Parameters
    ----------
    batch : joblib._dask.Batch
        What runs the tasks.
    order : object
        What sets up the worker by being unpickled.
    """

    def __init__(self, batch: Any, order: Any) -> None:
        self._name, self._envelope = repr(batch), _sealed((order, batch), "a batch of tasks")
        self._wanted = worker_requirements.requirements()

    def __repr__(self) -> str:
        """Return the name of the batch, which becomes that of the task."""
        return self._name

    def __call__(self, tasks: Any) -> Any:
        """Run the tasks: called where a cluster's workers are threads of the program."""
        return run_batch(self._envelope, tasks)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Reduce to a function and what it is called with, none of which needs this package."""
        text = worker_requirements.text_of_check()
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
    exec(text, {"__name__": "keras_reduce.core.process_role", "wanted": wanted})
    from keras_reduce.integrations.dask_batches import run_batch

    return run_batch(envelope, tasks)


def run_batch(envelope: Envelope, tasks: list[Envelope]) -> Any:
    """Open all that a batch consists of, in the task that it is, and run it.

    The path of this function and the order of its parameters are wire format: add at the end, with
    defaults.

    Parameters
    ----------
    envelope : tuple
        With what sets up the worker, and the batch.
    tasks : list of tuple
        Envelopes, each with function, arguments and keyword arguments.
    """
    _, batch = _opened(envelope)
    return batch(tasks=list(map(_opened, tasks)))


def fail(error: BaseException) -> None:
    """Raise what has befallen a task, in its place; its path is wire format."""
    raise error


def _with_envelopes(order: Callable[[], Any], original: Callable[..., Any]) -> Callable[..., Any]:
    # Private: gives a batch and its tasks, in which what is large is with the workers already.
    async def _to_func_args(self: Any, func: Any) -> tuple[Any, list[Envelope]]:
        try:
            batch, tasks = await original(self, func)
            # Of each task by itself, as joblib gives each to a worker by itself elsewhere.
            sealed = [_sealed(task, _name(task[0])) for task in tasks]
        except Exception as error:
            # Nobody hears of what is raised here, be it by Dask, which has sent what is large.
            sealed = [_sealed((fail, [_told(error)], {}), "an error")]
            batch = _batch()
        return SealedBatch(batch, order()), sealed

    return _to_func_args


def _name(function: Any) -> str:
    return f"a task for {getattr(function, '__qualname__', type(function).__qualname__)}"


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


def _sealed(content: Any, what: str) -> Envelope:
    """Put an object into an envelope; `what` it is, an error says."""
    import cloudpickle
    import numpy as np
    from distributed import Future

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc, unused-ignore]
        def persistent_id(self, obj: Any) -> int | None:
            # Where it lies is another question: in an argument, a list, an attribute.
            if not isinstance(obj, Future):
                return None
            futures.append(obj)
            return len(futures) - 1

    futures: list[Any] = []
    buffers: list[pickle.PickleBuffer] = []
    file = io.BytesIO()
    try:
        Pickler(file, 5, buffer_callback=buffers.append).dump(content)
    except KerasReduceError:
        raise
    except Exception as error:
        raise ReduceError(
            f"What is to be sent to Dask can't be pickled: {what}",
            cause=f"{type(error).__name__}: {error}",
            cure="keras_reduce.explain(object) tells which part of an argument; leave that out, or "
            "give its class a __reduce__",
        ) from error
    arrays = [np.frombuffer(buffer.raw(), "uint8") for buffer in buffers]
    return file.getvalue(), arrays, futures


def _opened(envelope: Envelope) -> Any:
    blob, arrays, results = envelope

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, number: int) -> Any:
            return results[number]

    return Unpickler(io.BytesIO(blob), buffers=arrays).load()


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
