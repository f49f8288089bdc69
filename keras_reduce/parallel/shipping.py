"""The weights of models on their way to workers: written once, however many tasks take them.

A reducer hands out a model's arrays anew for each task, in the memory of the framework. As long as
one of them is held, the framework moves a variable elsewhere rather than change what it held, so
that the same address means the same values. They are written to one file, which all workers map.
"""

from __future__ import annotations

import pickle
import threading
import uuid
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from joblib.externals.loky.backend import resource_tracker

from ..core import array_backends

# Bytes. A smaller array costs less in the message than its place in the file does.
_LEAST = 2048

Array = np.ndarray[Any, Any]


class Shipper:
    """Reduces arrays for tasks, instead of joblib's own reducer.

    Parameters
    ----------
    plain : callable
        joblib's reducer, for all that is no model's.
    folder : callable
        Returns the folder for temporary files of the call whose task is being written. joblib
        removes what is in it at the end of the call, or when the program has died.
    """

    def __init__(self, plain: Callable[[Array], Any], folder: Callable[[], str]) -> None:
        self._plain, self._folder = plain, folder
        self._lock = threading.Lock()
        # One for each `Parallel` that is at work, since several threads may have one.
        self._files: dict[str, _File] = {}

    def __reduce__(self) -> Any:
        """Reduce to joblib's own: a worker gets it, but sends no tasks."""
        return self._plain.__reduce__()

    def __call__(self, array: Array) -> Any:
        """Return what a pickler shall write for `array`."""
        if array.nbytes < _LEAST or not array_backends.never_changes(array):
            return self._plain(array)
        folder = self._folder()
        with self._lock:
            try:
                file = self._files.get(folder)
                if file is None:
                    file = self._files[folder] = _File(Path(folder))
                offset = file.offset(array)
            except OSError:
                # No room: within the message then. joblib's way would be a file in that folder.
                return pickle.loads, (pickle.dumps(array, protocol=5),)
        return mapped, (str(file.path), offset, array.dtype.str, array.shape)

    def begin(self, folder: str | None) -> None:
        """Begin a call with the tasks of which `folder` is used; there are none at this moment."""
        with self._lock:
            file = self._files.get(folder) if folder else None
            if file is not None and file.forget_what_is_old():
                del self._files[folder]  # type: ignore[arg-type]

    def forget(self, folder: str | None) -> None:
        """Let go of the arrays in a folder, or of all, at the end of calls."""
        with self._lock:
            if folder is None:
                self._files = {}
            else:
                self._files.pop(folder, None)


class _File:
    """The file for the arrays of a `Parallel`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = folder / f"weights-{uuid.uuid4().hex}"
        self.path.touch(mode=0o600, exist_ok=False)
        resource_tracker.register(str(self.path), "file")
        self._size = self._old = 0
        # Where what is at an address has been written. The arrays are held: see above.
        self._written: dict[_Key, tuple[Array, int]] = {}
        self._used: set[_Key] = set()

    def offset(self, array: Array) -> int:
        """Return where in the file `array` is, after writing it there if it has not been yet."""
        key = (array.__array_interface__["data"][0], array.dtype.str, array.shape, array.strides)
        self._used.add(key)
        if key not in self._written:
            offset = -(-self._size // array_backends.ALIGNMENT) * array_backends.ALIGNMENT
            with self.path.open("r+b") as file:
                file.seek(offset)
                file.write(np.ascontiguousarray(array).data)
            self._size = offset + array.nbytes
            self._written[key] = array, offset
        return self._written[key][1]

    def forget_what_is_old(self) -> bool:
        """Let go of arrays that the last call did not use, as after a training of the model.

        Returns
        -------
        bool
            Whether so much of the file is of no use any more that it has been removed.
        """
        for key in self._written.keys() - self._used:
            self._old += self._written.pop(key)[0].nbytes
        self._used.clear()
        if self._old <= self._size // 2:
            return False
        resource_tracker.maybe_unlink(str(self.path), "file")
        return True


_Key = tuple[int, str, tuple[int, ...], tuple[int, ...]]


def mapped(path: str, offset: int, dtype: str, shape: tuple[int, ...]) -> Array:
    """Return an array in the file at `path`, of which changed pages are the reader's own."""
    found = np.dtype(dtype)
    size = int(np.prod(shape)) * found.itemsize
    with _lock:
        file = _files.get(path)
        if file is None or file.size < offset + size:
            # It grows as long as tasks are sent.
            file = _files[path] = np.memmap(path, "uint8", mode="c")
    array: Array = np.asarray(file)[offset : offset + size].view(found).reshape(shape)
    return array


_lock = threading.Lock()
_files: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
