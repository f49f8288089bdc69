"""``python -m keras_reduce demo``: a search, taken to a process that lacks its code.

The build function is a closure, which can't be imported. Two warm workers search with it, the
fitted search goes to a file, and a fresh Python reads that with nothing but `joblib.load`. Both
sides predict, train on for an epoch, and must agree bit for bit.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TextIO

import joblib
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV, ParameterGrid, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from .. import registry
from ..errors import FrameworkError, KerasReduceError
from ..parallel import warm
from ..parallel.backend import KerasBackend
from ..wrappers import KerasRegressor

_GRID = {"keras__units": [8, 16], "keras__dropout": [0.0, 0.2]}
_FOLDS = 3
_FITS = _FOLDS * len(ParameterGrid(_GRID))

Answers = dict[str, Any]


def main() -> int:
    """Run the demo and print what it found.

    Returns
    -------
    int
        0 if both sides agree, else 1.

    Raises
    ------
    FrameworkError
        There is no Keras to show anything with.
    KerasReduceError
        The fresh process failed.
    """
    with (
        registry.installed(),
        tempfile.TemporaryDirectory() as folder,
        _stderr_aside() as terminal,
        _Bar(_FITS + 4, terminal) as bar,
    ):
        rows, agree = _run(Path(folder), bar)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    if not agree:
        print("The fresh process disagrees with this one: please report it.", file=sys.stderr)
    return 0 if agree else 1


def answer(search: Any, x_train: Any, y_train: Any, x_test: Any) -> Answers:
    """Predict, train the best model for one epoch more, and return what became of it."""
    predictions = search.predict(x_test)
    *steps, regressor = search.best_estimator_
    for step in steps:
        x_train = step.transform(x_train)
    # Without shuffling: the order would come from NumPy's generator, which belongs to the process.
    regressor.model_.fit(x_train, y_train, batch_size=64, epochs=1, shuffle=False, verbose=0)
    return {"predictions": predictions, "weights": regressor.model_.get_weights()}


# The other side: it has the text of `answer`, and has never heard of the build function.
READER = f"""
from __future__ import annotations
import sys, time
import joblib

{inspect.getsource(answer)}

start = time.perf_counter()
search = joblib.load(sys.argv[1])
seconds = time.perf_counter() - start
answers = answer(search, *joblib.load(sys.argv[2]))
if "{__name__}" in sys.modules:
    sys.exit("the module of the build function was imported")
