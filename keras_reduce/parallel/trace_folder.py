"""Folder in memory in which the workers of this program share what they have traced."""

from __future__ import annotations

import atexit
import contextlib
import os
import uuid
from pathlib import Path

from joblib._memmapping_reducer import _get_temp_dir
from joblib.externals.loky.backend import resource_tracker

from ..core import trace_folders

_owner: int | None = None  # the process that has made the current folder


def ensure(temp_folder: str | None) -> None:
    """Make the folder of this program, if there is none yet.

    joblib's tracker of resources removes it when the program has died.

    Parameters
    ----------
    temp_folder : str, optional
        Where to make it; by default where joblib makes temporary files, which is in memory if there
        is enough.
    """
    global _owner
    if _owner == os.getpid():
        return
    folder, _ = _get_temp_dir(f"keras-reduce-traces-{uuid.uuid4().hex}", temp_folder)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)  # joblib may have made it.
        Path(folder).chmod(0o700)
    except OSError:
        return  # Workers trace for themselves.
    resource_tracker.register(folder, "folder")
    atexit.register(_remove, folder, os.getpid())
    _owner = os.getpid()
    trace_folders.use(program=folder)


def _remove(folder: str, owner: int) -> None:
    if owner == os.getpid():  # A child of the program doesn't own it.
        with contextlib.suppress(OSError):  # The tracker has ended.
            resource_tracker.maybe_unlink(folder, "folder")
