"""Back from bytes: verified first, then unpickled, each array straight into aligned memory."""

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
            cure="keras_reduce.inspect(path) says whether there is a pickle in it, and whether it "
            "is as keras_reduce.dump wrote it",
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
