"""Exceptions that this package raises.

Each message has four parts: what failed, where in the object graph, the likely cause, and what to
do. All exceptions survive pickling, so an error in a worker reaches the parent process whole.
"""

from __future__ import annotations

import pickle
from typing import Any

__all__ = [
    "CustomObjectError",
    "DamagedFileError",
    "EstimatorError",
    "EstimatorTypeError",
    "FileError",
    "FrameworkError",
    "KerasReduceError",
    "MissingFileError",
    "PayloadError",
    "ReduceError",
    "SignatureError",
    "UntrustedError",
    "WorkerError",
]


class KerasReduceError(Exception):
    """Root of all errors that this package raises on purpose.

    Parameters
    ----------
    what : str
        What failed, as a sentence.
    where : str, optional
        Path inside the object graph, such as ``model.layers[2]``.
    cause : str, optional
        The likely cause.
    cure : str, optional
        What to do next.

    Examples
    --------
    >>> import keras_reduce
    >>> print(keras_reduce.KerasReduceError("No layer", "model.layers[2]", cure="add one"))
    No layer - at model.layers[2]
      What to do: add one
    """

    def __init__(self, what: str, where: str = "", cause: str = "", cure: str = "") -> None:
        super().__init__(what, where, cause, cure)
        self.what, self.where, self.cause, self.cure = what, where, cause, cure

    def __reduce__(self) -> tuple[type[KerasReduceError], tuple[str, ...]]:
        """Return the four parts, not ``args``, which joblib changes."""
        return type(self), (self.what, self.where, self.cause, self.cure)

    def __str__(self) -> str:
        """Join the four parts, leaving out the empty ones."""
        head = f"{self.what} - at {self.where}" if self.where else self.what
        tail = [
            f"{label}: {text}"
            for label, text in (("Likely cause", self.cause), ("What to do", self.cure))
            if text
        ]
        return "\n  ".join([head, *tail])


class ReduceError(KerasReduceError, pickle.PicklingError):
    """An object can't be carried without loss; raised while it is pickled.

    Examples
    --------
    >>> import keras_reduce, threading
    >>> keras_reduce.dumps(threading.Lock())
    Traceback (most recent call last):
        ...
    keras_reduce.errors.ReduceError: This lock can't be written - at lock
    ...
    """


class PayloadError(KerasReduceError, pickle.UnpicklingError):
    """A payload is inconsistent, or this version of the package can't read it.

    Examples
    --------
    >>> import keras_reduce
    >>> keras_reduce.loads(b"text")
    Traceback (most recent call last):
        ...
    keras_reduce.errors.PayloadError: The file does not end as keras_reduce.dump ends a file ...
    """


class DamagedFileError(PayloadError):
    """A file was changed, cut off or extended after it was written.

    Examples
    --------
    >>> import keras_reduce
    >>> data = keras_reduce.dumps("abc")
    >>> keras_reduce.loads(data.replace(b"abc", b"abd"))
    Traceback (most recent call last):
        ...
    keras_reduce.errors.DamagedFileError: The file is damaged ...
    """


class SignatureError(PayloadError):
    """A file has no valid signature: none, one by another key, or changed content.

    Examples
    --------
    >>> import keras_reduce
    >>> keras_reduce.loads(keras_reduce.dumps("abc"), key=b"a secret of 16 bytes or more")
    Traceback (most recent call last):
        ...
    keras_reduce.errors.SignatureError: The file is not signed ...
    """


class UntrustedError(PayloadError):
    """A file needs globals that are not trusted; none of them was imported or called.

    Examples
    --------
    >>> import keras_reduce, threading
    >>> keras_reduce.loads(keras_reduce.dumps(threading.Thread), trusted=[])
    Traceback (most recent call last):
        ...
    keras_reduce.errors.UntrustedError: The file needs globals that are not trusted ...
    """


class CustomObjectError(PayloadError):
    """A class or function that a payload needs is not available in this process.

    The module is not installed, or it no longer has the class.
    """


class FrameworkError(KerasReduceError, ImportError):
    """The framework that an object needs is missing or has an unsupported version.

    Raised when a Keras object is loaded, and by `keras_reduce.dask.plugin` where Dask is missing.
    """


class WorkerError(KerasReduceError, RuntimeError):
    """The fork server could not be started, or could not fork a worker.

    The death of a worker raises joblib's ``TerminatedWorkerError``.
    """


class EstimatorError(KerasReduceError, ValueError):
    """Invalid parameters, data or model of an estimator.

    Examples
    --------
    >>> import keras_reduce
    >>> keras_reduce.KerasRegressor(build_fn=lambda: None).fit([[1]], [1])
    Traceback (most recent call last):
        ...
    keras_reduce.errors.EstimatorError: The build function returned None, not a Keras model ...
    """


class EstimatorTypeError(EstimatorError, TypeError):
    """A parameter or argument of an estimator has a wrong type, or nothing takes it.

    Examples
    --------
    >>> import keras_reduce
    >>> keras_reduce.scikeras.KerasRegressor(model=3).fit([[1]], [1])
    Traceback (most recent call last):
        ...
    keras_reduce.errors.EstimatorTypeError: There is nothing to build a model with ...
    """


class FileError(KerasReduceError, OSError):
    """A file can't be read or written.

    Parameters
    ----------
    what, where, cause, cure : str
        As for `KerasReduceError`; `where` is the path of the file.
    errno : int, optional
        Error number of the operating system, as in any `OSError`.

    Examples
    --------
    >>> import keras_reduce
    >>> keras_reduce.load("/")
    Traceback (most recent call last):
        ...
    keras_reduce.errors.FileError: The file can't be read - at /
    ...
    """

    def __init__(
        self, what: str, where: str = "", cause: str = "", cure: str = "", errno: int | None = None
    ) -> None:
        super().__init__(what, where, cause, cure)
        # The constructor above calls OSError's, which has set these attributes from our parts.
        self.errno, self.strerror, self.filename, self.filename2 = errno, what, where, None

    def __reduce__(self) -> tuple[type[KerasReduceError], tuple[Any, ...]]:
        """Return the four parts and the error number."""
        return type(self), (self.what, self.where, self.cause, self.cure, self.errno)


class MissingFileError(FileError, FileNotFoundError):
    """A file, or the folder to write it to, does not exist.

    Examples
    --------
    >>> import keras_reduce
    >>> keras_reduce.load("no_such_file.joblib")
    Traceback (most recent call last):
        ...
    keras_reduce.errors.MissingFileError: The file can't be read - at no_such_file.joblib
    ...
    """
