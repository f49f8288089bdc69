"""Unpickler for joblib's format that reads arrays directly into aligned memory."""

from __future__ import annotations

import math
import mmap
import pickle
from typing import Any, ClassVar

import numpy as np
from joblib.numpy_pickle import NDArrayWrapper, NumpyArrayWrapper
from joblib.numpy_pickle_utils import Unpickler

from ..core.array_backends import ALIGNMENT
from ..files.compression import outdated
from ..files.sources import Source


# Derived from the base class of joblib's unpickler, which can't read arrays into given memory.
class ArrayUnpickler(Unpickler):  # type: ignore[misc]
    """Unpickler for joblib's format, where the bytes of an array follow its wrapper."""

    dispatch: ClassVar = dict(Unpickler.dispatch)

    def __init__(self, source: Source, mapping: Any) -> None:
        super().__init__(source)
        self._source, self._mapping = source, mapping

    def load_build(self) -> None:
        """Set a state; replace the wrapper of an array by the array."""
        super().load_build()
        wrapper = self.stack[-1]
        if isinstance(wrapper, NumpyArrayWrapper):
            self.stack[-1] = self.array(wrapper)
        elif isinstance(wrapper, NDArrayWrapper):
            raise outdated()

    dispatch[pickle.BUILD[0]] = load_build

    def load_bytearray8(self) -> None:
        """Read a bytearray; refuse a length beyond the end of the file before allocating it."""
        length = self.read(8)
        if int.from_bytes(length, "little") > self._source.size:
            raise pickle.UnpicklingError("a bytearray is longer than the file")
        array = bytearray(int.from_bytes(length, "little"))
        self.readinto(array)
        self.append(array)

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def objects(self) -> Any:
        """Return the object in the nested pickle that follows, for an array of objects."""
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
        # Arrays that were mapped when they were written have the subclass numpy.memmap.
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
