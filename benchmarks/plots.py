"""Plots of time and memory against the size of a model, with a panel for each way."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from pathlib import Path
from textwrap import fill

import matplotlib

from findings import MB, Findings

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # after the choice of the backend
from matplotlib.lines import Line2D

# The colours of Okabe and Ito, which colour-blind readers can tell apart.
STYLES = {
    "native": ("#000000", "o"),
    "scikeras": ("#E69F00", "s"),
    "recipe": ("#009E73", "^"),
    "dask": ("#CC79A7", "v"),
    "keras_reduce": ("#D55E00", "D"),
    "floor": ("#56B4E9", "x"),
}
# Unchecked loads are too close to checked ones to be distinguished; the tables have them.
LEFT_OUT = ("file_load_unchecked", "file_map_unchecked")
PANELS_A_ROW = 4
LEAST = 0.1  # MB, the lower end of the logarithmic axis


def draw(findings: Findings, folder: Path) -> list[Path]:
    """Write ``time.png`` and ``memory.png``."""

    def milliseconds(model: str, contender: str, way: str) -> float | None:
        seconds = findings.seconds(model, contender, way)
        return None if seconds is None else 1e3 * seconds

    def megabytes(model: str, contender: str, way: str) -> float | None:
        grown = findings.memory(model, contender, way)
        return None if grown is None else max(LEAST, grown / MB)

    time, memory = folder / "time.png", folder / "memory.png"
    _figure(findings, milliseconds, "Time, shortest of all repetitions", "milliseconds", time)
    what = f"Growth of memory at its peak (less than {LEAST} MB drawn as {LEAST})"
    _figure(findings, megabytes, what, "MB", memory)
    return [time, memory]


def _figure(
    findings: Findings,
    value: Callable[[str, str, str], float | None],
    what: str,
    unit: str,
    path: Path,
) -> None:
    ways = [way for way in findings.ways if way not in LEFT_OUT]
    columns = min(PANELS_A_ROW, len(ways))
    rows = ceil(len(ways) / columns)
    width = max(9, 4.2 * columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width, 3.4 * rows + 1.8),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    models = sorted(filter(findings.weights, findings.models), key=findings.weights)
    drawn = {}
    for axis, way in zip(axes.flat, ways, strict=False):
        for contender, title in findings.contenders.items():
            points = [(findings.weights(name) / MB, value(name, contender, way)) for name in models]
            points = [point for point in points if point[1] is not None]
            color, marker = STYLES[contender]
            if points:
                (drawn[title],) = axis.plot(*zip(*points, strict=True), color=color, marker=marker)
        axis.set(xscale="log", yscale="log", xlabel="MB of weights", ylabel=unit)
        axis.set_title(findings.ways[way], fontsize=11)
        axis.tick_params(labelbottom=True, labelleft=True)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(ways) :]:
        axis.set_visible(False)
    for title in findings.contenders.values():
        if title not in drawn:
            drawn[f"{title}: nothing to draw"] = Line2D([], [], alpha=0)
    sizes = fill(f"MB of weights: {_sizes(findings, models)}", int(10 * width))
    figure.suptitle(f"{what}\n{_versions(findings)}\n{sizes}", fontsize=11)
    figure.legend(
        drawn.values(), drawn.keys(), loc="outside lower center", ncols=3 if columns > 2 else 2
    )
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _sizes(findings: Findings, models: list[str]) -> str:
    sizes = [(findings.models[name]["title"], findings.weights(name) / MB) for name in models]
    return "; ".join(f"{title} {size:.{0 if size >= 10 else 3}f}" for title, size in sizes)


def _versions(findings: Findings) -> str:
    shown = ("tensorflow", "tensorflow-cpu", "keras", "joblib", "keras_reduce")
    versions = findings.document["versions"]
    return ", ".join(f"{name} {versions[name]}" for name in shown if name in versions)
