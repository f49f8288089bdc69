"""What is changed in engines that joblib's calls may run on, and in skops, once imported.

Nothing that does it is imported before.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from ..core.replacements import Replacements

__all__ = ["CHANGES", "apply"]

# Takes where to enter what it replaces, and what returns what sets up a worker.
Change = Callable[[Replacements, Callable[[], Any]], None]


def apply(module: str, replaced: Replacements, order: Callable[[], Any]) -> None:
    """Change what concerns a module that has been imported.

    A version without the private names that are changed stays as it is: nobody's import shall fail.
    """
    with contextlib.suppress(AttributeError, KeyError, ImportError):
        CHANGES[module](replaced, order)


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


def _know_classes_of(path: str) -> Change:
    """Let an engine's copy of cloudpickle and cloudpickle itself know the same classes again.

    A class that a function has brought to a worker by way of the copy is the program's own once
    more when a model brings it back by way of ours.
    """

    def change(replaced: Replacements, order: Callable[[], Any]) -> None:
        import cloudpickle.cloudpickle as ours

        theirs: Any = sys.modules[path]
        # Private: ids of classes that travel by value. A version without them knows none again.
        names = [f"_DYNAMIC_CLASS_TRACKER_{name}" for name in ("BY_CLASS", "BY_ID", "LOCK")]
        if not all(name in vars(module) for name in names for module in (ours, theirs)):
            return
        for name in names[:2]:
            for key, value in list(vars(theirs)[name].items()):
                vars(ours)[name].setdefault(key, value)
        for name in names:
            replaced.set(theirs, name, vars(ours)[name])

    return change


# By the module that is waited for.
CHANGES: dict[str, Change] = {
    "joblib._dask": _change_batches_for_dask,
    "distributed.client": _ask_workers_of_dask,
    "distributed.protocol": _set_adapters_aside,
    "dask.sizeof": _measure,
    "ray.cloudpickle.cloudpickle": _know_classes_of("ray.cloudpickle.cloudpickle"),
    "pyspark.cloudpickle.cloudpickle": _know_classes_of("pyspark.cloudpickle.cloudpickle"),
    "joblibspark.backend": _change_batches_for_spark,
    "skops.io._persist": _refuse_in_skops,
}
