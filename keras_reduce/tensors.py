"""Variables and arrays: one reader and one writer for each backend.

A reader returns what the variable holds now, as a NumPy array that later training does not change.
A writer gives a variable an array's values, bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# Dtypes that NumPy only knows through ml_dtypes, by the unsigned integer of the same width.
_CARRIERS = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}


def read(variable: Any, backend: str) -> np.ndarray[Any, Any]:
    """Return the values of a Keras variable.

    Parameters
    ----------
    variable : keras.Variable
        Any shape and dtype.
    backend : {"tensorflow", "jax", "torch", "numpy"}
        Keras backend that made it.

    Returns
    -------
    numpy.ndarray
        Same shape; for dtypes that NumPy lacks, unsigned integers of the same width. Read-only
        where it shares memory with the framework.
    """
    import numpy as np

    value = variable.value
    if backend == "tensorflow":
        return _read_tensorflow(value)
    if backend == "torch":
        # A tensor's memory changes under a view of it when training goes on, so this must copy.
        return _carried(np.array(value.detach().cpu().numpy(), copy=True))
    return _carried(np.asarray(value))


def _read_tensorflow(value: Any) -> np.ndarray[Any, Any]:
    import numpy as np
    import tensorflow as tf

    tensor = value.read_value() if hasattr(value, "read_value") else value
    carrier = _CARRIERS.get(tensor.dtype.name)
    if carrier is not None:
        tensor = tf.bitcast(tensor, carrier)
    try:
        # TensorFlow's buffer itself. While it is held, an update of the variable moves the
        # variable to new memory, so this stays what it was.
        return np.asarray(memoryview(tensor))
    except (BufferError, TypeError, ValueError, RuntimeError):
        # Not in host memory (a GPU), or a dtype without a buffer format.
        return np.asarray(tensor.numpy())


def _carried(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    carrier = _CARRIERS.get(array.dtype.name)
    return array if carrier is None else array.view(carrier)


def dtype_name(variable: Any) -> str:
    """Return the name of a variable's dtype, as the header keeps it."""
    return str(getattr(variable.dtype, "name", variable.dtype))


def carrier(dtype: str) -> str:
    """Return the name of the array dtype that carries values of `dtype`."""
    return _CARRIERS.get(dtype, dtype)


def write(variable: Any, array: np.ndarray[Any, Any], dtype: str) -> None:
    """Give `variable` the values of `array`.

    Parameters
    ----------
    variable : keras.Variable
        Shape and dtype as the array's; the caller has checked that.
    array : numpy.ndarray
        As `read` returned it.
    dtype : str
        True dtype, as the header keeps it.
    """
    if dtype in _CARRIERS:
        import ml_dtypes
        import numpy as np

        array = array.view(np.dtype(getattr(ml_dtypes, dtype)))
    variable.assign(array)
