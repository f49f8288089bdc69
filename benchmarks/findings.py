"""Figures of a run by model, contender and way; None if nothing was measured."""

from __future__ import annotations

from typing import Any

OURS, NATIVE, FLOOR = "keras_reduce", "native", "floor"
MB = 1e6


class Findings:
    """Access to the figures that `run.py` writes to ``results.json``."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.models: dict[str, Any] = document["models"]
        self.contenders: dict[str, str] = document["contenders"]
        self.ways: dict[str, str] = document["ways"]

    def cell(self, model: str, contender: str, way: str) -> dict[str, Any]:
        """Return all figures of one way, or the error instead of them."""
        ways = self.document["results"][model].get(contender, {})
        if way in ways:
            return ways[way]
        return {"error": ways["error"]} if "error" in ways else {"absent": True}

    def seconds(self, model: str, contender: str, way: str) -> float | None:
        """Return the shortest time."""
        times = self.cell(model, contender, way).get("seconds")
        return min(times) if times else None

    def memory(self, model: str, contender: str, way: str, kind: str = "peak") -> float | None:
        """Return the growth of memory in bytes."""
        grown = self.cell(model, contender, way).get("memory")
        return grown[kind] if grown else None

    def size(self, model: str, contender: str, way: str) -> int | None:
        """Return the number of bytes written."""
        return self.cell(model, contender, way).get("bytes")

    def weights(self, model: str) -> int:
        """Return the bytes of all variables of a model and its optimizer."""
        return self.models[model].get("weights", 0)

    def ratio(self, model: str, contender: str, way: str, to: str = NATIVE) -> float | None:
        """Return the time of the contender `to`, as a multiple of the time of `contender`."""
        ours, theirs = self.seconds(model, contender, way), self.seconds(model, to, way)
        return theirs / ours if ours and theirs else None
