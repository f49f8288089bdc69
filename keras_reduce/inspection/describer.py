"""Descriptions of the Keras objects that calls in a file create."""

from __future__ import annotations

from ..audit.descriptions import Call, is_method_of_keras
from .archives import of_archive
from .models import Budget, Model
from .payloads import kind_of, of_payload

__all__ = ["Describer"]


class Describer:
    """Cache of the descriptions of the Keras objects of a file.

    Attributes
    ----------
    budget : Budget
        Limits for all objects together.
    described : list of Call
        Calls that have been passed to `model_of`.
    parts : set of int
        Ids of calls that create parts of described objects.
    """

    def __init__(self) -> None:
        self.budget = Budget()
        self.described: list[Call] = []  # also kept alive, so that no id is reused
        self.parts: set[int] = set()
        self._models: dict[int, Model | None] = {}

    def model_of(self, call: Call) -> Model | None:
        """Return the description of the Keras object of a call; None for other objects."""
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
