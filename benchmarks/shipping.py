"""What a trip and a hash cost: `pickle.dumps`, `loads` and `joblib.hash`, against other ways.

Written by the authors of one of the contenders. Each contender runs in a process of its own, with
the same seed; what counts are the ratios of one run, since machines differ and are noisy.

    python benchmarks/shipping.py [--repeat N] [--out FOLDER]

writes ``shipping.json``, ``shipping.md`` and ``shipping.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

MODELS = ("mlp 2x10", "mlp 20x64", "mlp 4x2048 + Adam", "MobileNetV2")
CONTENDERS = {
    "native": "Keras's own pickling",
    "scikeras": "SciKeras's reducer",
    "keras_reduce": "this package",
    "floor": "the bare list of arrays",
}
WAYS = {"dumps": "pickle.dumps", "loads": "pickle.loads", "hash": "joblib.hash"}


def build(name):
    """Return the model called `name`, trained where its optimizer's state counts."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    if name == "MobileNetV2":
        return keras.applications.MobileNetV2(weights=None)
    depth, width = map(int, name.split()[1].split("x"))
    hidden = [keras.layers.Dense(width, activation="relu") for _ in range(depth)]
    inputs = 10 if width < 1000 else width
    model = keras.Sequential([keras.Input((inputs,)), *hidden, keras.layers.Dense(1)])
    if name.endswith("Adam"):
        model.compile("adam", loss="mse")
        model.fit(np.ones((2, inputs)), np.ones((2, 1)), verbose=0)
    return model


def measure(contender, name, repeat):
    """Return the seconds of each repetition and the memory that they took, in this process."""
    import joblib

    model = build(name)
    if contender == "keras_reduce":
        import keras_reduce

        keras_reduce.install()
    elif contender == "scikeras":
        import scikeras  # noqa: F401
    elif contender == "floor":
        optimizer = getattr(model, "optimizer", None)
        variables = [*model.variables, *(optimizer.variables if optimizer else ())]
        model = [variable.numpy() for variable in variables]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    dumps, loads, hashes = [], [], []
    for _ in range(repeat):
        start = time.perf_counter()
        content = pickle.dumps(model, protocol=5)
        middle = time.perf_counter()
        pickle.loads(content)
        end = time.perf_counter()
        joblib.hash(model)
        dumps.append(middle - start)
        loads.append(end - middle)
        hashes.append(time.perf_counter() - end)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    growth = (peak - before) * 1024
    times = {"dumps": dumps, "loads": loads, "hash": hashes}
    return {**times, "bytes": len(content), "peak_growth": growth}


def measure_apart(contender, name, repeat):
    """Run `measure` in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", contender, name, "--repeat", str(repeat)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def table(results):
    """Return the results as a table in Markdown: milliseconds, and ratios to native pickling."""
    titles = ["model", "way", *(f"{way} min / median, ms" for way in WAYS), *WAYS]
    titles += ["bytes", "peak memory"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for name, row in results.items():
        native = row["native"]
        for contender, found in row.items():
            cells = [name, contender]
            for way in WAYS:
                low, middle = min(found[way]), statistics.median(found[way])
                cells.append(f"{1e3 * low:.1f} / {1e3 * middle:.1f}")
            for way in WAYS:
                cells.append(f"{min(native[way]) / min(found[way]):.1f}x")
            cells += [f"{found['bytes'] / 1e6:.2f} MB", f"+{found['peak_growth'] / 1e6:.0f} MB"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(results, path):
    """Draw the shortest times of each way, model by model."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(WAYS), figsize=(18, 4.4), sharey=True, layout="constrained")
    for axis, way in zip(axes, WAYS, strict=True):
        for offset, contender in enumerate(CONTENDERS):
            heights = [1e3 * min(row[contender][way]) for row in results.values()]
            places = [position + 0.2 * offset for position in range(len(results))]
            axis.bar(places, heights, 0.19, label=CONTENDERS[contender])
        axis.set_yscale("log")
        axis.set_title(WAYS[way])
        axis.set_xticks([position + 0.3 for position in range(len(results))], list(results))
    axes[0].set_ylabel("milliseconds, shortest of all repetitions")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.savefig(path, dpi=120)


def main():
    """Run all contenders, one after the other, and write down what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--one", nargs=2, metavar=("CONTENDER", "MODEL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one, arguments.repeat)))
        return
    results = {
        name: {way: measure_apart(way, name, arguments.repeat) for way in CONTENDERS}
        for name in MODELS
    }
    packages = ("tensorflow-cpu", "tensorflow", "keras", "scikeras", "numpy")
    versions = {"python": platform.python_version(), "cpus": os.cpu_count()}
    for package in packages:
        try:
            versions[package] = version(package)
        except ImportError:
            continue
    arguments.out.mkdir(parents=True, exist_ok=True)
    document = {"versions": versions, "results": results}
    (arguments.out / "shipping.json").write_text(json.dumps(document, indent=1))
    text = f"{table(results)}\n\n{', '.join(f'{k} {v}' for k, v in versions.items())}\n"
    (arguments.out / "shipping.md").write_text(text)
    plot(results, arguments.out / "shipping.png")
    print(text)


if __name__ == "__main__":
    main()
