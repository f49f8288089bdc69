"""Goals of this package, compared with the figures of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from findings import FLOOR, MB, OURS, Findings

LARGE = 64 * MB

# Speed as a multiple of the speed of Keras's own pickling.
FASTER = {
    "dumps": {"mlp-4x2048": 3.5, "mobilenetv2": 3, "resnet50": 3, "mlp-20x64": 10},
    "dumps_out": {"mlp-4x2048": 20, "mobilenetv2": 3.5, "resnet50": 8},
    "loads": {"mlp-4x2048": 30, "mobilenetv2": 2, "resnet50": 3, "mlp-20x64": 2},
    # As for "loads": higher goals than the floor's ratio can only be reached by sharing memory.
    "loads_out": {"mlp-4x2048": 30, "mobilenetv2": 2, "resnet50": 3, "mlp-20x64": 2},
}

# Limits for the growth of memory: multiples of the weights, plus 64 MB.
GROWTH = (("dumps", 1), ("loads", 2), ("dumps_out", 0), ("loads_out", 1), ("loads_out", 0))
GROWTH += (("deepcopy", 0), ("file_dump", 0), ("file_load", 1), ("file_map", 0))

NOTES = f"""
S is the bytes of all variables of a model and its optimizer; a large model is one of
{LARGE / MB:.0f} MB and more. Times are the shortest of all repetitions.

The result of an operation counts as growth. For `dumps`, S of the limit S + 64 MB is the pickle.
For `loads`, S of the limit 2 S + 64 MB is the new model; the pickle was in memory before. Out of
band, the limit S + 64 MB allows a new model, and the limit of 64 MB only a model that shares the
buffers, which are the original's own memory, read-only. A loaded file is never in memory beside the
model. The pages of a mapped file are shared between processes and are not counted. For each goal,
the table shows the model that exceeds its limit by most, or comes nearest to it.
"""


class Goal(NamedTuple):
    """One goal: texts for the table, and the verdict (None if it was not measured)."""

    title: str
    model: str
    ours: str
    wanted: str
    floor: str
    met: bool | None


def goals(findings: Findings) -> list[Goal]:
    """Return all goals for the models and ways of a run."""
    return [*_faster(findings), *_mapped(findings), *_near_floor(findings), *_memory(findings)]


def _faster(findings: Findings) -> Iterator[Goal]:
    for way, wanted in FASTER.items():
        for model in _measured(findings, way, wanted):
            ratio, floor = (findings.ratio(model, name, way) for name in (OURS, FLOOR))
            yield Goal(
                f"{findings.ways[way]}: Keras's own time / ours",
                findings.models[model]["title"],
                _text(ratio, "x"),
                f"at least {wanted[model]:g}x",
                _text(floor, "x"),
                None if ratio is None else ratio >= wanted[model],
            )


def _mapped(findings: Findings) -> Iterator[Goal]:
    small, large = "mlp-2x10", "mlp-4x2048"
    for way in ("file_map", "file_map_unchecked"):
        if small in findings.models and _measured(findings, way, [large]):
            ours = findings.seconds(large, OURS, way)
            base = findings.seconds(small, OURS, way)
            wanted = None if base is None else 2 * base + 0.02
            yield Goal(
                f"{findings.ways[way]}: at most twice {findings.models[small]['title']} + 20 ms",
                findings.models[large]["title"],
                _text(ours, " ms", 1e3),
                _text(wanted, " ms", 1e3),
                _text(findings.seconds(large, FLOOR, way), " ms", 1e3),
                None if ours is None or wanted is None else ours <= wanted,
            )
    for model in _measured(findings, "file_map", _large(findings)):
        allowed = findings.weights(model) / 10
        grown, floor = (
            findings.memory(model, name, "file_map", "private_dirty") for name in (OURS, FLOOR)
        )
        yield Goal(
            f"{findings.ways['file_map']}: private memory, below 10 % of the weights",
            findings.models[model]["title"],
            _text(grown, " MB", 1 / MB),
            _text(allowed, " MB", 1 / MB),
            _text(floor, " MB", 1 / MB),
            None if grown is None else grown < allowed,
        )


def _near_floor(findings: Findings) -> Iterator[Goal]:
    for way in ("file_dump", "dumps"):
        for model in _measured(findings, way, _large(findings)):
            ratio = findings.ratio(model, FLOOR, way, to=OURS)
            yield Goal(
                f"{findings.ways[way]}, large models: our time / the floor's",
                findings.models[model]["title"],
                _text(ratio, "x"),
                "at most 1.5x",
                "1x",
                None if ratio is None else ratio <= 1.5,
            )


def _memory(findings: Findings) -> Iterator[Goal]:
    for way, multiple in GROWTH:
        excesses = []
        for model in _measured(findings, way, findings.models):
            grown = _growth(findings, model, OURS, way)
            if grown is not None:
                limit = multiple * findings.weights(model) + LARGE
                excesses.append((grown - limit, model, grown, limit))
        if not excesses:
            continue
        excess, model, grown, limit = max(excesses)
        wanted = _text(limit, " MB", 1 / MB)
        formula = f"{multiple if multiple > 1 else ''} S + 64 MB".lstrip()
        yield Goal(
            f"{findings.ways[way]}: growth of memory",
            findings.models[model]["title"],
            _text(grown, " MB", 1 / MB),
            f"{formula} = {wanted}" if multiple else wanted,
            _text(_growth(findings, model, FLOOR, way), " MB", 1 / MB),
            excess <= 0,
        )


def _growth(findings: Findings, model: str, contender: str, way: str) -> float | None:
    peak = findings.memory(model, contender, way)
    if peak is None or way != "file_map":
        return peak
    pages = findings.memory(model, contender, way, "file_pages") or 0
    return max(0.0, peak - max(0.0, pages))


def _large(findings: Findings) -> list[str]:
    return [model for model in findings.models if findings.weights(model) >= LARGE]


def _measured(findings: Findings, way: str, models: object) -> list[str]:
    wanted = way in findings.ways and OURS in findings.contenders
    return [model for model in models if wanted and model in findings.models]  # type: ignore


def _text(value: float | None, unit: str, scale: float = 1.0) -> str:
    return "-" if value is None else f"{round(value * scale, 1):g}{unit}"
