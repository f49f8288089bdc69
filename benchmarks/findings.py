"""What a run has found, looked up by model, contender and way; None where nothing was measured."""

from __future__ import annotations

from typing import Any

OURS, NATIVE, FLOOR = "keras_reduce", "native", "floor"
MB = 1e6


class Findings:
    """A document as `run.py` writes it to ``results.json``."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.models: dict[str, Any] = document["models"]
        self.contenders: dict[str, str] = document["contenders"]
        self.ways: dict[str, str] = document["ways"]

    def cell(self, model: str, contender: str, way: str) -> dict[str, Any]:
        """Return all figures of one way, or the reason why there are none."""
        ways = self.document["results"][model].get(contender, {})
        if way in ways:
            return ways[way]
        return {"error": ways["error"]} if "error" in ways else {"absent": True}

    def seconds(self, model: str, contender: str, way: str) -> float | None:
        """Return the shortest time."""
        times = self.cell(model, contender, way).get("seconds")
        return min(times) if times else None

    def memory(self, model: str, contender: str, way: str, kind: str = "peak") -> float | None:
        """Return a growth of memory in bytes."""
        grown = self.cell(model, contender, way).get("memory")
        return grown[kind] if grown else None

    def size(self, model: str, contender: str, way: str) -> int | None:
        """Return how many bytes were written."""
        return self.cell(model, contender, way).get("bytes")

    def weights(self, model: str) -> int:
        """Return the bytes of all variables of a model and its optimizer."""
        return self.models[model].get("weights", 0)

    def ratio(self, model: str, contender: str, way: str, to: str = NATIVE) -> float | None:
        """Return how many times as long `to` takes."""
        ours, theirs = self.seconds(model, contender, way), self.seconds(model, to, way)
        return theirs / ours if ours and theirs else None
