"""What is changed in joblib, in engines that its calls may run on, and in skops, once imported.

Nothing that does it is imported before.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from ..core.replacements import Replacements
from . import joblib_patches
from .private import MANIFESTS

__all__ = ["CHANGES", "CODE_BY_VALUE", "apply"]

_log = logging.getLogger(__package__.partition(".")[0])


Make = Callable[[Replacements, Callable[[], Any]], None]


class Change(NamedTuple):
    """A change to another library.

    Attributes
    ----------
    module : str
        The module that is waited for.
    feature : str
        The manifest of the names that it needs.
    make : callable
        Makes it; takes where to enter what it replaces, and what returns what sets up a worker.
    """

    module: str
    feature: str
    make: Make


def apply(change: Change, replaced: Replacements, order: Callable[[], Any]) -> None:
    """Make a change to a module that has been imported, if what it needs is there.

    What goes wrong is logged: nobody's import shall fail.
    """
    manifest = MANIFESTS[change.feature]
    if not manifest.is_complete():
        return
    try:
        change.make(replaced, order)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        _log.warning("%s is off (%s), so %s", manifest.feature, said, manifest.instead)


def _change_batches_for_dask(replaced: Replacements, order: Callable[[], Any]) -> None:
    from . import dask_batches

    for owner, name, repair in dask_batches.repairs(order):
        replaced.set(owner, name, repair(vars(owner)[name]))


def _ask_workers_of_dask(replaced: Replacements, order: Callable[[], Any]) -> None:
    from . import dask_admission

    for owner, name, repair in dask_admission.repairs():
        replaced.set(owner, name, repair(vars(owner)[name]))


def _change_batches_for_spark(replaced: Replacements, order: Callable[[], Any]) -> None:
    from . import spark_batches

    for owner, name, repair in spark_batches.repairs():
        replaced.set(owner, name, repair(vars(owner).get(name)))


def _set_adapters_aside(replaced: Replacements, order: Callable[[], Any]) -> None:
    from . import dask_registries

    replaced.when_undone(dask_registries.set_adapters_aside())


def _measure(replaced: Replacements, order: Callable[[], Any]) -> None:
    from . import dask_registries

    replaced.when_undone(dask_registries.measure())


def _refuse_in_skops(replaced: Replacements, order: Callable[[], Any]) -> None:
    from . import skops

    for owner, name, repair in skops.repairs():
        replaced.set(owner, name, repair(vars(owner)[name]))


def _know_classes_of(path: str) -> Make:
    """Let an engine's copy of cloudpickle and cloudpickle itself know the same classes again.

    A class that a function has brought to a worker by way of the copy is the program's own once
    more when a model brings it back by way of ours.
    """

    def change(replaced: Replacements, order: Callable[[], Any]) -> None:
        import cloudpickle.cloudpickle as ours

        theirs: Any = sys.modules[path]
        names = [f"_DYNAMIC_CLASS_TRACKER_{name}" for name in ("BY_CLASS", "BY_ID", "LOCK")]
        for name in names[:2]:
            for key, value in list(vars(theirs)[name].items()):
                vars(ours)[name].setdefault(key, value)
        for name in names:
            replaced.set(theirs, name, vars(ours)[name])

    return change


CODE_BY_VALUE = Change("joblib.numpy_pickle", "by value", joblib_patches.carry_code_by_value)
CHANGES = (
    Change("joblib.numpy_pickle", "whole dumps", joblib_patches.keep_dumps_whole),
    Change("joblib.hashing", "hashing", joblib_patches.hash_by_content),
    Change("joblib._dask", "dask batches", _change_batches_for_dask),
    Change("distributed.client", "dask admission", _ask_workers_of_dask),
    Change("distributed.protocol", "dask adapters", _set_adapters_aside),
    Change("dask.sizeof", "dask sizes", _measure),
    Change(
        "ray.cloudpickle.cloudpickle",
        "ray classes",
        _know_classes_of("ray.cloudpickle.cloudpickle"),
    ),
    Change(
        "pyspark.cloudpickle.cloudpickle",
        "spark classes",
        _know_classes_of("pyspark.cloudpickle.cloudpickle"),
    ),
    Change("joblibspark.backend", "spark batches", _change_batches_for_spark),
    Change("skops.io._persist", "skops", _refuse_in_skops),
)
