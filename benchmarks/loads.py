"""Benchmark of the first load of a model in a process, and of later ones, against Keras alone.

    python benchmarks/loads.py [--models ...] [--repeat N]

Each contender loads a model in fresh processes, in turn with the other. Figures are CPU
milliseconds, the least of all, since disturbances only ever add time.
"""

from __future__ import annotations

import argparse
import json
import pickle
import tempfile
import time
from pathlib import Path

from fresh import run
from models import MODELS, build

LATER = 8
CONTENDERS = ("keras", "keras_reduce")
DEFAULT = ("mlp-20x64", "mobilenetv2", "resnet50", "transformer")


def write(contender: str, model: str, file: Path) -> None:
    """Write the pickle of a model."""
    built, _ = build(model)
    if contender == "keras_reduce":
        import keras_reduce

        keras_reduce.install()
    file.write_bytes(pickle.dumps(built, 5))


def read(contender: str, file: Path) -> list[float]:
    """Return the CPU seconds of each load."""
    import keras

    keras.ops.zeros(1)  # The first operation starts TensorFlow.
    if contender == "keras_reduce":
        import keras_reduce

        keras_reduce.install()
    content, times = file.read_bytes(), []
    for _ in range(1 + LATER):
        start = time.process_time()
        model = pickle.loads(content)
        times.append(time.process_time() - start)
        del model
    return times


def main() -> None:
    """Measure both contenders and print a table, or do one step in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=DEFAULT)
    parser.add_argument("--repeat", type=int, default=3, help="processes of each contender")
    parser.add_argument("--step", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, contender, model, file = options.step
        function = {"write": write, "read": lambda contender, _, file: read(contender, file)}[step]
        print(json.dumps(function(contender, model, Path(file))))
        return
    print("| model | loads | Keras alone, CPU ms | keras_reduce | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for model in options.models:
        runs: dict[str, list[list[float]]] = {contender: [] for contender in CONTENDERS}
        with tempfile.TemporaryDirectory() as folder:
            for turn in range(options.repeat):
                for contender in CONTENDERS:
                    file = Path(folder, contender)
                    if not turn:
                        run(__file__, "--step", "write", contender, model, file)
                    runs[contender].append(run(__file__, "--step", "read", contender, model, file))
        for loads, of_run in (("first", slice(0, 1)), ("later", slice(1, None))):
            native, ours = (
                1e3 * min(least for run in runs[each] for least in run[of_run])
                for each in CONTENDERS
            )
            row = f"| {MODELS[model].title} | {loads} | {native:.1f} | {ours:.1f} |"
            print(f"{row} {native / ours:.1f}x |", flush=True)


if __name__ == "__main__":
    main()
