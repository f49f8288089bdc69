"""Benchmarks of parallel searches and predictions: joblib's own workers against ours.

    python benchmarks/workers.py

The contenders of each case run in turn, each in a fresh process, `--repeat` times. Figures are wall
time, CPU seconds of the program and of all processes, bytes written to shared memory, and memory
of a worker. Writes ``workers.json`` and ``workers.md``. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from worker_cases import CASES, ONCE, Figures

RESULTS = Path(__file__).parent / "results"
Results = dict[str, dict[str, list[list[Figures]]]]


def _one(case: str, contender: str) -> list[Figures] | str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        ended = subprocess.run(
            [sys.executable, __file__, "--case", case, "--contender", contender, "--to", file],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            return ended.stderr.strip().splitlines()[-1]
        rounds: list[Figures] = json.loads(file.read_text())
        return rounds


class Goal(NamedTuple):
    """A goal for a figure: as a multiple of ours, by default of joblib's own backend, or alone."""

    case: str
    figure: str
    wanted: float
    round: int = 1
    against: str = "loky"
    of: str = "ours"

    def measured(self, results: Results) -> float | None:
        """Return the ratio of the medians, or our median; None if they have not been measured."""
        theirs, ours = (self._median(results, name) for name in (self.against, self.of))
        if not self.against:
            return ours
        return theirs / ours if theirs is not None and ours else None

    def _median(self, results: Results, contender: str) -> float | None:
        runs = results.get(self.case, {}).get(contender, [])
        rounds = [run[self.round] for run in runs if len(run) > self.round]
        values = [figures[self.figure] for figures in rounds if self.figure in figures]
        return statistics.median(values) if values else None

    @property
    def is_bound(self) -> bool:
        """True if the goal is an upper limit of a figure, False if it is a least ratio."""
        return not self.against


GOALS = (
    Goal("two workers ready", "ready", 5),
    Goal("two workers ready", "dirty per worker", 4),
    Goal("16 predictions, 84 MB", "wall", 3, round=0),
    Goal("16 predictions, 84 MB", "program cpu", 10, round=0),
    Goal("16 predictions, 84 MB", "growth / weights", 0.3, against=""),
    Goal("GridSearchCV, KerasRegressor", "all cpu", 1.25),
    Goal("GridSearchCV, SciKeras", "all cpu", 1.25),
    Goal("GridSearchCV, keras.wrappers", "all cpu", 1.25),
    Goal("GridSearchCV, KerasRegressor", "all cpu", 1, against="ours, reuse=False"),
    *(
        Goal(case, "all cpu", 10, round=number, against=peer, of=contender)
        for case, number in (("one architecture, n_jobs=1", 0), ("one architecture, n_jobs=2", 1))
        for contender in ("ours", "ours, random_state=0")
        for peer in ("keras.wrappers", "scikeras")
    ),
    *(
        Goal(case, figure, 1, round=number, against=peer)
        for case, number in (("units too, n_jobs=1", 0), ("units too, n_jobs=2", 1))
        for figure in ("wall", "all cpu")
        for peer in ("keras.wrappers", "scikeras", "ours, reuse=False")
    ),
    Goal("permutation_importance", "wall", 1.5),
    Goal("a task with 84 MB", "ms beyond predict", 20, round=0, against=""),
    Goal("500 fits", "largest worker", 600, round=0, against=""),
    Goal("500 fits", "largest worker", 600, round=0, against="", of="ours, reuse=False"),
    Goal("500 fits", "growth of a worker", 50, round=0, against="", of="ours, never replaced"),
    Goal("500 fits", "wall", 1, round=0),
)


def _goals(results: Results) -> Iterator[str]:
    yield "\n## Goals\n"
    yield "Ratios of medians, the other contender's to ours; with an upper limit, our median.\n"
    yield "| case | round | figure | of | against | measured | wanted | met |"
    yield "| --- " * 8 + "|"
    for goal in GOALS:
        figure = goal.measured(results)
        if figure is not None:
            is_met = figure <= goal.wanted if goal.is_bound else figure >= goal.wanted
            wanted = f"at {'most' if goal.is_bound else 'least'} {goal.wanted:.3g}"
            cells = (goal.case, _ROUNDS[goal.round], goal.figure, goal.of, goal.against or "-")
            yield f"| {' | '.join(cells)} | {figure:.3g} | {wanted} | {_verdict(is_met)} |"


