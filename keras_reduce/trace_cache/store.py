"""Folder of traces, which processes of one user share.

Each trace is a file named after the digest of its key::

    magic     ``keras_reduce trace``, a version, and a line feed
    digest    SHA-256 of all that follows
    length    of the header, four bytes, little-endian
    header    JSON: the digest of the key, `places` and `is_stateful` of the `Definition`, and the
              lengths of its parts
    parts     compressed by zlib: library, output, optimized

A file appears when it is whole. The least recently used files are removed when all files together
are larger than the limit. A graph is code: a folder that another user could write to is not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import stat
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import FileError
from .definitions import Definition

_log = logging.getLogger(__package__)
_MAGIC = b"keras_reduce trace 1\n"
_SUFFIX = ".trace"
_MOST_BYTES = 1 << 30
_ABANDONED = 3600.0  # seconds, after which a temporary file belongs to a writer that is gone


class Entry(NamedTuple):
    """A file in a folder of traces.

    Attributes
    ----------
    path : Path
        Where it is.
    size : int
        Bytes.
    used : float
        When it was used last, in seconds since the epoch.
    """

    path: Path
    size: int
    used: float


class Store:
    """Traces in a folder.

    Parameters
    ----------
    folder : str or path-like
        The folder.
    most_bytes : int, optional
        Limit of the size of all files.
    """

    def __init__(self, folder: str | os.PathLike[str], most_bytes: int = _MOST_BYTES) -> None:
        self.folder, self._most_bytes = Path(folder), most_bytes

    def get(self, digest: str) -> Definition | None:
        """Return the definition of a trace; None if there is none that can be used."""
        path = self.folder / f"{digest}{_SUFFIX}"
        try:
            if not path.exists() or self.obstacle() is not None:
                return None
            content = path.read_bytes()
            definition = _read(content, digest)
            os.utime(path)
        except (OSError, ValueError, KeyError, TypeError, zlib.error) as error:
            _log.warning(
                "A stored trace can't be used, so the model is traced again: %s: %s", path, error
            )
            return None
        return definition

    def put(self, digest: str, definition: Definition) -> None:
        """Store the definition of a trace, if there is space."""
        if self.obstacle() is not None:
            return
        temporary = self.folder / f"{digest}.{secrets.token_hex(8)}.tmp"
        try:
            # Not synced: a file that a crash has cut off is recognized.
            temporary.write_bytes(_written(definition, digest))
            temporary.replace(self.folder / f"{digest}{_SUFFIX}")
            self._make_room()
        except OSError as error:
            _log.debug("a trace can't be stored: %s", error)
            with contextlib.suppress(OSError):
                temporary.unlink()

    def entries(self) -> list[Entry]:
        """Return the files in the folder, the least recently used first."""
        return sorted(self._files(_SUFFIX), key=lambda entry: entry.used)

    def clear(self) -> None:
        """Remove all files of traces."""
        for entry in self._files(_SUFFIX, ".tmp"):
            entry.path.unlink(missing_ok=True)

    def obstacle(self) -> str | None:
        """Return why the folder can't be used; None if it can."""
        try:
            status = self.folder.lstat()
        except OSError as error:
            return error.strerror or str(error)
        if not stat.S_ISDIR(status.st_mode):
            return "it is not a folder"
        if status.st_uid != os.geteuid():
            return "it belongs to another user"
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return "other users may write to it"
        return None

    def _files(self, *suffixes: str) -> Iterator[Entry]:
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as files:
            for file in files:
                if file.name.endswith(suffixes):
                    with contextlib.suppress(FileNotFoundError):  # Another process removes some.
                        status = file.stat(follow_symlinks=False)
                        yield Entry(Path(file.path), status.st_size, status.st_mtime)

    def _make_room(self) -> None:
        entries = self.entries()
        size = sum(entry.size for entry in entries)
        for entry in entries[:-1]:
            if size <= self._most_bytes:
                break
            entry.path.unlink(missing_ok=True)
            size -= entry.size
        for entry in self._files(".tmp"):
            if time.time() - entry.used > _ABANDONED:
                entry.path.unlink(missing_ok=True)


def create(path: str | os.PathLike[str]) -> str:
    """Create the folder of a store if there is none, and return its absolute path.

    Raises
    ------
    FileError
        If it can't be created, or others could write to it.
    """
    folder = Path(path).expanduser().absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        cause = Store(folder).obstacle()
    except OSError as error:
        cause = error.strerror or str(error)
    if cause is not None:
        raise FileError(
            "The folder can't hold traces",
            where=str(folder),
            cause=cause,
            cure="give a folder of your own, which only you may write to: its files are code",
        )
    return str(folder)


def _written(definition: Definition, digest: str) -> bytes:
    parts = (definition.library, definition.output, definition.optimized)
    header = json.dumps(
        {
            "key": digest,
            "places": definition.places,
            "is_stateful": definition.is_stateful,
            "lengths": list(map(len, parts)),
        }
    ).encode()
    content = b"".join(
        (len(header).to_bytes(4, "little"), header, zlib.compress(b"".join(parts), 1))
    )
    return b"".join((_MAGIC, hashlib.sha256(content).digest(), content))


def _read(file: bytes, digest: str) -> Definition:
    """Return the definition in a file.

    Raises
    ------
    ValueError
        If it is damaged, or not the file of this digest.
    """
    start = len(_MAGIC) + hashlib.sha256().digest_size
    content = file[start:]
    if not file.startswith(_MAGIC):
        raise ValueError("it is no trace of this version")
    if hashlib.sha256(content).digest() != file[len(_MAGIC) : start]:
        raise ValueError("it is damaged")
    end = 4 + int.from_bytes(content[:4], "little")
    header = json.loads(content[4:end])
    if header["key"] != digest:
        raise ValueError("it is the trace of another model")
    parts, pieces = zlib.decompress(content[end:]), []
    for length in header["lengths"]:
        pieces.append(parts[:length])
        parts = parts[length:]
    library, output, optimized = pieces
    return Definition(library, output, optimized, header["places"], header["is_stateful"])
