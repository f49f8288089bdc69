"""Variables and arrays: one reader and one writer for each backend.

A reader returns what the variable holds now, as a NumPy array that later training does not change.
A writer gives a variable an array's values, bit for bit. Neither copies where the framework lets
memory be shared:

- TensorFlow shows the buffer of a tensor on the CPU. As long as a reference is held, an update
  of the variable moves the variable to new memory, so what is held stays what it was.
- TensorFlow takes over foreign memory (DLPack) and never writes into it: an update of the variable
  moves the variable, again. But it takes for granted that memory is aligned for vector
  instructions, and aborts the process where it is not.
- JAX shows the buffer of an array on the CPU, which never changes: a step of training that may
  write over it (a donation) uses another buffer as long as a reference is held. Only shards are
  copied, into one array. JAX takes over foreign memory as well, and doesn't write into that either.
- Keras's NumPy backend keeps a NumPy array, which only code of the program may change in place. It
  takes over memory that nothing can write to, such as that of a file that is mapped to be read.
- A Torch tensor on the CPU shows live memory, which training changes in place. So both ways copy:
  nothing that others may see, a file least of all, ever becomes the memory of a variable.

What is read has the dtype that the variable names. JAX keeps 32 bits of the 64 that are asked for,
unless it is told otherwise, and Torch has no unsigned numbers of 16 or 32: there the array is made
what it would be elsewhere, and a value that does not fit on the way back is refused.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
import weakref
from typing import TYPE_CHECKING, Any

from ..errors import PayloadError, ReduceError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    Array = np.ndarray[Any, Any]

_log = logging.getLogger(__package__.partition(".")[0])

# Dtypes that NumPy only knows through ml_dtypes, by the unsigned integer of the same width.
_CARRIERS = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}
# Those that TensorFlow can't take for other bits, so that they are copied.
_UNCAST = frozenset({"float8_e4m3fn", "float8_e5m2"})

# EIGEN_MAX_ALIGN_BYTES of TensorFlow's builds: `Tensor::IsAligned` is checked by its kernels, which
# abort the process.
ALIGNMENT = 64


def read(variable: Any, backend: str) -> Array:
    """Return the values of a Keras variable of a `backend`, as an array of the same shape.

    For dtypes that NumPy lacks, of unsigned integers of the same width. The array is read-only
    where it shares memory with the framework.

    Raises
    ------
    ReduceError
        If the variable has no value at this moment, or one that does not fit its dtype.
    """
    if backend == "tensorflow":
        return _read_tensorflow(_value(variable))
    if backend == "torch":
        return _declared(_read_torch(variable.value), variable)
    return _declared(_read_jax(variable), variable)


def _value(variable: Any) -> Any:
    """Return the framework's own variable or tensor; those of Keras 2 are TensorFlow's own."""
    value = variable.value
    return variable if callable(value) else value


def never_changes(array: Array) -> bool:
    """Return whether `array` shows a framework's own memory, which stays what it is while held."""
    import numpy as np

    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    # TensorFlow shows a buffer by way of an array of its own.
    return isinstance(base, memoryview) and isinstance(base.obj, np.ndarray)


def unchanging(array: Array) -> Array:
    """Return `array` in a form that `copy.deepcopy` does not copy if it is read-only."""
    return array if array.flags.writeable else array.view(_unchanging_class())


@functools.cache
def _unchanging_class() -> Any:
    import numpy as np

    class Unchanging(np.ndarray[Any, Any]):
        def __deepcopy__(self, memo: dict[int, Any] | None, /) -> Any:
            return self.view(np.ndarray)

    return Unchanging


def dtype_name(variable: Any) -> str:
    """Return the name of a variable's dtype, as the header keeps it."""
    dtype = variable.dtype
    return str(getattr(dtype, "name", dtype))


def nbytes(variable: Any) -> int:
    """Return how many bytes the values of a variable take; 0 where its shape is not settled."""
    import numpy as np

    shape = () if getattr(variable.shape, "rank", 0) is None else tuple(variable.shape)
    try:
        return int(math.prod(shape)) * np.dtype(carrier(dtype_name(variable))).itemsize
    except TypeError:  # A size that is open, or a dtype that NumPy lacks.
        return 0


def has_room(variable: Any, shape: tuple[int, ...]) -> bool:
    """Return whether `variable` takes an array of `shape`: TensorFlow's may leave sizes open."""
    declared = variable.shape
    if getattr(declared, "rank", 0) is None:
        return True
    sizes = tuple(declared)
    return sizes == shape or (
        len(sizes) == len(shape)
        and all(size in (None, n) for size, n in zip(sizes, shape, strict=True))
    )


