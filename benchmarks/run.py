"""Time, memory and bytes to ship a model, compared with other ways to do it.

Written by the authors of one of the contenders. Each contender ships each model in its own process,
with the same seed. Compare the ratios within one run, since machines differ and are noisy. Leave
the machine idle while it runs.

    python benchmarks/run.py [--models ...] [--contenders ...] [--ways ...] [--repeat N] [--out DIR]

writes ``results.json``, ``results.md``, ``time.png`` and ``memory.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import report
from contenders import CONTENDERS
from findings import Findings
from machine import machine, versions
from measure import KINDS
from models import MODELS
from ways import WAYS

HERE = Path(__file__).parent
ENVIRONMENTS = {
    "time": {},
    "memory": {
        # With oneDNN, TensorFlow's allocator keeps freed memory and uses it again: a second model
        # would seem to take no memory.
        "TF_ENABLE_ONEDNN_OPTS": "0",
        # Large blocks then come from the system and go back to it. Otherwise the state of the heap
        # decides if a block can grow in place, and figures differ by half between runs.
        "MALLOC_MMAP_THRESHOLD_": str(2**20),
    },
}


def measure_apart(
    kind: str, contender: str, model: str, ways: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    """Run `measure.py` for one pair; return its figures, or those before an error and the error."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures"
        path.touch()
        arguments = [kind, contender, model, str(options.repeat), str(path), *ways]
        try:
            done = subprocess.run(
                [sys.executable, str(HERE / "measure.py"), *arguments],
                env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, **ENVIRONMENTS[kind]},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=options.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            end = f"stopped after {options.timeout:g} s"
        else:
            end = f"ended with {done.returncode}" if done.returncode else None
        measured: dict[str, Any] = {}
        for line in path.read_text().splitlines():
            figures = json.loads(line)
            way = figures.pop("way", None)
            measured.update({way: figures} if way else figures)
    if end:
        measured.setdefault("error", end)
    return measured


def measure_times(options: argparse.Namespace, document: dict[str, Any]) -> None:
    """Fill `document` model by model, so that a slower machine affects all contenders."""
    for model in options.models:
        row = document["results"][model] = {}
        for contender in options.contenders:
            start = time.perf_counter()
            figures = measure_apart("time", contender, model, options.ways, options)
            size = {key: figures.pop(key) for key in ("weights", "variables") if key in figures}
            document["models"][model].update(size)
            row[contender] = figures
            reason = f": {figures['error']}" if "error" in figures else ""
            took = time.perf_counter() - start
            print(f"time, {model}, {contender}: {took:.1f} s{reason}", flush=True)


def measure_memory(options: argparse.Namespace, document: dict[str, Any]) -> None:
    """Add the memory of each way, measured in separate processes, several at a time."""

    def measure_one(pair: tuple[str, str]) -> None:
        model, contender = pair
        measured = document["results"][model][contender]
        timed = {way: figures for way, figures in measured.items() if "seconds" in figures}
        ways = [way for way, figures in timed.items() if "same_as" not in figures]
        if not ways:
            return
        grown = measure_apart("memory", contender, model, ways, options)
        for way, figures in timed.items():
            source = grown.get(figures.get("same_as", way), {})
            figures["memory"] = source.get("memory")
        print(f"memory, {model}, {contender}", flush=True)

    pairs = [(model, contender) for model in options.models for contender in options.contenders]
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        list(pool.map(measure_one, pairs))


def write(document: dict[str, Any], folder: Path) -> None:
    """Write the figures, the tables and the plots."""
    folder.mkdir(parents=True, exist_ok=True)
    findings = Findings(document)
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "results.md").write_text(report.markdown(findings))
    try:
        import plots
    except ImportError as error:
        print(f"No plots: {error}")
    else:
        plots.draw(findings, folder)
    print(f"\n{report.summary(findings)}\n\nAll figures are in {folder}.")


def main() -> None:
    """Run all contenders in turn, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, all_of_them in (("models", MODELS), ("contenders", CONTENDERS), ("ways", WAYS)):
        parser.add_argument(
            f"--{name}", nargs="+", choices=all_of_them, default=list(all_of_them), metavar="NAME"
        )
    parser.add_argument(
        "--no-memory", dest="kinds", action="store_const", const=KINDS[:1], default=KINDS
    )
    parser.add_argument("--repeat", type=int, default=5, help="timed repetitions of each way")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for each process")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument(
        "--redraw", action="store_true", help="write tables and plots again from results.json"
    )
    arguments = parser.parse_args()
    if arguments.redraw:
        write(json.loads((arguments.out / "results.json").read_text()), arguments.out)
        return
    for name, all_of_them in (("models", MODELS), ("contenders", CONTENDERS), ("ways", WAYS)):
        # Always in the same order, on which `measure.py` relies for the ways.
        chosen = getattr(arguments, name)
        setattr(arguments, name, [key for key in all_of_them if key in chosen])
    document: dict[str, Any] = {
        "versions": versions(),
        "machine": machine(),
        "repeat": arguments.repeat,
        "minutes": {},
        "contenders": {name: CONTENDERS[name].title for name in arguments.contenders},
        "ways": {name: WAYS[name].title for name in arguments.ways},
        "models": {name: {"title": MODELS[name].title} for name in arguments.models},
        "results": {},
    }
    start = time.perf_counter()
    for kind in arguments.kinds:
        {"time": measure_times, "memory": measure_memory}[kind](arguments, document)
        document["minutes"][kind] = (time.perf_counter() - start) / 60
        start = time.perf_counter()
    write(document, arguments.out)


if __name__ == "__main__":
    main()
