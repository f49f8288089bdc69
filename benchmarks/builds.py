"""Comparison of two builds of this package: dumps and loads of each model, as ratios.

    python benchmarks/builds.py OTHER [--models ...] [--rounds N]

OTHER is a checkout of another commit (``git worktree add ../other COMMIT``). Each build ships each
model in separate processes; the builds alternate, and their order changes from round to round. A
figure is the median over the rounds of the least CPU time in a process, since disturbances only
ever add time. Leave the machine idle while it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models import MODELS, build

HERE = Path(__file__).parent
REPETITIONS = 15
SECONDS = 3.0  # for the repetitions of one operation
OPERATIONS = ("first dumps", "dumps", "first loads", "loads")


def measure(name: str) -> dict[str, float]:
    """Return the CPU seconds of each operation on a model, with the package on the path."""
    import keras_reduce

    keras_reduce.install()
    model, _ = build(name)
    first_dumps, content = _timed(lambda: pickle.dumps(model, 5))
    first_loads, _ = _timed(lambda: pickle.loads(content))
    return {
        "first dumps": first_dumps,
        "dumps": _least(lambda: pickle.dumps(model, 5)),
        "first loads": first_loads,
        "loads": _least(lambda: pickle.loads(content)),
    }


def _timed(operation: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = operation()
    return time.process_time() - start, result


def _least(operation: Callable[[], Any]) -> float:
    end = time.monotonic() + SECONDS
    times = [_timed(operation)[0]]
    while len(times) < REPETITIONS and time.monotonic() < end:
        times.append(_timed(operation)[0])
    return min(times)


def _measure_apart(tree: Path, model: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, str(HERE / "builds.py"), "--measure", model],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=True,
    )
    package, figures = json.loads(done.stdout)
    if Path(package).parents[1] != tree:
        raise RuntimeError(f"{tree} was to be measured, and {package} was imported")
    return dict(figures)


def main() -> None:
    """Measure both builds, or one model in this process, and print the figures."""
    parser = argparse.ArgumentParser(description="Compare two builds of this package.")
    parser.add_argument("other", nargs="?", type=Path, help="a checkout of another commit")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=4, help="processes of each build and model")
    parser.add_argument("--measure", choices=MODELS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        import keras_reduce

        print(json.dumps([keras_reduce.__file__, measure(options.measure)]))
        return
    if options.other is None:
        parser.error("which checkout to compare with?")
    trees = [HERE.parent.resolve(), options.other.resolve()]
    print("CPU ms here, there, and their ratio")
    for model in options.models:
        figures: dict[Path, list[dict[str, float]]] = {tree: [] for tree in trees}
        for turn in range(options.rounds):
            for tree in trees if turn % 2 else reversed(trees):
                figures[tree].append(_measure_apart(tree, model))
        for operation in OPERATIONS:
            here, there = (
                1e3 * statistics.median(each[operation] for each in figures[tree]) for tree in trees
            )
            print(f"{model:24}{operation:12}{here:9.2f}{there:9.2f}{here / there:7.3f}", flush=True)


if __name__ == "__main__":
    main()
