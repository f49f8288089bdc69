"""Signatures of files (HMAC-SHA256), checked before anything is unpickled.

The signature follows the trailer (see `trailer`), where `joblib.load` does not read::

    file       the file without a signature: content, index, footer
    signature  HMAC-SHA256 of a prefix and the file, version, magic

In a compressed file all of it is compressed together, since joblib's readers read past the end of a
compressed stream; the signature is that of the decompressed bytes.

The last 16 bytes, version and magic, never change their position. Raise `VERSION` when the signed
bytes or the method change, and keep the check of older versions.
"""

from __future__ import annotations

import contextlib
import hmac
import operator
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from ..errors import PayloadError, SignatureError
from .atomic import opened
from .sources import MemorySource, Source
from .trailer import Trailer, damaged

Key: TypeAlias = "bytes | str | os.PathLike[str]"
Keys: TypeAlias = "Key | Sequence[Key]"

VERSION = 1
_MAGIC = b"keras_signed"
_PREFIX = b"keras_reduce signature 1\0"  # Separates signatures of files from other uses of the key.
_END = struct.Struct("<I12s")
_SIZE = 32 + _END.size
_LEAST = 16  # bytes of a secret; a shorter one can be guessed

Emit = Callable[["bytes | memoryview"], object]


def secrets_of(keys: Any) -> list[bytes]:
    """Return the secrets for the argument `key` of a caller.

    Raises
    ------
    SignatureError
        If an environment variable is not set.
    FileError
        If the file of a key can't be read.
    ValueError
        If a secret is shorter than 16 bytes, or there is none.
    TypeError
        If a key has another type.
    """
    is_one = isinstance(keys, (bytes, bytearray, memoryview, str)) or not isinstance(keys, Sequence)
    # No message repeats the argument, which may be the secret by mistake.
    secrets = [_secret(keys)] if is_one else [_secret(key) for key in keys]
    if not secrets:
        raise ValueError("key is an empty list: give one key at least")
    if any(len(secret) < _LEAST for secret in secrets):
        raise ValueError(
            f"A key is shorter than {_LEAST} bytes, and can be guessed: "
            "secrets.token_bytes(32) makes a good one"
        )
    # Editors and echo add a line ending to a file. It is removed from all kinds of keys, so that
    # the same bytes are the same key.
    return [secret.removesuffix(b"\n").removesuffix(b"\r") for secret in secrets]


def _secret(key: Any) -> bytes:
    if isinstance(key, (bytes, bytearray, memoryview)):
        return bytes(key)
    if isinstance(key, str):
        value = os.environ.get(key)
        if value is None:
            raise SignatureError(
                "The environment variable given as key is not set",
                cause="a str is the name of a variable, not the secret itself",
                cure="set it, or pass the secret as bytes, or a pathlib.Path of a file with it",
            )
        return os.fsencode(value)
    if isinstance(key, os.PathLike):
        with opened(os.fspath(key)) as file:
            return file.read()
    raise TypeError(
        "key must be bytes, the name of an environment variable, a pathlib.Path, or a list of "
        f"these, not {type(key).__name__}"
    )


@contextlib.contextmanager
def signed(emit: Emit, secrets: list[bytes] | None) -> Iterator[Emit]:
    """Yield a function that writes like `emit`; at the end, write the signature.

    Parameters
    ----------
    emit : callable
        Writes bytes to the file.
    secrets : list of bytes, optional
        Secrets, of which the first signs; None for no signature.
    """
    if secrets is None:
        yield emit
        return
    mac = _mac(secrets[0])

    def signing(data: bytes | memoryview) -> object:
        mac.update(data)
        return emit(data)

    yield signing
    emit(mac.digest() + _END.pack(VERSION, _MAGIC))


