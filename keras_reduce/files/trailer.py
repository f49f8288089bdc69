"""Trailer of a file: index of its arrays, and digests.

It follows the pickle. `joblib.load` stops reading at the end of the pickle, and ignores it::

    content   the pickle, with the bytes of its arrays in between
    index     for each array the offset and the length of its bytes
    footer    length of the content, number of arrays, digest of the content without the bytes of
              arrays, digest of the bytes of arrays, digest of index and footer, version, magic

All numbers are little-endian and unsigned. In a compressed file all three are compressed together.

Raise `VERSION` when an older reader would misread a file of a newer writer. The last 16 bytes,
version and magic, never change their position.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import xxhash

from ..errors import DamagedFileError, PayloadError
from .sources import Source

VERSION = 1
_MAGIC = b"keras_reduce"
_ENTRY = struct.Struct("<QQ")
_HEAD = struct.Struct("<QQ16s16s")
_END = struct.Struct("<I12s")
_SIZE = _HEAD.size + 16 + _END.size

Extent = tuple[int, int]


class Digests:
    """Running digests of bytes that are written or read, each byte once and in order.

    XXH3 is as fast as memory. It detects damage; it is no signature, as an attacker who changes a
    file can recompute it.
    """

    def __init__(self) -> None:
        self.stream, self.arrays = xxhash.xxh3_128(), xxhash.xxh3_128()


class Trailer(NamedTuple):
    """Index and footer.

    Attributes
    ----------
    content : int
        Bytes before the trailer.
    extents : sequence of tuple
        Offset and length of the bytes of each array, in their order.
    stream, arrays : bytes
        Digests of the content without the bytes of arrays, and of the bytes of arrays.
    """

    content: int
    extents: tuple[Extent, ...]
    stream: bytes
    arrays: bytes

    def pack(self) -> bytes:
        """Return the trailer as bytes."""
        index = b"".join(_ENTRY.pack(*extent) for extent in self.extents)
        head = _HEAD.pack(self.content, len(self.extents), self.stream, self.arrays)
        end = _END.pack(VERSION, _MAGIC)
        return index + head + xxhash.xxh3_128_digest(index + head + end) + end

    @classmethod
    def read(cls, source: Source, plain: str = "") -> Trailer:
        """Return the trailer of a file.

        Parameters
        ----------
        source : Source
            The file, or bytes.
        plain : str
            How a file without a trailer can be read, for the error.

        Raises
        ------
        PayloadError
            If there is no trailer, or not one that this version can read.
        DamagedFileError
            If it is damaged.
        """
        if source.size == 0:
            raise _foreign(source, "is empty", plain)
        footer = source.bytes_at(max(source.size - _SIZE, 0), source.size)
        version, magic = _END.unpack(footer[-_END.size :].rjust(_END.size, b"\0"))
        if len(footer) < _SIZE or magic != _MAGIC:
            raise _foreign(source, "does not end as keras_reduce.dump ends a file", plain)
        if version != VERSION:
            raise PayloadError(
                f"The file has format version {version}, but this version reads {VERSION}",
                where=source.name,
                cause="a newer keras_reduce wrote it, or it is damaged",
                cure="pip install --upgrade keras_reduce; or write it again from the original "
                "object",
            )
        content, count, stream, arrays = _HEAD.unpack(footer[: _HEAD.size])
        if content + count * _ENTRY.size + _SIZE != source.size:
            raise damaged(source.name, "its length is not the one that was written")
        index = source.bytes_at(content, source.size - _SIZE)
        digest, rest = footer[_HEAD.size : -_END.size], footer[-_END.size :]
        if xxhash.xxh3_128_digest(index + footer[: _HEAD.size] + rest) != digest:
            raise damaged(source.name, "its trailer is not the one that was written")
        extents = tuple(_ENTRY.iter_unpack(index))
        end = 0
        for offset, length in extents:
            # Otherwise the extents could be larger than the file.
            if not end <= offset <= offset + length <= content:
                raise damaged(source.name, "its arrays are not where arrays can be")
            end = offset + length
        return cls(content, extents, stream, arrays)

    def verify(self, source: Source, *, arrays: bool) -> None:
        """Compare the content with its digests.

        Parameters
        ----------
        source : Source
            The source of the trailer.
        arrays : bool
            Whether to compare the bytes of arrays as well.

        Raises
        ------
        DamagedFileError
            If they differ.
        """
        digests, position = Digests(), 0
        for offset, length in (*self.extents, (self.content, 0)):
            for block in source.blocks(position, offset):
                digests.stream.update(block)
            position = offset + length
            for block in source.blocks(offset, position) if arrays else ():
                digests.arrays.update(block)
        if digests.stream.digest() != self.stream:
            raise damaged(source.name, "its pickle is not the one that was written")
        if arrays and digests.arrays.digest() != self.arrays:
            raise damaged(source.name, "the bytes of an array are not those that were written")


def damaged(where: str, cause: str) -> DamagedFileError:
    """Return the error for a damaged file."""
    return DamagedFileError(
        "The file is damaged",
        where=where,
        cause=cause,
        cure="copy or download it again, or write it again from the original object",
    )


def _foreign(source: Source, how: str, plain: str) -> PayloadError:
    return PayloadError(
        f"The file {how}",
        where=source.name,
        cause="it was cut off, or was not written by keras_reduce.dump",
        cure=f"write it again{plain and '; '}{plain}",
    )
