"""Objects with Keras models in them as files: whole, verified, mapped if one likes.

The format is joblib's, with a trailer that joblib does not look at: `joblib.load` reads these
files as well, in programs that have never called `install`.

- A file is complete or not there: it is written beside, and renamed.
- Arrays are aligned to 64 bytes and written and read without copies in between.
- Digests tell whether a file is as it was written, before any of it is unpickled. They guard
  against damage, not against an attacker, who would compute them anew. A signature does.
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
    """Write an object to a file, whole or not at all.

    Works with and without `install`: Keras objects, and code that a reader can't import, travel as
    they do after it. A file of that name is replaced once the new one is complete and on the disk;
    if anything fails it stays as it was.

    Parameters
    ----------
    obj : object
        Anything that can be pickled.
    path : str or os.PathLike
        Where to. The target of a symbolic link is replaced, not the link.
    compress : int, bool, str or tuple, default=0
        As for `joblib.dump`: a level, a method, or both; an extension such as ``.gz`` counts too.
    key : bytes, str, os.PathLike or list, optional
        Sign the file with HMAC-SHA256: with a secret of 16 bytes at least, with what the
        environment variable of this name holds, or a file (less an end of line). Of several the
        first signs.

    Raises
    ------
    ReduceError
        If a part of `obj` can't be carried.
    FileError
        If the system refuses; a `MissingFileError` if the folder is not there.
    SignatureError
        If the environment variable of `key` is not set.
    ValueError
        If `key` is too short, or `compress` is no compression.
    TypeError
        If `path` is no path.
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
        Where from.
    mmap_mode : {None, "r", "c"}, optional
        Map the file instead of reading its arrays: read-only ("r"), or so that what is written
        stays in this process ("c"). The file never changes. Without effect on compressed files.
        joblib's "r+" is refused: the file would no longer be what its digest says. joblib sends
        arrays that are mapped as "r" to its workers by the name of the file: don't replace it while
        they run.
    verify : bool, optional
        True: compare the whole file with its digests before anything is unpickled. False: don't;
        then plain files of joblib and pickle are read as well. If not given, True; but for a mapped
        file all except the bytes of arrays is compared, so that the time does not grow with them.
    key : bytes, str, os.PathLike or list, optional
        Load only what `dump` has signed with this key, or one of these, and check that before
        anything is unpickled, in place of the digests unless `verify` is true. What is unpickled is
        what was checked, whoever writes to the file meanwhile; of a mapped file all but the numbers
        in its arrays, which stay there. A compressed file is decompressed twice: the first time
        nothing is kept of it.
    trusted : iterable of str, class or function, optional
        Load only what is known as harmless (values of NumPy, estimators of scikit-learn, parts of
        Keras models) and what is named here, as ``package.module.Class``, or as ``package.`` for
        all that is defined in a package. An empty list trusts what is known. Without it, whatever
        the file says is done.

    Raises
    ------
    UntrustedError
        If `trusted` is given, and the file names something else, or holds code. The message has all
        of it, as a list to be pasted.
    SignatureError
        If `key` is given, and the file is not signed with it.
    PayloadError
        If the file is damaged, cut off, or none of ours.
    CustomObjectError
        If a module, class or function that it needs is missing.
    FileError
        If the system refuses; a `MissingFileError` if the file is not there.
    TypeError
        If `path` is no path.
    """
    if mmap_mode not in (None, "r", "c"):
        raise ValueError(
            f"mmap_mode must be None, 'r' or 'c', not {mmap_mode!r}: what is written into a file "
            "would contradict its digest. joblib.load maps in the other modes."
        )
    name = file_name(path, "load(path) takes a file; loads(data) takes bytes")
    secrets, policy = _secrets(key), _policy(trusted)
    with opened(name) as file:
        source: Source = FileSource(file, name)
        mapping = None
        compressor = compression.compressor_of(source.bytes_at(0, 16))
        if compressor:
            size = None
            if secrets:
                # Bytes of anybody's may be ever so many when they are decompressed.
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
        _verify(source, verify, is_signed=secrets is not None, arrays=are_read)
        is_known = verify is not False or secrets is not None
        return reader.unpickled(source, verified=is_known, mapping=mapping, policy=policy)


def dumps(obj: Any, compress: Any = 0, *, key: Keys | None = None) -> bytes:
    """Return what `dump` would write to a file.

    Parameters
    ----------
    obj, compress, key : object
        As for `dump`.

    Raises
    ------
    ReduceError
        If a part of `obj` can't be carried.
    SignatureError, ValueError
        As for `dump`.
    """
    method, secrets = writer.chosen_compression(compress), _secrets(key)
    if method is None:
        # Arrays lend their memory until all is put together.
        pieces: list[bytes | memoryview] = []
        _write(obj, pieces.append, secrets)
        return b"".join(pieces)
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
    """Return the object in bytes that `dumps` gave.

    Parameters
    ----------
    data : bytes, bytearray or memoryview
        What `dumps` returned, or what `dump` wrote.
    verify, key, trusted : object
        As for `load`.

    Raises
    ------
    UntrustedError
        If `trusted` is given, and they name something else, or hold code.
    SignatureError
        If `key` is given, and they are not signed with it.
    PayloadError
        If the bytes are damaged, cut off, or none of ours.
    CustomObjectError
        If a module, class or function that they need is missing.
    """
    view, secrets, policy = memoryview(data).cast("B"), _secrets(key), _policy(trusted)
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
    _verify(source, verify, is_signed=secrets is not None, arrays=True)
    is_known = verify is not False or secrets is not None
    return reader.unpickled(source, verified=is_known, policy=policy)


def _secrets(key: Keys | None) -> list[bytes] | None:
    return None if key is None else signing.secrets_of(key)


def _policy(trusted: Trusted | None) -> Policy | None:
    return None if trusted is None else Policy(trusted)


def _write(obj: Any, emit: writer.Emit, secrets: list[bytes] | None) -> None:
    with signing.signed(emit, secrets) as emit_signed:
        writer.write(obj, emit_signed)


def _verify(source: Source, verify: bool | None, *, is_signed: bool, arrays: bool) -> None:
    """Compare a source with its digests, if that is to be done, and let it end with these."""
    signing.take_off(source)
    # A signature covers all that the digests do.
    if verify or (verify is None and not is_signed):
        reader.checked(source, arrays=arrays)
