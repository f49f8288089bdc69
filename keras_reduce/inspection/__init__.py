"""`inspect`: what is in a file, read from its opcodes; nothing of it is executed.

`opcodes` reads pickles into descriptions, `models` finds Keras objects among these and `content`
everything else; `report` puts it together. Nothing here can rebuild anything: no module of this
package imports an unpickler, and of `persistence` only what reads, decompresses and verifies bytes.
"""

from __future__ import annotations

import os

from ..audit.opcodes import read
from ..core.report_tree import present
from ..errors import DamagedFileError, PayloadError
from ..files import compression, signing
from ..files.atomic import file_name, opened
from ..files.sources import FileSource, Source
from ..files.trailer import Trailer
from .content import Content
from .report import Report, named

__all__ = ["Report", "inspect", "main"]

# Bytes that a compressed file may hold, as all are held in memory: it need not be large itself.
_MOST = 4 << 30


def inspect(path: str | os.PathLike[str]) -> Report:
    """Tell what is in a pickle, cloudpickle or joblib file, without executing any of it.

    Of any protocol, compressed or not. Keras is not imported.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Returns
    -------
    Report
        ``print`` it; or see its attributes, ``to_json()`` and ``to_html()``.

    Raises
    ------
    PayloadError
        If there is no pickle in it, or it can't be decompressed, or that gives more than 4 GiB.
    FileError
        If the system refuses; a `MissingFileError` if the file is not there.
    TypeError
        If `path` is no path.

    Examples
    --------
    >>> print(keras_reduce.inspect("search.joblib"))  # doctest: +SKIP
    """
    name = file_name(path, "inspect(path) takes a file; explain(obj) looks into an object")
    with opened(name) as file:
        source: Source = FileSource(file, name)
        report = Report(name, source.size)
        report.compression = compression.compressor_of(source.bytes_at(0, 16))
        if report.compression:
            too_much = PayloadError(
                "The file holds more than inspect decompresses",
                where=name,
                cause=f"its {report.size} bytes stand for more than {_MOST >> 30} GiB",
                cure="decompress it into another file, and inspect that",
            )
            source = compression.decompressed(file, report.compression, name, _MOST, too_much)
        report.signed = signing.take_off(source)
        report.digests = _digests(source)
        found = read(source)
    if not found.objects:
        raise PayloadError(
            "There is no pickle in the file",
            where=name,
            cause=f"it is a file of another kind, such as text ({found.ended or 'it is empty'})",
            cure="inspect reads what pickle, cloudpickle, joblib.dump and keras_reduce.dump write",
        )
    content = Content.of(found)
    report.protocols = sorted(found.protocols)
    report.content, report.models, report.code = content.trees, content.models, content.code
    imports = [each for _, model in content.models for each in model.imports]
    report.names = named(found, imports)
    report.odd, report.ended, report.as_joblib = list(found.odd), found.ended, found.holds_arrays
    return report


def _digests(source: Source) -> str:
    """Return whether a source is as it was written, and let it end with its content."""
    try:
        trailer = Trailer.read(source)
    except DamagedFileError:
        return "wrong"
    except PayloadError:
        return "none"
    try:
        trailer.verify(source, arrays=True)
    except PayloadError:
        return "wrong"
    source.cut_off(source.size - trailer.content)
    return "right"


def main(path: str, *, as_json: bool = False, page: str | None = None) -> int:
    """Print what is in a file.

    Parameters
    ----------
    path : str
        The file.
    as_json : bool
        As JSON instead of a tree.
    page : str, optional
        Where to write a page of HTML to.

    Returns
    -------
    int
        0; 1 if reading ended before the end of the file, or its digests are wrong.
    """
    report = inspect(path)
    present(report, as_json=as_json, page=page)
    return int(bool(report.ended) or report.digests == "wrong")
