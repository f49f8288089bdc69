"""What descriptions are made of: plain data, whatever a pickle says."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

__all__ = [
    "Array",
    "Bytes",
    "Call",
    "Global",
    "Items",
    "Pairs",
    "Reading",
    "Unknown",
    "is_method_of_keras",
]


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
    _known: tuple[int, dict[str, Any] | None] = (-1, None)

    def plain(self) -> dict[str, Any] | None:
        """Return the values by their keys; None unless all of these are texts, and no two equal.

        Loading computes a key that is not a text here, and keeps the last of equal ones.
        """
        if self._known[0] != len(self.pairs):
            texts = [key for key, _ in self.pairs if isinstance(key, str)]
            is_plain = len(self.pairs) == len(texts) == len(set(texts))
            self._known = len(self.pairs), dict(self.pairs) if is_plain else None
        return self._known[1]


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
    calls : list of Call
        Every call, also of what is not part of an object in the end.
    globals : Counter of Global
        Everything that is named, and how often.
    called : set of Global
        Those that are called, by themselves or by one that calls what it is given.
    protocols : set of int
        Of pickle.
    holds_arrays : bool
        Whether bytes of arrays lie between opcodes, where joblib alone finds them.
    opcodes : int
        How many there are.
    odd : dict of str to None
        What no pickler writes, or hides what is meant.
    ended : str
        Where and why reading ended before the end; empty if it did not.
    """

    objects: list[Any] = dataclasses.field(default_factory=list)
    calls: list[Call] = dataclasses.field(default_factory=list)
    globals: Counter[Global] = dataclasses.field(default_factory=Counter)
    called: set[Global] = dataclasses.field(default_factory=set)
    protocols: set[int] = dataclasses.field(default_factory=set)
    holds_arrays: bool = False
    opcodes: int = 0
    odd: dict[str, None] = dataclasses.field(default_factory=dict)
    ended: str = ""


def is_method_of_keras(call: Call) -> bool:
    """Return whether a call gives the method by which Keras unpickles its own archives."""
    arguments = call.arguments if isinstance(call.arguments, tuple) else ()
    if call.function != Global("builtins", "getattr") or len(arguments) != 2:
        return False
    of = arguments[0]
    is_of_keras = isinstance(of, Global) and of.module.startswith("keras.") and "." not in of.name
    return is_of_keras and arguments[1] == "_unpickle_model"