joblib.dump((answers, seconds), sys.argv[3])
"""


def _run(folder: Path, bar: _Bar) -> tuple[list[tuple[str, str]], bool]:
    bar.stage("importing Keras")
    warm.server().start()  # as install(prestart=True): it imports while this process does
    _import_keras()
    x, y = load_diabetes(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0)
    bar.step()

    bar.stage("searching")
    regressor = KerasRegressor(_builder(), epochs=20, batch_size=64, random_state=0)
    search = GridSearchCV(
        Pipeline([("scale", StandardScaler()), ("keras", regressor)]),
        _GRID,
        cv=_FOLDS,
        n_jobs=2,
        error_score="raise",
    )
    with _timed() as search_time, joblib.parallel_config(backend=_Counted(bar.step)):
        search.fit(x_train, y_train)
    r2 = search.score(x_test, y_test)
    bar.step()

    bar.stage("dumping")
    dump, data = folder / "search.joblib", (x_train, y_train, x_test)
    with _timed() as dump_time:
        joblib.dump(search, dump)
    bar.step()

    bar.stage("loading in a fresh process")
    there, load_time = _read_elsewhere(folder, dump, data)
    here = answer(search, *data)
    bar.step()

    same_predictions = _same([here["predictions"]], [there["predictions"]])
    same_weights = _same(here["weights"], there["weights"])
    best = ", ".join(f"{k.partition('__')[2]}={v}" for k, v in search.best_params_.items())
    rows = [
        ("candidates", f"{len(search.cv_results_['params'])}, {_FOLDS} folds each"),
        ("GridSearchCV on 2 processes", f"{search_time():.1f} s, with their start"),
        ("best parameters", best),
        ("R^2 on held-out rows", f"{r2:.2f} ({len(x_test)} rows)"),
        ("joblib.dump", f"{dump_time():.2f} s, {dump.stat().st_size / 1000:.0f} kB"),
        ("joblib.load in a fresh process", f"{load_time:.1f} s, with the import of Keras"),
        ("predictions there and here", _verdict(same_predictions)),
        ("weights after one more epoch", _verdict(same_weights)),
    ]
    return rows, same_predictions and same_weights


def _import_keras() -> None:
    try:
        import keras  # noqa: F401
    except ImportError as error:
        raise FrameworkError(
            "The demo needs Keras and its framework",
            cause=str(error),
            cure="pip install 'keras_reduce[tensorflow]'",
        ) from error


def _builder() -> Callable[..., Any]:
    def build(units: int = 8, dropout: float = 0.0) -> Any:
        import keras

        model = keras.Sequential(
            [
                keras.layers.Dense(units, activation="relu"),
                keras.layers.Dropout(dropout),
                keras.layers.Dense(1),
            ]
        )
        model.compile(optimizer=keras.optimizers.Adam(0.1), loss="mse")
        return model

    return build


def _read_elsewhere(folder: Path, dump: Path, data: tuple[Any, ...]) -> tuple[Answers, float]:
    joblib.dump(data, folder / "data.joblib")
    reader = subprocess.run(
        [sys.executable, "-c", READER, dump, folder / "data.joblib", folder / "answers.joblib"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if reader.returncode:
        raise KerasReduceError("The fresh process could not read the search", cause=reader.stderr)
    answers: tuple[Answers, float] = joblib.load(folder / "answers.joblib")
    return answers


def _same(here: list[Any], there: list[Any]) -> bool:
    return len(here) == len(there) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(map(np.asarray, here), map(np.asarray, there), strict=True)
    )


def _verdict(same: bool) -> str:
    return "equal, bit for bit" if same else "DIFFERENT"


@contextmanager
def _timed() -> Iterator[Callable[[], float]]:
    start = end = time.perf_counter()
    yield lambda: end - start
    end = time.perf_counter()


@contextmanager
def _stderr_aside() -> Iterator[TextIO]:
    """Keep what frameworks and workers log out of sight, unless something fails.

    TensorFlow writes its first lines from C++ before it reads any setting, in each process.
    """
    sys.stderr.flush()
    with os.fdopen(os.dup(2), "w") as terminal, tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield terminal
        except Exception:
            log.seek(0)
            terminal.write(log.read().decode(errors="replace"))
            raise
        finally:
            sys.stderr.flush()
            terminal.flush()
            os.dup2(terminal.fileno(), 2)


class _Counted(KerasBackend):
    """The backend "keras", which tells how many tasks are done."""

    def __init__(self, done: Callable[[int], None]) -> None:
        super().__init__()
        self._tell = done

    def batch_completed(self, batch_size: int, duration: float) -> None:
        super().batch_completed(batch_size, duration)
        self._tell(batch_size)


class _Bar:
    """Progress: in a terminal a line that is painted again and again, else a line per stage."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total, self._stream, self._is_terminal = total, stream, stream.isatty()
        self._done, self._stage, self._start = 0, "", time.perf_counter()
        self._closed = threading.Event()
        self._painter = threading.Thread(target=self._paint, daemon=True)

    def __enter__(self) -> Self:
        if self._is_terminal:
            self._painter.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed.set()
        if self._painter.is_alive():
            self._painter.join()

    def stage(self, name: str) -> None:
        self._stage = name
        if not self._is_terminal:
            self._stream.write(f"{name} ...\n")
            self._stream.flush()

    def step(self, count: int = 1) -> None:
        self._done += count

    def _paint(self) -> None:
        # On a clock of its own, since the longest step is the workers' first one.
        while not self._closed.wait(0.1):
            filled = 24 * self._done // self._total
            seconds = time.perf_counter() - self._start
            line = f"{'#' * filled:.<24} {self._done}/{self._total} {seconds:3.0f} s  {self._stage}"
            self._stream.write(f"\r{line}\x1b[K")
            self._stream.flush()
        self._stream.write("\r\x1b[K")
        self._stream.flush()
