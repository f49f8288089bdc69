"""Atomic writing of files, and errors of the operating system."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from ..errors import FileError, MissingFileError

_FOR_OPEN_FILES = "pass the path of the file; dumps and loads return and take bytes"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_FOR_FOLDERS = {errno.EINVAL, errno.ENOTSUP}


def file_name(path: str | os.PathLike[str], order: str) -> str:
    """Return a path as a string.

    Raises
    ------
    TypeError
        If it is not a path; the message names the `order` of arguments.
    """
    if isinstance(path, (str, os.PathLike)):
        return os.fspath(path)
    raise TypeError(
        f"path must be str or os.PathLike, not {type(path).__qualname__}: "
        + (_FOR_OPEN_FILES if hasattr(path, "read") or hasattr(path, "write") else order)
    )


def file_error(error: OSError, doing: str, path: str) -> FileError:
    """Return a `FileError` for an error of the system; `doing` is "read" or "written"."""
    number = error.errno
    cause, cure = error.strerror or str(error), "remove the cause, then try again"
    if number in _FULL:
        cause += ": the disk is full, or a quota or limit is reached"
        cure = "free space, or write to another disk; an existing file is unchanged"
    elif number == errno.ENOENT:
        cure = "check the path; the folder of a file to write must exist"
    elif number in (errno.EACCES, errno.EPERM, errno.EROFS):
        cure = "change the permissions, or use another path"
    elif number == errno.EISDIR:
        cure = "give the path of a file"
    kind = MissingFileError if number == errno.ENOENT else FileError
    return kind(f"The file can't be {doing}", path, cause, cure, number)


def _refuse_special(path: str, mode: int, doing: str) -> None:
    if stat.S_ISDIR(mode):
        raise file_error(_system_error(errno.EISDIR), doing, path)
    if not stat.S_ISREG(mode):
        raise FileError(
            f"The file can't be {doing}",
            where=path,
            cause="it is a device, a pipe or a socket",
            cure="use keras_reduce.dumps and loads, and transfer the bytes",
            errno=errno.EINVAL,
        )


def _system_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@contextlib.contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """Yield a temporary file that replaces the one at `path` once it is complete and synced.

    If the block raises an error, the file at `path` is unchanged. A killed process may leave a file
    ``.keras_reduce-*.tmp`` in the folder, but never a partial file at `path`.

    Raises
    ------
    FileError
        If the system raises an error. Other errors of the block are not changed.
    """
    target = Path(os.path.realpath(path))  # keeps a link and replaces its target
    temporary = target.parent / f".keras_reduce-{secrets.token_hex(8)}.tmp"
    with _translated(path):
        before = _status(target)
        if before is not None:
            _refuse_special(path, before.st_mode, "written")
            if not os.access(target, os.W_OK):
                raise _system_error(errno.EACCES)
        # os.open respects the umask and the defaults of the folder.
        opener = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        file = open(opener, "wb")  # noqa: PTH123, SIM115
    try:
        with _translated(path):
            if before is not None:
                with contextlib.suppress(PermissionError):
                    os.fchown(opener, before.st_uid, before.st_gid)
                os.fchmod(opener, stat.S_IMODE(before.st_mode))
        yield file
        with _translated(path):
            file.flush()
            os.fsync(opener)
            file.close()
            temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    with _translated(path):
        _sync_folder(target.parent)


@contextlib.contextmanager
def opened(path: str) -> Iterator[BufferedReader]:
    """Open a file for reading.

    Raises
    ------
    FileError
        If the system raises an error, or it is no regular file.
    """
    with contextlib.ExitStack() as stack:
        with _translated(path, "read"):
            _refuse_special(path, Path(path).stat().st_mode, "read")
            file = stack.enter_context(Path(path).open("rb"))
        yield file


@contextlib.contextmanager
def _translated(path: str, doing: str = "written") -> Iterator[None]:
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise file_error(error, doing, path) from error


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _sync_folder(folder: Path) -> None:
    """Sync the folder, which holds the new name, to the disk."""
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return  # a folder with write permission only
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:  # file systems without this operation
            raise
    finally:
        os.close(number)
