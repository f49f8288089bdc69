"""Ways to ship a model: for each, a function that prepares it, and a check of its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from contenders import Native, sync


class Case(NamedTuple):
    """One contender with one model, and a folder for its files."""

    contender: Native
    subject: Any
    inputs: Any
    answer: str
    folder: Path

    @property
    def path(self) -> Path:
        """The path of the file of this case."""
        return self.folder / "file"

    def is_same(self, model: Any) -> bool:
        """Tell whether `model` has bit for bit the same outputs as the original."""
        return self.contender.answer(model, self.inputs) == self.answer


class Way(NamedTuple):
    """A way to ship a model, measured for each contender that supports it.

    `prepare` takes a case and returns the operation to measure; `is_right` takes the case and the
    result of the operation. `checked_by` is the way that reads the output of this one: if it is
    measured as well, its check counts for both.
    """

    title: str
    prepare: Callable[[Case], Callable[[], Any]]
    is_right: Callable[[Case, Any], bool]
    writes_file: bool = False
    checked_by: str | None = None


def _dumping(method: str) -> Callable[[Case], Callable[[], Any]]:
    return lambda case: partial(getattr(case.contender, method), case.subject)


def _dumping_file(method: str) -> Callable[[Case], Callable[[], Any]]:
    return lambda case: partial(getattr(case.contender, method), case.subject, case.path)


def _loading(method: str, source: str) -> Callable[[Case], Callable[[], Any]]:
    def prepare(case: Case) -> Callable[[], Any]:
        content = getattr(case.contender, source)(case.subject)
        return partial(getattr(case.contender, method), content)

    return prepare


def _loading_file(method: str, source: str, **options: Any) -> Callable[[Case], Callable[[], Any]]:
    def prepare(case: Case) -> Callable[[], Any]:
        path = getattr(case.contender, source)(case.subject, case.path)
        # Pages that are not on the disk yet would count as private memory.
        sync(path)
        return partial(getattr(case.contender, method), path, **options)

    return prepare


def _can_be_read(method: str) -> Callable[[Case, Any], bool]:
    return lambda case, result: case.is_same(getattr(case.contender, method)(result))


def _stays_the_same(case: Case, result: str) -> bool:
    time.sleep(1.1)  # long enough for a timestamp in seconds to change
    return case.contender.hash(case.subject) == result


_JOBLIB = ("joblib_load", "joblib_dump")
_FILE = ("file_load", "file_dump")

WAYS = {
    "dumps": Way("pickle.dumps", _dumping("dumps"), _can_be_read("loads"), checked_by="loads"),
    "loads": Way("pickle.loads", _loading("loads", "dumps"), Case.is_same),
    "dumps_out": Way(
        "pickle.dumps, out of band",
        _dumping("dumps_out"),
        _can_be_read("loads_out"),
        checked_by="loads_out",
    ),
    "loads_out": Way("pickle.loads, out of band", _loading("loads_out", "dumps_out"), Case.is_same),
    "deepcopy": Way("copy.deepcopy", _dumping("deepcopy"), Case.is_same),
    "hash": Way("joblib.hash", _dumping("hash"), _stays_the_same),
    "joblib_dump": Way(
        "joblib.dump",
        _dumping_file("joblib_dump"),
        _can_be_read("joblib_load"),
        writes_file=True,
        checked_by="joblib_load",
    ),
    "joblib_load": Way("joblib.load", _loading_file(*_JOBLIB), Case.is_same),
    "joblib_map": Way(
        "joblib.load, memory-mapped", _loading_file(*_JOBLIB, mmap_mode="r"), Case.is_same
    ),
    "file_dump": Way(
        "file dump, on the disk",
        _dumping_file("file_dump"),
        _can_be_read("file_load"),
        writes_file=True,
        checked_by="file_load",
    ),
    "file_load": Way("file load", _loading_file(*_FILE), Case.is_same),
    "file_load_unchecked": Way(
        "file load, unchecked", _loading_file(*_FILE, verify=False), Case.is_same
    ),
    "file_map": Way("file load, memory-mapped", _loading_file(*_FILE, mmap_mode="r"), Case.is_same),
    "file_map_unchecked": Way(
        "file load, memory-mapped, unchecked",
        _loading_file(*_FILE, mmap_mode="r", verify=False),
        Case.is_same,
    ),
}
