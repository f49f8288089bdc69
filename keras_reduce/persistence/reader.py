"""Verification and unpickling of a source."""

from __future__ import annotations

import mmap
from typing import Any, BinaryIO

import numpy as np

from ..audit.trust_policy import Policy
from ..errors import CustomObjectError, KerasReduceError, PayloadError
from ..files.sources import Source
from ..files.trailer import Trailer
from .array_unpickler import ArrayUnpickler
from .trusted_unpickler import unpickled_by


def checked(source: Source, *, arrays: bool, plain: str = "") -> None:
    """Verify `source` by its trailer; with `arrays`, also the bytes of arrays.

    `plain` tells in an error how a source without a trailer can be read.
    """
    Trailer.read(source, plain).verify(source, arrays=arrays)


def unpickled(
    source: Source, *, verified: bool, mapping: Any = None, policy: Policy | None = None
) -> Any:
    """Return the object in `source`.

    Parameters
    ----------
    source : Source
        A source of which nothing has been read yet.
    verified : bool
        Whether the pickle has been verified, so that damage can't be the cause of an error.
    mapping : numpy.memmap or mmap.mmap, optional
        The whole file in memory, which arrays share instead of being read.
    policy : Policy, optional
        The policy of trusted globals; None trusts everything.

    Raises
    ------
    UntrustedError
        If the pickle needs globals that are not trusted.
    CustomObjectError
        If a module, class or function is missing.
    PayloadError
        If unpickling fails for another reason.
    """
    try:
        if policy is None:
            return ArrayUnpickler(source, mapping).load()
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
            cause=f"it is damaged, or is not a file of keras_reduce or joblib ({said})",
            cure="keras_reduce.inspect(path) shows whether there is a pickle in it, and whether it "
            "is as keras_reduce.dump wrote it",
        )
    if isinstance(error, ModuleNotFoundError):
        return CustomObjectError(
            f"The module {error.name!r} is not installed",
            where=where,
            cause=f"an object in the file is of a class or function of that module ({said})",
            cure="install it or add it to sys.path; or call "
            "cloudpickle.register_pickle_by_value(module) before the file is written",
        )
    if isinstance(error, (ImportError, AttributeError)):
        return CustomObjectError(
            "A class or function is not available or fails",
            where=where,
            cause=f"{said}: a module differs from the one where the file was written",
            cure="load it with the code and the versions that wrote it",
        )
    return PayloadError(
        "An object in the file can't be rebuilt",
        where=where,
        cause=f"{said}. The file is as it was written, so this comes from the object's code",
        cure="load it with the code and the versions that wrote it",
    )


def mapped(file: BinaryIO, mode: str) -> Any:
    """Map a whole file so that changes of the arrays can't change it.

    Returns
    -------
    numpy.memmap or mmap.mmap
        A memmap for "r", of which joblib sends the file name to workers. Not for "c": workers would
        see the file without changes of the arrays.
    """
    if mode == "c":
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    # A private mapping also for "r": in a read-only shared one, code that ignores NumPy's flag and
    # writes would crash.
    mapping: np.memmap[Any, Any] = np.memmap(file, np.uint8, "c")
    mapping.flags.writeable = False
    file.seek(0)  # NumPy has moved it to the end
    return mapping
