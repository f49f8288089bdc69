"""Signatures: whether somebody wrote a file who has the key, told before any of it is unpickled.

The signature stands behind all that `trailer` describes, where `joblib.load` does not look::

    file       what there is without a signature: content, index, footer
    signature  HMAC-SHA256 of a word and the file, version, magic

In a compressed file all of it is compressed together, since joblib's readers go on past the end of
a compressed stream; what is signed is what was compressed.

The last 16 bytes, version and magic, stay where they are for ever. When to raise `VERSION`: when
what is signed, or how, changes; then keep what checks the old one.
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
_WORD = b"keras_reduce signature 1\0"  # A key that signs other things as well signs no file by it.
_END = struct.Struct("<I12s")
_SIZE = 32 + _END.size
_LEAST = 16  # bytes of a secret; what is shorter can be guessed

Emit = Callable[["bytes | memoryview"], object]


def secrets_of(keys: Any) -> list[bytes]:
    """Return the secrets that are meant by what a caller has given as `key`.

    Raises
    ------
    SignatureError
        If an environment variable is not set.
    FileError
        If the file of a key can't be read.
    ValueError
        If a secret is shorter than 16 bytes, or there is none.
    TypeError
        If a key is something else.
    """
    is_one = isinstance(keys, (bytes, bytearray, memoryview, str)) or not isinstance(keys, Sequence)
    # No message repeats what was given: it may be the secret, by mistake.
    secrets = [_secret(keys)] if is_one else [_secret(key) for key in keys]
    if not secrets:
        raise ValueError("key is an empty list: give one key at least")
    if any(len(secret) < _LEAST for secret in secrets):
        raise ValueError(
            f"A key is shorter than {_LEAST} bytes, and can be guessed: "
            "secrets.token_bytes(32) makes a good one"
        )
    # An editor, or echo, has put an end of line into a file. Off with it wherever a key comes from:
    # the same bytes are the same key.
    return [secret.removesuffix(b"\n").removesuffix(b"\r") for secret in secrets]


def _secret(key: Any) -> bytes:
    if isinstance(key, (bytes, bytearray, memoryview)):
        return bytes(key)
    if isinstance(key, str):
        value = os.environ.get(key)
        if value is None:
            raise SignatureError(
                "There is no key: the environment variable that was given as key is not set",
                cause="a str is the name of a variable, not the secret itself",
                cure="set it, or give the secret as bytes, or a pathlib.Path of a file with it",
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
    """Give a function that writes as `emit` does, and sign at the end what it has written.

    Parameters
    ----------
    emit : callable
        Writes bytes to the file.
    secrets : list of bytes, optional
        The first signs. Without any, nothing is signed.
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
    """Check the signature of a file, of which no more than a block is held at a time.

    Parameters
    ----------
    blocks : iterable of bytes-like
        All of the file, decompressed.
    secrets : list of bytes
        Of which one must be what it was signed with.
    name : str
        How to call the file in a message.

    Returns
    -------
    int
        How many bytes there were.

    Raises
    ------
    SignatureError
        If there is no signature, or it is none of these secrets'.
    PayloadError
        If the signature is of a newer kind.
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
            cure="don't load it unless you know otherwise who wrote it; then load it without a "
            "key, and write it anew with one",
        )
    if not any(hmac.compare_digest(mac.digest(), tail[:32]) for mac in macs):
        raise SignatureError(
            "The signature is wrong",
            where=name,
            cause="the file was changed after it was signed, or was signed with another key",
            cure="don't load it: get it again from where it comes from, or the key",
        )
    return size


def check_mapped(source: Source, mapping: Any, secrets: list[bytes]) -> MemorySource:
    """Check the signature of a file that is mapped, and keep of it what is not in arrays.

    Parameters
    ----------
    source : Source
        The file.
    mapping : buffer
        All of it in memory.
    secrets : list of bytes
        As for `check`.

    Returns
    -------
    MemorySource
        The bytes that were checked; but those of arrays, which are read from the mapping.

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
    found = MemorySource(chunks, source.name)
    take_off(found)
    # What was believed of where arrays are stands in what was checked.
    if Trailer.read(found) != trailer:
        raise SignatureError(
            "The file was changed while it was checked",
            where=source.name,
            cause="another program writes to it",
            cure="don't load it before you know which",
        )
    return found


def take_off(source: Source) -> bool:
    """Let a source end before the signature, if there is one; tells whether there is.

    Raises
    ------
    PayloadError
        If the signature is of a newer kind.
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
    return hmac.new(secret, _WORD, "sha256")
