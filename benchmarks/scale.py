"""Large models, many models and many fits: time, memory and files, each case by a command.

    python benchmarks/scale.py CASE [--size N] [--folder FOLDER]
    python benchmarks/scale.py

Without a case, the tables of all results are printed.

| case | size | what is done |
| --- | --- | --- |
| layers | 2000 layers | chains, branches and a list of layers, through every pickler |
| pipeline | 3000 models | a pipeline whose steps are small models, through every pickler |
| protocols | 4.3 GB | pickle's protocols 2 and 4, in arrays of 500 MB and in a single one |
| large | 6 GB | dump, load, mapped load, and Keras's own file |
| workers | 6 GB | four workers predict with one model |
| compressed | 6 GB | dump and load with zlib |
| dask, spark | 2 GB | two workers predict with a model that was scattered or broadcast |
| fits | 5000 fits | a randomized search with two workers |

Each step runs in a fresh process. Figures are wall and CPU seconds, and MB: of files, of the growth
of memory at its peak, and Pss of workers. Writes the figures of the case into
``results/scale.json``. The default sizes need 14 GB of memory and 14 GB in FOLDER; ``dask`` and
``spark`` need an environment with these engines. No part of the gate. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import hashlib
import io
import json
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import memory
from fresh import run
from measure import reason

RESULTS = Path(__file__).parent / "results"
MB, GB = 1e6, 1e9
Figures = dict[str, Any]


# --- measuring --------------------------------------------------------------------------------


def measured(operation: Callable[[], Any]) -> tuple[Any, Figures]:
    """Run an operation; return its result and seconds, CPU seconds, and growth of memory in MB."""
    figures: Figures = {}

    def timed() -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = operation()
        figures["seconds"] = time.perf_counter() - wall
        figures["cpu"] = time.process_time() - cpu
        return result

    result, grown = memory.grown(timed)
    return result, figures | {name: size / MB for name, size in (grown or {}).items()}


LIMITS = {"keras_reduce": 60, "keras": 20}  # seconds, for one way to ship layers or a pipeline


def attempted(operation: Callable[[], Any], limit: int = 0) -> tuple[Any, Figures]:
    """Run an operation as `measured` does; return None and the error if it fails or takes long."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"stopped after {limit} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    try:
        return measured(operation)
    except Exception as error:
        return None, {"error": reason(error)}
    finally:
        signal.alarm(0)


def digest(model: Any) -> str:
    """Return a digest of all variables of a model."""
    import keras

    content = hashlib.blake2b(digest_size=16)
    for variable in model.variables:
        content.update(keras.ops.convert_to_numpy(variable).data)
    return content.hexdigest()


def proportional(process: int | str = "self") -> Figures:
    """Return the memory of a process in MB: resident, proportional share (Pss) and private."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 / MB for line in lines}
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return {"resident": sizes["Rss"], "pss": sizes["Pss"], "private": private}


class Lowest(threading.Thread):
    """Thread that watches how little memory of the machine is available."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ends = threading.Event()
        self._before = self._lowest = self._available()

    @staticmethod
    def _available() -> float:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 / MB for line in lines}
        return sizes["MemAvailable"]

    def run(self) -> None:
        """Watch until `taken` is called."""
        while not self._ends.wait(0.1):
            self._lowest = min(self._lowest, self._available())

    def taken(self) -> float:
        """Return how many MB of the machine's memory were taken at most since the start."""
        self._ends.set()
        return self._before - self._lowest


# --- models -----------------------------------------------------------------------------------

WIDTH = 11_180  # A layer takes 500 MB.


def large_model(gigabytes: float, *, single: bool = False) -> Any:
    """Return a model of some GB in layers of at most 500 MB, or in a single array."""
    import keras

    keras.utils.set_random_seed(0)
    if single:
        columns = int(gigabytes * GB / 4 / 64)
        layers = [keras.layers.Dense(columns, use_bias=False, kernel_initializer="zeros")]
        return keras.Sequential([keras.Input((64,)), *layers])
    count = max(1, round(gigabytes * GB / (WIDTH * WIDTH * 4)))
    width = WIDTH if gigabytes >= 0.5 else int((gigabytes * GB / 4) ** 0.5)
    layers = [keras.layers.Dense(width, "tanh", use_bias=False) for _ in range(count)]
    return keras.Sequential([keras.Input((width,)), *layers])


