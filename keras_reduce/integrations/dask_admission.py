"""Check of Dask workers before a program sends them objects that need this package.

A worker that can't unpickle a message ends, and so does each of its replacements, so that the task
waits for ever. Batches of joblib check workers themselves, see `dask_batches`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import re
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..core import process_role
from ..core.context import PACKAGE
from ..errors import FrameworkError
from . import worker_requirements

__all__ = ["repairs"]

# Seconds: validity of the list of workers; validity of the result for an address; timeout for an
# answer; and pause after a timeout.
_FRESH, _SAME, _PATIENCE, _PAUSE = 1.0, 60.0, 5.0, 60.0
_OURS = re.compile(re.escape(PACKAGE.encode()))


def repairs() -> Iterable[tuple[Any, str, Callable[[Any], Any]]]:
    """Yield the patches of Dask's client: owner, name, and a function from old to new method."""
    from distributed.client import Client  # The package may not be complete yet.

    # Private: the first sends all messages to the scheduler, including graphs; it is called in the
    # event loop. The second sends data.
    yield Client, "_send_to_scheduler_safe", _asking_before_tasks
    yield Client, "_scatter", _asking_before_data
    yield Client, "_close", _sending_before_the_end


# --- what is sent ----------------------------------------------------------------------------


class _Queue:
    """Queue of the messages of a client that wait until workers have answered."""

    def __init__(self, client: Any, send: Callable[[Any, Any], None], message: Any) -> None:
        self._client, self._send, self._waiting = client, send, deque([message])
        _QUEUES[client] = self
        self._end = asyncio.ensure_future(self._move())

    def append(self, message: Any) -> None:
        self._waiting.append(message)

    def dissolve(self) -> None:
        """Send all waiting messages, and later ones at once."""
        if _QUEUES.get(self._client) is self:
            del _QUEUES[self._client]
        self._end.cancel()
        while self._waiting:
            self._pass(self._waiting.popleft())

    async def _move(self) -> None:
        try:
            while self._waiting:
                # The message stays in the queue meanwhile, so that later ones wait as well.
                error = await _reason_against(self._client, self._waiting[0])
                message = self._waiting.popleft()
                if error is None:
                    self._pass(message)
                else:
                    self._fail(message, error)
        finally:
            self.dissolve()

    def _pass(self, message: Any) -> None:
        try:
            self._send(self._client, message)
        except Exception as error:
            # As for a message sent from the event loop, for whose result no code waits.
            context = {"message": "A message for Dask was not sent", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def _fail(self, message: Any, error: FrameworkError) -> None:
        for key in message["keys"]:
            # Private: handles the scheduler's message that a task has failed.
            self._client._handle_task_erred(key, error, None)


_QUEUES: dict[Any, _Queue] = {}


async def _reason_against(client: Any, message: Any) -> FrameworkError | None:
    """Return the error if a message must not be sent, else None."""
    try:
        if _is_graph(message) and _refers_to_us(message["expr_ser"].frames):
            wishes = message["annotations"].data
            places = None if wishes.get("allow_other_workers") else wishes.get("workers")
            _refuse(await _ask(client), places)
    except FrameworkError as error:
        return error
    except Exception:  # Another version of Dask has other messages, which are sent unchecked.
        return None
    return None


def _asking_before_tasks(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _send_to_scheduler_safe(self: Any, message: Any) -> None:
        if self in _QUEUES:
            _QUEUES[self].append(message)
        elif (
            self.status == "running"
            and _is_graph(message)
            and not _checked_workers(self).is_fresh()
        ):
            _Queue(self, original, message)
        else:
            original(self, message)

    return _send_to_scheduler_safe


def _is_graph(message: Any) -> bool:
    return bool(message.get("op") == "update-graph")


def _asking_before_data(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def _scatter(
        self: Any, data: Any, workers: Any = None, *more: Any, **options: Any
    ) -> Any:
        unfit = await _ask(self)
        if unfit and _refers_to_us(_frames(data)):
            _refuse(unfit, workers)
        return await original(self, data, workers, *more, **options)

    return _scatter


def _sending_before_the_end(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def _close(self: Any, *arguments: Any, **options: Any) -> Any:
        if self in _QUEUES:
            _QUEUES[self].dissolve()
        return await original(self, *arguments, **options)

    return _close


def _frames(data: Any) -> list[Any]:
    from distributed.protocol.serialize import serialize

    with contextlib.suppress(Exception):  # Dask raises the same error itself.
        _, frames = serialize(data, on_error="raise")
        return list(frames)
    return []


def _refers_to_us(frames: Iterable[Any]) -> bool:
    """Return whether a worker must import this package to unpickle the frames."""
    return any(_OURS.search(memoryview(frame)) for frame in frames)


def _refuse(unfit: list[_Unfit], places: Any) -> None:
    """Raise an error if a possible receiver lacks a requirement.

    Parameters
    ----------
    unfit : list of _Unfit
        Workers that lack a requirement.
    places : str, int or list, optional
        Addresses, names or hosts of possible receivers; by default all workers.
    """
    named = places if isinstance(places, (list, tuple, set)) else [places]
    for worker in unfit:
        if not places or worker.called.intersection(named):
            raise FrameworkError(worker.said)


# --- who gets it -----------------------------------------------------------------------------


class _Unfit(NamedTuple):
    """Worker that lacks a requirement: its message, and its address, name and host."""

    said: str
    called: frozenset[Any]


@dataclasses.dataclass
class _CheckedWorkers:
    """Cached results of checking the workers of a client.

    Attributes
    ----------
    wanted : dict of str to str
        Required versions.
    fit : set of str
        Addresses of workers that have them.
    unfit : list of _Unfit
        Workers that don't.
    asked, again : float
        Times of the first and of the next check, by `time.monotonic`.
    """

    wanted: dict[str, str]
    fit: set[str] = dataclasses.field(default_factory=set)
    unfit: list[_Unfit] = dataclasses.field(default_factory=list)
    asked: float = dataclasses.field(default_factory=time.monotonic)
    again: float = 0.0

    def is_fresh(self) -> bool:
        """Return whether no check is needed; an unfit worker may have been replaced."""
        return not self.unfit and time.monotonic() < self.again


_CLIENTS: weakref.WeakKeyDictionary[Any, _CheckedWorkers] = weakref.WeakKeyDictionary()


def _checked_workers(client: Any) -> _CheckedWorkers:
    # Another Keras backend on a worker raises an error in the task.
    wanted, _ = worker_requirements.requirements()
    cached = _CLIENTS.get(client)
    if cached is None or cached.wanted != wanted or time.monotonic() - cached.asked > _SAME:
        cached = _CLIENTS[client] = _CheckedWorkers(wanted)
    return cached


async def _ask(client: Any) -> list[_Unfit]:
    """Check workers that are new or were unfit; return the unfit ones."""
    cached = _checked_workers(client)
    if cached.is_fresh():
        return []
    try:
        cached.unfit = await asyncio.wait_for(_answers(client, cached), _PATIENCE)
        cached.again = time.monotonic() + _FRESH
    except Exception:
        # Sending will raise the same error, which Dask reports.
        cached.unfit, cached.again = [], time.monotonic() + _PAUSE
    return cached.unfit


async def _answers(client: Any, cached: _CheckedWorkers) -> list[_Unfit]:
    addresses = await client.scheduler.ncores()
    answers: dict[str, Any] = {}
    if asked := [each for each in addresses if each not in cached.fit]:
        names = {"__name__": process_role.__name__, "wanted": (cached.wanted,)}
        arguments = exec, worker_requirements.text_of_check(), names
        answers = await client._run(*arguments, workers=asked, on_error="return")
    # Other errors don't concern requirements: the worker may have ended meanwhile.
    messages = {
        each: str(error) for each, error in answers.items() if isinstance(error, ImportError)
    }
    cached.fit |= {each for each, answer in answers.items() if answer is None}
    return await _with_names(client, messages) if messages else []


async def _with_names(client: Any, messages: dict[str, str]) -> list[_Unfit]:
    workers = (await client.scheduler.identity(n_workers=-1))["workers"]
    return [
        _Unfit(text, frozenset({address, *map(workers.get(address, {}).get, ("name", "host"))}))
        for address, text in messages.items()
    ]
