"""Complete dumps by `joblib.dump`: failed ones are removed, arrays keep their identity.

joblib writes while it pickles, so an error would leave a file that looks like a dump.

It also writes each array of objects as a separate pickle, by a pickler that knows neither the memo
nor code by value, and writes an array each time that it occurs. With these patches both are part of
one pickle, which `joblib.load` reads as well.
"""

from __future__ import annotations

import datetime
import decimal
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from ..dry_run import dry_pickler
from ..errors import KerasReduceError


def dump_whole(pickler: Any, obj: Any, dump: Callable[[Any, Any], None]) -> None:
    """Write `obj` to the file of a NumpyPickler; remove the output after an error.

    Parameters
    ----------
    pickler : joblib.numpy_pickle.NumpyPickler
        The pickler with the file.
    obj : object
        The object to write.
    dump : callable
        The pickler's own ``dump``.
    """
    file = pickler.file_handle
    start = _position(file)
    if start is None:
        # A compressor or a pipe, whose output can't be removed: try without a file first.
        _attempt(dump, type(pickler)(_NullFile(), pickler.proto), obj)
    try:
        _attempt(dump, pickler, obj)
    except BaseException:
        if start is not None:
            file.seek(start)
            file.truncate()
        raise


def _attempt(dump: Callable[[Any, Any], None], pickler: Any, obj: Any) -> None:
    try:
        dump(pickler, obj)
    except Exception as error:
        _note_place(error, obj, pickler)
        raise


class _NullFile:
    """File object that discards its input."""

    def __init__(self) -> None:
        self._position = 0

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        self._position += memoryview(data).nbytes
        return memoryview(data).nbytes


def _position(file: Any) -> int | None:
    """Return the end of `file` if later output can be removed, else None."""
    # Other files (joblib's compressors, gzip, pipes) may seek, but not truncate.
    if not isinstance(file, (io.BufferedWriter, io.BufferedRandom, io.FileIO, io.BytesIO)):
        return None
    if not file.seekable():
        return None
    position = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(position)
    # Data after the position must not be truncated.
    return position if position == end else None


def _note_place(error: Exception, obj: Any, pickler: Any) -> None:
    """Add the place in `obj` and the cure to an error of other code."""
    if isinstance(error, KerasReduceError):
        return
    by_value = hasattr(pickler, "reducer_override")
    name = type(obj).__name__.lower()
    obstacle = next(dry_pickler.obstacles(obj, name, "joblib", by_value=by_value), None)
    if obstacle is not None:
        error.add_note(f"At {obstacle.path}. What to do: {obstacle.cure}")


# --- arrays --------------------------------------------------------------------------------------

# Types that joblib treats as arrays; it pickles other subclasses like any object.
ARRAY_TYPES = (np.ndarray, np.matrix, np.memmap)


def save_in_one_pickle(pickler: Any, obj: Any, save: Callable[[Any, Any], None]) -> None:
    """Save `obj` by a NumpyPickler: each array once, arrays of objects within the pickle.

    Parameters
    ----------
    pickler : joblib.numpy_pickle.NumpyPickler
        The running pickler.
    obj : object
        The object to save.
    save : callable
        The pickler's own ``save``.
    """
    if type(obj) not in ARRAY_TYPES:
        save(pickler, obj)
        return
    memo_entry = pickler.memo.get(id(obj))
    if memo_entry is not None:
        pickler.write(pickler.get(memo_entry[0]))
    elif has_identities(obj):
        pickle._Pickler.save(pickler, obj)  # type: ignore[attr-defined]
    else:
        save(pickler, obj)
        pickler.memoize(obj)  # A reader now has the array on top of its stack.


def has_identities(array: Any) -> bool:
    """Return whether `array` contains objects that may be shared, or code.

    False for strings, numbers and dates, which a pickler in C writes faster.
    """
    return array.dtype.hasobject and not _VALUES.issuperset(map(type, array.ravel().tolist()))


_VALUES = dry_pickler.SCALARS | {
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
}
