"""`dump` and `load`: files with Keras models, written atomically, verified, optionally mapped.

The format is joblib's, with a trailer that joblib ignores: `joblib.load` reads these files as well,
in programs that have never called `install`.

- A file is complete or does not exist: it is written under a temporary name and renamed.
- Arrays are aligned to 64 bytes, and written and read without intermediate copies.
- Digests are compared before anything is unpickled. They detect damage, but not an attack, since an
  attacker can recompute them. A signature detects both.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from ..audit.trust_policy import Policy
from ..files import compression, signing
from ..files.atomic import file_name, opened, replacing
from ..files.signing import Keys
from ..files.sources import FileSource, MemorySource, Source, in_memory
from . import reader, writer

__all__ = ["dump", "dumps", "load", "loads"]

_BYTES = "<bytes>"

Trusted: TypeAlias = "Iterable[str | type | Callable[..., Any]]"


def dump(
    obj: Any, path: str | os.PathLike[str], compress: Any = 0, *, key: Keys | None = None
) -> None:
    """Write an object to a file, atomically.

    Works with and without `install`: Keras objects, and code that a reader can't import, are
    pickled as they are after it. An existing file is replaced once the new one is complete and
    synced; if anything fails, it is unchanged.

    Parameters
    ----------
    obj : object
        Any picklable object.
    path : str or os.PathLike
        Path of the file. The target of a symbolic link is replaced, not the link.
    compress : int, bool, str or tuple, default=0
        As for `joblib.dump`: a level, a method, or both; an extension such as ``.gz`` also selects
        a method.
    key : bytes, str, os.PathLike or list, optional
        Sign the file with HMAC-SHA256. A key is a secret of at least 16 bytes, the name of an
        environment variable with the secret, or the path of a file with it (a line ending is
        ignored). The first key of a list signs.

    Raises
    ------
    ReduceError
        If a part of `obj` can't be carried.
    FileError
        If the system raises an error; a `MissingFileError` if the folder does not exist.
    SignatureError
        If the environment variable of `key` is not set.
    ValueError
        If `key` is too short, or `compress` is not valid.
    TypeError
        If `path` is not a path.

    Examples
    --------
    >>> import keras_reduce
    >>> keras_reduce.dump({"rows": 3, "square": lambda x: x**2}, "job.joblib", compress=3)
    >>> keras_reduce.load("job.joblib")["square"](3)
    9
    """
    name = file_name(path, "dump(obj, path) takes the object first")
    method, secrets = writer.chosen_compression(compress, name), _secrets(key)
    with replacing(name) as file, writer.emitting(file, name, method) as emit:
        _write(obj, emit, secrets)


def load(
    path: str | os.PathLike[str],
    mmap_mode: str | None = None,
    verify: bool | None = None,
    *,
    key: Keys | None = None,
    trusted: Trusted | None = None,
) -> Any:
    """Read an object from a file that `dump` wrote.

    Parameters
    ----------
    path : str or os.PathLike
        Path of the file.
    mmap_mode : {None, "r", "c"}, optional
        Map the file instead of reading its arrays: read-only ("r"), or copy-on-write ("c"). The
        file never changes. Ignored for compressed files. joblib's "r+" is refused, since changes
        would contradict the digests. joblib sends arrays that are mapped as "r" to its workers by
        the name of the file: don't replace it while they run.
    verify : bool, optional
        True: compare the whole file with its digests before anything is unpickled. False: don't;
        plain files of joblib and pickle are read as well. None: like True, but of a mapped file
        the bytes of arrays are not compared, so that the time does not grow with them.
    key : bytes, str, os.PathLike or list, optional
        Load only a file that `dump` has signed with this key, or one of these. The signature is
        checked before anything is unpickled, instead of the digests unless `verify` is true. The
        unpickled bytes are the checked ones, even if another process writes to the file meanwhile,
        except for the bytes of arrays in a mapped file. A compressed file is decompressed twice,
        the first time without keeping the result.
    trusted : iterable of str, class or function, optional
        Load only globals that are known to be harmless (values of NumPy, estimators of
        scikit-learn, parts of Keras models) or listed here, as ``package.module.Class``, or as
        ``package.`` for all that is defined in a package. An empty list trusts known globals only.
        None trusts the file completely: it can run any code.

    Returns
    -------
    object
        The object; its arrays share the mapping if `mmap_mode` is given.

    Raises
    ------
    UntrustedError
        If `trusted` is given, and the file needs other globals, or contains code. The message has
        the names as a list to paste.
    SignatureError
        If `key` is given, and the file is not signed with it.
    PayloadError
        If the file is damaged, cut off, or was not written by `dump`.
    CustomObjectError
        If a module, class or function that it needs is missing.
    FileError
        If the system raises an error; a `MissingFileError` if the file does not exist.
    TypeError
        If `path` is not a path.

    Examples
    --------
    >>> import keras_reduce, numpy as np
    >>> keras_reduce.dump({"scores": np.array([0.7, 0.9])}, "scores.joblib")
    >>> keras_reduce.load("scores.joblib", trusted=[])  # known globals only
    {'scores': array([0.7, 0.9])}
    >>> keras_reduce.load("scores.joblib", mmap_mode="r")["scores"].flags.writeable
    False
    """
    if mmap_mode not in (None, "r", "c"):
        raise ValueError(
            f"mmap_mode must be None, 'r' or 'c', not {mmap_mode!r}: changes of the file would "
            "contradict its digests. joblib.load maps in the other modes."
        )
    name = file_name(path, "load(path) takes the path of a file; loads(data) takes bytes")
    secrets, policy = _secrets(key), _policy(trusted)
    with opened(name) as file:
        source: Source = FileSource(file, name)
        mapping = None
        compressor = compression.compressor_of(source.bytes_at(0, 16))
        if compressor:
            size = None
            if secrets:
                # Check before decompressing into memory: unsigned data may expand without limit.
                blocks = compression.decompressed_blocks(file, compressor, name)
                size = signing.check(blocks, secrets, name)
                file.seek(0)
            source = compression.decompressed(file, compressor, name, size)
        elif mmap_mode and source.size:
            mapping = reader.mapped(file, mmap_mode)
        elif secrets:
            source, mapping = in_memory(file, name)
        if secrets and mmap_mode and mapping is not None:
            source = signing.check_mapped(source, mapping, secrets)
        elif secrets:
            signing.check(source.blocks(0, source.size), secrets, name)
        are_read = verify is True or not mmap_mode or bool(compressor)
        plain = _plain("a file of joblib.dump", "joblib.load", "keras_reduce.load", policy)
        _verify(source, verify, is_signed=secrets is not None, arrays=are_read, plain=plain)
        is_verified = verify is not False or secrets is not None
        return reader.unpickled(source, verified=is_verified, mapping=mapping, policy=policy)


def dumps(obj: Any, compress: Any = 0, *, key: Keys | None = None) -> bytes:
    """Return the bytes that `dump` would write to a file.

    Parameters
    ----------
    obj, compress, key : object
        As for `dump`.

    Returns
    -------
    bytes
        The contents of such a file.

    Raises
    ------
    ReduceError
        If a part of `obj` can't be carried.
    SignatureError, ValueError
        As for `dump`.

    Examples
    --------
    >>> import keras_reduce
    >>> data = keras_reduce.dumps([1, 2], key=b"a secret of 16 bytes or more")
    >>> keras_reduce.loads(data, key=b"a secret of 16 bytes or more")
    [1, 2]
    """
    method, secrets = writer.chosen_compression(compress), _secrets(key)
    # It hands over its bytes without a copy; pieces that are joined at the end are there twice.
    buffer = io.BytesIO()
    with writer.emitting(buffer, _BYTES, method) as emit:
        _write(obj, emit, secrets)
    return buffer.getvalue()


def loads(
    data: bytes | bytearray | memoryview,
    verify: bool | None = None,
    *,
    key: Keys | None = None,
    trusted: Trusted | None = None,
) -> Any:
    """Return the object in bytes of `dumps`.

    Parameters
    ----------
    data : bytes, bytearray or memoryview
        A result of `dumps`, or the contents of a file of `dump`.
    verify, key, trusted : object
        As for `load`.

    Returns
    -------
    object
        The object.

    Raises
    ------
    UntrustedError
        If `trusted` is given, and the bytes need other globals, or contain code.
    SignatureError
        If `key` is given, and the bytes are not signed with it.
    PayloadError
        If the bytes are damaged, cut off, or not from `dumps`.
    CustomObjectError
        If a module, class or function that they need is missing.
    TypeError
        If `data` is not bytes.

    Examples
    --------
    >>> import keras_reduce
    >>> keras_reduce.loads(keras_reduce.dumps([1, 2]), trusted=[])
    [1, 2]
    """
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(
            f"data must be bytes, not {type(data).__qualname__}: loads(data) takes bytes; "
            "load(path) takes the path of a file"
        ) from None
    view, secrets, policy = view.cast("B"), _secrets(key), _policy(trusted)
    compressor = compression.compressor_of(bytes(view[:16]))
    if compressor:
        size = None
        if secrets:
            blocks = compression.decompressed_blocks(io.BytesIO(view), compressor, _BYTES)
            size = signing.check(blocks, secrets, _BYTES)
        source = compression.decompressed(io.BytesIO(view), compressor, _BYTES, size)
    else:
        source = MemorySource([view], _BYTES)
    if secrets:
        signing.check(source.blocks(0, source.size), secrets, _BYTES)
    plain = _plain("a result of pickle.dumps", "pickle.loads", "keras_reduce.loads", policy)
    _verify(source, verify, is_signed=secrets is not None, arrays=True, plain=plain)
    is_verified = verify is not False or secrets is not None
    return reader.unpickled(source, verified=is_verified, policy=policy)


def _secrets(key: Keys | None) -> list[bytes] | None:
    return None if key is None else signing.secrets_of(key)


def _policy(trusted: Trusted | None) -> Policy | None:
    return None if trusted is None else Policy(trusted)


def _write(obj: Any, emit: writer.Emit, secrets: list[bytes] | None) -> None:
    with signing.signed(emit, secrets) as emit_signed:
        writer.write(obj, emit_signed)


def _plain(kind: str, other: str, ours: str, policy: Policy | None) -> str:
    """Return how to read what another writer has written, for an error."""
    if policy is None:
        return f"{kind} is read by {other}, or by {ours}(..., verify=False)"
    # Another reader would run what the list refuses.
    return f"{kind} is read, by the same list, by {ours}(..., trusted=[...], verify=False)"


def _verify(
    source: Source, verify: bool | None, *, is_signed: bool, arrays: bool, plain: str
) -> None:
    """Remove the signature from a source, and compare it with its digests if required."""
    signing.take_off(source)
    # A signature covers the same bytes as the digests.
    if verify or (verify is None and not is_signed):
        reader.checked(source, arrays=arrays, plain=plain)