def answer(model: Any) -> Any:
    """Predict a row."""
    import numpy as np

    row = np.linspace(-1, 1, model.input_shape[1], dtype="float32")[None]
    return model.predict(row, verbose=0)


def install() -> None:
    """Install this package, and import what is not to be measured."""
    import keras

    import keras_reduce

    keras_reduce.install()
    keras.ops.zeros(1)


# --- layers and pipeline ----------------------------------------------------------------------

CHAINS = ("Sequential", "Functional")
SHAPES = ("Sequential", "Functional", "branches", "list")
RECURSION_LIMIT = 1000  # Python's default


def _model_of_layers(shape: str, count: int) -> Any:
    import keras

    def new() -> Any:
        return keras.layers.Dense(2)

    inputs = keras.Input((2,))
    if shape == "Sequential":
        return keras.Sequential([inputs, *(new() for _ in range(count))])
    if shape == "Functional":
        flow = inputs
        for _ in range(count):
            flow = new()(flow)
        return keras.Model(inputs, flow)
    if shape == "branches":
        return keras.Model(inputs, keras.layers.Add()([new()(inputs) for _ in range(count)]))

    from scale_models import Listed

    model = Listed(count)
    model(keras.ops.ones((1, 2)))
    return model


def _with_python_pickler(obj: Any) -> bytes:
    file = io.BytesIO()
    pickle._Pickler(file).dump(obj)  # type: ignore[attr-defined]
    return file.getvalue()


def _ways(contender: str) -> dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]:
    """Return how to write an object and how to read it back, by the name of the way."""
    import cloudpickle
    import joblib

    path = Path(tempfile.mkdtemp(), "file.keras")

    def to_file(write: Callable[[Any, Path], Any]) -> Callable[[Any], Path]:
        return lambda obj: (write(obj, path), path)[1]

    ways: dict[str, Any] = {
        "pickle (C)": (pickle.dumps, pickle.loads),
        "pickle._Pickler": (_with_python_pickler, pickle.loads),
        "cloudpickle": (cloudpickle.dumps, pickle.loads),
        "joblib.dump": (to_file(joblib.dump), joblib.load),
        "joblib.hash": (joblib.hash, None),
        "copy.deepcopy": (copy.deepcopy, None),
    }
    if contender == "keras":
        # The others call the same methods.
        return {name: ways[name] for name in ("pickle (C)", "copy.deepcopy")}
    if contender == "keras_reduce":
        import keras_reduce

        ways["keras_reduce.dump"] = to_file(keras_reduce.dump), keras_reduce.load
        mapped = functools.partial(keras_reduce.load, mmap_mode="r")
        ways["keras_reduce.dump, mapped"] = to_file(keras_reduce.dump), mapped
        try:
            from skops import io as skops_io
        except ImportError:
            return ways

        def load_skops(file: Path) -> Any:
            return skops_io.load(file, trusted=skops_io.get_untrusted_types(file=file))

        ways["skops"] = to_file(skops_io.dump), load_skops
    return ways


def _through_each_way(obj: Any, contender: str, models: Callable[[Any], list[Any]]) -> Figures:
    """Write and read an object in each way; `models` returns the models in it."""
    expected = [digest(model) for model in models(obj)]
    figures: Figures = {}
    for name, (write, read) in _ways(contender).items():
        written, writing = attempted(functools.partial(write, obj), LIMITS[contender])
        figures[name] = row = {"write": writing}
        print(name, writing, file=sys.stderr, flush=True)
        if "error" in writing:
            continue
        copied = written
        if isinstance(written, (bytes, Path)):
            size = len(written) if isinstance(written, bytes) else written.stat().st_size
            row["megabytes"] = size / MB
        if read:
            sys.setrecursionlimit(20 * RECURSION_LIMIT)
            copied, row["read"] = attempted(functools.partial(read, written), LIMITS[contender])
            sys.setrecursionlimit(RECURSION_LIMIT)
        if name != "joblib.hash" and copied is not None:
            row["equal"] = [digest(model) for model in models(copied)] == expected
        del copied, written
    return figures