def check(blocks: Iterable[bytes | memoryview], secrets: list[bytes], name: str) -> int:
    """Check the signature of a file, block by block.

    Parameters
    ----------
    blocks : iterable of bytes-like
        The whole file, decompressed.
    secrets : list of bytes
        Accepted secrets.
    name : str
        Name of the file in messages.

    Returns
    -------
    int
        Number of bytes.

    Raises
    ------
    SignatureError
        If there is no signature by one of the secrets.
    PayloadError
        If the signature has a newer version.
    """
    macs, tail, size = list(map(_mac, secrets)), b"", 0
    pieces: list[bytes | memoryview]
    for block in blocks:
        size += len(block)
        if len(block) < _SIZE:
            joined = tail + bytes(block)
            pieces, tail = [joined[:-_SIZE]], joined[-_SIZE:]
        else:
            pieces, tail = [tail, block[:-_SIZE]], bytes(block[-_SIZE:])
        for mac in macs:
            for piece in pieces:
                mac.update(piece)
    if not _is_signature(tail, name):
        raise SignatureError(
            "The file is not signed",
            where=name,
            cause="it was written without a key, or its signature was cut off",
            cure="load it without a key only if you know who wrote it; then write it again with a "
            "key",
        )
    if not any(hmac.compare_digest(mac.digest(), tail[:32]) for mac in macs):
        raise SignatureError(
            "The signature is wrong",
            where=name,
            cause="the file was changed after it was signed, or was signed with another key",
            cure="don't load it; get the file from its source again, or the right key",
        )
    return size


def check_mapped(source: Source, mapping: Any, secrets: list[bytes]) -> MemorySource:
    """Check the signature of a mapped file, and copy its bytes outside of arrays.

    Parameters
    ----------
    source : Source
        The file.
    mapping : buffer
        The whole file in memory.
    secrets : list of bytes
        As for `check`.

    Returns
    -------
    MemorySource
        The checked bytes; those of arrays are read from the mapping.

    Raises
    ------
    SignatureError, PayloadError
        As `check`; or if the file was changed meanwhile.
    """
    size = source.size
    if not take_off(source):
        check(source.blocks(0, size), secrets, source.name)
    trailer = Trailer.read(source)
    starts = [0, *(offset + length for offset, length in trailer.extents)]
    stops = [*(offset for offset, _ in trailer.extents), size]
    if starts != sorted(starts) or any(map(operator.gt, starts, stops)):
        raise damaged(source.name, "its arrays are where they can't be")
    kept = [bytearray() for _ in starts]

    def keeping() -> Iterator[memoryview]:
        number = position = 0
        for block in source.blocks(0, size):
            end = position + len(block)
            while number < len(kept):
                first, last = max(starts[number], position), min(stops[number], end)
                if first < last:
                    kept[number] += block[first - position : last - position]
                if stops[number] > end:
                    break
                number += 1
            position = end
            yield block

    check(keeping(), secrets, source.name)
    whole = memoryview(mapping).cast("B")
    chunks = [memoryview(kept[0])]
    for (offset, length), piece in zip(trailer.extents, kept[1:], strict=True):
        chunks += [whole[offset : offset + length], memoryview(piece)]
    checked_source = MemorySource(chunks, source.name)
    take_off(checked_source)
    # The positions of arrays, used before the check, must agree with the checked bytes.
    if Trailer.read(checked_source) != trailer:
        raise SignatureError(
            "The file was changed while it was checked",
            where=source.name,
            cause="another program writes to it",
            cure="don't load it before you know that program",
        )
    return checked_source


def take_off(source: Source) -> bool:
    """Remove the signature from the end of a source; return whether there is one.

    Raises
    ------
    PayloadError
        If the signature has a newer version.
    """
    is_signed = _is_signature(
        source.bytes_at(max(source.size - _SIZE, 0), source.size), source.name
    )
    if is_signed:
        source.cut_off(_SIZE)
    return is_signed


def _is_signature(tail: bytes, name: str) -> bool:
    if len(tail) < _SIZE or not tail.endswith(_MAGIC):
        return False
    version, _ = _END.unpack(tail[-_END.size :])
    if version != VERSION:
        raise PayloadError(
            f"The file has a signature of version {version}, but this version reads {VERSION}",
            where=name,
            cause="a newer keras_reduce wrote it, or it is damaged",
            cure="pip install --upgrade keras_reduce",
        )
    return True


def _mac(secret: bytes) -> hmac.HMAC:
    return hmac.new(secret, _PREFIX, "sha256")
