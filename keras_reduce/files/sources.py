"""What is read: a file, or bytes in memory. Never more than its end, and never twice in memory.

A pickle that is damaged asks for any number of bytes; what is not there is not allocated.
"""

# ruff: noqa: D102 - `Source` says what its methods do.

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Iterable, Iterator
from io import BufferedReader
from typing import Protocol

from .atomic import file_error

BLOCK = 1 << 20
_CHUNK = 16 << 20
_LINE = 1 << 10


class Source(Protocol):
    """Bytes that are looked at in any order, and then read from the first to the last.

    Attributes
    ----------
    name : str
        How to call it in a message.
    size : int
        Number of bytes.
    """

    name: str
    size: int

    def blocks(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes from `start` to `stop`; each block is gone when the next one comes."""

    def bytes_at(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop`."""

    def left(self) -> int:
        """Return how many bytes are left to be read."""

    def tell(self) -> int:
        """Return how many bytes have been read."""

    def read(self, size: int) -> bytes:
        """Read `size` bytes, or what is left."""

    def readline(self) -> bytes:
        """Read a line, or what is left."""

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill a buffer, or as much of it as there are bytes left."""

    def skip(self, size: int) -> None:
        """Go on `size` bytes later."""

    def cut_off(self, size: int) -> None:
        """End `size` bytes earlier; nothing must have been read yet."""


class FileSource:
    """An open file, read from the page cache."""

    def __init__(self, file: BufferedReader, name: str) -> None:
        self.name, self.size = name, os.fstat(file.fileno()).st_size
        self._file = file

    def blocks(self, start: int, stop: int) -> Iterator[memoryview]:
        # Not by a mapping: a page fault costs as much as copying its page, and a file that
        # somebody else cuts off meanwhile would end this process.
        buffer = memoryview(bytearray(min(BLOCK, stop - start)))
        while start < stop:
            try:
                count = os.preadv(self._file.fileno(), [buffer[: stop - start]], start)
            except OSError as error:
                raise file_error(error, "read", self.name) from error
            if count == 0:
                return
            yield buffer[:count]
            start += count

    def bytes_at(self, start: int, stop: int) -> bytes:
        return b"".join(map(bytes, self.blocks(start, stop)))

    def left(self) -> int:
        return max(self.size - self._file.tell(), 0)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(min(size, self.left()))
        except OSError as error:
            raise file_error(error, "read", self.name) from error

    def readline(self) -> bytes:
        return self._file.readline()

    def readinto(self, buffer: bytearray | memoryview) -> int:
        try:
            return self._file.readinto(buffer)
        except OSError as error:
            raise file_error(error, "read", self.name) from error

    def skip(self, size: int) -> None:
        self._file.seek(size, os.SEEK_CUR)

    def cut_off(self, size: int) -> None:
        self.size -= size


class MemorySource:
    """Bytes in memory, in chunks of which each is given up once it has been read."""

    def __init__(self, chunks: Iterable[memoryview], name: str) -> None:
        self._chunks = deque(chunk for chunk in chunks if chunk.nbytes)
        self.name, self.size = name, sum(chunk.nbytes for chunk in self._chunks)
        self._position = 0

    def blocks(self, start: int, stop: int) -> Iterator[memoryview]:
        begin = 0
        for chunk in self._chunks:
            piece = chunk[max(start - begin, 0) : max(stop - begin, 0)]
            if piece:
                yield piece
            begin += chunk.nbytes

    def bytes_at(self, start: int, stop: int) -> bytes:
        return b"".join(self.blocks(start, stop))

    def left(self) -> int:
        return self.size - self._position

    def tell(self) -> int:
        return self._position

    def _pieces(self, size: int) -> Iterator[memoryview]:
        while size > 0 and self._chunks:
            chunk = self._chunks[0]
            piece, rest = chunk[:size], chunk[size:]
            size -= piece.nbytes
            self._position += piece.nbytes
            yield piece
            if rest:
                self._chunks[0] = rest
            else:
                self._chunks.popleft()

    def read(self, size: int) -> bytes:
        return b"".join(self._pieces(size))

    def readline(self) -> bytes:
        length = 0
        for chunk in self._chunks:
            for start in range(0, chunk.nbytes, _LINE):
                piece = bytes(chunk[start : start + _LINE])
                found = piece.find(b"\n")
                if found >= 0:
                    return self.read(length + found + 1)
                length += len(piece)
        return self.read(length)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        view, filled = memoryview(buffer), 0
        for piece in self._pieces(view.nbytes):
            view[filled : filled + piece.nbytes] = piece
            filled += piece.nbytes
        return filled

    def skip(self, size: int) -> None:
        for _ in self._pieces(size):
            pass

    def cut_off(self, size: int) -> None:
        self.size -= size
        left = self.size
        for number, chunk in enumerate(self._chunks):
            self._chunks[number] = chunk[:left]
            left -= min(left, chunk.nbytes)


def in_memory(file: BufferedReader, name: str) -> tuple[MemorySource, mmap.mmap | None]:
    """Read a file once into memory that begins with a page, which arrays may then share.

    Returns
    -------
    MemorySource
        What was read.
    mmap.mmap or None
        The memory; none of an empty file.
    """
    source = FileSource(file, name)
    if source.size == 0:
        return MemorySource([], name), None
    try:
        memory, filled = mmap.mmap(-1, source.size), 0
    except (OSError, OverflowError) as error:
        raise MemoryError(f"{name} has {source.size} bytes: {error}") from error
    view = memoryview(memory)
    while count := source.readinto(view[filled:]):
        filled += count
    return MemorySource([view[:filled]], name), memory


def gather(blocks: Iterable[bytes]) -> Iterator[memoryview]:
    """Put blocks together into chunks that go back to the system once nobody holds them."""
    # Memory of malloc would stay with the process, beside the arrays that are made of it.
    chunk, filled = mmap.mmap(-1, _CHUNK), 0
    for block in blocks:
        view = memoryview(block)
        while view:
            if filled == _CHUNK:
                yield memoryview(chunk)
                chunk, filled = mmap.mmap(-1, _CHUNK), 0
            piece = view[: _CHUNK - filled]
            chunk[filled : filled + piece.nbytes] = piece
            filled += piece.nbytes
            view = view[piece.nbytes :]
    yield memoryview(chunk)[:filled]
