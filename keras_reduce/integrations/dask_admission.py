"""Whether workers of Dask's can take what a program is about to send them: they are asked first.

A worker that can't unpickle a message ends; so does each that is started in its place, and the
task waits for another for ever. joblib's batches look after themselves: see `dask_batches`.
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
from ..core.call_stacks import PACKAGE
from ..errors import FrameworkError
from . import worker_requirements

__all__ = ["repairs"]

# Seconds: for which the workers are taken to be those that have been asked; for which an address is
# taken to be the same worker; that one has to answer; and for which nobody is asked if one has not.
_FRESH, _SAME, _PATIENCE, _PAUSE = 1.0, 60.0, 5.0, 60.0
_OURS = re.compile(re.escape(PACKAGE.encode()))


def repairs() -> Iterable[tuple[Any, str, Callable[[Any], Any]]]:
    """Return the methods of Dask's client that are replaced: owner, name, and by what."""
    from distributed.client import Client  # The package may not be complete yet.

    # Private: by the first all messages go to a scheduler, graphs among them; it is called in the
    # loop. By the second go data.
    yield Client, "_send_to_scheduler_safe", _asking_before_tasks
    yield Client, "_scatter", _asking_before_data
    yield Client, "_close", _sending_before_the_end


# --- what is sent ----------------------------------------------------------------------------


class _Line:
    """Messages of a client that wait, in their order, until workers have answered."""

    def __init__(self, client: Any, send: Callable[[Any, Any], None], message: Any) -> None:
        self._client, self._send, self._waiting = client, send, deque([message])
        _LINES[client] = self
        self._end = asyncio.ensure_future(self._move())

    def append(self, message: Any) -> None:
        self._waiting.append(message)

    def dissolve(self) -> None:
        """Send all that is waiting, and what comes later at once."""
        if _LINES.get(self._client) is self:
            del _LINES[self._client]
        self._end.cancel()
        while self._waiting:
            self._pass(self._waiting.popleft())

    async def _move(self) -> None:
        try:
            while self._waiting:
                # It stays first in the line meanwhile, as others must see that there is one.
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
            # As if it had been sent from the loop: nobody waits for that either.
            context = {"message": "A message for Dask was not sent", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def _fail(self, message: Any, error: FrameworkError) -> None:
        for key in message["keys"]:
            # Private: what the scheduler's word of a task that has failed is given to.
            self._client._handle_task_erred(key, error, None)


_LINES: dict[Any, _Line] = {}


async def _reason_against(client: Any, message: Any) -> FrameworkError | None:
    """Return what keeps a message from being sent."""
    try:
        if _is_graph(message) and _refers_to_us(message["expr_ser"].frames):
            wishes = message["annotations"].data
            places = None if wishes.get("allow_other_workers") else wishes.get("workers")
            _refuse(await _ask(client), places)
    except FrameworkError as error:
        return error
    except Exception:  # A version of Dask whose messages are others sends them as it always did.
        return None
    return None


def _asking_before_tasks(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _send_to_scheduler_safe(self: Any, message: Any) -> None:
        if self in _LINES:
            _LINES[self].append(message)
        elif self.status == "running" and _is_graph(message) and not _known(self).is_fresh():
            _Line(self, original, message)
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
        if self in _LINES:
            _LINES[self].dissolve()
        return await original(self, *arguments, **options)

    return _close


def _frames(data: Any) -> list[Any]:
    from distributed.protocol.serialize import serialize

    with contextlib.suppress(Exception):  # Dask says so itself.
        _, frames = serialize(data, on_error="raise")
        return list(frames)
    return []


def _refers_to_us(frames: Iterable[Any]) -> bool:
    """Return whether a worker would import this package to unpickle something."""
    return any(_OURS.search(memoryview(frame)) for frame in frames)


def _refuse(unfit: list[_Unfit], places: Any) -> None:
    """Raise if a worker that may get something is not fit.

    Parameters
    ----------
    unfit : list of _Unfit
        Workers that are not.
    places : str, int or list, optional
        Addresses, names or hosts of the workers that it may go to; all if left out.
    """
    named = places if isinstance(places, (list, tuple, set)) else [places]
    for worker in unfit:
        if not places or worker.called.intersection(named):
            raise FrameworkError(worker.said)


# --- who gets it -----------------------------------------------------------------------------


class _Unfit(NamedTuple):
    """A worker that lacks something: what it says, and its address, name and host."""

    said: str
    called: frozenset[Any]


@dataclasses.dataclass
class _Known:
    """What is known of the workers that a client's tasks may run on.

    Attributes
    ----------
    wanted : dict of str to str
        Versions that they were asked for.
    fit : set of str
        Addresses of those that have it.
    unfit : list of _Unfit
        Those that don't.
    asked, again : float
        Since when they were asked for it, and when they are to be asked again, by `time.monotonic`.
    """

    wanted: dict[str, str]
    fit: set[str] = dataclasses.field(default_factory=set)
    unfit: list[_Unfit] = dataclasses.field(default_factory=list)
    asked: float = dataclasses.field(default_factory=time.monotonic)
    again: float = 0.0

    def is_fresh(self) -> bool:
        """Return whether nothing need be asked; one that was not fit may have gone."""
        return not self.unfit and time.monotonic() < self.again


_CLIENTS: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()


def _known(client: Any) -> _Known:
    # A worker whose Keras has another backend says so in the task.
    wanted, _ = worker_requirements.requirements()
    known = _CLIENTS.get(client)
    if known is None or known.wanted != wanted or time.monotonic() - known.asked > _SAME:
        known = _CLIENTS[client] = _Known(wanted)
    return known


async def _ask(client: Any) -> list[_Unfit]:
    """Ask workers that have not been asked, or were not fit; returns those that are not."""
    known = _known(client)
    if known.is_fresh():
        return []
    try:
        known.unfit = await asyncio.wait_for(_answers(client, known), _PATIENCE)
        known.again = time.monotonic() + _FRESH
    except Exception:
        # What is to be sent will meet the same, and Dask has words for it.
        known.unfit, known.again = [], time.monotonic() + _PAUSE
    return known.unfit


async def _answers(client: Any, known: _Known) -> list[_Unfit]:
    addresses = await client.scheduler.ncores()
    answers: dict[str, Any] = {}
    if asked := [each for each in addresses if each not in known.fit]:
        names = {"__name__": process_role.__name__, "wanted": (known.wanted,)}
        arguments = exec, worker_requirements.text_of_check(), names
        answers = await client._run(*arguments, workers=asked, on_error="return")
    # Another error is none of what is asked here: the worker has ended meanwhile, it may be.
    said = {each: str(error) for each, error in answers.items() if isinstance(error, ImportError)}
    known.fit |= {each for each, answer in answers.items() if answer is None}
    return await _with_names(client, said) if said else []


async def _with_names(client: Any, said: dict[str, str]) -> list[_Unfit]:
    found = (await client.scheduler.identity(n_workers=-1))["workers"]
    return [
        _Unfit(text, frozenset({address, *map(found.get(address, {}).get, ("name", "host"))}))
        for address, text in said.items()
    ]
