"""Set-up of a worker between the fork and its first task."""

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
    """Run the worker process; return its exit code.

    Parameters
    ----------
    program : int
        Process id of the program.
    fds : list of int
        The read end of the pipe on which the program sends the process, and which it keeps open
        while it lives; then other descriptors that it sends.
    """
    lifeline, *handed = fds
    _process.inherited[:] = handed
    file = os.fdopen(lifeline, "rb", buffering=0)
    message = _read(file)
    threading.Thread(target=_follow, args=(file,), name="lifeline", daemon=True).start()
    _reseed()
    process.current_process()._inheriting = True  # type: ignore[attr-defined]
    try:
        environment, preparation = pickle.load(message), pickle.load(message)
        os.environ.clear()
        os.environ.update(environment)
        for tracker in ("tracker_fd", "mp_tracker_fd"):
            preparation[tracker] = handed[preparation[tracker]]
        sys.setrecursionlimit(preparation.pop("recursion_limit"))
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
            raise EOFError("the program has ended")
        data += piece
    return bytes(data)


def _follow(file: BinaryIO) -> None:
    """End with the program, since a worker that waits for its next task would wait for ever."""
    while file.read(1):
        pass
    os._exit(1)


def _reseed() -> None:
    """Reseed random generators, since all workers are forked from one process.

    Python's `random` does so itself.
    """
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(random.getrandbits(63))