def layers_of(shape: str, contender: str, count: int) -> Figures:
    """Ship a model of many layers in each way; it is written with Python's recursion limit."""
    if contender == "keras_reduce":
        install()
    import keras

    keras.ops.zeros(1)
    figures: Figures = {}
    if shape in CHAINS:
        _, building = attempted(lambda: _model_of_layers(shape, count))
        figures["build with Python's recursion limit"] = building
    sys.setrecursionlimit(20 * RECURSION_LIMIT)
    model, figures["build"] = measured(lambda: _model_of_layers(shape, count))
    sys.setrecursionlimit(RECURSION_LIMIT)
    return figures | _through_each_way(model, contender, lambda obj: [obj])


def layers(size: float, _: Path) -> Figures:
    """Ship models of many layers, with this package and with Keras's own pickling."""
    figures: Figures = {shape: {} for shape in SHAPES}
    for contender in ("keras_reduce", "keras"):
        for shape in SHAPES:
            figures[shape][contender] = _step("layers_of", shape, contender, int(size))
            _show(shape, contender, figures[shape][contender])
    return figures


def pipeline_of(contender: str, count: int) -> Figures:
    """Ship a pipeline of many small models in each way."""
    import keras
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer

    if contender == "keras_reduce":
        install()

    def build() -> Pipeline:
        def new() -> Any:
            return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])

        return Pipeline([(f"step{i}", FunctionTransformer(new())) for i in range(count)])

    obj, building = measured(build)
    through = _through_each_way(obj, contender, lambda each: [step.func for _, step in each.steps])
    return {"build": building} | through


def pipeline(size: float, _: Path) -> Figures:
    """Ship a pipeline, with this package and with Keras's own pickling."""
    figures = {}
    for contender in ("keras_reduce", "keras"):
        figures[contender] = _step("pipeline_of", contender, int(size))
        _show("pipeline", contender, figures[contender])
    return figures


# --- large models -----------------------------------------------------------------------------


def protocol_of(protocol: int, single: bool, gigabytes: float, folder: str) -> Figures:
    """Write a model to a file by a protocol of pickle, and read it."""
    install()
    path = Path(folder, "model.pickle")

    def write(model: Any) -> None:
        with path.open("wb") as file:
            pickle.dump(model, file, protocol)

    model = large_model(gigabytes, single=single)
    _, writing = attempted(functools.partial(write, model))
    if "error" in writing:
        return {"write": writing}
    figures: Figures = {"write": writing, "megabytes": path.stat().st_size / MB}
    expected = digest(model)
    del model
    memory.settle()
    return figures | _step("read_pickle", str(path), expected)


def read_pickle(path: str, expected: str) -> Figures:
    """Read a model from a file of pickle."""
    import keras

    keras.ops.zeros(1)

    def read() -> Any:
        with Path(path).open("rb") as file:
            return pickle.load(file)

    model, reading = attempted(read)
    return {"read": reading, "equal": model is not None and digest(model) == expected}


def protocols(size: float, folder: Path) -> Figures:
    """Write and read by several protocols, with arrays below 4 GiB and with one above."""
    figures: Figures = {}
    for single in (False, True):
        for protocol in (2, 4):
            name = f"protocol {protocol}, {'one array' if single else 'several arrays'}"
            # Protocol 2 has no bytes: pickle makes a text of them, and UTF-8 of this, and keeps
            # all three.
            part = 0.45 if protocol == 2 and not single else 1
            step = _step("protocol_of", protocol, single, part * size, str(folder))
            figures[name] = {"part": part, **step}
            _show("protocols", name, figures[name])
    return figures


