"""Decompression of files, without unpickling."""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from ..errors import KerasReduceError, PayloadError
from .atomic import file_error
from .sources import BLOCK, MemorySource, gather
from .trailer import damaged

# First bytes of files of joblib's own compressors, so that no import of joblib is needed.
PREFIXES = {
    "compat": b"ZF",  # of joblib 0.9
    "zlib": b"\x78",
    "gzip": b"\x1f\x8b",
    "bz2": b"BZ",
    "lzma": b"\x5d\x00",
    "xz": b"\xfd7zXZ",
    "lz4": b"\x04\x22\x4d\x18",
}


def compressor_of(first_bytes: bytes) -> str:
    """Return the name of the compressor of a file with these `first_bytes`; empty if none."""
    # Private: the compressors that the program has registered with joblib.
    joblib = sys.modules.get("joblib.compressor")
    registered = vars(joblib)["_COMPRESSORS"] if joblib else {}
    prefixes = PREFIXES | {name: each.prefix for name, each in registered.items()}
    return next((name for name in prefixes if first_bytes.startswith(prefixes[name])), "")


def decompressed(
    file: BinaryIO,
    compressor: str,
    name: str,
    size: int | None = None,
    too_much: PayloadError | None = None,
) -> MemorySource:
    """Return the decompressed contents of a file, which can be read once.

    Parameters
    ----------
    file : file
        Read from its current position.
    compressor : str
        A result of `compressor_of`.
    name : str
        Name of the file in messages.
    size : int, optional
        Maximum number of decompressed bytes.
    too_much : PayloadError, optional
        Error to raise if there are more; by default, that the file has grown meanwhile.

    Raises
    ------
    PayloadError
        If it is damaged, or has more bytes.
    """

    def blocks() -> Iterator[bytes]:
        left = size
        for block in decompressed_blocks(file, compressor, name):
            if left is not None:
                left -= len(block)
                if left < 0:
                    raise too_much or damaged(name, "it has grown since it was checked")
            yield block

    return MemorySource(list(gather(blocks())), name)


def decompressed_blocks(file: BinaryIO, compressor: str, name: str) -> Iterator[bytes]:
    """Yield the decompressed contents of a file, from its current position, block by block.

    Raises
    ------
    PayloadError
        If it is damaged.
    """
    is_compressed = False
    try:
        for block in _blocks(file, compressor):
            is_compressed = True
            yield block
    except KerasReduceError:
        raise
    except (zlib.error, lzma.LZMAError, EOFError, ValueError, OSError, RuntimeError) as error:
        if (
            isinstance(error, OSError) and error.errno is not None
        ):  # errors of bz2 and lz4 have none
            raise file_error(error, "read", name) from error
        cause = f"it can't be decompressed ({error})"
        if not is_compressed:  # The first bytes of a compressor may be those of a text.
            cause += ", or it is a file of another kind, such as text"
        raise damaged(name, cause) from error


def _blocks(file: BinaryIO, compressor: str) -> Iterator[bytes]:
    if compressor == "compat":
        raise outdated()
    if compressor not in _MAKERS:  # lz4, or one that the program has registered
        from joblib.compressor import _COMPRESSORS

        with _COMPRESSORS[compressor].decompressor_file(file) as opened:
            while block := opened.read(BLOCK):
                yield block
        return
    # Not by joblib's file classes, which never end if bytes follow the end of a zlib stream.
    machine: Any = _MAKERS[compressor]()
    data = b""
    while not machine.eof:
        if not data and getattr(machine, "needs_input", True):
            data = file.read(BLOCK // 16)
            if not data:
                raise EOFError("it ends too early")
        block = machine.decompress(data, BLOCK)
        data = getattr(machine, "unconsumed_tail", b"")
        yield block
    if data or machine.unused_data or file.read(1):
        raise EOFError("it goes on after its end")


_MAKERS = {
    "zlib": zlib.decompressobj,
    "gzip": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    "bz2": bz2.BZ2Decompressor,
    "lzma": lzma.LZMADecompressor,
    "xz": lzma.LZMADecompressor,
}


def outdated() -> PayloadError:
    """Return the error for a file that was compressed by an old joblib."""
    return PayloadError(
        "The file has the format of joblib 0.9 or older",
        cure="read it with joblib.load, and write it again",
    )
