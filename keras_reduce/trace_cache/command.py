"""The command ``cache``: what is in a folder of traces."""

from __future__ import annotations

import datetime
import os

from ..core.report_tree import output, plain
from ..errors import FileError
from .store import Store


def main(action: str, folder: str | None) -> int:
    """List, measure or remove the traces in a folder; return the exit code.

    Parameters
    ----------
    action : {"list", "size", "clear"}
        What to do.
    folder : str, optional
        The folder; by default the one that the environment names.

    Raises
    ------
    FileError
        If there is no such folder, or others may write to it.
    """
    path = folder or os.environ.get("KERAS_REDUCE_TRACE_CACHE")
    if not path:
        raise FileError(
            "There is no folder of traces",
            where="KERAS_REDUCE_TRACE_CACHE",
            cause="this variable of the environment is not set",
            cure="set it, or name the folder: python -m keras_reduce cache list FOLDER",
        )
    store = Store(path)
    obstacle = store.obstacle()
    if obstacle is not None:
        raise FileError(
            "The folder of traces can't be used",
            where=path,
            cause=obstacle,
            cure="name the folder that a program was given as trace_cache",
        )
    entries = store.entries()
    if action == "clear":
        store.clear()
    size = sum(entry.size for entry in entries) / 1e6
    number = "1 trace" if len(entries) == 1 else f"{len(entries)} traces"
    done = "removed from" if action == "clear" else "in"
    with output():
        for entry in reversed(entries) if action == "list" else ():
            used = datetime.datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M:%S")
            print(plain(f"{used}  {entry.size / 1e6:8.3f} MB  {entry.path.stem}"))
        print(plain(f"{number}, {size:.3f} MB, {done} {path}"))
    return 0