def write_large(gigabytes: float, path: str, compress: int) -> Figures:
    """Write a large model by `keras_reduce.dump`."""
    import keras_reduce

    install()
    model = large_model(gigabytes)
    _, writing = measured(lambda: keras_reduce.dump(model, path, compress=compress))
    return {
        "write": writing,
        "weights": sum(each.numpy().nbytes for each in model.variables) / MB,
        "megabytes": Path(path).stat().st_size / MB,
        "digest": digest(model),
        "answer": answer(model).sum().item(),
    }


def read_large(path: str, mapped: bool) -> Figures:
    """Read a large model, and predict with it."""
    import keras

    import keras_reduce

    keras.ops.zeros(1)
    model, reading = measured(lambda: keras_reduce.load(path, mmap_mode="r" if mapped else None))
    result, predicting = measured(lambda: answer(model))
    return {
        "read": reading,
        "predict": predicting,
        "memory": proportional(),
        "answer": result.sum().item(),
        "digest": digest(model),
    }


def save_natively(gigabytes: float, path: str) -> Figures:
    """Write a large model by Keras's own `save`."""
    model = large_model(gigabytes)
    _, writing = attempted(lambda: model.save(path))
    return {"write": writing, "megabytes": Path(path).stat().st_size / MB, "digest": digest(model)}


def load_natively(path: str) -> Figures:
    """Read a large model by Keras's own `load_model`."""
    import keras

    keras.ops.zeros(1)
    model, reading = attempted(lambda: keras.saving.load_model(path))
    return {"read": reading, "digest": digest(model) if model is not None else ""}


def large(size: float, folder: Path) -> Figures:
    """Write and read a large model, whole and mapped, and by Keras."""
    path = folder / "model.joblib"
    figures = {"write": _step("write_large", size, str(path), 0)}
    _show("large", "write", figures["write"])
    for name, mapped in (("read", False), ("mapped", True)):
        figures[name] = _compared(_step("read_large", str(path), mapped), figures["write"])
        _show("large", name, figures[name])
    path.unlink()
    path = folder / "model.keras"
    # Keras takes more memory: a third of the size.
    figures["keras, write"] = _step("save_natively", size / 3, str(path))
    figures["keras, read"] = _compared(_step("load_natively", str(path)), figures["keras, write"])
    _show("large", "keras", figures["keras, write"], figures["keras, read"])
    return figures


def _compared(read: Figures, written: Figures) -> Figures:
    equal = all(read[name] == written[name] for name in ("digest", "answer") if name in read)
    return {**read, "equal": equal}


def compressed(size: float, folder: Path) -> Figures:
    """Write and read a compressed file."""
    path = folder / "model.joblib.z"
    figures = {"write": _step("write_large", size, str(path), 1)}
    _show("compressed", "write", figures["write"])
    figures["read"] = _compared(_step("read_large", str(path), False), figures["write"])
    _show("compressed", "read", figures["read"])
    return figures


# --- workers and clusters ---------------------------------------------------------------------


def _predict(model: Any) -> tuple[int, Figures, float]:
    result = answer(model).sum().item()
    time.sleep(1)  # So that each worker gets tasks.
    return os.getpid(), proportional(), result


def in_workers(path: str, jobs: int) -> Figures:
    """Predict in workers with a model that this process has mapped."""
    from joblib import Parallel, delayed, parallel_config

    import keras_reduce

    install()
    model = keras_reduce.load(path, mmap_mode="r")
    expected = answer(model).sum().item()
    watch = Lowest()
    watch.start()
    with parallel_config("keras", n_jobs=jobs, inner_max_num_threads=1):
        calls = (delayed(_predict)(model) for _ in range(3 * jobs))
        answers, figures = measured(lambda: Parallel(batch_size=1, pre_dispatch="all")(calls))
    latest = {worker: sizes for worker, sizes, _ in answers}
    return {
        "call": figures,
        "workers": list(latest.values()),
        "pss of all workers": sum(each["pss"] for each in latest.values()),
        "private memory of all workers": sum(each["private"] for each in latest.values()),
        "taken from the machine": watch.taken(),
        "equal": {result for *_, result in answers} == {expected},
    }


