"""`joblib.dump`: nothing stays in a file whose object could not be written whole.

joblib writes while it pickles. What turns out to be impossible half way would leave a file that
looks like a dump.

It also writes each array of objects as a pickle of its own, by a pickler that knows neither what
is beside the array nor how code travels by value, and each array as often as it meets it. Here both
are part of the one pickle, which `joblib.load` reads as well.
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
    """Write `obj` to the file of a NumpyPickler, or nothing.

    Parameters
    ----------
    pickler : joblib.numpy_pickle.NumpyPickler
        Its file is where the object goes.
    obj : object
        What to write.
    dump : callable
        The pickler's own ``dump``.
    """
    file = pickler.file_handle
    start = _position(file)
    if start is None:
        # A compressor, or a pipe: what has gone there can't be taken back.
        _attempt(dump, type(pickler)(_Nowhere(), pickler.proto), obj)
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


class _Nowhere:
    """A file to which anything can be written."""

    def __init__(self) -> None:
        self._position = 0

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        self._position += memoryview(data).nbytes
        return memoryview(data).nbytes


def _position(file: Any) -> int | None:
    """Return where `file` ends if what is written from here on can be taken back."""
    # Others (compressors of joblib's, gzip, pipes) may seek, but not cut off.
    if not isinstance(file, (io.BufferedWriter, io.BufferedRandom, io.FileIO, io.BytesIO)):
        return None
    if not file.seekable():
        return None
    position = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(position)
    # What stands behind the place is not ours to cut off.
    return position if position == end else None


def _note_place(error: Exception, obj: Any, pickler: Any) -> None:
    """Add to an error of somebody else's where in `obj` it came from, and what to do."""
    if isinstance(error, KerasReduceError):
        return
    by_value = hasattr(pickler, "reducer_override")
    name = type(obj).__name__.lower()
    found = next(dry_pickler.obstacles(obj, name, "joblib", by_value=by_value), None)
    if found is not None:
        error.add_note(f"At {found.path}. What to do: {found.cure}")


# --- arrays --------------------------------------------------------------------------------------

# The types that joblib takes for arrays; it pickles other subclasses like any object.
ARRAY_TYPES = (np.ndarray, np.matrix, np.memmap)


def save_in_one_pickle(pickler: Any, obj: Any, save: Callable[[Any, Any], None]) -> None:
    """Save `obj` by a NumpyPickler: arrays once each, arrays of objects as part of the pickle.

    Parameters
    ----------
    pickler : joblib.numpy_pickle.NumpyPickler
        The pickler that is at work.
    obj : object
        What to save.
    save : callable
        The pickler's own ``save``.
    """
    if type(obj) not in ARRAY_TYPES:
        save(pickler, obj)
        return
    known = pickler.memo.get(id(obj))
    if known is not None:
        pickler.write(pickler.get(known[0]))
    elif has_identities(obj):
        pickle._Pickler.save(pickler, obj)  # type: ignore[attr-defined]
    else:
        save(pickler, obj)
        pickler.memoize(obj)  # A reader has the array on top of its stack now.


def has_identities(array: Any) -> bool:
    """Tell whether `array` holds objects that may stand elsewhere too, or be code.

    False for texts, numbers and dates, which a pickler in C writes faster.
    """
    return array.dtype.hasobject and not _VALUES.issuperset(map(type, array.ravel().tolist()))


_VALUES = dry_pickler.SCALARS | {
    *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, decimal.Decimal),
}
