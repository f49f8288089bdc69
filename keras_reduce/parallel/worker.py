"""What a worker does between being forked and its first task."""

from __future__ import annotations

import io
import os
import pickle
import random
import sys
import threading
from multiprocessing import process
from typing import Any, BinaryIO

from joblib.externals.loky.backend import spawn

from . import process as _process


def main(program: int, fds: list[int]) -> int:
    """Be the process that the program has asked for; returns its exit code.

    Parameters
    ----------
    program : int
        The program's process number.
    fds : list of int
        The read end of the pipe on which the program says what to do, and holds on to as long as
        it lives; then what it hands over.
    """
    lifeline, *handed = fds
    _process.inherited[:] = handed
    file = os.fdopen(lifeline, "rb", buffering=0)
    message = _read(file)
    threading.Thread(target=_follow, args=(file,), name="lifeline", daemon=True).start()
    _become_someone_else()
    process.current_process()._inheriting = True  # type: ignore[attr-defined]
    try:
        environment, preparation = pickle.load(message), pickle.load(message)
        os.environ.clear()
        os.environ.update(environment)
        for tracker in ("tracker_fd", "mp_tracker_fd"):
            preparation[tracker] = handed[preparation[tracker]]
        spawn.prepare(preparation)
        itself = pickle.load(message)
    finally:
        del process.current_process()._inheriting  # type: ignore[attr-defined]
    code: int = itself._bootstrap()
    return code


def _read(file: BinaryIO) -> Any:
    size = int.from_bytes(_exactly(file, 8), "little")
    return io.BytesIO(_exactly(file, size))


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = file.read(size - len(data))
        if not piece:
            raise EOFError("the program is gone")
        data += piece
    return bytes(data)


def _follow(file: BinaryIO) -> None:
    """End with the program: nobody else would end a worker that waits for its next task."""
    while file.read(1):
        pass
    os._exit(1)


def _become_someone_else() -> None:
    """Draw random numbers of its own: all workers are copies of one process.

    Python's `random` sees to it by itself.
    """
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(random.getrandbits(63))