def carrier(dtype: str) -> str:
    """Return the name of the array dtype that carries values of `dtype`."""
    return _CARRIERS.get(dtype, dtype)


def write(variable: Any, array: Array, dtype: str, backend: str) -> None:
    """Give a Keras variable of a `backend` the values of an array that `read` has returned.

    The variable may share its memory from then on, so that it must not change, unless it is a
    memory map that writes to its file. Shapes and dtypes agree, which the caller has checked.

    Raises
    ------
    PayloadError
        If the values do not fit the dtype of the framework.
    """
    if backend == "tensorflow":
        _write_tensorflow(variable, array, dtype)
    elif backend == "torch":
        _write_torch(variable, array, dtype)
    elif backend == "numpy":
        _write_numpy(variable, array, dtype)
    else:
        _write_jax(variable, array, dtype)


def converted(array: Array, dtype: str, *, wraps: bool = False) -> Array | None:
    """Return the integers of `array` as another integer `dtype`; None if they do not fit.

    Backends differ in how wide some counters and seeds are. Of seeds (`wraps`), only
    the lower 32 bits count.
    """
    import numpy as np

    if array.dtype.kind not in "iu" or np.dtype(carrier(dtype)).kind not in "iu":
        return None
    integers: Array = (array.astype("uint32") if wraps else array).astype(dtype)
    return integers if wraps or np.array_equal(integers, array) else None


# --- TensorFlow -----------------------------------------------------------------------------


def _read_tensorflow(value: Any) -> Array:
    # Looked up once: a model has hundreds of variables.
    resource_variable, read_op, bitcast, as_array = _reading_tensorflow()
    if isinstance(value, resource_variable):
        # What `read_value` does, without its detours.
        tensor = read_op(resource=value.handle, dtype=value.dtype)
    else:
        tensor = value.read_value() if hasattr(value, "read_value") else value
        _warn_of_replicas(value, as_array)
    name = tensor.dtype.name
    if name in _UNCAST:
        copied: Array = tensor.numpy().view(_CARRIERS[name])
        return copied
    if name in _CARRIERS:
        tensor = bitcast(tensor, _CARRIERS[name])
    try:
        array: Array = as_array(memoryview(tensor))
    except (BufferError, TypeError, ValueError, RuntimeError):
        # Not in host memory (a GPU), or a dtype without a buffer format.
        array = as_array(tensor.numpy())
    return array


def _warn_of_replicas(value: Any, as_array: Callable[[Any], Array]) -> None:
    """Log, once for a variable, that only one of its replicas is carried, if they differ."""
    replicas = getattr(value, "values", ())  # Of a variable that a strategy mirrors.
    if not isinstance(replicas, tuple) or len(replicas) < 2 or id(value) in _told:
        return
    if value.aggregation.name != "NONE":
        return  # Metrics count in each replica, and begin again in each epoch.
    values = (as_array(replica.read_value().numpy()) for replica in replicas)
    first, *others = (array.reshape(-1).view("uint8") for array in values)
    if any((first != other).any() for other in others):
        _told[id(value)] = value
        _log.warning(
            "The replicas of the variable %s differ; only that of the first device is carried, as "
            "in Keras's own files. BatchNormalization(synchronized=True) keeps them alike",
            value.name,
        )


# The variables that a warning was given for: a model is reduced many times.
_told: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


@functools.cache
def _reading_tensorflow() -> tuple[Any, Any, Any, Any]:
    import numpy as np
    import tensorflow as tf

    return _resource_variable(), tf.raw_ops.ReadVariableOp, tf.bitcast, np.asarray


def _write_tensorflow(variable: Any, array: Array, dtype: str) -> None:
    import tensorflow as tf

    tensor = as_tensor(array, dtype)
    value = _value(variable)
    if isinstance(value, _resource_variable()) and tf.executing_eagerly():
        # What `assign` does, without its detours.
        tf.raw_ops.AssignVariableOp(resource=value.handle, value=tensor)
    else:
        variable.assign(tensor)


def as_tensor(array: Array, dtype: str) -> Any:
    """Return a tensor with the values of `array`, in the array's own memory if it can."""
    from_dlpack, constant, bitcast = _writing_tensorflow()
    if dtype in _UNCAST:
        import ml_dtypes

        return constant(array.view(getattr(ml_dtypes, dtype)))
    if _may_be_shared(array):
        exported = array if array.flags.writeable else _unlocked(array)
        tensor = from_dlpack(exported.__dlpack__())
    elif _may_be_exported(array):
        # TensorFlow would copy twice.
        tensor = from_dlpack(_aligned(array).__dlpack__())
    else:
        tensor = constant(array)
    return bitcast(tensor, dtype) if dtype in _CARRIERS else tensor


