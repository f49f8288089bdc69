"""Benchmark of the first answer of a process that serves a model, on several backends of Keras.

    python benchmarks/serving.py [--python PATH] [--repeat N]

The models are built on TensorFlow and written to files. A process of each backend maps a file and
predicts one row. PATH is an interpreter with Keras, JAX and OpenVINO, and without TensorFlow; by
default that of this program. Figures are seconds from the start of the process to the answer, CPU
seconds, and the largest resident memory; medians of fresh processes, in turn. Writes
``serving.json``, ``serving.md`` and ``serving.png``. Linux only.
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
from typing import Any

import models

HERE = Path(__file__).parent
RESULTS = HERE / "results"
MODELS = ("mlp-2x10", "mlp-4x2048", "mobilenetv2", "transformer")
BACKENDS = {"tensorflow": "TensorFlow", "numpy": "NumPy", "openvino": "OpenVINO"}
FIGURES = {"seconds": "s", "cpu": "s of CPU", "memory": "MB"}

# The peak of the process comes from /proc: that of `getrusage` includes what its parent had.
_SERVER = """
import sys, time
from pathlib import Path
import keras_reduce
content = keras_reduce.load(sys.argv[1], mmap_mode="r")
content["model"].predict(content["inputs"], verbose=0)
status = Path("/proc/self/status").read_text()
memory = int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
print(time.time(), time.process_time(), memory)
"""


def write(folder: Path) -> None:
    """Write each model, with an input, to a file."""
    import keras_reduce

    for name in MODELS:
        model, inputs = models.build(name)
        content = {"model": model, "inputs": inputs[:1]}
        keras_reduce.dump(content, folder / name)


def _serve(python: str, backend: str, file: Path) -> dict[str, float]:
    start = time.time()
    done = subprocess.run(
        [python, "-c", _SERVER, str(file)],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": str(HERE.parent),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    end, cpu, memory = map(float, done.stdout.split()[-3:])
    return {"seconds": end - start, "cpu": cpu, "memory": memory}


def _report(document: dict[str, Any]) -> Iterator[str]:
    yield "# The first answer of a process\n"
    yield f"Medians of {document['repetitions']}, and TensorFlow's figure over the other's.\n"
    yield ", ".join(f"{name} {version}" for name, version in document["versions"].items()) + ".\n"
    yield ", ".join(f"{name}: {value}" for name, value in document["machine"].items()) + ".\n"
    yield f"| model | figure | {' | '.join(BACKENDS.values())} |"
    yield "| --- " * (2 + len(BACKENDS)) + "|"
    for model, by_backend in document["results"].items():
        for figure, unit in FIGURES.items():
            native = by_backend["tensorflow"][figure]
            cells = [f"{native:.2f}"]
            for backend in list(BACKENDS)[1:]:
                value = by_backend[backend][figure]
                cells.append(f"{value:.2f} ({native / value:.1f}x)")
            yield f"| {model} | {unit} | {' | '.join(cells)} |"


def _draw(results: dict[str, dict[str, dict[str, float]]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    colors = ("#000000", "#0072B2", "#D55E00")  # of Okabe and Ito
    titles = {"seconds": "seconds to the first answer", "memory": "MB of memory at its peak"}
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        for place, ((backend, label), color) in enumerate(
            zip(BACKENDS.items(), colors, strict=True)
        ):
            values = [results[model][backend][name] for model in results]
            middles = [number + 0.27 * (place - 1) for number in range(len(values))]
            axis.bar(middles, values, width=0.25, color=color, label=label)
        axis.set_xticks(range(len(results)), list(results), fontsize="small")
        axis.set(title=title)
    axes[0].legend(fontsize="small")
    figure.savefig(file, dpi=120)


def main() -> None:
    """Measure all backends."""
    parser = argparse.ArgumentParser(description="Time the first answer of a process.")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    from machine import machine, versions

    runs: dict[str, dict[str, list[dict[str, float]]]] = {
        model: {backend: [] for backend in BACKENDS} for model in MODELS
    }
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        for _ in range(options.repeat):
            for model, by_backend in runs.items():
                for backend, figures in by_backend.items():
                    python = sys.executable if backend == "tensorflow" else options.python
                    figures.append(_serve(python, backend, Path(folder, model)))
                    print(model, backend, figures[-1], flush=True)
    results = {
        model: {
            backend: {name: statistics.median(run[name] for run in figures) for name in FIGURES}
            for backend, figures in by_backend.items()
        }
        for model, by_backend in runs.items()
    }
    document = {
        "versions": versions(),
        "machine": machine(),
        "repetitions": options.repeat,
        "results": results,
    }
    (options.out / "serving.json").write_text(json.dumps(document, indent=1) + "\n")
    (options.out / "serving.md").write_text("\n".join(_report(document)) + "\n")
    _draw(results, options.out / "serving.png")


if __name__ == "__main__":
    main()
