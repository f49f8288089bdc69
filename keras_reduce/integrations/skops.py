"""An error for `skops.io`, which has no format for Keras objects.

skops takes an object apart by its attributes and never looks at what it has met before, so it ends
in the cycles of a model.
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
    """Return what is replaced in skops: module, name, and a function from the old to the new."""
    # Private: the function that each object passes on its way into a file.
    return [(sys.modules["skops.io._utils"], "_get_state", _refusing)]


def _refusing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def get_state(obj: Any, *args: Any, **kwargs: Any) -> Any:
        if families.of(obj) is not None:
            raise ReduceError(
                "skops can't hold Keras objects",
                where=type(obj).__qualname__,
                cause="skops.io takes objects apart by their attributes, which in Keras refer to "
                "one another",
                cure="write the file with keras_reduce.dump(obj, path), and read it with "
                "keras_reduce.load(path, trusted=[...]), which executes only what you list",
            )
        return original(obj, *args, **kwargs)

    return get_state
