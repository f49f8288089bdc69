"""Clear error in `skops.io`, which has no format for Keras objects.

skops reduces objects to their attributes without a memo, so the cycles of a model exhaust its
recursion limit.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from typing import Any

from .. import families
from ..errors import ReduceError

__all__ = ["repairs"]


def repairs() -> Iterable[tuple[Any, str, Callable[[Any], Any]]]:
    """Return the patches of skops: module, name, and a function from the old to the new value."""
    # Private: the function that skops calls for each object that it writes.
    return [(sys.modules["skops.io._utils"], "_get_state", _refusing)]


def _refusing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def get_state(obj: Any, *args: Any, **kwargs: Any) -> Any:
        if families.of(obj) is not None:
            raise ReduceError(
                "skops can't hold Keras objects",
                where=type(obj).__qualname__,
                cause="skops.io writes objects by their attributes, which in Keras refer to one "
                "another",
                cure="write the file with keras_reduce.dump(obj, path), and read it with "
                "keras_reduce.load(path, trusted=[...]), which imports only what you list",
            )
        return original(obj, *args, **kwargs)

    return get_state