@functools.cache
def _writing_tensorflow() -> tuple[Any, Any, Any]:
    import tensorflow as tf

    return tf.experimental.dlpack.from_dlpack, tf.constant, tf.bitcast


def _may_be_exported(array: Array) -> bool:
    # DLPack, as TensorFlow reads it, knows no other kinds.
    return array.dtype.kind in "iufc" and array.dtype.isnative and array.size > 0


def _may_be_shared(array: Array) -> bool:
    return (
        _may_be_exported(array)
        and array.flags.c_contiguous
        and array.__array_interface__["data"][0] % ALIGNMENT == 0
        and not _writes_to_a_file(array)
    )


def _aligned(array: Array) -> Array:
    """Return a copy of `array` that is aligned."""
    import numpy as np

    memory = np.empty(array.nbytes + ALIGNMENT, "uint8")
    start = -memory.__array_interface__["data"][0] % ALIGNMENT
    copied = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copied[...] = array
    return copied


def _writes_to_a_file(array: Array) -> bool:
    """Return whether `array` belongs to a memory map that others see, and may change."""
    base: Any = array
    while base is not None:
        if getattr(base, "mode", "r") in ("r+", "w+"):
            return True
        base = getattr(base, "base", None)
    return False


def _unlocked(array: Array) -> Array:
    """Return `array` without its write protection, which DLPack can't express."""
    import numpy as np

    return np.asarray(_Unlocked(array))


class _Unlocked:
    """View of an array that NumPy takes for writable; TensorFlow never writes into it."""

    def __init__(self, array: Array) -> None:
        self._array = array
        address, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}


def placeholder(shape: tuple[int, ...], dtype: str) -> Any:
    """Return a TensorFlow tensor of zeros that takes no memory as long as it is not read.

    For variables that are about to be overwritten; `is_placeholder` tells which have not been. None
    where memory can't be shared: for some dtypes, and with a GPU.
    """
    if dtype in _UNCAST or _has_gpu():
        return None
    try:
        return _tensor_of_zeros(shape, dtype)
    except (TypeError, MemoryError):  # a dtype that NumPy lacks; a limit on what may be asked for
        return None


@functools.lru_cache(maxsize=1024)
def _tensor_of_zeros(shape: tuple[int, ...], dtype: str) -> Any:
    """Return a tensor in the memory of `_zeros`; None where that can't be shared.

    Variables may begin with the same one: TensorFlow copies it before it writes.
    """
    import numpy as np

    plain = np.dtype(carrier(dtype))
    size = math.prod(shape) * plain.itemsize
    array = _zeros(size)[:size].view(plain).reshape(shape)
    return as_tensor(array, dtype) if _may_be_shared(array) else None


def is_placeholder(variable: Any) -> bool:
    """Return whether a TensorFlow variable still holds what `placeholder` gave for it."""
    address = read(variable, "tensorflow").__array_interface__["data"][0]
    starts = (block.__array_interface__["data"][0] for block in _blocks_of_zeros)
    return address in starts


def _zeros(size: int) -> Array:
    """Return at least `size` bytes of zeros that all may share, since TensorFlow never writes."""
    import numpy as np

    for block in _blocks_of_zeros:
        if len(block) >= size:
            return block
    # As large a block comes from the system, which fills in its pages when they are touched. It is
    # kept for good, so that its address tells what it is.
    memory = np.zeros(max(size, 1 << 26) + ALIGNMENT, "uint8")
    _blocks_of_zeros.append(memory[-memory.__array_interface__["data"][0] % ALIGNMENT :])
    return _blocks_of_zeros[-1]


_blocks_of_zeros: list[Array] = []


@functools.cache
def _has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


@functools.cache
def _resource_variable() -> Any:
    """Return the class of TensorFlow's usual variables, which has no public name."""
    import tensorflow as tf

    classes: list[type] = []
    # The scope of a strategy, in which variables are of another class, is that of one thread.
    thread = threading.Thread(target=lambda: classes.append(type(tf.Variable(0.0))))
    thread.start()
    thread.join()
    return classes[0]


# --- JAX, NumPy and OpenVINO ----------------------------------------------------------------


def _read_jax(variable: Any) -> Array:
    import numpy as np

    # Private: `fit` takes the values out of the variables while it runs.
    if variable._value is None and variable._initializer is None:
        raise _being_trained(variable, "it has no value at this moment")
    try:
        value = variable.value
        if not (getattr(value, "is_fully_addressable", True) or value.is_fully_replicated):
            raise _spread(variable)
        array = np.asarray(value)
    except (RuntimeError, TypeError) as error:
        raise _being_trained(variable, str(error)) from error
    carrier = _CARRIERS.get(array.dtype.name)
    return array if carrier is None else array.view(carrier)


