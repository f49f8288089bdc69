"""Classes of the plain data that describe the contents of a pickle."""

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
    """Global of a pickle, which unpickling imports: a class, a function or another object."""

    module: str
    name: str

    @property
    def path(self) -> str:
        """Module and name, joined by a dot."""
        return f"{self.module}.{self.name}"


@dataclasses.dataclass(eq=False)
class Call:
    """Object that a call creates."""

    function: Any
    arguments: Any
    named: Any = None
    state: Any = None
    items: list[Any] = dataclasses.field(default_factory=list)
    pairs: list[tuple[Any, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(eq=False)
class Items:
    """List, set or frozenset."""

    kind: str
    items: list[Any]


@dataclasses.dataclass(eq=False)
class Pairs:
    """Dictionary, as pairs of key and value."""

    pairs: list[tuple[Any, Any]]
    _cached: tuple[int, dict[str, Any] | None] = (-1, None)

    def plain(self) -> dict[str, Any] | None:
        """Return a dict; None unless all keys are strings and no two are equal.

        Loading would compute other keys, and keep the last of equal ones.
        """
        if self._cached[0] != len(self.pairs):
            texts = [key for key, _ in self.pairs if isinstance(key, str)]
            is_plain = len(self.pairs) == len(texts) == len(set(texts))
            self._cached = len(self.pairs), dict(self.pairs) if is_plain else None
        return self._cached[1]


@dataclasses.dataclass(eq=False)
class Bytes:
    """Bytes in the pickle."""

    data: bytes


@dataclasses.dataclass(eq=False)
class Array:
    """joblib array, whose bytes follow its wrapper in the file."""

    dtype: str
    shape: tuple[int, ...]
    size: int
    objects: Any = None


@dataclasses.dataclass(eq=False)
class Unknown:
    """Value that opcodes don't show."""

    what: str


@dataclasses.dataclass
class Reading:
    """Result of reading the pickles of a file.

    Attributes
    ----------
    objects : list
        A description for each pickle in the file.
    calls : list of Call
        All calls, including those whose result is not part of an object.
    globals : Counter of Global
        All globals, with their counts.
    called : set of Global
        Globals that are called, directly or by a function that calls its arguments.
    protocols : set of int
        Pickle protocols.
    holds_arrays : bool
        Whether bytes of arrays are between opcodes, where only joblib reads them.
    opcodes : int
        Number of opcodes.
    odd : dict of str to None
        Constructs that no pickler writes, or that hide a global.
    ended : str
        Position and reason of an early end of reading; empty if there was none.
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
    """Return whether a call looks up the method by which Keras unpickles its own archives."""
    arguments = call.arguments if isinstance(call.arguments, tuple) else ()
    if call.function != Global("builtins", "getattr") or len(arguments) != 2:
        return False
    of = arguments[0]
    is_of_keras = isinstance(of, Global) and of.module.startswith("keras.") and "." not in of.name
    return is_of_keras and arguments[1] == "_unpickle_model"
