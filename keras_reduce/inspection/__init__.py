"""`inspect`: the contents of a file, read from its opcodes without executing any of it.

`keras_reduce.audit.opcodes` reads pickles into descriptions. `describer` finds Keras objects in
them, `content` builds the tree of all objects, and `report` combines both. Nothing here can rebuild
an object: no module of this package imports an unpickler.
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
from .report import Report, imported_names

__all__ = ["Report", "inspect", "main"]

# Maximum size of decompressed bytes, which are kept in memory.
_MOST = 4 << 30


def inspect(path: str | os.PathLike[str]) -> Report:
    """Return a report on a pickle, cloudpickle or joblib file, without executing any of it.

    The file may have any protocol and may be compressed. Keras is not imported.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Returns
    -------
    Report
        The report, for ``print``, with attributes and with ``to_json()`` and ``to_html()``.

    Raises
    ------
    PayloadError
        If it contains no pickle, can't be decompressed, or has more than 4 GiB decompressed.
    FileError
        If the system raises an error; a `MissingFileError` if the file does not exist.
    TypeError
        If `path` is not a path.

    Examples
    --------
    >>> import keras_reduce
    >>> keras_reduce.dump({"rows": 3, "names": ["a", "b"]}, "job.joblib")
    >>> print(keras_reduce.inspect("job.joblib"))
    job.joblib (... bytes)
      pickle protocol 4
      digests: as keras_reduce.dump wrote it
      Content
        dict of 2
          'rows' = 3
          'names' = list ('a', 'b')
    """
    name = file_name(path, "inspect(path) takes a file; explain(obj) looks into an object")
    with opened(name) as file:
        source: Source = FileSource(file, name)
        report = Report(name, source.size)
        report.compression = compression.compressor_of(source.bytes_at(0, 16))
        if report.compression:
            too_much = PayloadError(
                "The file is too large to decompress",
                where=name,
                cause=f"its {report.size} bytes decompress to more than {_MOST >> 30} GiB",
                cure="decompress it into another file, and inspect that",
            )
            source = compression.decompressed(file, report.compression, name, _MOST, too_much)
        report.signed = signing.take_off(source)
        report.digests = _digests(source)
        reading = read(source)
    if not reading.objects:
        raise PayloadError(
            "There is no pickle in the file",
            where=name,
            cause=f"it is a file of another kind, such as text ({reading.ended or 'it is empty'})",
            cure="inspect a file of pickle, cloudpickle, joblib.dump or keras_reduce.dump",
        )
    content = Content.of(reading)
    report.protocols = sorted(reading.protocols)
    report.content, report.models, report.code = content.trees, content.models, content.code
    imports = [each for _, model in content.models for each in model.imports]
    report.names = imported_names(reading, imports)
    report.odd, report.ended, report.as_joblib = (
        list(reading.odd),
        reading.ended,
        reading.holds_arrays,
    )
    return report


def _digests(source: Source) -> str:
    """Return the result of comparing a source with its digests; remove its trailer."""
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
    """Run ``python -m keras_reduce inspect``: print the report on a file.

    Parameters
    ----------
    path : str
        The file.
    as_json : bool
        Print JSON instead of a tree.
    page : str, optional
        Path of an HTML page to write instead.

    Returns
    -------
    int
        Exit code: 1 if reading ended early or the digests are wrong, else 0.
    """
    report = inspect(path)
    present(report, as_json=as_json, page=page)
    return int(bool(report.ended) or report.digests == "wrong")
