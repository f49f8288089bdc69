"""Sources of bytes: files and memory.

A damaged pickle may request any number of bytes. Sources allocate no more than they have.
"""

# ruff: noqa: D102 - the methods are documented in `Source`.

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
    """Bytes with random access, which are then read sequentially.

    Attributes
    ----------
    name : str
        Name of the source in messages.
    size : int
        Number of bytes.
    """

    name: str
    size: int

    def blocks(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes from `start` to `stop`; each block is valid until the next one."""

    def bytes_at(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop`."""

    def left(self) -> int:
        """Return the number of bytes left to read."""

    def tell(self) -> int:
        """Return the number of bytes read."""

    def read(self, size: int) -> bytes:
        """Read `size` bytes, or all that are left."""

    def readline(self) -> bytes:
        """Read a line, or all bytes that are left."""

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read into a buffer until it is full or no bytes are left; return their number."""

    def skip(self, size: int) -> None:
        """Skip `size` bytes."""

    def cut_off(self, size: int) -> None:
        """Remove `size` bytes at the end; nothing must have been read yet."""


class FileSource:
    """An open file, read from the page cache."""

    def __init__(self, file: BufferedReader, name: str) -> None:
        self.name, self.size = name, os.fstat(file.fileno()).st_size
        self._file = file

    def blocks(self, start: int, stop: int) -> Iterator[memoryview]:
        # Not by a mapping: a page fault costs as much as copying its page, and if another process
        # truncates the file, access to the mapping ends this process.
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
    """Bytes in memory, in chunks that are released once they have been read."""

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
                line_end = piece.find(b"\n")
                if line_end >= 0:
                    return self.read(length + line_end + 1)
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
    """Read a file into page-aligned memory, which arrays may then share.

    Returns
    -------
    MemorySource
        The bytes.
    mmap.mmap or None
        The memory; None for an empty file.
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
    """Join blocks into chunks whose memory returns to the system once they are released."""
    # Memory from malloc would stay allocated to the process.
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