def workers(size: float, folder: Path) -> Figures:
    """Predict in four workers with one large model."""
    path = folder / "model.joblib"
    written = _step("write_large", size, str(path), 0)
    figures = {"weights": written["weights"], **_step("in_workers", str(path), 4)}
    _show("workers", figures)
    return figures


@contextlib.contextmanager
def dask() -> Iterator[Callable[[Any], list[Any]]]:
    """Yield a function that ships by `Client.scatter` to all workers."""
    from distributed import Client, LocalCluster

    import keras_reduce.dask

    options = {"threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
    with LocalCluster(2, **options) as local, Client(local) as client:
        client.register_plugin(keras_reduce.dask.plugin())

        def ship(model: Any) -> list[Any]:
            there = client.scatter(model, broadcast=True)
            names = client.scheduler_info()["workers"]
            tasks = [client.submit(_predict, there, workers=[name], pure=False) for name in names]
            return list(client.gather(tasks))

        yield ship


@contextlib.contextmanager
def spark() -> Iterator[Callable[[Any], list[Any]]]:
    """Yield a function that ships by `SparkContext.broadcast`."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession

    options = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1"}
    # The default, 1 GB, is too little for a broadcast of 2 GB: java.lang.OutOfMemoryError.
    options["spark.driver.memory"] = "6g"
    session = SparkSession.builder.master("local[2]").config(map=options).getOrCreate()
    context = session.sparkContext

    def ship(model: Any) -> list[Any]:
        there = context.broadcast(model)
        return list(context.parallelize(range(2), 2).map(lambda _: _predict(there.value)).collect())

    try:
        yield ship
    finally:
        session.stop()


ENGINES = {"dask": dask, "spark": spark}


def in_cluster(engine: str, path: str) -> Figures:
    """Ship a model to two workers of an engine, each of which predicts."""
    import keras_reduce

    install()
    model = keras_reduce.load(path, mmap_mode="r")
    expected = answer(model).sum().item()
    with ENGINES[engine]() as ship:
        watch = Lowest()
        watch.start()
        answers, figures = measured(lambda: ship(model))
        taken = watch.taken()
    return {
        "call": figures,
        "workers": [sizes for _, sizes, _ in answers],
        "different workers": len({worker for worker, *_ in answers}),
        "taken from the machine": taken,
        "equal": {result for *_, result in answers} == {expected},
    }


def cluster(engine: str, size: float, folder: Path) -> Figures:
    """Ship a model to two workers of a cluster."""
    path = folder / "model.joblib"
    written = _step("write_large", size, str(path), 0)
    figures = {"weights": written["weights"], **_step("in_cluster", engine, str(path))}
    _show(engine, figures)
    return figures


# --- fits -------------------------------------------------------------------------------------


def build(units: int = 4, rate: float = 0.01) -> Any:
    """Build a small model for the search."""
    import keras

    hidden = keras.layers.Dense(units, "relu")
    model = keras.Sequential([keras.Input((10,)), hidden, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(rate), "mse")
    return model


def _search(candidates: int, jobs: int) -> Any:
    import numpy as np
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import GridSearchCV

    import keras_reduce

    inputs, targets = load_diabetes(return_X_y=True)
    rates = np.linspace(0.001, 0.1, 250).tolist()
    regressor = keras_reduce.KerasRegressor(build, units=4, rate=0.1, epochs=2, random_state=0)
    grid = [{"units": [units], "rate": [rate]} for rate in rates for units in (2, 4, 6, 8)]
    search = GridSearchCV(regressor, grid[:candidates], cv=5, n_jobs=jobs, refit=False)
    return search.fit(inputs, targets)


def fits_with(count: int, jobs: int) -> Figures:
    """Search with some fits; return the scores as well."""
    install()
    watch = Lowest()
    watch.start()
    before = time.process_time(), _children_cpu()
    search, figures = measured(lambda: _search(count // 5, jobs))
    taken = watch.taken()
    return {
        "call": figures,
        "cpu of all": time.process_time() - before[0] + _children_cpu() - before[1],
        "memory": proportional(),
        "taken from the machine": taken,
        "fits": 5 * len(search.cv_results_["params"]),
        "scores": search.cv_results_["mean_test_score"].tolist(),
    }


def _children_cpu() -> float:
    import psutil

    return sum(sum(each.cpu_times()[:2]) for each in psutil.Process().children(recursive=True))


def fits(size: float, _: Path) -> Figures:
    """Search with many fits and two workers; the first candidates again in one process."""
    figures = _step("fits_with", int(size), 2)
    scores, again = figures.pop("scores"), _step("fits_with", min(int(size), 100), 1)["scores"]
    figures["equal"] = scores[: len(again)] == again
    _show("fits", figures)
    return figures


# --- tables -----------------------------------------------------------------------------------


def tables(document: Figures) -> Iterator[str]:
    """Yield the tables of docs/benchmarks.md, line by line, for the cases that were run."""
    figures = {case: entry["figures"] for case, entry in document.items()}
    if "layers" in figures:
        yield f"| {document['layers']['size']:,.0f} layers | {' | '.join(SHAPES)} |"
        yield "| --- " * (1 + len(SHAPES)) + "|"
        for contender, title in (("keras_reduce", ""), ("keras", ", Keras alone")):
            by_shape = [figures["layers"][shape][contender] for shape in SHAPES]
            for way in by_shape[0]:
                if not way.startswith("build"):
                    cells = [_write_and_read(each[way]) for each in by_shape]
                    yield f"| {way}{title} | {' | '.join(cells)} |"
    if "pipeline" in figures:
        count = document["pipeline"]["size"]
        yield f"| {count:,.0f} models | write, read: s | growth, MB | file, MB |"
        yield "| --- | --- | --- | --- |"
        for contender, title in (("keras_reduce", ""), ("keras", ", Keras alone")):
            for way, row in figures["pipeline"][contender].items():
                if way != "build":
                    size = f"{row['megabytes']:.1f}" if "megabytes" in row else ""
                    yield f"| {way}{title} | {_write_and_read(row)} | {_growth(row)} | {size} |"
    yield "| large models | wall, CPU: s | growth, MB | file, MB |"
    yield "| --- | --- | --- | --- |"
    for title, row, size in _operations(document, figures):
        file = f"{size:,.0f}" if size else ""
        time_taken = _seconds(row) if "error" in row else f"{row['seconds']:.1f}, {row['cpu']:.1f}"
        growth = "" if "error" in row else f"{row['peak']:,.0f}"
        yield f"| {title} | {time_taken} | {growth} | {file} |"
    yield "| workers | seconds | Pss of each, MB | Pss of all, MB | private memory of each, MB |"
    yield "| --- | --- | --- | --- | --- |"
    for case in ("workers", "dask", "spark"):
        if case in figures:
            each = figures[case]["workers"]
            largest = [max(worker[name] for worker in each) for name in ("pss", "private")]
            total = sum(worker["pss"] for worker in each)
            title = 'joblib, backend `"keras"`' if case == "workers" else case.capitalize()
            yield (
                f"| {title}, {len(each)} workers, {document[case]['size']:g} GB "
                f"| {figures[case]['call']['seconds']:.0f} | {largest[0]:,.0f} | {total:,.0f} "
                f"| {largest[1]:,.0f} |"
            )
    if "fits" in figures:
        of = figures["fits"]
        yield "| fits | wall, CPU: s | growth of the program, MB | taken from the machine, MB |"
        yield "| --- | --- | --- | --- |"
        yield (
            f"| {of['fits']:,.0f} | {of['call']['seconds']:.0f}, {of['cpu of all']:.0f} "
            f"| {of['call']['kept']:.0f} | {of['taken from the machine']:.0f} |"
        )


def _operations(document: Figures, figures: Figures) -> Iterator[tuple[str, Figures, float]]:
    """Yield operations with large models: title, figures, MB of the file."""
    if "large" in figures:
        of, size = figures["large"], document["large"]["size"]
        yield f"`dump`, {size:g} GB", of["write"]["write"], of["write"]["megabytes"]
        yield f"`load`, {size:g} GB", of["read"]["read"], 0
        yield f'`load(mmap_mode="r")`, {size:g} GB', of["mapped"]["read"], 0
        yield "… its first prediction", of["mapped"]["predict"], 0
        native = of["keras, write"]
        yield f"Keras's `save`, {size / 3:g} GB", native["write"], native["megabytes"]
        yield f"Keras's `load_model`, {size / 3:g} GB", of["keras, read"]["read"], 0
    if "compressed" in figures:
        of, size = figures["compressed"], document["compressed"]["size"]
        yield f"`dump(compress=1)`, {size:g} GB", of["write"]["write"], of["write"]["megabytes"]
        yield f"`load` of that file, {size:g} GB", of["read"]["read"], 0
    for name, row in figures.get("protocols", {}).items():
        size = document["protocols"]["size"] * row["part"]
        yield f"pickle, {name}, {size:.1f} GB: write", row["write"], row.get("megabytes", 0)
        if "read" in row:
            yield f"pickle, {name}, {size:.1f} GB: read", row["read"], 0


def _write_and_read(row: Figures) -> str:
    return ", ".join(_seconds(row[step]) for step in ("write", "read") if step in row)


def _seconds(row: Figures) -> str:
    error = row.get("error", "").partition(":")[0]
    return (
        f"over {LIMITS['keras']}" if error == "TimeoutError" else error or f"{row['seconds']:.1f}"
    )


def _growth(row: Figures) -> str:
    peaks = [row[step].get("peak") for step in ("write", "read") if step in row]
    return ", ".join(f"{peak:,.0f}" for peak in peaks if peak is not None)


# --- command line -----------------------------------------------------------------------------

CASES: dict[str, tuple[Callable[[float, Path], Figures], float]] = {
    "layers": (layers, 2000),
    "pipeline": (pipeline, 3000),
    "protocols": (protocols, 4.3),
    "large": (large, 6),
    "workers": (workers, 6),
    "compressed": (compressed, 6),
    "dask": (functools.partial(cluster, "dask"), 2),
    "spark": (functools.partial(cluster, "spark"), 2),
    "fits": (fits, 5000),
}
STEPS = (
    fits_with,
    in_cluster,
    in_workers,
    layers_of,
    load_natively,
    pipeline_of,
    protocol_of,
    read_large,
    read_pickle,
    save_natively,
    write_large,
)


def _step(name: str, *arguments: object) -> Figures:
    """Run a step in a fresh process."""
    figures: Figures = run(__file__, "--step", name, "--arguments", json.dumps(arguments))
    return figures


def _show(*cells: Any) -> None:
    print(*cells, flush=True)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 3) if isinstance(value, float) else value


def main() -> None:
    """Run a case, or a step of one in this process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("case", nargs="?", choices=CASES)
    parser.add_argument("--size", type=float, help="GB, layers, models or fits")
    parser.add_argument("--folder", type=Path, help="for large files")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--step", choices=[each.__name__ for each in STEPS], help=argparse.SUPPRESS)
    parser.add_argument("--arguments", default="[]", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        (step,) = (each for each in STEPS if each.__name__ == options.step)
        print(json.dumps(step(*json.loads(options.arguments))))
        return
    file = options.out / "scale.json"
    document = json.loads(file.read_text()) if file.exists() else {}
    if not options.case:
        print("\n".join(tables(document)))
        return
    from machine import machine, versions

    function, size = CASES[options.case]
    size = options.size or size
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = function(size, Path(folder))
    document[options.case] = {
        "size": size,
        "versions": versions(),
        "machine": machine(),
        "figures": _rounded(figures),
    }
    file.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
