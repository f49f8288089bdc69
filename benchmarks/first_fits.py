"""Benchmark of the first prediction and the first epoch of a model in a process.

    python benchmarks/first_fits.py [--models ...] [--repeat N]

Contenders: Keras alone; this package without stored traces; a worker of the backend "keras" after
another worker has done the same; a program with a cache on disk that an earlier one has filled.
Each runs in a fresh process, in turn, on the same small data, so that tracing and optimizing are
what takes the time. Figures are CPU seconds, medians. Writes ``first-fits.json``, ``first-fits.md``
and ``first-fits.png``.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import models
from fresh import run

HERE = Path(__file__).parent
RESULTS = HERE / "results"
CONTENDERS = {
    "keras": "Keras alone",
    "alone": "keras_reduce, nothing stored",
    "worker": "keras_reduce, in a second worker",
    "later": "keras_reduce, cache on disk",
}
OPERATIONS = ("first predict", "first fit", "second fit")
DEPTHS = (1, 2, 4, 8, 12)
# Functions that return a model that is not compiled, and inputs.
MODELS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "mobilenetv2": (models.MODELS["mobilenetv2"].make, models.image),
    "lstm": (models.untrained_lstm, models.tokens),
    **{f"transformer-{n}": (functools.partial(models.encoder, n), models.tokens) for n in DEPTHS},
}


def measure(name: str) -> dict[str, Any]:
    """Return CPU seconds of the operations with a model, and a digest of what came out."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    make_model, make_inputs = MODELS[name]
    model, inputs = make_model(), make_inputs()
    outputs = np.ones((len(inputs), *model.output_shape[1:]), "float32")
    model.compile("adam", "mse")
    figures: dict[str, Any] = {}
    results: list[Any] = []

    def timed(operation: str, function: Callable[[], Any]) -> None:
        start = time.process_time()
        results.append(function())
        figures[operation] = time.process_time() - start

    timed("first predict", lambda: model.predict(inputs, verbose=0))
    timed("first fit", lambda: model.fit(inputs, outputs, verbose=0).history["loss"])
    timed("second fit", lambda: model.fit(inputs, outputs, verbose=0).history["loss"])
    content = [*results, *model.get_weights()]
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(each).tobytes() for each in content))
    return {**figures, "digest": digest.hexdigest()}


def _in_workers(name: str) -> dict[str, Any]:
    """Return the figures of a second worker, after a first one has done the same."""
    from joblib import Parallel, delayed

    with tempfile.TemporaryDirectory() as folder:
        tasks = [delayed(_in_turn)(name, folder, is_second) for is_second in (False, True)]
        _, figures = Parallel(2, backend="keras", pre_dispatch="all", batch_size=1)(tasks)
    return dict(figures)


def _in_turn(name: str, folder: str, is_second: bool) -> dict[str, Any]:
    is_done = Path(folder, "done")
    while is_second and not is_done.exists():
        time.sleep(0.1)
    figures = measure(name)
    is_done.touch()
    return figures


def _figures(contender: str, name: str) -> dict[str, Any]:
    if contender != "keras":
        import keras_reduce

        keras_reduce.install()
    return _in_workers(name) if contender == "worker" else measure(name)


def _apart(contender: str, name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        is_later = contender == "later"
        cache = {"KERAS_REDUCE_TRACE_CACHE": folder} if is_later else {}
        for _ in range(1 + is_later):
            figures = run(__file__, "--contender", contender, "--model", name, **cache)
    return dict(figures)


# --- results ----------------------------------------------------------------------------------

Results = dict[str, dict[str, dict[str, float]]]


def _medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    return {each: statistics.median(run[each] for run in runs) for each in OPERATIONS}


def _report(document: dict[str, Any]) -> Iterator[str]:
    yield "# The first prediction and the first epoch of a model\n"
    yield f"CPU seconds, medians of {document['repetitions']}, and Keras's time over ours.\n"
    yield ", ".join(f"{name} {version}" for name, version in document["versions"].items()) + ".\n"
    yield ", ".join(f"{name}: {value}" for name, value in document["machine"].items()) + ".\n"
    yield f"| model | operation | {' | '.join(CONTENDERS.values())} |"
    yield "| --- " * (2 + len(CONTENDERS)) + "|"
    for model, contenders in document["results"].items():
        for operation in OPERATIONS:
            native = contenders["keras"][operation]
            cells = [
                f"{contenders[each][operation]:.2f} ({native / contenders[each][operation]:.1f}x)"
                for each in list(CONTENDERS)[1:]
            ]
            yield f"| {model} | {operation} | {native:.2f} | {' | '.join(cells)} |"


def _draw(results: Results, file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    colors = ("#000000", "#E69F00", "#0072B2", "#D55E00")  # of Okabe and Ito
    depths = [depth for depth in DEPTHS if f"transformer-{depth}" in results]
    for axis, operation in zip(axes, OPERATIONS, strict=False):
        for (contender, title), color in zip(CONTENDERS.items(), colors, strict=True):
            seconds = [results[f"transformer-{n}"][contender][operation] for n in depths]
            axis.plot(depths, seconds, color=color, marker="o", label=title)
        axis.set(title=operation, xlabel="blocks of a transformer", ylabel="CPU seconds")
        axis.set_ylim(bottom=0)
        axis.grid(visible=True, color="#dddddd")
    axes[0].legend(fontsize="small")
    figure.savefig(file, dpi=120)


def main() -> None:
    """Measure all contenders, or one in this process."""
    parser = argparse.ArgumentParser(description="Time the first fit of a model in a process.")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--model", choices=MODELS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(_figures(options.contender, options.model)))
        return
    from machine import machine, versions

    results: Results = {}
    for name in options.models:
        runs: dict[str, list[dict[str, Any]]] = {contender: [] for contender in CONTENDERS}
        for _ in range(options.repeat):
            for contender, figures in runs.items():
                figures.append(_apart(contender, name))
                print(name, contender, figures[-1], flush=True)
        digests = {run["digest"] for figures in runs.values() for run in figures}
        if len(digests) != 1:
            raise RuntimeError(f"results of {name} differ: {digests}")
        results[name] = {contender: _medians(figures) for contender, figures in runs.items()}
    document = {
        "versions": versions(),
        "machine": machine(),
        "repetitions": options.repeat,
        "results": results,
    }
    (options.out / "first-fits.json").write_text(json.dumps(document, indent=1) + "\n")
    (options.out / "first-fits.md").write_text("\n".join(_report(document)) + "\n")
    _draw(results, options.out / "first-fits.png")


if __name__ == "__main__":
    main()
