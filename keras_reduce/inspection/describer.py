"""Which calls in a file make Keras objects, and what these are."""

from __future__ import annotations

from ..audit.descriptions import Call, is_method_of_keras
from .archives import of_archive
from .models import Budget, Model
from .payloads import kind_of, of_payload

__all__ = ["Describer"]


class Describer:
    """Describes the Keras objects of a file, each once.

    Attributes
    ----------
    budget : Budget
        What they may cost, all together.
    described : list of Call
        Calls of which it was asked.
    parts : set of int
        Ids of the calls that make parts of what was described.
    """

    def __init__(self) -> None:
        self.budget = Budget()
        self.described: list[Call] = []  # also held, so that ids stay their own
        self.parts: set[int] = set()
        self._models: dict[int, Model | None] = {}

    def model_of(self, call: Call) -> Model | None:
        """Return the Keras object that a call makes; None if it makes something else."""
        if id(call) not in self._models:
            self.described.append(call)
            self._models[id(call)] = self._described(call)
        return self._models[id(call)]

    def _described(self, call: Call) -> Model | None:
        function = call.function
        if isinstance(function, Call) and is_method_of_keras(function):
            return of_archive(call.arguments, self.budget)
        kind = kind_of(function)
        return of_payload(kind, call.arguments, self.budget, self.parts) if kind else None
