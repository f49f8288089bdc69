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
    """An object can't be carried without loss; raised while it is pickled."""


class PayloadError(KerasReduceError, pickle.UnpicklingError):
    """A payload is inconsistent, or this version of the package can't read it."""


class DamagedFileError(PayloadError):
    """A file was changed, cut off or extended after it was written."""


class SignatureError(PayloadError):
    """A file has no valid signature: none, one by another key, or changed content."""


class UntrustedError(PayloadError):
    """A file needs globals that are not trusted; none of them was imported or called."""


class CustomObjectError(PayloadError):
    """A class or function that a payload needs is not available in this process."""


class FrameworkError(KerasReduceError, ImportError):
    """The framework that an object needs is missing or has an unsupported version."""


class WorkerError(KerasReduceError, RuntimeError):
    """A worker process could not be started, or has died."""


class EstimatorError(KerasReduceError, ValueError):
    """Invalid parameters, data or model of an estimator."""


class FileError(KerasReduceError, OSError):
    """A file can't be read or written.

    Parameters
    ----------
    what, where, cause, cure : str
        As for `KerasReduceError`; `where` is the path of the file.
    errno : int, optional
        Error number of the operating system, as in any `OSError`.
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
    """A file, or the folder to write it to, does not exist."""
