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

from . import admission, workers
from .errors import FrameworkError

__all__ = ["repairs"]

_FRESH = 1.0  # second for which all workers are taken to be those that have been asked
_PATIENCE = 30.0  # seconds; whoever has not answered by then is taken to be fit
_OURS = re.compile(re.escape((__package__ or "").encode()))


def repairs() -> Iterable[tuple[Any, str, Callable[[Any], Any]]]:
    """Return the methods of Dask's client that are replaced: owner, name, and by what."""
    from distributed import Client

    # Private: by the first all messages go to a scheduler, graphs among them; it is called in the
    # loop. By the second go data.
    yield Client, "_send_to_scheduler_safe", _asking_before_tasks
    yield Client, "_scatter", _asking_before_data
    yield Client, "_close", _sending_before_the_end


# --- what is sent ----------------------------------------------------------------------------


class _Line:
    """Messages of a client that wait, in their order, until workers have answered."""

    def __init__(self, client: Any, send: Callable[[Any, Any], None], message: Any) -> None:
        self.client, self.send, self.waiting = client, send, deque([message])
        self.end = asyncio.ensure_future(self._move())

    async def _move(self) -> None:
        while self.waiting:
            # Others must see that there is a line until it has been sent.
            message = self.waiting[0]
            try:
                if _is_graph(message) and _refers_to_us(message["expr_ser"].frames):
                    _refuse(await _ask(self.client), message["annotations"].data.get("workers"))
                self.send(self.client, message)
            except FrameworkError as error:
                for key in message["keys"]:
                    # Private: what the scheduler's word of a task that has failed is given to.
                    self.client._handle_task_erred(key, error, None)
            except Exception as error:
                # As if it had been sent at once: nobody waits for that either.
                context = {"message": "A message for Dask was not sent", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
            self.waiting.popleft()
        del _LINES[self.client]


_LINES: dict[Any, _Line] = {}


def _asking_before_tasks(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _send_to_scheduler_safe(self: Any, message: Any) -> None:
        if self in _LINES:
            _LINES[self].waiting.append(message)
        elif self.status == "running" and _is_graph(message) and not _known(self).is_fresh():
            _LINES[self] = _Line(self, original, message)
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
            await asyncio.wait([_LINES[self].end], timeout=_PATIENCE)
        return await original(self, *arguments, **options)

    return _close


def _frames(data: Any) -> list[Any]:
    from distributed.protocol.serialize import serialize

    with contextlib.suppress(Exception):  # Dask says so itself.
        _, frames = serialize(data, on_error="raise")
        return list(frames)
    return []


def _refers_to_us(frames: Iterable[Any]) -> bool:
    """Tell whether a worker would import this package to unpickle something."""
    return any(_OURS.search(frame) for frame in frames)


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
    asked : float
        When, by `time.monotonic`.
    """

    wanted: dict[str, str]
    fit: set[str] = dataclasses.field(default_factory=set)
    unfit: list[_Unfit] = dataclasses.field(default_factory=list)
    asked: float = -_FRESH

    def is_fresh(self) -> bool:
        """Tell whether nothing need be asked; one that was not fit may have gone."""
        return not self.unfit and time.monotonic() - self.asked < _FRESH


_CLIENTS: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()


def _known(client: Any) -> _Known:
    # A worker whose Keras has another backend says so in the task.
    wanted, _ = admission.requirements()
    known = _CLIENTS.get(client)
    if known is None or known.wanted != wanted:
        known = _CLIENTS[client] = _Known(wanted)
    return known


async def _ask(client: Any) -> list[_Unfit]:
    """Ask workers that have not been asked, or were not fit; returns those that are not."""
    known = _known(client)
    if known.is_fresh():
        return []
    try:
        await asyncio.wait_for(_learn(client, known), _PATIENCE)
    except Exception:
        # What is to be sent will meet the same, and Dask has words for it.
        return known.unfit
    return known.unfit


async def _learn(client: Any, known: _Known) -> None:
    addresses = await client.scheduler.ncores()
    answers: dict[str, Any] = {}
    if asked := [each for each in addresses if each not in known.fit]:
        names = {"__name__": workers.__name__, "wanted": (known.wanted,)}
        arguments = exec, admission.text_of_check(), names
        answers = await client._run(*arguments, workers=asked, on_error="return")
    # Another error is none of what is asked here: the worker has ended meanwhile, it may be.
    said = {each: str(error) for each, error in answers.items() if isinstance(error, ImportError)}
    known.fit |= {each for each, answer in answers.items() if answer is None}
    known.unfit = await _with_names(client, said) if said else []
    known.asked = time.monotonic()


async def _with_names(client: Any, said: dict[str, str]) -> list[_Unfit]:
    found = (await client.scheduler.identity(n_workers=-1))["workers"]
    return [
        _Unfit(text, frozenset({address, *map(found.get(address, {}).get, ("name", "host"))}))
        for address, text in said.items()
    ]
