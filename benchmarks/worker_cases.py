"""Cases of `workers.py`: each runs in one program, with one contender."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Figures = dict[str, float]

# --- counters of the system -------------------------------------------------------------------


def _descendants(number: int) -> set[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    descendants, open_ends = set(), {number}
    while open_ends:
        open_ends = {
            child for child, parent in parents.items() if parent in open_ends
        } - descendants
        descendants |= open_ends
    return descendants


def _cpu(number: int) -> float:
    """Return the CPU seconds of a process and of its children that have ended."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _all_processes_cpu() -> float:
    return sum(map(_cpu, {os.getpid(), *_descendants(os.getpid())}))


def _written() -> int:
    """Return the bytes of files in shared memory."""
    total = 0
    for path in Path("/dev/shm").rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def memory_of_worker() -> Figures:
    """Return, in a worker, its private memory and its share of shared memory, in MB."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    fields = {line.split(":")[0]: line.split()[1] for line in rollup.splitlines()[1:]}
    private = int(fields["Private_Clean"]) + int(fields["Private_Dirty"])
    return {
        "private": private / 1024,
        "dirty": int(fields["Private_Dirty"]) / 1024,
        "pss": int(fields["Pss"]) / 1024,
        "resident": int(fields["Rss"]) / 1024,
        "threads": sum(1 for _ in Path("/proc/self/task").iterdir()),
    }


def _timed(action: Callable[[], Any]) -> tuple[Any, Figures]:
    wall, program, everything = time.perf_counter(), time.process_time(), _all_processes_cpu()
    result = action()
    return result, {
        "wall": time.perf_counter() - wall,
        "program cpu": time.process_time() - program,
        "all cpu": _all_processes_cpu() - everything,
    }


# --- cases ------------------------------------------------------------------------------------


def _prepare(contender: str) -> int:
    """Set up joblib for a contender, and return its number of workers."""
    import joblib

    name = contender.partition(",")[0]
    if name in ("ours", "loky + reducers"):
        import keras_reduce

        prestart = contender.endswith("prestarted")
        keras_reduce.install(
            backend="keras" if name == "ours" else "loky",
            prestart=prestart,
            # joblib's own workers get the reducers only.
            reuse=name == "ours" and "reuse=False" not in contender,
        )
        if prestart:
            from keras_reduce.parallel import warm

            warm.server().wait_until_ready()
    joblib.parallel  # noqa: B018 - the lazy module is loaded here
    return 1 if name == "sequential" else 2


def _touch(_: int) -> tuple[int, tuple[float, float, Figures]]:
    import keras

    imported = time.time()
    keras.ops.convert_to_numpy(keras.ops.ones(3))
    computed = time.time()
    time.sleep(0.5)  # so that the other worker gets tasks, too
    return os.getpid(), (imported, computed, memory_of_worker())


def ready(contender: str) -> Iterator[Figures]:
    """Start two workers that compute with Keras; the second time, after the first have ended."""
    from joblib import Parallel, delayed

    jobs = _prepare(contender)
    for _ in range(2):
        start = time.time()
        touches, figures = _timed(
            lambda: Parallel(jobs, batch_size=1)(delayed(_touch)(i) for i in range(4))
        )
        workers = dict(reversed(touches))  # the first task of each
        assert len(workers) == 2
        imported, computed, memory = zip(*workers.values(), strict=True)
        yield {
            "ready": max(imported) - start,
            "computed": max(computed) - start,
            "all cpu": figures["all cpu"],
            "dirty per worker": statistics.mean(each["dirty"] for each in memory),
            "pss per worker": statistics.mean(each["pss"] for each in memory),
            "threads per worker": statistics.mean(each["threads"] for each in memory),
        }
        _end_workers(contender)


def _end_workers(contender: str) -> None:
    if contender.startswith("ours"):
        from keras_reduce.parallel import backend

        backend._pool.shutdown()
    else:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)


def _build(units: int = 32) -> Any:
    import keras

    layers = [keras.Input((10,)), *(keras.layers.Dense(n, "relu") for n in (units, 16))]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def _build_for_keras(X: Any, y: Any, units: int = 32) -> Any:  # noqa: N803
    return _build(units)


def _wrapped(wrapper: str) -> tuple[Any, dict[str, Any]]:
    if wrapper == "scikeras":
        from scikeras.wrappers import KerasRegressor

        return KerasRegressor(_build, units=32, epochs=2, verbose=0), {"units": _UNITS}
    if wrapper == "keras.wrappers":
        from keras.wrappers import SKLearnRegressor

        estimator = SKLearnRegressor(
            _build_for_keras, model_kwargs={"units": 32}, fit_kwargs={"epochs": 2, "verbose": 0}
        )
        return estimator, {"model_kwargs": [{"units": units} for units in _UNITS]}
    from keras_reduce import KerasRegressor

    return KerasRegressor(_build, units=32, epochs=2, verbose=0), {"units": _UNITS}


_UNITS = [8, 12, 16, 20, 24, 28, 32, 36]


def _data() -> tuple[Any, Any]:
    import numpy as np

    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(300, 10))
    return inputs, inputs.sum(axis=1)


def search(contender: str, wrapper: str) -> Iterator[Figures]:
    """Search 8 candidates in 3 folds; the second time with running workers."""
    import keras  # noqa: F401 - its import must not be measured, and not every wrapper imports it so early
    from sklearn.model_selection import GridSearchCV

    jobs = _prepare(contender)
    estimator, grid = _wrapped(wrapper)
    inputs, targets = _data()
    # A second round shows nothing new if workers run from the start, or if there are none.
    for _ in range(1 if contender in ("sequential", "ours, prestarted") else 2):
        task = GridSearchCV(estimator, grid, cv=3, n_jobs=jobs, error_score="raise", refit=False)
        yield _timed(lambda task=task: task.fit(inputs, targets))[1]


def reuse(contender: str, jobs: int, is_fixed: bool) -> Iterator[Figures]:
    """Search 8 candidates in 3 folds of the diabetes data, with one of several wrappers.

    Epochs and batch sizes are searched; unless the architecture `is_fixed`, units as well.
    """
    import keras  # noqa: F401 - as above
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import GridSearchCV

    is_ours = contender.startswith("ours")
    _prepare(contender if is_ours else "loky")
    inputs, targets = load_diabetes(return_X_y=True)
    units, sizes = ([32], [16, 32, 48, 64]) if is_fixed else ([16, 32], [32, 64])
    grid: Any = {"units": units, "epochs": [1, 2], "batch_size": sizes}
    estimator, _ = _wrapped("keras_reduce" if is_ours else contender)
    if contender == _SEEDED:
        estimator.set_params(random_state=0)
    if contender == "keras.wrappers":
        grid = {
            "model_kwargs": [{"units": number} for number in units],
            "fit_kwargs": [
                {"epochs": epochs, "batch_size": size, "verbose": 0}
                for epochs in (1, 2)
                for size in sizes
            ],
        }
    for _ in range(jobs):  # with two jobs, the second time with running workers
        task = GridSearchCV(estimator, grid, cv=3, n_jobs=jobs, error_score="raise", refit=False)
        yield _timed(lambda task=task: task.fit(inputs, targets))[1]


def _large() -> Any:
    import keras

    layers = [keras.Input((2000,)), *(keras.layers.Dense(3000, "relu") for _ in range(3))]
    return keras.Sequential([*layers, keras.layers.Dense(1)])


def _predict(model: Any, inputs: Any) -> tuple[int, Figures, float]:
    answer = model.predict(inputs, verbose=0)
    return os.getpid(), memory_of_worker(), float(answer.sum())


def predict(contender: str) -> Iterator[Figures]:
    """Predict 16 times with one model, with workers that have computed before."""
    import numpy as np
    from joblib import Parallel, delayed

    jobs = _prepare(contender)
    before = {w: answers[-1] for w, answers in Parallel(jobs)(delayed(_touch)(i) for i in range(4))}
    model = _large()
    inputs = np.random.default_rng(0).normal(size=(64, 2000)).astype("float32")
    model.predict(inputs, verbose=0)
    weights = sum(array.nbytes for array in model.get_weights()) / 2**20
    for _ in range(2):
        with Parallel(jobs, batch_size=1) as parallel:
            # Counted before joblib deletes its files.
            start = _written()
            answers, figures = _timed(
                lambda parallel=parallel: parallel(
                    delayed(_predict)(model, inputs) for _ in range(16)
                )
            )
            figures["written"] = (_written() - start) / 2**20
        assert len({answer for *_, answer in answers}) == 1
        latest = {worker: memory for worker, memory, _ in answers}
        growth = [m["private"] - before[w]["private"] for w, m in latest.items() if w in before]
        figures["pss per worker"] = statistics.mean(m["pss"] for m in latest.values())
        if growth:
            figures["growth / weights"] = statistics.mean(growth) / weights
        yield figures


def _predict_twice(model: Any, inputs: Any) -> tuple[int, float, float]:
    model.predict(inputs, verbose=0)
    start = time.perf_counter()
    model.predict(inputs, verbose=0)
    end = time.perf_counter()  # all processes of the machine share this clock
    return os.getpid(), end, end - start


def cost(contender: str) -> Iterator[Figures]:
    """Measure the time of a task with a model beyond prediction, from the second in a worker on."""
    import numpy as np
    from joblib import Parallel, delayed

    jobs = _prepare(contender)
    model = _large()
    inputs = np.random.default_rng(0).normal(size=(64, 2000)).astype("float32")
    tasks = (delayed(_predict_twice)(model, inputs) for _ in range(24))
    tasks_done = Parallel(jobs, batch_size=1, pre_dispatch="all")(tasks)
    beyond = []
    for worker in {number for number, *_ in tasks_done}:
        ends = sorted((end, seconds) for number, end, seconds in tasks_done if number == worker)
        # A task predicts twice. The rest of its time is the cost, also a slower first prediction.
        pairs = zip(ends[1:], ends[:-1], strict=True)
        beyond += [end - before - 2 * seconds for (end, seconds), (before, _) in pairs]
    yield {"ms beyond predict": 1e3 * statistics.median(beyond)}


def importance(contender: str) -> Iterator[Figures]:
    """Compute the importance of 10 features by 5 permutations of each."""
    from sklearn.inspection import permutation_importance

    jobs = _prepare(contender)
    estimator, _ = _wrapped("keras_reduce")
    inputs, targets = _data()
    estimator.fit(inputs, targets)
    for _ in range(2):
        yield _timed(
            lambda: permutation_importance(
                estimator, inputs, targets, n_repeats=5, n_jobs=jobs, random_state=0
            )
        )[1]


def _build_mobilenet() -> Any:
    import keras

    base = keras.applications.MobileNetV2((32, 32, 3), weights=None, include_top=False)
    model = keras.Sequential([base, keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def validate(contender: str) -> Iterator[Figures]:
    """Cross-validate MobileNetV2 in 2 folds and return the models."""
    import numpy as np
    from sklearn.model_selection import cross_validate

    from keras_reduce import KerasRegressor

    jobs = _prepare(contender)
    generator = np.random.default_rng(0)
    inputs, targets = generator.normal(size=(16, 32, 32, 3)), generator.normal(size=16)
    estimator = KerasRegressor(_build_mobilenet, epochs=1, verbose=0)
    for _ in range(1):
        yield _timed(
            lambda: cross_validate(
                estimator,
                inputs,
                targets,
                cv=2,
                n_jobs=jobs,
                return_estimator=True,
                error_score="raise",
            )
        )[1]


def _fit(i: int) -> tuple[int, Figures]:
    import keras

    keras.utils.set_random_seed(i)
    inputs, targets = _data()
    _build().fit(inputs[:32], targets[:32], verbose=0)
    return os.getpid(), memory_of_worker()


def growth(contender: str) -> Iterator[Figures]:
    """Fit 500 small models."""
    from joblib import Parallel, delayed, parallel_config

    jobs = _prepare(contender)
    options = {"max_worker_growth": None} if "never replaced" in contender else {}
    name = "keras" if contender.startswith("ours") else "loky"
    with parallel_config(name, **options):
        fits, figures = _timed(lambda: Parallel(jobs)(delayed(_fit)(i) for i in range(500)))
    figures["largest worker"] = max(memory["resident"] for _, memory in fits)
    by_worker: dict[int, list[float]] = {}
    for worker, memory in fits:
        by_worker.setdefault(worker, []).append(memory["private"])
    # From the tenth fit on: by then, a worker has imported and cached everything.
    grown = [max(sizes[10:]) - sizes[10] for sizes in by_worker.values() if len(sizes) > 20]
    figures["growth of a worker"] = max(grown, default=0.0)
    figures["workers"] = len({worker for worker, _ in fits})
    yield figures


_LOKY_AND_OURS = ("loky", "loky + reducers", "ours")
_WITH_SEQUENTIAL = ("sequential", "loky", "ours", "ours, prestarted")
_NOT_SHARED = "ours, reuse=False"
_SEEDED = "ours, random_state=0"
_WRAPPERS = ("keras.wrappers", "scikeras", _NOT_SHARED, "ours")
CASES: dict[str, tuple[Callable[..., Iterator[Figures]], tuple[Any, ...], tuple[str, ...]]] = {
    "two workers ready": (ready, (), ("loky", "ours")),
    "GridSearchCV, KerasRegressor": (search, ("keras_reduce",), (*_WITH_SEQUENTIAL, _NOT_SHARED)),
    "GridSearchCV, SciKeras": (search, ("scikeras",), _WITH_SEQUENTIAL),
    "GridSearchCV, keras.wrappers": (search, ("keras.wrappers",), _WITH_SEQUENTIAL),
    "16 predictions, 84 MB": (predict, (), _LOKY_AND_OURS),
    "permutation_importance": (importance, (), ("sequential", *_LOKY_AND_OURS)),
    "cross_validate, MobileNetV2": (validate, (), ("sequential", *_LOKY_AND_OURS)),
    "one architecture, n_jobs=1": (reuse, (1, True), (*_WRAPPERS, _SEEDED)),
    "one architecture, n_jobs=2": (reuse, (2, True), (*_WRAPPERS, _SEEDED)),
    "units too, n_jobs=1": (reuse, (1, False), _WRAPPERS),
    "units too, n_jobs=2": (reuse, (2, False), _WRAPPERS),
    "a task with 84 MB": (cost, (), ("loky", _NOT_SHARED, "ours")),
    "500 fits": (growth, (), ("loky", _NOT_SHARED, "ours", "ours, never replaced")),
}
ONCE = {"500 fits"}  # takes minutes, and is about memory