def _spread(variable: Any) -> ReduceError:
    return ReduceError(
        "A variable can't be read: its shards are in several processes",
        where=variable.path,
        cause="a distribution of Keras shards it over devices of other processes "
        "(jax.distributed.initialize)",
        cure="shard within processes only; or call jax.experimental.multihost_utils."
        "process_allgather(variable.value, tiled=True) in all of them for each variable, and "
        "assign the results to a model that was made outside of the distribution",
    )


def _being_trained(variable: Any, why: str) -> ReduceError:
    return ReduceError(
        "A variable can't be read while its model is being trained",
        where=variable.path,
        cause=f"{why}. On JAX, a model that is being trained by another thread, or around this "
        "one, keeps its values elsewhere",
        cure="pickle it when fit() has returned; or in a callback, where it is self.model",
    )


def _write_jax(variable: Any, array: Array, dtype: str) -> None:
    import numpy as np

    if dtype in _CARRIERS:
        import ml_dtypes

        array = array.view(np.dtype(getattr(ml_dtypes, dtype)))
    elif dtype in _NARROW and not _has_64_bits(variable):
        narrow = array.astype(_NARROW[dtype])
        if not np.array_equal(narrow, array, equal_nan=array.dtype.kind in "fc"):
            raise PayloadError(
                f"A {dtype} weight {array.shape} can't be stored: JAX uses 32 bits",
                where=variable.path,
                cause="the option jax_enable_x64 is off, which is JAX's default",
                cure="jax.config.update('jax_enable_x64', True) before the model is loaded",
            )
        array = narrow
    if _writes_to_a_file(array):
        array = np.array(array)  # JAX would take the very memory, which others may change.
    variable.assign(array)


def _write_numpy(variable: Any, array: Array, dtype: str) -> None:
    import numpy as np

    if dtype in _CARRIERS:
        import ml_dtypes

        array = array.view(np.dtype(getattr(ml_dtypes, dtype)))
    # Private: what `assign` does, which copies twice.
    variable._initialize(np.array(array) if array.flags.writeable else np.asarray(array))


# What JAX makes of dtypes that it is not told to take at their word.
_NARROW = {
    "int64": "int32",
    "uint64": "uint32",
    "float64": "float32",
    "complex128": "complex64",
}


def _has_64_bits(variable: Any) -> bool:
    return getattr(variable.value, "dtype", None) == dtype_name(variable)


# --- Torch ----------------------------------------------------------------------------------


def _read_torch(value: Any) -> Array:
    import numpy as np

    tensor = value.detach()
    carrier = _CARRIERS.get(str(tensor.dtype).removeprefix("torch."))
    if carrier is not None:
        tensor = tensor.view(_bits(tensor.element_size()))
    # A tensor's memory changes under a view of it when training goes on, so this must copy.
    array: Array = np.array(tensor.cpu().numpy(), order="C", copy=True)
    array = array if carrier is None else array.view(carrier)
    array.flags.writeable = False  # No other code has it, so that the caller may keep it.
    return array


def _write_torch(variable: Any, array: Array, dtype: str) -> None:
    import numpy as np
    import torch

    value = variable.value
    if dtype in _CARRIERS:
        source = torch.from_numpy(_exported(array.view(array.dtype.str.replace("u", "i"))))
        source = source.view(value.dtype)
    else:
        # Torch has these by other names, with which it can't compute.
        array = array.astype({"uint16": "int32", "uint32": "int64"}.get(dtype, array.dtype))
        source = torch.from_numpy(_exported(np.asarray(array)))
    with torch.no_grad():
        value.copy_(source)


def _bits(size: int) -> Any:
    import torch

    return {1: torch.uint8, 2: torch.int16}[size]


def _exported(array: Array) -> Array:
    """Return `array` as Torch takes it, which complains about one that it may not write into."""
    import numpy as np

    array = np.ascontiguousarray(array).reshape(array.shape)
    return array if array.flags.writeable else _unlocked(array)


def _declared(array: Array, variable: Any) -> Array:
    """Return an array that was read, converted to the dtype that the variable names."""
    import numpy as np

    dtype = dtype_name(variable)
    if array.dtype == carrier(dtype):
        return array
    values: Array = array.astype(dtype)
    if not np.array_equal(values, array, equal_nan=array.dtype.kind in "fc"):
        raise ReduceError(
            f"A variable of dtype {dtype} holds {array.dtype} values, which do not fit",
            where=variable.path,
            cause="the framework computes with another dtype than the one that was asked for",
            cure="make the variable with a dtype that the framework has",
        )
    values.flags.writeable = False
    return values
