"""What descriptions are made of: plain data, whatever a pickle says."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

__all__ = ["Array", "Bytes", "Call", "Global", "Items", "Pairs", "Reading", "Unknown"]


@dataclasses.dataclass(frozen=True)
class Global:
    """A class, function, or something else that is named, and so imported."""

    module: str
    name: str

    @property
    def path(self) -> str:
        """Module and name."""
        return f"{self.module}.{self.name}"


@dataclasses.dataclass(eq=False)
class Call:
    """An object that comes of a call."""

    function: Any
    arguments: Any
    named: Any = None
    state: Any = None
    items: list[Any] = dataclasses.field(default_factory=list)
    pairs: list[tuple[Any, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(eq=False)
class Items:
    """A list, set or frozenset."""

    kind: str
    items: list[Any]


@dataclasses.dataclass(eq=False)
class Pairs:
    """A dictionary."""

    pairs: list[tuple[Any, Any]]

    def get(self, key: str) -> Any:
        """Return the value of a key that is a text; None without it."""
        return next((value for name, value in self.pairs if _is_text(name, key)), None)


@dataclasses.dataclass(eq=False)
class Bytes:
    """Bytes in the pickle."""

    data: bytes


@dataclasses.dataclass(eq=False)
class Array:
    """An array of joblib's, with its bytes in the file behind its description."""

    dtype: str
    shape: tuple[int, ...]
    size: int
    objects: Any = None


@dataclasses.dataclass(eq=False)
class Unknown:
    """What opcodes don't show."""

    what: str


@dataclasses.dataclass
class Reading:
    """What was read.

    Attributes
    ----------
    objects : list
        A description for each pickle in the file.
    globals : Counter of Global
        Everything that is named, and how often.
    called : set of Global
        Those that are called as they are.
    protocols : set of int
        Of pickle.
    odd : list of str
        What no pickler writes, or hides what is meant.
    ended : str
        Where and why reading ended before the end; empty if it did not.
    """

    objects: list[Any] = dataclasses.field(default_factory=list)
    globals: Counter[Global] = dataclasses.field(default_factory=Counter)
    called: set[Global] = dataclasses.field(default_factory=set)
    protocols: set[int] = dataclasses.field(default_factory=set)
    odd: list[str] = dataclasses.field(default_factory=list)
    ended: str = ""


def _is_text(value: Any, text: str) -> bool:
    return isinstance(value, str) and value == text
