"""Role of this process: worker or not, its name in an engine, and its requirements.

No engine is imported: a process that works for an engine has imported it. The source text of this
module is sent to workers where this package may be missing (see `worker_requirements`), so it uses
the standard library only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from typing import Any

__all__ = ["check", "here", "is_worker", "version_of"]


def is_worker() -> bool:
    """Return whether this process is a worker: a child process, or a worker of an engine."""
    multiprocessing = sys.modules.get("multiprocessing")
    # Including children of loky and of Dask's nannies.
    is_child = multiprocessing is not None and multiprocessing.parent_process() is not None
    return is_child or bool(_engine())


def here() -> str:
    """Return the name of this process, including the worker's name in an engine."""
    import socket

    return f"{_engine()}process {os.getpid()} on {socket.gethostname()}"


def _engine() -> str:
    return _of_dask() or _of_ray() or _of_spark()


def _of_dask() -> str:
    worker: Any = sys.modules.get("distributed.worker")
    scheduler: Any = sys.modules.get("distributed.scheduler")
    workers = list(getattr(getattr(worker, "Worker", None), "_instances", ()))
    # A program with a scheduler and workers in one process is no worker.
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
    """Raise an error if this process lacks the requirements of a program.

    Parameters
    ----------
    versions : dict of str to str
        Versions of the packages that the program uses. They must be installed; Keras in the same
        minor version.
    backend : str, optional
        The backend of the program's Keras.

    Raises
    ------
    ImportError
        If a package is missing or differs. (This package, with its own errors, may be missing.)
    """
    wrong = [
        f"{name} {found or 'is missing'} here, {version} there"
        for name, version in versions.items()
        if not _is_the_same(name, version, found := version_of(name))
    ]
    if backend is not None and not _is_there(backend):
        wrong.append(f"{backend}, the Keras backend of the program, is missing here")
    if wrong:
        raise ImportError(
            f"This worker lacks requirements of its program - at {here()}\n"
            f"  Likely cause: {'; '.join(wrong)}\n"
            "  What to do: install the same versions on workers and client, and restart the workers"
        )


def version_of(name: str) -> str | None:
    """Return the version of a package; a text if it has none; None if it is not installed."""
    import importlib.metadata

    # From the module if it is imported: sys.path may have another one than is installed.
    version = getattr(sys.modules.get(name), "__version__", None)
    if version:
        return str(version)
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return _UNKNOWN if _is_there(name) else None


_UNKNOWN = "of an unknown version"


def _is_there(name: str) -> bool:
    # Finders that refuse imports raise an error.
    with contextlib.suppress(ImportError, ValueError):
        return name in sys.modules or importlib.util.find_spec(name) is not None
    return False


def _is_the_same(name: str, wanted: str, found: str | None) -> bool:
    if found is None:
        return False
    minor = [version.split(".")[:2] for version in (wanted, found)]
    # Other versions of this package are compared by the protocol numbers of payloads.
    return name == "keras_reduce" or _UNKNOWN in (found, wanted) or minor[0] == minor[1]
