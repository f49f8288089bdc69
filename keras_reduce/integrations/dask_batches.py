"""Patches of joblib's Dask backend: tasks unpickle their own batches, and errors are reported.

Dask unpickles the arguments of a task in the scheduler, and in the event loop of a worker. The
scheduler would have to import the modules of the program, and would be blocked meanwhile; a worker
hangs if unpickling fails there. So functions and arguments are sent as bytes and arrays, which the
task itself unpickles.
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

__all__ = ["GuardedBatch", "repairs", "run_batch"]

# A pickle, its out-of-band buffers as arrays of bytes, and its futures, or their results. Dask
# sends arrays without a copy, and finds futures in lists and tuples.
Envelope = tuple[bytes, list[Any], list[Any]]


def repairs(setup: Callable[[], Any]) -> Iterable[tuple[Any, str, Callable[[Any], Any]]]:
    """Yield the patches of the backend: owner, name, and a function from the old to the new method.

    Parameters
    ----------
    setup : callable
        Returns an object that sets up the worker that unpickles it.
    """
    from joblib._dask import DaskDistributedBackend

    with_envelopes = functools.partial(_with_envelopes, setup)
    yield DaskDistributedBackend, "_to_func_args", with_envelopes
    yield DaskDistributedBackend, "submit", _reporting_errors


class GuardedBatch:
    """Batch of joblib tasks that checks the worker before it is unpickled; unpickles as a function.

    Parameters
    ----------
    batch : joblib._dask.Batch
        Runs the tasks.
    setup : object
        Sets up the worker that unpickles it.
    """

    def __init__(self, batch: Any, setup: Any) -> None:
        self._name, self._envelope = repr(batch), _pack((setup, batch), "a batch of tasks")
        self._wanted = worker_requirements.requirements()

    def __repr__(self) -> str:
        """Return the name of the batch, which becomes the name of the task."""
        return self._name

    def __call__(self, tasks: Any) -> Any:
        """Run the tasks; called where the workers of a cluster are threads of the program."""
        return run_batch(self._envelope, tasks)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return a function and its arguments, none of which needs this package."""
        text = worker_requirements.text_of_check()
        return functools.partial, (_TaskFunction(), text, self._wanted, self._envelope)


class _TaskFunction:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes]]:
        return pickle.loads, (_pickled_task_function(),)


@functools.cache
def _pickled_task_function() -> bytes:
    """Return a pickle of `check_and_run` by value."""
    import cloudpickle

    # A copy that can't be imported, so that cloudpickle writes it by value.
    code = check_and_run.__code__
    return bytes(cloudpickle.dumps(types.FunctionType(code, {}, code.co_name)))


def check_and_run(text, wanted, envelope, tasks):  # type: ignore[no-untyped-def]
    # Pickled by value: must not use globals of this module.
    exec(text, {"__name__": "keras_reduce.core.process_role", "wanted": wanted})
    from keras_reduce.integrations.dask_batches import run_batch

    return run_batch(envelope, tasks)


def run_batch(envelope: Envelope, tasks: list[Envelope]) -> Any:
    """Unpickle and run a batch, within its Dask task.

    The path of this function and the order of its parameters are wire format: add at the end, with
    defaults.

    Parameters
    ----------
    envelope : tuple
        Envelope of the set-up of the worker and the batch.
    tasks : list of tuple
        Envelopes of function, arguments and keyword arguments.
    """
    _, batch = _unpack(envelope)
    return batch(tasks=list(map(_unpack, tasks)))


def fail(error: BaseException) -> None:
    """Raise an error instead of running a task; the path of this function is wire format."""
    raise error


def _with_envelopes(setup: Callable[[], Any], original: Callable[..., Any]) -> Callable[..., Any]:
    # Private: returns a batch and its tasks, whose large arguments have been sent to workers.
    async def _to_func_args(self: Any, func: Any) -> tuple[Any, list[Envelope]]:
        try:
            batch, tasks = await original(self, func)
            # Each task separately, as other backends send them.
            packed = [_pack(task, _name(task[0])) for task in tasks]
        except Exception as error:
            # An error raised here, also by Dask, would be lost: send it as a task instead.
            packed = [_pack((fail, [_picklable_error(error)], {}), "an error")]
            batch = _batch()
        return GuardedBatch(batch, setup()), packed

    return _to_func_args


def _name(function: Any) -> str:
    return f"a task for {getattr(function, '__qualname__', type(function).__qualname__)}"


def _batch() -> Any:
    from joblib._dask import Batch

    return Batch([(fail, [], {})])


def _picklable_error(error: Exception) -> KerasReduceError:
    """Return an error that can be pickled."""
    root: BaseException | None = error
    while root is not None:
        if isinstance(root, KerasReduceError):
            return root
        root = root.__cause__
    return ReduceError(
        "A task could not be sent to Dask",
        cause=f"{type(error).__name__}: {error}",
        cure="keras_reduce.explain(object) shows which part of an argument can't be pickled; if a "
        "worker could not receive it, see its log",
    )


def _pack(content: Any, what: str) -> Envelope:
    """Pickle an object into an envelope; `what` names it in errors."""
    import cloudpickle
    import numpy as np
    from distributed import Future

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc, unused-ignore]
        def persistent_id(self, obj: Any) -> int | None:
            # A future may be an argument, in a list, or in an attribute.
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
            f"An object for Dask can't be pickled: {what}",
            cause=f"{type(error).__name__}: {error}",
            cure="keras_reduce.explain(object) shows which part of an argument; leave that out, or "
            "give its class a __reduce__",
        ) from error
    arrays = [np.frombuffer(buffer.raw(), "uint8") for buffer in buffers]
    return file.getvalue(), arrays, futures


def _unpack(envelope: Envelope) -> Any:
    blob, arrays, results = envelope

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, number: int) -> Any:
            return results[number]

    return Unpickler(io.BytesIO(blob), buffers=arrays).load()


def _reporting_errors(original: Callable[..., Any]) -> Callable[..., Any]:
    def submit(self: Any, func: Any, callback: Callable[[Any], Any] | None = None) -> Any:
        future = original(self, func, callback)

        def report(done: Any) -> None:
            # joblib waits for its callback, which its backend calls with results only: it would
            # wait for ever for a task whose worker dies repeatedly.
            if callback is not None and not done.cancelled() and done.exception() is not None:
                callback(done.exception())

        future.add_done_callback(report)
        return future

    return submit
