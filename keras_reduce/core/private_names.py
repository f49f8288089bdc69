"""Names of other libraries that they don't promise to keep, and what is done without one.

A release may take any of them away. A feature that the program can do without is then off, which
is logged once; what carries data refuses instead (see `families.keras3.private`).
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Mapping
from typing import Any

__all__ = ["Manifest", "find"]

_log = logging.getLogger(__package__.partition(".")[0])


class Manifest:
    """Private names of other libraries that one feature needs.

    The `feature`, as the subject of a sentence, is off if one of the `names` has gone, and
    `instead` says what happens in its place. Each name, as `find` takes it, has a text that says
    what it is needed for.
    """

    def __init__(self, feature: str, instead: str, names: Mapping[str, str]) -> None:
        self.feature, self.instead, self.names = feature, instead, dict(names)
        self._has_told = False

    def missing(self) -> list[str]:
        """Return the names that do not exist."""
        return [name for name in self.names if find(name, _GONE) is _GONE]

    def is_complete(self) -> bool:
        """Return whether all names exist; log a warning, once, if some do not."""
        gone = self.missing()
        if gone and not self._has_told:
            self._has_told = True
            shown = ", ".join(name.replace(":", ".") for name in gone)
            _log.warning("%s is off: %s can't be found, so %s", self.feature, shown, self.instead)
        return not gone


_GONE = object()


def find(name: str, default: Any = None) -> Any:
    """Return the object called ``module:path.to.attribute``, or `default` if it does not exist.

    What instances have is written ``module:Class().attribute``: it is there if an ``__init__`` of
    the class sets it; the class is what is returned.
    """
    module, _, path = name.partition(":")
    owner, _, attribute = path.partition("().")
    try:
        referent = functools.reduce(getattr, owner.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        return default
    return referent if not attribute or _sets(referent, attribute) else default


def _sets(cls: Any, attribute: str) -> bool:
    constructors = (vars(base).get("__init__") for base in cls.__mro__)
    codes = (getattr(constructor, "__code__", None) for constructor in constructors)
    return any(attribute in code.co_names for code in codes if code is not None)
