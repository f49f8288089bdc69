"""Ship the zoo over every transport and record the copies that arrive.

``python zoo.py FOLDER`` builds each case in ``__main__`` and sends it everywhere; afterwards
``python transports.py FOLDER`` reads the files in a process that never saw a class of the zoo, nor
called `install`. Each transport's word is an empty string if all that arrived answers and trains
bit for bit as the original, else the difference. Another zoo may have its own probes: it names
their module in the environment variable ``PROBES``, which workers see too.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import multiprocessing
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import joblib
from sklearn.base import BaseEstimator, clone

from keras_reduce import families
from keras_reduce.core import keras_backend

probes = importlib.import_module(os.environ.get("PROBES", "probes"))
if keras_backend.expected() == "torch":
    import torch

    # Workers have other numbers of threads, which would change the last bit of sums.
    torch.set_num_threads(1)

Outcome = tuple[dict, dict]  # the outputs of an object, and the outcome of further training

FILES: dict[str, tuple[Callable[[Any, Path], Any], Callable[[Path], Any]]] = {
    "pickle": (
        lambda obj, path: path.write_bytes(pickle.dumps(obj)),
        lambda path: pickle.loads(path.read_bytes()),
    ),
    "cloudpickle": (
        lambda obj, path: path.write_bytes(cloudpickle.dumps(obj)),
        lambda path: cloudpickle.loads(path.read_bytes()),
    ),
    "joblib": (joblib.dump, joblib.load),
    "joblib compressed": (lambda obj, path: joblib.dump(obj, path, compress=3), joblib.load),
    "joblib mmap": (joblib.dump, lambda path: joblib.load(path, mmap_mode="r")),
}
IN_PROCESS = ("deepcopy", "clone")
WORKERS = ("loky", "multiprocessing")
# The cases that pytest has selected; outside of pytest, all.
SELECTED = json.loads(os.environ.get("KERAS_REDUCE_TRANSPORTS", "[]"))
TRANSPORTS = [t for t in (*FILES, *IN_PROCESS, *WORKERS) if t in SELECTED or not SELECTED]
FILES = {transport: FILES[transport] for transport in FILES if transport in TRANSPORTS}


class Holder(BaseEstimator):
    """An estimator with a Keras object for a parameter: `clone` copies it deeply."""

    def __init__(self, content=None):
        self.content = content


def outcome(obj: Any, x: Any, y: Any) -> Outcome:
    return probes.probe(obj, x, y), probes.advance(obj, x, y)


def compare(expected: Outcome, actual: Outcome) -> str:
    answers = probes.difference(expected[0], actual[0])
    return answers or probes.difference(expected[1], actual[1])


def visit(obj: Any, x: Any, y: Any) -> tuple[Outcome, Any]:
    """Probe an object in a worker, and send it back trained."""
    return outcome(obj, x, y), obj


def attempt(function: Callable[..., str], *arguments: Any) -> str:
    """Return the word that `function` returns, or its error."""
    try:
        return function(*arguments)
    except Exception:
        return traceback.format_exc(limit=-4)


def write(cases: dict[str, Callable], folder: Path, only: list[str]) -> dict[str, dict[str, str]]:
    import keras_reduce

    keras_reduce.install()
    used = _noted_kinds()
    kinds: dict[str, list[str]] = {}
    results: dict[str, dict[str, str]] = {}
    with contextlib.ExitStack() as stack:
        spawned = loky = None
        if "multiprocessing" in TRANSPORTS:
            spawned = stack.enter_context(multiprocessing.get_context("spawn").Pool(1))
        if "loky" in TRANSPORTS:
            loky = stack.enter_context(joblib.Parallel(n_jobs=2, backend="loky"))
        for name, build in cases.items():
            if only and name not in only:
                continue
            families.active().set_random_seed(len(results))
            try:
                results[name] = attempt_all(name, build, folder, loky, spawned)
            except Exception:
                # Report the other transports even if one copy can't be tried at all.
                results[name] = dict.fromkeys(TRANSPORTS, traceback.format_exc())
            kinds[name] = sorted(used)
            used.clear()
            if len(results) % 8 == 0:  # A subprocess takes longer than most cases.
                probes.clear_session()
    (folder / "kinds.json").write_text(json.dumps(kinds))
    return results


def _noted_kinds() -> set[str]:
    """Return a set to which the rows of the table of reducers are added as they are used."""
    from keras_reduce import reducers

    used: set[str] = set()

    def noting(kind: str, reducer: Callable) -> Callable:
        def reduce(obj: Any) -> Any:
            used.add(kind)
            return reducer(obj)

        return reduce

    for kind, reducer in reducers.TABLE.items():
        reducers.TABLE[kind] = noting(kind, reducer)
    return used


def attempt_all(name: str, build: Callable, folder: Path, loky: Any, spawned: Any) -> dict:
    words: dict[str, str] = {}
    obj, x, y = build()
    for transport, (dump, _) in FILES.items():
        words[transport] = attempt(
            lambda d=dump, t=transport: d(obj, folder / f"{name}.{t}") and ""
        )
    copies: dict[str, Any] = {}
    # scikit-learn clones the items of a container one by one, so that what they share is not
    # shared afterwards; inside an object it leaves them to deepcopy.
    is_estimator = hasattr(obj, "get_params")
    held = obj if is_estimator else Holder(SimpleNamespace(content=obj))
    visits: dict[str, Any] = {}
    ways = {
        "deepcopy": lambda: copy.deepcopy(obj),
        "clone": lambda: clone(held),
        "multiprocessing": lambda: spawned.apply_async(visit, (obj, x, y)),
        "loky": lambda: loky([joblib.delayed(visit)(obj, x, y)])[0],
    }
    for transport in filter(TRANSPORTS.__contains__, ways):
        into = copies if transport in IN_PROCESS else visits
        words[transport] = attempt(_put, into, transport, ways[transport])
    if "multiprocessing" in visits:
        waiting = visits["multiprocessing"]
        words["multiprocessing"] = attempt(
            _put, visits, "multiprocessing", lambda: waiting.get(120)
        )

    # The original comes last: even a call changes some (random seeds, states of a stateful RNN).
    expected = outcome(obj, x, y)
    trained_answers = probes.probe(obj, x, y)
    (folder / f"{name}.expected").write_bytes(pickle.dumps((expected, x, y)))
    if "deepcopy" in copies:
        words["deepcopy"] = attempt(lambda: compare(expected, outcome(copies["deepcopy"], x, y)))
    if "clone" in copies and not is_estimator:
        unwrapped = copies["clone"].content.content
        words["clone"] = attempt(lambda: compare(expected, outcome(unwrapped, x, y)))
    elif "clone" in copies:
        words["clone"] = _differing_parameters(obj, copies["clone"])
    for transport in WORKERS:
        if words.get(transport) == "":
            there, returned = visits[transport]
            words[transport] = compare(expected, there) or attempt(
                lambda r=returned: probes.difference(trained_answers, probes.probe(r, x, y))
            )
    return words


def _put(into: dict[str, Any], transport: str, make: Callable[[], Any]) -> str:
    into[transport] = make()
    return ""


def _differing_parameters(estimator: Any, copied: Any) -> str:
    before, after = estimator.get_params(), copied.get_params()
    plain = (str, int, float, bool, type(None))
    changed = [
        name
        for name in before.keys() | after.keys()
        if isinstance(before.get(name), plain) and before[name] != after.get(name)
    ]
    return f"parameters differ: {changed}" if changed else ""


def read(folder: Path) -> dict[str, dict[str, str]]:
    """Read all files in a fresh process."""
    results: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob("*.expected")):
        results[path.stem] = {
            transport: attempt(_arrival, path, path.with_suffix(f".{transport}"), load)
            for transport, (_, load) in FILES.items()
        }
        if len(results) % 8 == 0:
            probes.clear_session()
    return results


def _arrival(expectation: Path, file: Path, load: Callable[[Path], Any]) -> str:
    expected, x, y = pickle.loads(expectation.read_bytes())
    return compare(expected, outcome(load(file), x, y))


def main(folder: str, cases: dict[str, Callable] | None = None, only: list[str] | None = None):
    target = Path(folder)
    if cases is None:
        results, name = read(target), "read.json"
    else:
        results, name = write(cases, target, only or []), "written.json"
    (target / name).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
