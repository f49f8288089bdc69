"""Pickler for joblib's format, with aligned arrays and digests, in one pass over the bytes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import cloudpickle
import joblib
import numpy as np

# Private names of joblib that define its file format. A test fails when a release changes them.
from joblib.compressor import _COMPRESSORS
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyPickler
from joblib.numpy_pickle_utils import Pickler

from .. import registry
from ..core import context
from ..core.array_backends import ALIGNMENT, never_changes
from ..core.dispatch import STANDARD
from ..custom_objects import companion
from ..dry_run import dry_pickler
from ..errors import KerasReduceError, ReduceError
from ..files.atomic import file_error
from ..files.sources import BLOCK
from ..files.trailer import Digests, Extent, Trailer
from ..integrations.joblib_dumps import ARRAY_TYPES, has_identities

Emit = Callable[[bytes | memoryview], Any]


def write(obj: Any, emit: Emit) -> None:
    """Pass the bytes of `obj` and of the trailer to `emit`, piece by piece.

    Parameters
    ----------
    obj : object
        The object to write.
    emit : callable
        Function that gets the pieces. It may keep them, since they don't change afterwards.

    Raises
    ------
    ReduceError
        If a part of `obj` can't be pickled.
    """
    sink = _Sink(emit)
    with registry.in_use() as options:
        pickler = _Pickler(sink, options.functions_by_value)
        try:
            with context.one_call():
                pickler.dump(obj)
        except (KerasReduceError, MemoryError):
            raise
        except Exception as error:
            raise _refusal(obj, error, options.functions_by_value) from error
    emit(sink.trailer().pack())


def _refusal(obj: Any, error: Exception, by_value: bool) -> ReduceError:
    # With code by value, this pickler carries what cloudpickle does.
    transport: context.Transport = "cloudpickle" if by_value else "joblib"
    obstacle = next(dry_pickler.obstacles(obj, type(obj).__name__.lower(), transport), None)
    kind = type(obj).__qualname__
    cause = f"{type(error).__name__}: {error}"
    if obstacle is None:
        cure = "remove the object in the cause; keras_reduce.explain lists all obstacles"
        if isinstance(error, RecursionError):
            cure = "nest it less deeply, or raise the limit by sys.setrecursionlimit"
        return ReduceError(f"This {kind} can't be written", cause=cause, cure=cure)
    return ReduceError(f"This {kind} can't be written", obstacle.path, cause, obstacle.cure)


class _Sink:
    """File object of the pickler, which records extents of arrays and digests."""

    def __init__(self, emit: Emit) -> None:
        self._emit, self._position = emit, 0
        self._digests = Digests()
        self._extents: list[Extent] = []

    def tell(self) -> int:
        return self._position

    def write(self, data: bytes | memoryview) -> int:
        self._digests.stream.update(data)
        return self._pass_on(data)

    def write_array(self, array: np.ndarray[Any, Any]) -> None:
        start = self._position
        for piece in _bytes_of(array):
            self._digests.arrays.update(piece)
            self._pass_on(piece)
        self._extents.append((start, self._position - start))

    def _pass_on(self, data: bytes | memoryview) -> int:
        self._emit(data)
        size = memoryview(data).nbytes
        self._position += size
        return size

    def trailer(self) -> Trailer:
        stream, arrays = self._digests.stream.digest(), self._digests.arrays.digest()
        return Trailer(self._position, tuple(self._extents), stream, arrays)


def _bytes_of(array: np.ndarray[Any, Any]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of an array in its memory order, without a copy if possible."""
    plain = np.asarray(array)  # reshape keeps a matrix two-dimensional
    if plain.size == 0:
        return
    if plain.flags.c_contiguous or plain.flags.f_contiguous:
        flat = (plain if plain.flags.c_contiguous else plain.T).reshape(-1)
        # As bytes, since the buffer protocol has no format for dates.
        data = flat.view(np.uint8).data
        if never_changes(plain):
            yield data
            return
        # A copy: other threads may write into the array between the digest and the write.
        for start in range(0, data.nbytes, BLOCK):
            yield bytes(data[start : start + BLOCK])
        return
    count = max(16 * BLOCK // plain.itemsize, 1)
    for chunk in np.nditer(plain, ["external_loop", "buffered"], buffersize=count, order="C"):
        yield np.asarray(chunk).tobytes()  # nditer reuses the memory of the chunk


class _Pickler(NumpyPickler):  # type: ignore[misc]
    """joblib's pickler with arrays aligned, memoized and not copied."""

    dispatch: ClassVar = STANDARD

    def __init__(self, sink: _Sink, by_value: bool) -> None:
        super().__init__(sink)
        if by_value:
            self.reducer_override = companion().reducer_override
            self.dispatch_table = cloudpickle.Pickler.dispatch_table

    def dump(self, obj: Any) -> None:
        """Pickle `obj` without the trial run of `joblib.dump`: a failed file is dropped."""
        Pickler.dump(self, obj)

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        """Write an array as in joblib's format: a wrapper, then its bytes."""
        # joblib can't read arrays with items of no bytes, so they are pickled like other objects.
        if type(obj) not in ARRAY_TYPES or obj.dtype.itemsize == 0:
            Pickler.save(self, obj, save_persistent_id)
            return
        memo_entry = self.memo.get(id(obj))
        if memo_entry is not None:
            self.write(self.get(memo_entry[0]))
            return
        if has_identities(obj):
            Pickler.save(self, obj)
            return
        has_objects = obj.dtype.hasobject
        is_fortran = obj.flags.f_contiguous and not obj.flags.c_contiguous
        wrapper = NumpyArrayWrapper(
            type(obj),
            obj.shape,
            "F" if is_fortran else "C",
            obj.dtype,
            allow_mmap=not has_objects,
            numpy_array_alignment_bytes=ALIGNMENT,
        )
        Pickler.save(self, wrapper)
        self.framer.commit_frame(force=True)  # the wrapper must come before the bytes
        sink: _Sink = self.file_handle
        if has_objects:
            wrapper.write_array(obj, self)  # In a separate pickle, by the pickler in C.
        else:
            # One byte says how many follow it.
            padding = ALIGNMENT - (sink.tell() + 1) % ALIGNMENT
            sink.write(bytes([padding]) + b"\xff" * padding)
            sink.write_array(obj)
        # Readers, including joblib's, now have the array on top of their stack. joblib itself does
        # not memoize it, and writes an array twice that occurs twice.
        self.memoize(obj)


# --- compression -------------------------------------------------------------------------------

Method = tuple[str, int | None]


def chosen_compression(compress: Any, path: str = "") -> Method | None:
    """Return method and level for an argument `compress` of `joblib.dump`; None for neither.

    Raises
    ------
    ValueError
        As `joblib.dump`, if there is no such method or level.
    """
    joblib.dump(None, io.BytesIO(), compress=compress)  # validates `compress`
    method, level = compress if isinstance(compress, tuple) else ("zlib", compress)
    if isinstance(compress, str):
        method, level = compress, None
    elif compress is True:
        level = None
    if not isinstance(compress, (tuple, str)):
        for name, compressor in _COMPRESSORS.items():
            if compressor.extension and path.endswith(compressor.extension):
                method, level = name, level or None
    return None if level is not None and level == 0 else (method, level)


@contextlib.contextmanager
def emitting(file: Any, path: str, method: Method | None) -> Iterator[Emit]:
    """Yield a function that writes to `file`, compressed by `method` if there is one.

    Raises
    ------
    FileError
        If the system raises an error.
    """

    def plainly(data: bytes | memoryview) -> None:
        try:
            file.write(data)
        except OSError as error:
            raise file_error(error, "written", path) from error

    if method is None:
        yield plainly
        return
    name, level = method
    compressor = _COMPRESSORS[name].compressor_file(_Writer(plainly), compresslevel=level)

    def compressed(data: bytes | memoryview) -> None:
        # In slices, since most compressors copy their input.
        view = memoryview(data)
        for start in range(0, view.nbytes, BLOCK):
            compressor.write(view[start : start + BLOCK])

    try:
        yield compressed
    except BaseException:
        with contextlib.suppress(Exception):
            compressor.close()
        raise
    compressor.close()


class _Writer(io.RawIOBase):
    """Write-only file object for a compressor."""

    def __init__(self, emit: Emit) -> None:
        super().__init__()
        self._emit, self._position = emit, 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        self._emit(data)
        self._position += memoryview(data).nbytes
        return memoryview(data).nbytes
