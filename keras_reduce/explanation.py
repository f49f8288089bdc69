"""`explain`: what in an object can't be pickled, where it is, and what to do about it."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from joblib.numpy_pickle import NumpyPickler

from . import registry
from .core.report_tree import Branch, Presentable, as_text, present
from .dry_run.dry_pickler import Obstacle, Transport, obstacles
from .errors import KerasReduceError

__all__ = ["Explanation", "TargetError", "explain", "main"]

_TITLES: dict[Transport, str] = {
    "pickle": "pickle",
    "cloudpickle": "cloudpickle",
    "joblib": "joblib.dump",
    "deepcopy": "copy.deepcopy",
}


class TargetError(KerasReduceError, ImportError):
    """What is to be explained can't be found."""


@dataclasses.dataclass(frozen=True, repr=False)
class Explanation(Presentable):
    """What stands in the way of an object; true if anything does.

    Its text is a report, which an interactive session shows.

    Attributes
    ----------
    name : str
        How the object is spelled.
    obstacles : tuple of Obstacle
        Each with the ``transports`` that it stops.
    installed : bool
        Whether `keras_reduce.install` was in effect.
    """

    name: str
    obstacles: tuple[Obstacle, ...]
    installed: bool

    def __bool__(self) -> bool:
        """Tell whether anything stands in the way."""
        return bool(self.obstacles)

    def __str__(self) -> str:
        """Return the report."""
        return "\n\n".join(as_text(branch) for branch in self._branches())

    def _branches(self) -> list[Branch]:
        by_path: dict[str, Branch] = {}
        for path, kind, why, cure, transports in self.obstacles:
            found = by_path.setdefault(path, Branch(f"{path} ({kind})" if kind else path, "bad"))
            found.add(f"Stops: {_joined(transports)}")
            found.add(f"Why: {why}")
            found.add(f"What to do: {cure}", "good")
        branches = list(by_path.values())
        if not self.obstacles:
            text = f"Nothing stands in the way of {self.name}: {_joined(_TITLES)} carry it."
            branches = [Branch(text, "good")]
        if not self.installed:
            text = "keras_reduce.install() is not in effect here; Keras objects need it."
            branches.insert(0, Branch(text, "bad"))
        return branches

    def tree(self) -> Branch:
        """Return the report as a tree."""
        root = Branch(self.name, "title")
        root.children = self._branches()
        return root

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, which JSON can hold."""
        return {
            "name": self.name,
            "installed": self.installed,
            "obstacles": [each._asdict() for each in self.obstacles],
        }

    __repr__ = __str__


def explain(obj: Any, name: str = "obj") -> Explanation:
    """Find everything in `obj` that can't be pickled or copied.

    Walks through it as pickle (and so multiprocessing), cloudpickle (and so loky), `joblib.dump`
    and `copy.deepcopy` do, each by its own rules, and doesn't stop at the first obstacle. It tells
    of this process as it is, with or without `keras_reduce.install`. Nothing is written, no array
    is copied. What stands in several places is listed with the shortest path.

    `sklearn.base.clone` copies parameters by `copy.deepcopy`, and drops what ``fit`` has set.

    Parameters
    ----------
    obj : object
        A model, an estimator, a pipeline; anything.
    name : str, default="obj"
        How to spell it in paths.

    Returns
    -------
    Explanation
        True if anything stands in the way; ``print`` it for a report.

    Examples
    --------
    >>> import threading
    >>> print(keras_reduce.explain({"rows": 3, "guards": [threading.Lock()]}, "job"))
    job['guards'][0] (_thread.lock)
      Stops: pickle, cloudpickle, joblib.dump and copy.deepcopy
      Why: cannot pickle '_thread.lock' object
      What to do: leave it out of the state: drop it in __getstate__, and make a new one in ...
    """
    by_value = hasattr(NumpyPickler, "reducer_override")  # which install() gives it
    merged: dict[tuple[str, str], Obstacle] = {}
    for transport in _TITLES:
        for found in obstacles(obj, name, transport, by_value=by_value):
            same = merged.setdefault((found.path, found.why), found)
            if transport not in same.transports:
                transports = (*same.transports, transport)
                merged[found.path, found.why] = same._replace(transports=transports)
    return Explanation(name, tuple(merged.values()), registry.is_installed())


def main(target: str, *, as_json: bool = False, page: str | None = None) -> int:
    """Install, import what `target` names, and print what stands in its way.

    Parameters
    ----------
    target : str
        A module, or its file, and a name in it, such as ``train:search.best_estimator_``. The
        module is imported, and so its code runs.
    as_json : bool
        As JSON instead of a tree.
    page : str, optional
        Where to write a page of HTML to.

    Returns
    -------
    int
        0 if nothing stands in its way, else 1.

    Raises
    ------
    TargetError
        There is no such module or name.
    """
    module, _, attributes = target.rpartition(":")
    if not module or not attributes:
        raise TargetError(
            f"{target!r} doesn't name an object", cure="write module:name, such as train:pipeline"
        )
    folder = Path.cwd()
    if module.endswith(".py"):
        file = Path(module).absolute()
        if not file.is_file():
            raise TargetError(f"There is no file {module!r}", cure="check its name and folder")
        module, folder = file.stem, file.parent
    registry.install()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise TargetError(
            f"{module!r} can't be imported",
            cause=f"{type(error).__name__}: {error}",
            cure=f"make `import {module}` work in this folder",
        ) from error
    try:
        for name in attributes.split("."):
            found = getattr(found, name)
    except AttributeError as error:
        raise TargetError(
            f"{target!r} doesn't exist",
            cause=f"{error}. What stands below `if __name__ == '__main__'` is not there for an "
            "import",
            cure=f"name something at the top level of {module!r}",
        ) from error
    explanation = explain(found, attributes)
    present(explanation, as_json=as_json, page=page)
    return int(bool(explanation))


def _joined(transports: Iterable[Transport]) -> str:
    *most, last = (_TITLES[transport] for transport in transports)
    return f"{', '.join(most)} and {last}" if most else last
