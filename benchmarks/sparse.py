"""Memory of a fit and a prediction on sparse rows, against the same with a dense copy of them.

    python benchmarks/sparse.py [--rows N] [--columns N]

Each way runs in a process of its own; memory is its growth at its peak. Linux only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import memory
from fresh import run


def measure(rows: int, columns: int, *, is_dense: bool) -> dict[str, float]:
    """Fit and predict once; return seconds, and the growth of memory at its peak in MB."""
    import keras
    import numpy as np
    from scipy import sparse

    import keras_reduce

    def build() -> keras.Model:
        model = keras.Sequential([keras.Input((columns,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    keras_reduce.install()
    rng = np.random.default_rng(0)
    data = sparse.random_array(
        (rows, columns), density=0.01, rng=rng, format="csr", dtype="float32"
    )
    y = rng.random(rows)
    # What TensorFlow needs once is not counted.
    keras_reduce.KerasRegressor(build).fit(data[:64], y[:64]).predict(data[:64])
    start = time.perf_counter()
    _, grown = memory.grown(lambda: _used(build, data.toarray() if is_dense else data, y))
    if grown is None:
        raise SystemExit("The counters of Linux are needed to measure memory.")
    return {"seconds": time.perf_counter() - start, "megabytes": grown["peak"] / 1e6}


def _used(build: Callable[[], Any], given: Any, y: Any) -> Any:
    import keras_reduce

    return keras_reduce.KerasRegressor(build, batch_size=64).fit(given, y).predict(given)


def main() -> None:
    """Measure both ways, and print their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--columns", type=int, default=10_000)
    parser.add_argument("--way", choices=("sparse", "dense"))
    options = parser.parse_args()
    if options.way:
        is_dense = options.way == "dense"
        print(json.dumps(measure(options.rows, options.columns, is_dense=is_dense)))
        return
    size = ["--rows", str(options.rows), "--columns", str(options.columns)]
    figures = {}
    for way in ("sparse", "dense"):
        figures[way] = run(__file__, *size, "--way", way)
        print(way, figures[way])
    for name in ("megabytes", "seconds"):
        print(name, round(figures["sparse"][name] / figures["dense"][name], 3))


if __name__ == "__main__":
    main()
