"""Tables of the figures, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import goals
from findings import MB, NATIVE, Findings

OPENING = """
# Time, memory and bytes to ship a model

Written by the authors of one of the contenders, who also chose the models and the ways. Each
contender ships each model in its own process, with the same seed, one contender after the other.
Compare the ratios within one run, since machines differ and are noisy.
"""

LEGEND = """
Milliseconds, shortest / median of all repetitions after a first one that does not count, and in
brackets Keras's own shortest time divided by this one: 2.0x is twice as fast. Each process compares
the copy with the original: outputs and the optimizer's variables must agree bit for bit. If they
don't, the cell says "differs". If the hash of the same model differs a second later, it says
"changes". "-" means that a contender does not support this way.

Each process measures `pickle.dumps` before it has loaded anything. The bytes object of a pickle
grows in place; after a large model was loaded and dropped, glibc may move it each time. That made
the 201 MB model half as slow again, with this package as well as for the plain list of its arrays.
"""

MEMORY_LEGEND = """
Growth of resident memory at its peak, in MB. It includes the result of the operation, and the pages
of mapped files. Memory is measured in other processes than time, with `TF_ENABLE_ONEDNN_OPTS=0`:
with oneDNN, TensorFlow keeps the memory of deleted models and uses it again, so that the next one
seems to take none. `MALLOC_MMAP_THRESHOLD_` is 1 MiB, so that the growth does not depend on the
state of the heap.
"""

FOOTNOTES = {
    "recipe": "The recipe loses the state of random seeds (Dropout), of metrics, `history`, "
    "`stop_training`, attributes of your own, vocabularies and other assets, the code of custom "
    "classes, and that two models share a layer.",
    "dask": "Dask's serializer also writes frames. Joined (`serialize_bytes`) they are compared "
    "with `pickle.dumps`, and apart (`serialize`) with out-of-band pickles.",
    "floor": "The floor's arrays are created outside the timing. It builds no model.",
    NATIVE: "Keras's own pickling has no out-of-band buffers: its time there is that of the whole "
    "pickle, with a `buffer_callback`.",
}

FILES = """
Files: `joblib.dump` writes into the page cache, for each contender. "File dump, on the disk" is
`keras_reduce.dump`, which waits for the disk (fsync), and for all others `joblib.dump` followed by
`os.fsync`. Loads come from the page cache. "File load" is `keras_reduce.load`, and for all others
`joblib.load`; "unchecked" is `verify=False`, so the difference is the cost of the check.
"""


def markdown(findings: Findings) -> str:
    """Return the whole report."""
    notes: dict[str, int] = {}
    parts = [OPENING, _circumstances(findings), _contenders(findings)]
    parts += ["## Goals", _goals(findings), goals.NOTES]
    parts += ["## Time", "![](time.png)", LEGEND]
    parts += _tables(findings, "", lambda *cell: _time(*cell, notes))
    footnotes = [f"[{number}] {text}" for text, number in notes.items()]
    parts += ["### Notes", *footnotes, FILES]
    parts += [text for name, text in FOOTNOTES.items() if name in findings.contenders]
    parts += ["## Peak memory", "![](memory.png)", MEMORY_LEGEND]
    parts += _tables(findings, ": memory", _growth)
    parts += [
        "## Bytes written",
        "In memory and on the disk, in MB.",
        *_tables(findings, ": bytes", _size),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def summary(findings: Findings) -> str:
    """Return the goals, for the terminal."""
    return _goals(findings)


def _circumstances(findings: Findings) -> str:
    document = findings.document
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    machine = ", ".join(f"{name}: {value}" for name, value in document["machine"].items())
    return (
        f"{versions}.\n\n{machine}. {document['repeat']} repetitions, "
        f"{sum(document['minutes'].values()):.1f} minutes in all."
    )


def _contenders(findings: Findings) -> str:
    contenders = [[f"`{name}`", title] for name, title in findings.contenders.items()]
    models = [
        [facts["title"], f"{facts['weights'] / MB:.3g} MB", str(facts["variables"])]
        if "weights" in facts
        else [facts["title"], "-", "-"]
        for facts in findings.models.values()
    ]
    return "\n\n".join(
        [
            _rows(["contender", "what it is"], contenders),
            _rows(["model", "weights, with the optimizer's", "variables"], models),
        ]
    )


def _goals(findings: Findings) -> str:
    words = {True: "yes", False: "**no**", None: "-"}
    rows = [[*goal[:5], words[goal.met]] for goal in goals.goals(findings)]
    return _rows(["goal", "model", "ours", "wanted", "floor", "met"], rows)


def _tables(findings: Findings, kind: str, text: Callable[..., str]) -> list[str]:
    """Return a heading and a table for each way that has figures."""
    parts = []
    for way, title in findings.ways.items():
        rows = [
            [facts["title"], *(text(findings, model, name, way) for name in findings.contenders)]
            for model, facts in findings.models.items()
        ]
        if any(cell != "-" for row in rows for cell in row[1:]):
            parts += [f"### {title}{kind}", _rows(["model", *findings.contenders], rows)]
    return parts


def _time(findings: Findings, model: str, contender: str, way: str, notes: dict[str, int]) -> str:
    cell = findings.cell(model, contender, way)
    if "error" in cell:
        return f"fails [{_note(cell['error'], notes)}]"
    if "seconds" not in cell:
        return "-"
    text = f"{_ms(min(cell['seconds']))} / {_ms(statistics.median(cell['seconds']))}"
    ratio = findings.ratio(model, contender, way)
    if ratio is not None:
        text += f" ({ratio:.1f}x)"
    return text + _doubt(cell["check"], way, notes)


def _doubt(check: str, way: str, notes: dict[str, int]) -> str:
    if check == "right":
        return ""
    if check == "differs":
        return " changes" if way == "hash" else " differs"
    return f" can't be read [{_note(check, notes)}]"


def _note(text: str, notes: dict[str, int]) -> int:
    return notes.setdefault(text, len(notes) + 1)


def _growth(findings: Findings, model: str, contender: str, way: str) -> str:
    grown = findings.memory(model, contender, way)
    return "-" if grown is None else f"{grown / MB:.1f}"


def _size(findings: Findings, model: str, contender: str, way: str) -> str:
    size = findings.size(model, contender, way)
    return "-" if size is None else f"{size / MB:.3f}"


def _ms(seconds: float) -> str:
    value = 1e3 * seconds
    return f"{value:.{3 if value < 0.1 else 2 if value < 1 else 1}f}"


def _rows(titles: list[str], rows: list[list[Any]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