def _verdict(is_met: bool) -> str:
    return "yes" if is_met else "**no**"


_ROUNDS = ("first", "second")


def _table(results: Results) -> Iterator[str]:
    for case, contenders in results.items():
        most = max(map(len, contenders.values()), default=0)
        yield f"\n### {case}\n\n{most} repetition{'s' if most != 1 else ''}.\n"
        rounds = [r for runs in contenders.values() for run in runs for r in run if run]
        names = list(dict.fromkeys(name for figures in rounds for name in figures))
        yield f"| contender | round | {' | '.join(names)} |"
        yield "| --- " * (len(names) + 2) + "|"
        for contender, runs in contenders.items():
            for number in range(max(map(len, runs), default=0)):
                cells = []
                for name in names:
                    rounds = [run[number] for run in runs if len(run) > number]
                    values = [figures[name] for figures in rounds if name in figures]
                    low = min(values) if values else 0
                    middle = statistics.median(values) if values else 0
                    cells.append(f"{low:.2f} / {middle:.2f}" if values else "-")
                yield f"| {contender} | {_ROUNDS[number]} | {' | '.join(cells)} |"


def main() -> None:
    """Run the cases that the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    for name in ("--case", "--contender", "--to"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        function, arguments, _ = CASES[options.case]
        figures = list(function(options.contender, *arguments))
        Path(options.to).write_text(json.dumps(figures))
        return
    from machine import machine, versions

    file = options.out / "workers.json"
    before = json.loads(file.read_text()) if file.exists() else {"results": {}, "failed": []}
    # Results of the other cases are kept.
    results: Results = {c: measured for c, measured in before["results"].items() if c in CASES}
    failed = [line for line in before["failed"] if not line.startswith(tuple(options.cases))]
    for case in options.cases:
        contenders = CASES[case][2]
        results[case] = {contender: [] for contender in contenders}
        for _ in range(1 if case in ONCE else options.repeat):
            for contender in contenders:
                start = time.perf_counter()
                measured = _one(case, contender)
                print(f"{case}, {contender}: {time.perf_counter() - start:.1f} s", flush=True)
                if isinstance(measured, str):
                    failed.append(f"{case}, {contender}: {measured}")
                else:
                    results[case][contender].append(measured)
    options.out.mkdir(parents=True, exist_ok=True)
    results = {case: results[case] for case in CASES if case in results}
    document = {
        "versions": versions(),
        "machine": machine(),
        "results": results,
        "failed": failed,
    }
    file.write_text(json.dumps(document, indent=1) + "\n")
    text = [
        _HEAD,
        *_about(document),
        *_goals(results),
        *_table(results),
        *(["\n## Failed\n", *failed] if failed else []),
    ]
    (options.out / "workers.md").write_text("\n".join(text) + "\n")


def _about(document: dict[str, Any]) -> Iterator[str]:
    yield "\n" + ", ".join(f"{k} {v}" for k, v in document["versions"].items()) + ".\n"
    machine = ", ".join(f"{name}: {value}" for name, value in document["machine"].items())
    yield f"{machine}."


_HEAD = """# Workers

Shortest / median of all repetitions: seconds, and MB. "second" is a second round in the same
program, with running workers; only for "two workers ready" they have ended in between. `loky` is
joblib's own backend with Keras's own pickling, `loky + reducers` the same with our reducers, `ours`
the backend `"keras"` with shared traces; `prestarted`: the fork server ran before; `reuse=False`:
`install(reuse=False)`, without shared traces. In comparisons of wrappers, the other wrappers run
without this package, on joblib's own backend."""


if __name__ == "__main__":
    main()
