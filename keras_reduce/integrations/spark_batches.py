"""joblib's backend for Spark: errors that arrive.

The package joblibspark is written for a joblib before 1.5. Since then it takes what a worker has
raised for a list of results, and fails itself when it is to abort a call: whatever has happened,
the program is told that ``Parallel`` has no ``_backend_args``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["repairs"]


def repairs() -> Iterable[tuple[Any, str, Callable[[Any], Any]]]:
    """Return the attributes of the backend that are replaced: owner, name, and by what."""
    from joblibspark.backend import SparkDistributedBackend

    yield SparkDistributedBackend, "abort_everything", _aborting
    if not SparkDistributedBackend.supports_retrieve_callback:
        yield SparkDistributedBackend, "supports_retrieve_callback", lambda _: True
        yield SparkDistributedBackend, "retrieve_result_callback", _raising


def _aborting(original: Callable[..., None]) -> Callable[..., None]:
    def abort_everything(self: Any, ensure_ready: bool = True) -> None:
        # Private, both: what the backend asks for, and what it is called by now.
        self.parallel._backend_args = getattr(self.parallel, "_backend_kwargs", {})
        original(self, ensure_ready)

    return functools.wraps(original)(abort_everything)


def _raising(original: None) -> Callable[..., Any]:
    # Private: for the backends that have pools, of which this one's are threads.
    from joblib._parallel_backends import PoolManagerMixin

    retrieve: Callable[..., Any] = PoolManagerMixin.retrieve_result_callback
    return retrieve
