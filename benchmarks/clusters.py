"""Transport of a fitted pipeline of 200 MB to two workers of a local cluster.

    python benchmarks/clusters.py

For Dask, Ray and Spark, without this package and with it. The contenders run in turn, each in a
fresh process, `--repeat` times; their workers have imported Keras before. Figures are the seconds
until both workers have predicted, and the bytes over the loopback interface (without shared
memory). Writes ``clusters.json`` and ``clusters.md``. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from models import build_wide

RESULTS = Path(__file__).parent / "results"
WORKERS = 2
ROWS = np.ones((2, 2048), "float32")

Ship = Callable[[Any], list[Any]]


def pipeline() -> Any:
    """Return a fitted pipeline whose weights are 201 MB; its optimizer has no slots."""
    import keras
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    wrapper = keras.wrappers.SKLearnRegressor(build_wide, fit_kwargs={"verbose": 0})
    return make_pipeline(StandardScaler(), wrapper).fit(ROWS, np.ones(2))


def answer(fitted: Any) -> Any:
    """Predict on a worker."""
    return np.asarray(fitted.predict(ROWS))


def ready(*_: Any) -> int:
    """Import Keras and scikit-learn and predict once, before anything is measured."""
    import keras
    import sklearn.pipeline  # noqa: F401

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.predict(np.ones((1, 2)), verbose=0)
    time.sleep(1)  # So that no worker takes both tasks.
    return os.getpid()


@contextlib.contextmanager
def dask() -> Iterator[Ship]:
    """Yield a function that ships by `Client.scatter` to all workers."""
    from distributed import Client, LocalCluster

    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(WORKERS, **options) as cluster, Client(cluster) as client:
        client.run(ready)

        def ship(fitted: Any) -> list[Any]:
            there = client.scatter(fitted, broadcast=True)
            tasks = [
                client.submit(answer, there, workers=[each], pure=False)
                for each in client.scheduler_info()["workers"]
            ]
            return list(client.gather(tasks))

        yield ship


@contextlib.contextmanager
def ray() -> Iterator[Ship]:
    """Yield a function that ships by `ray.put`, from which actors read."""
    import ray

    # A few times the size of the pipeline; the default is a third of the memory.
    ray.init(num_cpus=WORKERS, include_dashboard=False, object_store_memory=2**30, log_to_driver=0)

    @ray.remote
    class Actor:
        def ready(self) -> int:
            return ready()

        def answer(self, fitted: Any) -> Any:
            return answer(fitted)

    actors = [Actor.remote() for _ in range(WORKERS)]
    ray.get([actor.ready.remote() for actor in actors])

    def ship(fitted: Any) -> list[Any]:
        there = ray.put(fitted)
        return list(ray.get([actor.answer.remote(there) for actor in actors]))

    try:
        yield ship
    finally:
        ray.shutdown()


@contextlib.contextmanager
def spark() -> Iterator[Ship]:
    """Yield a function that ships by `SparkContext.broadcast`."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession

    options = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1"}
    builder = SparkSession.builder.master(f"local[{WORKERS}]").config(map=options)
    session = builder.getOrCreate()
    context = session.sparkContext
    parts = context.parallelize(range(WORKERS), WORKERS)
    assert len(set(parts.map(ready).collect())) == WORKERS

    def ship(fitted: Any) -> list[Any]:
        there = context.broadcast(fitted)

        def task(_: int) -> Any:
            time.sleep(0.2)  # So that no worker takes both tasks.
            return answer(there.value)

        return list(parts.map(task).collect())

    try:
        yield ship
    finally:
        session.stop()


ENGINES = {"Dask": dask, "Ray": ray, "Spark": spark}
CONTENDERS = ("native", "ours")


def received() -> int:
    """Return the number of bytes received over the loopback interface."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    (line,) = (line for line in lines if line.strip().startswith("lo:"))
    return int(line.partition(":")[2].split()[0])


def one(engine: str, contender: str) -> dict[str, float]:
    """Measure one contender, in this process."""
    if contender == "ours":
        import keras_reduce

        keras_reduce.install()
    fitted = pipeline()
    expected = answer(fitted)
    with ENGINES[engine]() as ship:
        before, start = received(), time.perf_counter()
        answers = ship(fitted)
        seconds, size = time.perf_counter() - start, received() - before
    assert len(answers) == WORKERS
    assert all(np.array_equal(each, expected) for each in answers)
    return {"seconds": seconds, "MB over loopback": size / 1e6}


def main() -> None:
    """Run the contenders that the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    for name in ("--engine", "--contender", "--to"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        Path(options.to).write_text(json.dumps(one(options.engine, options.contender)))
        return
    from machine import machine, versions

    results: dict[str, dict[str, list[Any]]] = {}
    for engine in options.engines:
        results[engine] = {contender: [] for contender in CONTENDERS}
        for _ in range(options.repeat):
            for contender in CONTENDERS:
                figures = _apart(engine, contender)
                print(f"{engine}, {contender}: {figures}", flush=True)
                results[engine][contender].append(figures)
    engines = {name: version(name) for name in ("distributed", "ray", "pyspark")}
    document = {"versions": versions() | engines, "machine": machine(), "results": results}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "clusters.json").write_text(json.dumps(document, indent=1) + "\n")
    (options.out / "clusters.md").write_text("\n".join(_report(document)) + "\n")


def _apart(engine: str, contender: str) -> Any:
    search = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        ended = subprocess.run(
            [sys.executable, __file__, "--engine", engine, "--contender", contender, "--to", file],
            # Workers import from here as well.
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": search},
            capture_output=True,
            text=True,
            check=False,
        )
        return (
            ended.stderr.strip().splitlines()[-1]
            if ended.returncode
            else json.loads(file.read_text())
        )


def _report(document: dict[str, Any]) -> Iterator[str]:
    yield "# A pipeline of 200 MB, to two workers\n"
    yield ", ".join(f"{name} {each}" for name, each in document["versions"].items()) + ".\n"
    yield ", ".join(f"{name}: {each}" for name, each in document["machine"].items()) + ".\n"
    yield "Shortest / median of all repetitions, until both have answered.\n"
    yield "| engine | contender | repetitions | seconds | MB over loopback | native / ours |"
    yield "| --- " * 6 + "|"
    for engine, contenders in document["results"].items():
        whole = {c: [r for r in runs if isinstance(r, dict)] for c, runs in contenders.items()}
        middle = {
            c: statistics.median(r["seconds"] for r in runs) for c, runs in whole.items() if runs
        }
        for contender, runs in whole.items():
            cells = [
                f"{min(values):.2f} / {statistics.median(values):.2f}"
                for name in ("seconds", "MB over loopback")
                if (values := [run[name] for run in runs])
            ] or ["fails", contenders[contender][0]]
            ratio = middle["native"] / middle["ours"] if len(middle) == 2 else 0
            last = f"{ratio:.1f}x" if contender == "ours" and ratio else ""
            yield f"| {engine} | {contender} | {len(runs)} | {' | '.join(cells)} | {last} |"


if __name__ == "__main__":
    main()
