"""What this package raises.

Every message says what failed, where in the object graph, the likely cause, and what to do next.
Each error survives pickling: a worker's error reaches the parent whole.
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
        """Reduce to the four parts, whatever others have put into ``args``, as joblib does."""
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
    """An object can't be carried: raised while pickling, before anything is lost."""


class PayloadError(KerasReduceError, pickle.UnpicklingError):
    """A payload disagrees with itself or with this version of the package."""


class DamagedFileError(PayloadError):
    """A file is not as it was written: changed, cut off, or continued."""


class SignatureError(PayloadError):
    """A file is not signed, or with another key, or was changed after that."""


class UntrustedError(PayloadError):
    """A file names what is not trusted; none of that was executed."""


class CustomObjectError(PayloadError):
    """A class or function that a payload needs can't be had in this process."""


class FrameworkError(KerasReduceError, ImportError):
    """The framework that an object needs is missing, or is a version that we can't work with."""


class WorkerError(KerasReduceError, RuntimeError):
    """A worker process can't be started, or has died."""


class EstimatorError(KerasReduceError, ValueError):
    """An estimator was given parameters, data, or a model that it can't use."""


class FileError(KerasReduceError, OSError):
    """A file can't be read or written.

    Parameters
    ----------
    what, where, cause, cure : str
        As for `KerasReduceError`; `where` is the path of the file.
    errno : int, optional
        What the operating system said, as in any `OSError`.
    """

    def __init__(
        self, what: str, where: str = "", cause: str = "", cure: str = "", errno: int | None = None
    ) -> None:
        super().__init__(what, where, cause, cure)
        # The constructor above is OSError's in the end, which has put our parts into its own.
        self.errno, self.strerror, self.filename, self.filename2 = errno, what, where, None

    def __reduce__(self) -> tuple[type[KerasReduceError], tuple[Any, ...]]:
        """Reduce to the parts and the number."""
        return type(self), (self.what, self.where, self.cause, self.cure, self.errno)


class MissingFileError(FileError, FileNotFoundError):
    """A file, or the folder that it is to be in, is not there."""
