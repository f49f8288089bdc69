"""What comes first in a pickle for a worker of an engine: whether it has this package, and Keras.

Where this package is missing, nothing of it can say so. What travels is therefore the text of
`process_role`, to be executed there, before anything that needs this package is unpickled.
"""

from __future__ import annotations

import functools
import operator
import pkgutil
import sys
from collections.abc import Callable
from typing import Any

from .._version import __version__
from ..core import keras_backend, process_role

__all__ = ["Sealed", "requirements", "text_of_check"]

Requirements = tuple[dict[str, str], str | None]


class Sealed:
    """An object that only a worker unpickles that has what it takes; what comes out is the object.

    Parameters
    ----------
    content : object
        What needs this package there.
    """

    def __init__(self, content: Any) -> None:
        self.content, self.wanted = content, requirements()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Reduce to a pair, of which the first is executed first and the second taken."""
        return operator.itemgetter(1), ((_Check(self.wanted), self.content),)


class _Check:
    def __init__(self, wanted: Requirements) -> None:
        self.wanted = wanted

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        names = {"__name__": process_role.__name__, "wanted": self.wanted}
        return exec, (text_of_check(), names)


def requirements() -> Requirements:
    """Return what a worker must have to work for this program: see `process_role.check`."""
    versions = {"keras_reduce": __version__}
    for name in ("keras", "tf_keras"):
        version = process_role.version_of(name) if name in sys.modules else None
        if version is not None:
            versions[name] = version
    return versions, keras_backend.chosen()


@functools.cache
def text_of_check() -> str:
    """Return what is to be executed where `wanted` is what `requirements` has returned."""
    # From a zip file as well, as which Spark ships packages.
    text = pkgutil.get_data(process_role.__package__ or "", "process_role.py")
    assert text is not None
    return f"{text.decode()}\ncheck(*wanted)"
