"""Patches of joblibspark for the errors of tasks.

joblibspark is written for joblib before 1.5. With later versions it treats an error from a worker
as a list of results, and fails itself when it aborts a call: for any error, the program sees that
``Parallel`` has no ``_backend_args``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["repairs"]


def repairs() -> Iterable[tuple[Any, str, Callable[[Any], Any]]]:
    """Yield the patches of the backend: owner, name, and a function from old to new value."""
    from joblibspark.backend import SparkDistributedBackend

    yield SparkDistributedBackend, "abort_everything", _aborting
    if not SparkDistributedBackend.supports_retrieve_callback:
        yield SparkDistributedBackend, "supports_retrieve_callback", lambda _: True
        yield SparkDistributedBackend, "retrieve_result_callback", _raising


def _aborting(original: Callable[..., None]) -> Callable[..., None]:
    def abort_everything(self: Any, ensure_ready: bool = True) -> None:
        # Private: the old name that joblibspark uses, and the current one.
        self.parallel._backend_args = getattr(self.parallel, "_backend_kwargs", {})
        original(self, ensure_ready)

    return functools.wraps(original)(abort_everything)


def _raising(original: None) -> Callable[..., Any]:
    # Private: the method of backends with pools, such as the thread pool of this one.
    from joblib._parallel_backends import PoolManagerMixin

    retrieve: Callable[..., Any] = PoolManagerMixin.retrieve_result_callback
    return retrieve
