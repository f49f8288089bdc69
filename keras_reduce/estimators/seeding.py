"""Isolation of seeded fits: a lock for the random generators of the process.

``random_state`` seeds generators that all threads share: those of Python, NumPy and the framework.
So a seeded fit runs alone, while fits without a seed run concurrently with each other. Processes
have separate generators and don't wait for one another.

Threads that fit nothing don't take the lock, but may draw from Python's generator, from which Keras
draws the seeds of layers: Dask's event loop does so for each task. So other threads draw from a
copy of that generator while a seeded fit runs.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import joblib
from joblib.parallel import get_active_backend

from .. import families
from ..core.private_names import find

__all__ = ["GeneratorLock", "PrivateRandom", "fitting", "set_seed"]

_log = logging.getLogger(__name__)
# Seconds after which a waiting thread logs the reason.
_PATIENCE = 60.0


class GeneratorLock:
    """A re-entrant lock that one thread holds exclusively, or several threads hold shared.

    A thread that holds it shared may acquire it exclusively: while it waits, it doesn't draw random
    numbers, so it gives up its share. A thread that acquires a share never waits for waiting
    threads, so threads that hold a share can't block each other.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._owner: int | None = None
        self._depth = 0
        self._shares: Counter[int] = Counter()
        self._has_warned = False

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock exclusively."""
        thread = threading.get_ident()
        with self._changed:
            shares = self._shares.pop(thread, 0)
            try:
                if self._owner != thread:
                    if shares:
                        self._changed.notify_all()
                    self._wait(lambda: self._owner is None and not self._shares)
                    self._owner = thread
            except BaseException:
                self._return_shares(thread, shares)
                raise
            self._depth += 1
        try:
            yield
        finally:
            with self._changed:
                self._depth -= 1
                self._return_shares(thread, shares)
                if not self._depth:
                    self._owner = None
                    self._changed.notify_all()

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock together with other threads that hold it shared."""
        thread = threading.get_ident()
        with self._changed:
            if self._owner != thread and thread not in self._shares:
                self._wait(lambda: self._owner is None)
            self._shares[thread] += 1
        try:
            yield
        finally:
            with self._changed:
                self._shares[thread] -= 1
                if not self._shares[thread]:
                    del self._shares[thread]
                    self._changed.notify_all()

    def _return_shares(self, thread: int, shares: int) -> None:
        if shares:
            self._shares[thread] += shares

    def _wait(self, condition: Callable[[], bool]) -> None:
        if self._changed.wait_for(condition, None if self._has_warned else _PATIENCE):
            return
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "A fit has waited %.0f seconds for a fit in another thread, since fits with a "
                "random_state run one at a time in each process. Use joblib's processes "
                "(n_jobs with the backend 'keras' or 'loky'), or random_state=None",
                _PATIENCE,
            )
        self._changed.wait_for(condition)


class PrivateRandom:
    """Reservation of the generator of Python's module `random` for one thread.

    Other threads draw from a copy: while the reservation lasts, the functions of the module are
    replaced. Code that has imported one of them by name still draws from the generator itself.
    """

    def __init__(self) -> None:
        self._thread: int | None = None
        self._copy = random.Random()

    @contextlib.contextmanager
    def reserved(self) -> Iterator[None]:
        """Reserve the generator for this thread, which holds the lock exclusively."""
        if self._thread is not None:
            yield
            return
        generator = getattr(random.random, "__self__", None)
        replaced = {
            name: function
            for name, function in vars(random).items()
            if generator is not None and getattr(function, "__self__", None) is generator
        }
        ours = {
            name: self._dispatching(function, getattr(self._copy, name))
            for name, function in replaced.items()
        }
        self._thread = threading.get_ident()
        vars(random).update(ours)
        try:
            yield
        finally:
            self._thread = None
            for name, function in ours.items():
                if vars(random).get(name) is function:  # unless other code has replaced it since
                    setattr(random, name, replaced[name])

    def align(self) -> None:
        """Set the copy to the state of the generator: a fit may start threads."""
        self._copy.setstate(random.getstate())

    def release(self) -> None:
        """End the reservation."""
        self._thread = None

    def _dispatching(self, function: Any, of_copy: Any) -> Any:
        @functools.wraps(function)
        def draw(*args: Any, **kwargs: Any) -> Any:
            # Code that imports this function by name meanwhile keeps it after the fit.
            is_owner = self._thread in (None, threading.get_ident())
            return (function if is_owner else of_copy)(*args, **kwargs)

        return draw


_generators = GeneratorLock()
_random = PrivateRandom()


def _renew() -> None:
    """Create a new lock in a forked process, since threads that held the old one are gone."""
    global _generators
    _generators = GeneratorLock()
    _random.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@contextlib.contextmanager
def fitting(*, is_seeded: bool) -> Iterator[None]:
    """Hold the lock during a fit: exclusively if it is seeded, else shared.

    A build function or a callback may itself call joblib. If threads of such a call fitted
    estimators, they and this thread would wait for each other, so a threading backend of joblib is
    replaced by the sequential one.
    """
    with contextlib.ExitStack() as stack:
        if is_seeded:
            stack.enter_context(_generators.exclusive())
            stack.enter_context(_random.reserved())
        else:
            stack.enter_context(_generators.shared())
        stack.enter_context(_without_inner_threads())
        yield


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and the framework during a seeded fit."""
    families.active().set_random_seed(seed)
    _random.align()


# Private: backends with tasks in other processes. If a name has gone, its tasks run one by one.
_OTHER_PROCESSES = (
    "joblib._parallel_backends:LokyBackend",
    "joblib._parallel_backends:MultiprocessingBackend",
)


def _without_inner_threads() -> contextlib.AbstractContextManager[object]:
    backend, _ = get_active_backend()
    classes = map(find, _OTHER_PROCESSES)
    if isinstance(backend, tuple(cls for cls in classes if cls is not None)):
        return contextlib.nullcontext()
    context: contextlib.AbstractContextManager[object] = joblib.parallel_config("sequential")
    return context
