"""Memory-mapped transfer of model weights to workers: written once for any number of tasks.

A reducer returns new arrays of a model for each task, in the memory of the framework. While such an
array is alive, the framework moves a variable elsewhere instead of changing its values, so the same
address means the same values. The arrays are written to one file, which all workers map.
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

# Bytes. A smaller array is cheaper in the message than in the file.
_LEAST = 2048

Array = np.ndarray[Any, Any]


class Shipper:
    """Reducer of arrays in tasks, instead of joblib's own.

    Parameters
    ----------
    plain : callable
        joblib's reducer, for arrays that are not weights.
    folder : callable
        Function that returns the folder for temporary files of the current call. joblib removes its
        contents at the end of the call, or when the program has died.
    """

    def __init__(self, plain: Callable[[Array], Any], folder: Callable[[], str]) -> None:
        self._plain, self._folder = plain, folder
        self._lock = threading.Lock()
        # One for each active `Parallel`: several threads may have one.
        self._files: dict[str, _File] = {}

    def __reduce__(self) -> Any:
        """Return the reduce value of joblib's reducer, since a worker sends no tasks."""
        return self._plain.__reduce__()

    def __call__(self, array: Array) -> Any:
        """Return the reduce value of `array`."""
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
                # No space: write it into the message. joblib would write a file into that folder.
                return pickle.loads, (pickle.dumps(array, protocol=5),)
        return mapped, (str(file.path), offset, array.dtype.str, array.shape)

    def begin(self, folder: str | None) -> None:
        """Begin a call that uses `folder`, before it has any tasks."""
        with self._lock:
            file = self._files.get(folder) if folder else None
            if file is not None and file.forget_what_is_old():
                del self._files[folder]  # type: ignore[arg-type]

    def forget(self, folder: str | None) -> None:
        """Release the arrays in a folder, or all of them, at the end of calls."""
        with self._lock:
            if folder is None:
                self._files = {}
            else:
                self._files.pop(folder, None)


class _File:
    """File for the arrays of a `Parallel`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = folder / f"weights-{uuid.uuid4().hex}"
        self.path.touch(mode=0o600, exist_ok=False)
        resource_tracker.register(str(self.path), "file")
        self._size = self._old = 0
        # Arrays, kept alive (see above), and their offsets in the file.
        self._written: dict[_Key, tuple[Array, int]] = {}
        self._used: set[_Key] = set()

    def offset(self, array: Array) -> int:
        """Return the offset of `array` in the file; write it first if it is not there yet."""
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
        """Release arrays that the last call did not use, for example after the model was trained.

        Returns
        -------
        bool
            Whether the file was removed, since more than half of it is unused.
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
    """Return a copy-on-write array in the file at `path`."""
    data_type = np.dtype(dtype)
    size = int(np.prod(shape)) * data_type.itemsize
    with _lock:
        file = _files.get(path)
        if file is None or file.size < offset + size:
            # The file grows while tasks are sent.
            file = _files[path] = np.memmap(path, "uint8", mode="c")
    array: Array = np.asarray(file)[offset : offset + size].view(data_type).reshape(shape)
    return array


_lock = threading.Lock()
_files: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
