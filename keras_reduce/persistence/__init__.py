"""Objects with Keras models in them as files: whole, verified, mapped if one likes.

The format is joblib's, with a trailer that joblib does not look at: `joblib.load` reads these
files as well, in programs that have never called `install`.

- A file is complete or not there: it is written beside, and renamed.
- Arrays are aligned to 64 bytes and written and read without copies in between.
- Digests tell whether a file is as it was written, before any of it is unpickled. They guard
  against damage, not against an attacker, who would compute them anew.
"""

from __future__ import annotations

import io
import os
from typing import Any

from . import reading, writing
from .files import opened, replacing
from .sources import FileSource, MemorySource, Source

__all__ = ["dump", "dumps", "load", "loads"]

_BYTES = "<bytes>"


def dump(obj: Any, path: str | os.PathLike[str], compress: Any = 0) -> None:
    """Write an object to a file, whole or not at all.

    Works with and without `install`: Keras objects, and code that a reader can't import, travel as
    they do after it. A file of that name is replaced once the new one is complete and on the disk;
    if anything fails it stays as it was.

    Parameters
    ----------
    obj : object
        Anything that can be pickled.
    path : str or os.PathLike
        Where to. The target of a symbolic link is replaced, not the link.
    compress : int, bool, str or tuple, default=0
        As for `joblib.dump`: a level, a method, or both; an extension such as ``.gz`` counts too.

    Raises
    ------
    ReduceError
        If a part of `obj` can't be carried.
    FileError
        If the system refuses; a `MissingFileError` if the folder is not there.
    """
    name = os.fspath(path)
    method = writing.chosen_compression(compress, name)
    with replacing(name) as file, writing.emitting(file, name, method) as emit:
        writing.write(obj, emit)


def load(
    path: str | os.PathLike[str], mmap_mode: str | None = None, verify: bool | None = None
) -> Any:
    """Read an object from a file that `dump` wrote.

    Parameters
    ----------
    path : str or os.PathLike
        Where from.
    mmap_mode : {None, "r", "c"}, optional
        Map the file instead of reading its arrays: read-only ("r"), or so that what is written
        stays in this process ("c"). The file never changes. Without effect on compressed files.
        joblib's "r+" is refused: the file would no longer be what its digest says. joblib sends
        arrays that are mapped as "r" to its workers by the name of the file: don't replace it while
        they run.
    verify : bool, optional
        True: compare the whole file with its digests before anything is unpickled. False: don't;
        then plain files of joblib and pickle are read as well. If not given, True; but for a mapped
        file all except the bytes of arrays is compared, so that the time does not grow with them.

    Raises
    ------
    PayloadError
        If the file is damaged, cut off, or none of ours.
    CustomObjectError
        If a module, class or function that it needs is missing.
    FileError
        If the system refuses; a `MissingFileError` if the file is not there.
    """
    if mmap_mode not in (None, "r", "c"):
        raise ValueError(
            f"mmap_mode must be None, 'r' or 'c', not {mmap_mode!r}: what is written into a file "
            "would contradict its digest. joblib.load maps in the other modes."
        )
    name = os.fspath(path)
    with opened(name) as file:
        source: Source = FileSource(file, name)
        compressor = reading.compressor_of(source.bytes_at(0, 16))
        if compressor:
            source = reading.decompressed(file, compressor, name)
            mmap_mode = None
        if verify is not False:
            reading.checked(source, arrays=verify is True or mmap_mode is None)
        mapping = reading.mapped(file, mmap_mode) if mmap_mode and source.size else None
        return reading.unpickled(source, verified=verify is not False, mapping=mapping)


def dumps(obj: Any, compress: Any = 0) -> bytes:
    """Return what `dump` would write to a file.

    Parameters
    ----------
    obj, compress : object
        As for `dump`.

    Raises
    ------
    ReduceError
        If a part of `obj` can't be carried.
    """
    method = writing.chosen_compression(compress)
    if method is None:
        # Arrays lend their memory until all is put together.
        pieces: list[bytes | memoryview] = []
        writing.write(obj, pieces.append)
        return b"".join(pieces)
    buffer = io.BytesIO()
    with writing.emitting(buffer, _BYTES, method) as emit:
        writing.write(obj, emit)
    return buffer.getvalue()


def loads(data: bytes | bytearray | memoryview, verify: bool | None = None) -> Any:
    """Return the object in bytes that `dumps` gave.

    Parameters
    ----------
    data : bytes, bytearray or memoryview
        What `dumps` returned, or what `dump` wrote.
    verify : bool, optional
        As for `load`.

    Raises
    ------
    PayloadError
        If the bytes are damaged, cut off, or none of ours.
    CustomObjectError
        If a module, class or function that they need is missing.
    """
    view = memoryview(data).cast("B")
    compressor = reading.compressor_of(bytes(view[:16]))
    if compressor:
        source = reading.decompressed(io.BytesIO(view), compressor, _BYTES)
    else:
        source = MemorySource([view], _BYTES)
    if verify is not False:
        reading.checked(source, arrays=True)
    return reading.unpickled(source, verified=verify is not False)
