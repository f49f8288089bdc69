"""A lock that gives one seeded fit the random generators of the process.

``random_state`` seeds generators that all threads share: those of Python, NumPy and the framework.
So a seeded fit runs alone, and fits without a seed run beside each other, but not beside it.
Processes have generators of their own and don't wait for one another.

Threads that fit nothing can't be made to wait. From Python's generator, of which Keras takes the
seeds of layers, they draw often: Dask's event loop does for each task. So they get a copy of it
while a seeded fit runs.
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
# Seconds after which a waiting thread says what it waits for.
_PATIENCE = 60.0


class GeneratorLock:
    """A re-entrant lock that one thread holds exclusively, or several threads hold shared.

    A thread that holds it shared may ask for it exclusively: while it waits, it doesn't draw, and
    so gives up its share. A thread that asks for a share never waits for those that wait, so
    threads that hold a share can't block each other.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._owner: int | None = None
        self._depth = 0
        self._shares: Counter[int] = Counter()
        self._has_warned = False

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock alone."""
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
                "A fit has waited %.0f seconds for a fit in another thread: those with a "
                "random_state run one at a time in each process. Use joblib's processes "
                "(n_jobs with the backend 'keras' or 'loky'), or random_state=None",
                _PATIENCE,
            )
        self._changed.wait_for(condition)


class PrivateRandom:
    """The generator of Python's module `random`, for one thread; others draw from a copy.

    While it is in use, the functions of the module are replaced. Code that has imported one of them
    by name still draws from the generator itself.
    """

    def __init__(self) -> None:
        self._thread: int | None = None
        self._copy = random.Random()

    @contextlib.contextmanager
    def own(self) -> Iterator[None]:
        """Give the generator to this thread, which holds the lock exclusively."""
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
                if vars(random).get(name) is function:  # else it has been replaced since
                    setattr(random, name, replaced[name])

    def align(self) -> None:
        """Let the copy go on from where the generator is: a fit may have threads of its own."""
        self._copy.setstate(random.getstate())

    def release(self) -> None:
        """Give the generator to all threads."""
        self._thread = None

    def _dispatching(self, function: Any, of_copy: Any) -> Any:
        @functools.wraps(function)
        def draw(*args: Any, **kwargs: Any) -> Any:
            # Code that has imported this function keeps it when the fit is over.
            is_own = self._thread in (None, threading.get_ident())
            return (function if is_own else of_copy)(*args, **kwargs)

        return draw


_generators = GeneratorLock()
_random = PrivateRandom()


def _renew() -> None:
    """Make a new lock in a forked process: the threads that held the old one are not there."""
    global _generators
    _generators = GeneratorLock()
    _random.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@contextlib.contextmanager
def fitting(*, is_seeded: bool) -> Iterator[None]:
    """Run a fit beside others, or alone if it is seeded.

    A build function or a callback may itself call joblib. Threads of such a call that fit
    estimators would wait for this thread, and it for them; so where joblib would take threads, it
    gets a sequential backend.
    """
    with contextlib.ExitStack() as stack:
        if is_seeded:
            stack.enter_context(_generators.exclusive())
            stack.enter_context(_random.own())
        else:
            stack.enter_context(_generators.shared())
        stack.enter_context(_without_inner_threads())
        yield


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and the framework, in a seeded fit."""
    families.active().set_random_seed(seed)
    _random.align()


# Private: those whose tasks run in other processes. Where one has gone, its tasks run one by one.
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
