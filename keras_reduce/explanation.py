"""Report of everything in an object that can't be pickled: `explain`."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from joblib.numpy_pickle import NumpyPickler

from . import registry
from .core.context import Transport
from .core.report_tree import Branch, Presentable, as_text, present
from .dry_run.dry_pickler import Obstacle, obstacles
from .errors import KerasReduceError

__all__ = ["Explanation", "TargetError", "explain", "main"]

_TITLES: dict[Transport, str] = {
    "pickle": "pickle",
    "cloudpickle": "cloudpickle",
    "joblib": "joblib.dump",
    "deepcopy": "copy.deepcopy",
}


class TargetError(KerasReduceError, ImportError):
    """The target of ``python -m keras_reduce explain`` was not found."""


@dataclasses.dataclass(frozen=True, repr=False)
class Explanation(Presentable):
    """Obstacles to pickling or copying an object; true if there are any.

    ``str()`` and ``repr()`` return a readable report.

    Attributes
    ----------
    name : str
        Expression for the object, as used in paths.
    obstacles : tuple of Obstacle
        The obstacles, each with the ``transports`` that it stops.
    installed : bool
        Whether `keras_reduce.install` was in effect.

    Examples
    --------
    >>> import keras_reduce, threading
    >>> explanation = keras_reduce.explain([threading.Lock()], "jobs")
    >>> bool(explanation), explanation.obstacles[0].path
    (True, 'jobs[0]')
    """

    name: str
    obstacles: tuple[Obstacle, ...]
    installed: bool

    def __bool__(self) -> bool:
        """Return whether there are any obstacles."""
        return bool(self.obstacles)

    def __str__(self) -> str:
        """Return the report."""
        return "\n\n".join(as_text(branch) for branch in self._branches())

    def _branches(self) -> list[Branch]:
        by_path: dict[str, Branch] = {}
        for path, kind, why, cure, transports in self.obstacles:
            branch = by_path.setdefault(path, Branch(f"{path} ({kind})" if kind else path, "bad"))
            branch.add(f"Stops: {_joined(transports)}")
            branch.add(f"Why: {why}")
            branch.add(f"What to do: {cure}", "good")
        branches = list(by_path.values())
        if not self.obstacles:
            text = f"Nothing in {self.name} is an obstacle: {_joined(_TITLES)} carry it."
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
        """Return the report as plain data that can be encoded as JSON."""
        return {
            "name": self.name,
            "installed": self.installed,
            "obstacles": [each._asdict() for each in self.obstacles],
        }

    __repr__ = __str__


def explain(obj: Any, name: str = "obj") -> Explanation:
    """Find everything in `obj` that can't be pickled or copied.

    Simulate pickle (used by multiprocessing), cloudpickle (used by loky), `joblib.dump` and
    `copy.deepcopy`, each with its own rules, without stopping at the first obstacle. The result
    depends on the state of this process, with or without `keras_reduce.install`. Nothing is written
    and no array is copied. An object with several paths is listed with the shortest one.

    `sklearn.base.clone` copies parameters by `copy.deepcopy`, and drops attributes set by ``fit``.

    Parameters
    ----------
    obj : object
        Any object, such as a model, an estimator or a pipeline.
    name : str, default="obj"
        Expression for the object in paths.

    Returns
    -------
    Explanation
        The obstacles; true if there are any. ``print`` it for a report.

    Examples
    --------
    >>> import keras_reduce, threading
    >>> print(keras_reduce.explain({"rows": 3, "guards": [threading.Lock()]}, "job"))
    job['guards'][0] (_thread.lock)
      Stops: pickle, cloudpickle, joblib.dump and copy.deepcopy
      Why: cannot pickle '_thread.lock' object
      What to do: leave it out of the state: drop it in __getstate__, and make a new one in ...
    """
    by_value = hasattr(NumpyPickler, "reducer_override")  # set by install()
    merged: dict[tuple[str, str], Obstacle] = {}
    for transport in _TITLES:
        for obstacle in obstacles(obj, name, transport, by_value=by_value):
            merged_obstacle = merged.setdefault((obstacle.path, obstacle.why), obstacle)
            if transport not in merged_obstacle.transports:
                transports = (*merged_obstacle.transports, transport)
                merged[obstacle.path, obstacle.why] = merged_obstacle._replace(
                    transports=transports
                )
    return Explanation(name, tuple(merged.values()), registry.is_installed())


def main(target: str, *, as_json: bool = False, page: str | None = None) -> int:
    """Run ``python -m keras_reduce explain``: install, import the target, print its report.

    Parameters
    ----------
    target : str
        A module or its file, and a name in it, such as ``train:search.best_estimator_``. The
        module is imported, so its code runs.
    as_json : bool
        Print JSON instead of a tree.
    page : str, optional
        Path of an HTML page to write instead.

    Returns
    -------
    int
        Exit code: 0 without obstacles, else 1.

    Raises
    ------
    TargetError
        If there is no such module or name.
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
            raise TargetError(f"There is no file {module!r}", cure="check the path")
        module, folder = file.stem, file.parent
    registry.install()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        obj: Any = importlib.import_module(module)
    except Exception as error:
        raise TargetError(
            f"{module!r} can't be imported",
            cause=f"{type(error).__name__}: {error}",
            cure=f"make `import {module}` work in this folder",
        ) from error
    try:
        for name in attributes.split("."):
            obj = getattr(obj, name)
    except AttributeError as error:
        raise TargetError(
            f"{target!r} doesn't exist",
            cause=f"{error}. An import does not run the code below `if __name__ == '__main__'`",
            cure=f"name something at the top level of {module!r}",
        ) from error
    explanation = explain(obj, attributes)
    present(explanation, as_json=as_json, page=page)
    return int(bool(explanation))


def _joined(transports: Iterable[Transport]) -> str:
    *most, last = (_TITLES[transport] for transport in transports)
    return f"{', '.join(most)} and {last}" if most else last
