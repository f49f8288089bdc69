"""Back from bytes: verified first, then unpickled, each array straight into aligned memory."""

from __future__ import annotations

import math
import mmap
import pickle
from typing import Any, BinaryIO, ClassVar

import numpy as np
from joblib.numpy_pickle import NDArrayWrapper, NumpyArrayWrapper
from joblib.numpy_pickle_utils import Unpickler

from ..audit.trust_policy import Policy
from ..core.array_backends import ALIGNMENT
from ..errors import CustomObjectError, KerasReduceError, PayloadError
from ..files.compression import outdated
from ..files.sources import Source
from ..files.trailer import Trailer


def checked(source: Source, *, arrays: bool) -> None:
    """Verify `source` by its trailer; with `arrays`, the bytes of arrays too."""
    Trailer.read(source).verify(source, arrays=arrays)


def unpickled(
    source: Source, *, verified: bool, mapping: Any = None, policy: Policy | None = None
) -> Any:
    """Return the object in `source`.

    Parameters
    ----------
    source : Source
        Where nothing has been read yet.
    verified : bool
        Whether the digest of the pickle is right, so that an error is not for want of it.
    mapping : numpy.memmap or mmap.mmap, optional
        The whole file in memory. Arrays share it instead of being read.
    policy : Policy, optional
        What is trusted, if not everything.

    Raises
    ------
    UntrustedError
        If there is what is not trusted.
    CustomObjectError
        If a module, class or function is missing.
    PayloadError
        If anything else goes wrong.
    """
    try:
        if policy is None:
            return ArrayUnpickler(source, mapping).load()
        from .trusted_unpickler import unpickled_by

        return unpickled_by(policy, source, mapping)
    except KerasReduceError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) and verified:
            raise
        raise _failure(error, source.name, verified) from error


def _failure(error: Exception, where: str, verified: bool) -> KerasReduceError:
    said = f"{type(error).__name__}: {error}"
    if not verified:
        return PayloadError(
            "The file can't be unpickled",
            where=where,
            cause=f"it is damaged, or no file of keras_reduce or joblib ({said})",
            cure="load it without verify=False, which tells whether it is damaged",
        )
    if isinstance(error, ModuleNotFoundError):
        return CustomObjectError(
            f"The module {error.name!r} is not here",
            where=where,
            cause=f"an object in the file is of a class or function of that module ({said})",
            cure="install it or put it on the path; or call "
            "cloudpickle.register_pickle_by_value(module) before the file is written",
        )
    if isinstance(error, (ImportError, AttributeError)):
        return CustomObjectError(
            "A class or function can't be had here, or fails here",
            where=where,
            cause=f"{said}: a module is another one than where the file was written",
            cure="load it with the code and the versions that wrote it",
        )
    return PayloadError(
        "An object in the file can't be rebuilt",
        where=where,
        cause=f"{said}. The file is as it was written, so this comes from the object's code",
        cure="load it with the code and the versions that wrote it",
    )


# joblib's is a subclass of it as well; its own can't be told where an array is to go.
class ArrayUnpickler(Unpickler):  # type: ignore[misc]
    """Reads joblib's format: where a wrapper comes, the bytes of its array follow."""

    dispatch: ClassVar = dict(Unpickler.dispatch)

    def __init__(self, source: Source, mapping: Any) -> None:
        super().__init__(source)
        self._source, self._mapping = source, mapping

    def load_build(self) -> None:
        """Put the array in the place of its wrapper."""
        super().load_build()
        wrapper = self.stack[-1]
        if isinstance(wrapper, NumpyArrayWrapper):
            self.stack[-1] = self.array(wrapper)
        elif isinstance(wrapper, NDArrayWrapper):
            raise outdated()

    dispatch[pickle.BUILD[0]] = load_build

    def load_bytearray8(self) -> None:
        """Allocate no more than there can be."""
        length = self.read(8)
        if int.from_bytes(length, "little") > self._source.size:
            raise pickle.UnpicklingError("a bytearray is longer than the file")
        array = bytearray(int.from_bytes(length, "little"))
        self.readinto(array)
        self.append(array)

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def objects(self) -> Any:
        """Return what follows as a pickle of its own, as which arrays of objects are written."""
        return Unpickler(self._source).load()

    def array(self, wrapper: NumpyArrayWrapper) -> np.ndarray[Any, Any]:
        """Return the array that follows."""
        source, dtype = self._source, wrapper.dtype
        if dtype.hasobject:
            array: np.ndarray[Any, Any] = self.objects()
            return array
        if getattr(wrapper, "numpy_array_alignment_bytes", None) is not None:
            source.skip(source.read(1)[0])
        size = math.prod(wrapper.shape) * dtype.itemsize
        if not 0 <= size <= source.left():
            raise pickle.UnpicklingError("an array is longer than the file")
        if self._mapping is not None and wrapper.allow_mmap:
            array = _view(self._mapping, source.tell(), size, wrapper)
            source.skip(size)
        else:
            array = _aligned(size, wrapper)
            if source.readinto(_flat(array).data) != size:
                raise EOFError("the file ends within an array")
        # numpy.memmap stands for arrays that were mapped when they were written.
        is_plain = wrapper.subclass in (np.ndarray, np.memmap)
        return array if is_plain else array.view(wrapper.subclass)


def _aligned(size: int, wrapper: NumpyArrayWrapper) -> np.ndarray[Any, Any]:
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return np.ndarray(wrapper.shape, wrapper.dtype, memory, start, order=wrapper.order)


def _flat(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    contiguous = array if array.flags.c_contiguous else array.T
    return contiguous.reshape(-1).view(np.uint8)


def _view(mapping: Any, start: int, size: int, wrapper: NumpyArrayWrapper) -> np.ndarray[Any, Any]:
    if isinstance(mapping, mmap.mmap):
        return np.ndarray(wrapper.shape, wrapper.dtype, mapping, start, order=wrapper.order)
    flat = mapping[start : start + size].view(wrapper.dtype)
    array: np.ndarray[Any, Any] = flat.reshape(wrapper.shape, order=wrapper.order)
    return array


def mapped(file: BinaryIO, mode: str) -> Any:
    """Map a whole file so that nothing that happens to the arrays can change it.

    Returns
    -------
    numpy.memmap or mmap.mmap
        For "r" what joblib sends to workers by its file name. For "c" not: a worker would see the
        file, and not what has been written into the arrays since.
    """
    if mode == "c":
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    # A private mapping also for "r": in a shared one that is read-only, code that writes past
    # NumPy's flag would crash.
    mapping: np.memmap[Any, Any] = np.memmap(file, np.uint8, "c")
    mapping.flags.writeable = False
    file.seek(0)  # NumPy has looked for the end
    return mapping
