"""Check of a cluster's worker before it unpickles objects that need this package and Keras.

Where this package is missing, its code can't report that. So the pickle contains the source text of
`process_role`, which the worker executes before it unpickles anything that needs this package.
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

__all__ = ["GuardedPickle", "requirements", "text_of_check"]

Requirements = tuple[dict[str, str], str | None]


class GuardedPickle:
    """Wrapper that checks the requirements of a worker before its content is unpickled.

    Parameters
    ----------
    content : object
        The object; unpickling the wrapper returns it.
    """

    def __init__(self, content: Any) -> None:
        self.content, self.wanted = content, requirements()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return a call that unpickles the check, then the content, and takes the latter."""
        return operator.itemgetter(1), ((_Check(self.wanted), self.content),)


class _Check:
    def __init__(self, wanted: Requirements) -> None:
        self.wanted = wanted

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        names = {"__name__": process_role.__name__, "wanted": self.wanted}
        return exec, (text_of_check(), names)


def requirements() -> Requirements:
    """Return the versions and the backend that workers need, for `process_role.check`."""
    versions = {"keras_reduce": __version__}
    for name in ("keras", "tf_keras"):
        version = process_role.version_of(name) if name in sys.modules else None
        if version is not None:
            versions[name] = version
    return versions, keras_backend.chosen()


@functools.cache
def text_of_check() -> str:
    """Return source text that checks a worker, given the `requirements` as ``wanted``."""
    # pkgutil also reads from a zip file, which Spark may ship a package as.
    text = pkgutil.get_data(process_role.__package__ or "", "process_role.py")
    assert text is not None
    return f"{text.decode()}\ncheck(*wanted)"
