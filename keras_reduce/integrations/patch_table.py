"""Table of the patches of joblib, of engines for its calls, and of skops.

A patch is applied when its module is imported; the code that applies it is imported only then.
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
    """Patch of another library.

    Attributes
    ----------
    module : str
        The module whose import triggers the patch.
    feature : str
        Key of the manifest of the private names that it needs.
    make : callable
        Applies the patch. Arguments: the record of replacements, and a function that returns the
        set-up of a worker.
    """

    module: str
    feature: str
    make: Make


def apply(change: Change, replaced: Replacements, setup: Callable[[], Any]) -> None:
    """Apply a patch to a module that has been imported, if all names that it needs exist.

    Errors are logged, so that the import does not fail.
    """
    manifest = MANIFESTS[change.feature]
    if not manifest.is_complete():
        return
    try:
        change.make(replaced, setup)
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        _log.warning("%s is off (%s), so %s", manifest.feature, cause, manifest.instead)


def _change_batches_for_dask(replaced: Replacements, setup: Callable[[], Any]) -> None:
    from . import dask_batches

    for owner, name, repair in dask_batches.repairs(setup):
        replaced.set(owner, name, repair(vars(owner)[name]))


def _check_dask_workers(replaced: Replacements, setup: Callable[[], Any]) -> None:
    from . import dask_admission

    for owner, name, repair in dask_admission.repairs():
        replaced.set(owner, name, repair(vars(owner)[name]))


def _change_batches_for_spark(replaced: Replacements, setup: Callable[[], Any]) -> None:
    from . import spark_batches

    for owner, name, repair in spark_batches.repairs():
        replaced.set(owner, name, repair(vars(owner).get(name)))


def _remove_dask_adapters(replaced: Replacements, setup: Callable[[], Any]) -> None:
    from . import dask_registries

    replaced.when_undone(dask_registries.remove_adapters())


def _register_dask_sizes(replaced: Replacements, setup: Callable[[], Any]) -> None:
    from . import dask_registries

    replaced.when_undone(dask_registries.register_sizes())


def _carry_in_skops(replaced: Replacements, setup: Callable[[], Any]) -> None:
    from . import skops, skops_nodes

    replaced.when_undone(skops_nodes.register())
    for owner, name, repair in skops.repairs():
        replaced.set(owner, name, repair(vars(owner)[name]))


def _share_classes_with(path: str) -> Make:
    """Return a patch that lets an engine's copy of cloudpickle share cloudpickle's class trackers.

    A class that a function has brought to a worker through the engine's copy is then recognised by
    the program when a model brings it back through cloudpickle.
    """

    def change(replaced: Replacements, setup: Callable[[], Any]) -> None:
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
    Change("distributed.client", "dask admission", _check_dask_workers),
    Change("distributed.protocol", "dask adapters", _remove_dask_adapters),
    Change("dask.sizeof", "dask sizes", _register_dask_sizes),
    Change(
        "ray.cloudpickle.cloudpickle",
        "ray classes",
        _share_classes_with("ray.cloudpickle.cloudpickle"),
    ),
    Change(
        "pyspark.cloudpickle.cloudpickle",
        "spark classes",
        _share_classes_with("pyspark.cloudpickle.cloudpickle"),
    ),
    Change("joblibspark.backend", "spark batches", _change_batches_for_spark),
    Change("skops.io._persist", "skops", _carry_in_skops),
)
