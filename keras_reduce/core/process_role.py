"""Role of this process: detection of workers, their names, and a check of their packages.

Nothing is imported to find out: a process that works for an engine has imported it. The text of
this module travels to workers where this package may be missing (see `worker_requirements`); so it
uses the standard library only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from typing import Any

__all__ = ["check", "here", "is_worker", "version_of"]


def is_worker() -> bool:
    """Return whether this process works for another: as its child, or for an engine."""
    multiprocessing = sys.modules.get("multiprocessing")
    # Children of loky and of Dask's nannies, too.
    is_child = multiprocessing is not None and multiprocessing.parent_process() is not None
    return is_child or bool(_engine())


def here() -> str:
    """Return the name of this process, with what the engine calls it for which it works."""
    import socket

    return f"{_engine()}process {os.getpid()} on {socket.gethostname()}"


def _engine() -> str:
    return _of_dask() or _of_ray() or _of_spark()


def _of_dask() -> str:
    worker: Any = sys.modules.get("distributed.worker")
    scheduler: Any = sys.modules.get("distributed.scheduler")
    workers = list(getattr(getattr(worker, "Worker", None), "_instances", ()))
    # A program that runs a whole cluster within itself is no worker of another.
    if not workers or list(getattr(getattr(scheduler, "Scheduler", None), "_instances", ())):
        return ""
    return f"Dask worker {workers[0].address_safe}, "


def _of_ray() -> str:
    ray: Any = sys.modules.get("ray")
    state: Any = sys.modules.get("ray._private.worker")
    is_one = state is not None and state.global_worker.mode == state.WORKER_MODE
    return f"Ray worker {ray.get_runtime_context().get_worker_id()}, " if is_one else ""


def _of_spark() -> str:
    contexts: Any = sys.modules.get("pyspark.taskcontext")
    task = None if contexts is None else contexts.TaskContext.get()
    return "" if task is None else f"Spark worker, stage {task.stageId()}, "


def check(versions: dict[str, str], backend: str | None = None) -> None:
    """Refuse to work for a program whose Keras objects would not be the same here.

    The program uses these `versions` of distributions, and this `backend` of Keras. The
    distributions must be here, Keras of the same minor version.

    Raises
    ------
    ImportError
        If something is missing or differs. This package, with errors of its own, may be.
    """
    wrong = [
        f"{name} {installed or 'is missing'} here, {version} there"
        for name, version in versions.items()
        if not _is_the_same(name, version, installed := version_of(name))
    ]
    if backend is not None and not _is_there(backend):
        wrong.append(f"{backend}, with which the program's Keras computes, is missing here")
    if wrong:
        raise ImportError(
            f"This worker can't take Keras objects from its program - at {here()}\n"
            f"  Likely cause: {'; '.join(wrong)}\n"
            "  What to do: install the same versions on workers and client, and restart the workers"
        )


def version_of(name: str) -> str | None:
    """Return the version of a package; a word if it is there without one; None if it is not."""
    import importlib.metadata

    # As it says itself: what is on the path comes before what is installed.
    version = getattr(sys.modules.get(name), "__version__", None)
    if version:
        return str(version)
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return _UNKNOWN if _is_there(name) else None


_UNKNOWN = "of an unknown version"


def _is_there(name: str) -> bool:
    # A finder that keeps modules from being imported raises.
    with contextlib.suppress(ImportError, ValueError):
        return name in sys.modules or importlib.util.find_spec(name) is not None
    return False


def _is_the_same(name: str, required: str, installed: str | None) -> bool:
    if installed is None:
        return False
    minor = [version.split(".")[:2] for version in (required, installed)]
    # What this package can't read of another version's, it refuses by itself.
    return name == "keras_reduce" or _UNKNOWN in (installed, required) or minor[0] == minor[1]
