"""Report of `inspect`: as data, as a tree, as an HTML page."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

from ..audit import trust_policy
from ..audit.descriptions import Global, Reading
from ..core.report_tree import Branch, Presentable, as_text, shortened
from .models import Layer, Model
from .pictures import picture

__all__ = ["Name", "Report"]

_MOST = 200  # lines below one


@dataclasses.dataclass
class Name:
    """Global that loading would import, and may call.

    Attributes
    ----------
    path : str
        Module and name.
    count : int
        Number of occurrences.
    kind : {"known", "keras", "foreign"}
        From a known library, from Keras, or from another package.
    warning : str
        Reason why no list can trust it; empty if there is none.
    """

    path: str
    count: int
    kind: str
    warning: str = ""


@dataclasses.dataclass(repr=False)
class Report(Presentable):
    """Report on the contents of a file, as far as its opcodes show them.

    ``str()`` and ``repr()`` return a readable report.

    Attributes
    ----------
    path : str
        Path of the file.
    size : int
        Number of bytes.
    compression : str
        Compression method; empty if there is none.
    protocols : list of int
        Pickle protocols.
    as_joblib : bool
        Whether it was read like `joblib.load`, with arrays between opcodes, so that the result is
        not valid for `pickle.load`.
    digests : {"right", "wrong", "none"}
        Result of comparing the file with its digests; "none" if it has none, so that
        `keras_reduce.dump` did not write it.
    signed : bool
        Whether there is a signature, which only `load` with a key can check.
    content : list of Branch
        The tree of objects of each pickle.
    models : list of (str, Model)
        Keras objects that are not part of another one, with their paths.
    names : list of Name
        Globals that loading would import.
    code : list of str
        Functions and classes that are in the file by value.
    odd : list of str
        Constructs that no pickler writes, or that hide a global.
    ended : str
        Position and reason of an early end of reading; empty if there was none.

    Examples
    --------
    >>> import keras_reduce
    >>> keras_reduce.dump([1, 2], "numbers.joblib")
    >>> report = keras_reduce.inspect("numbers.joblib")
    >>> report.digests, report.signed, report.code
    ('right', False, [])
    """

    path: str
    size: int
    compression: str = ""
    protocols: list[int] = dataclasses.field(default_factory=list)
    as_joblib: bool = False
    digests: str = "none"
    signed: bool = False
    content: list[Branch] = dataclasses.field(default_factory=list)
    models: list[tuple[str, Model]] = dataclasses.field(default_factory=list)
    names: list[Name] = dataclasses.field(default_factory=list)
    code: list[str] = dataclasses.field(default_factory=list)
    odd: list[str] = dataclasses.field(default_factory=list)
    ended: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data that can be encoded as JSON."""
        data = dataclasses.asdict(self)
        data["content"] = [as_text(each) for each in self.content]
        data["models"] = [{"path": path, **_plain(model)} for path, model in self.models]
        return data

    def __str__(self) -> str:
        """Return the report as text."""
        return as_text(self.tree())

    __repr__ = __str__

    def tree(self) -> Branch:
        """Return the report as a tree."""
        method = f", {self.compression}" if self.compression else ""
        root = Branch(f"{self.path} ({_bytes(self.size)}{method})", "title")
        numbers = ", ".join(map(str, self.protocols)) or "none"
        reader = ", as joblib.load reads it" if self.as_joblib else ""
        root.add(f"pickle protocol {numbers}{reader}", "quiet")
        styles = {"right": "good", "wrong": "bad", "none": "quiet"}
        is_cut_off = self.digests == "none" and self.ended
        digests = _CUT_OFF if is_cut_off else _DIGESTS[self.digests]
        root.add(digests, "bad" if is_cut_off else styles[self.digests])
        if self.signed:
            root.add("signed; load(path, key=...) checks the signature", "quiet")
        for text in (*([f"Reading ended {self.ended}"] if self.ended else []), *self.odd):
            root.add(text, "bad")
        contents = root.add("Content", "title")
        contents.children = self.content
        if self.models:
            models = root.add("Keras", "title")
            bad, quiet = _parted(self.models, lambda each: each[1].remarks)
            models.children = [_of_model(*each) for each in bad]
            models.children += shortened(quiet, _MOST, lambda each: _of_model(*each))
        if self.code:
            code = root.add("Code in the file itself, which loading creates and may run", "bad")
            code.children = [Branch(name, "bad") for name in self.code]
        titles = {
            "foreign": "Would import, from other packages",
            "keras": "Would import, from Keras",
            "known": "Would import, from NumPy, SciPy, scikit-learn, joblib and this package",
        }
        for kind, title in titles.items():
            names = [name for name in self.names if name.kind == kind]
            if names:
                branch = root.add(title, "bad" if kind == "foreign" else "title")
                bad, quiet = _parted(names, lambda name: name.warning)
                branch.children = [*map(_of_name, bad), *shortened(quiet, _MOST, _of_name)]
        return root


def _parted(items: list[Any], is_bad: Callable[[Any], Any]) -> tuple[list[Any], list[Any]]:
    """Split items into bad ones, which are all shown, and the rest."""
    return [each for each in items if is_bad(each)], [each for each in items if not is_bad(each)]


_DIGESTS = {
    "right": "digests: as keras_reduce.dump wrote it",
    "wrong": "digests: NOT as keras_reduce.dump wrote it",
    "none": "digests: none, so keras_reduce.dump did not write it",
}
_CUT_OFF = "digests: none; the file is cut off, or keras_reduce.dump did not write it"


def imported_names(reading: Reading, imports: list[Global]) -> list[Name]:
    """Return the globals that would be imported, sorted by kind and name."""
    counts = reading.globals + Counter(imports)
    names = [
        Name(
            each.path, count, *trust_policy.classify(each.module, each.name, each in reading.called)
        )
        for each, count in counts.items()
    ]
    return sorted(names, key=lambda name: (name.kind, name.path))


def _of_name(name: Name) -> Branch:
    text = name.path + (f" ({name.count} times)" if name.count > 1 else "")
    if name.warning:
        return Branch(f"{text}: {name.warning}", "bad")
    return Branch(text, "bad" if name.kind == "foreign" else "")


def _of_model(path: str, model: Model) -> Branch:
    title = f"{model.cls or '?'} {model.name!r}" if model.name else model.cls or "?"
    branch = Branch(f"{path}: {title} ({model.kind})", "title", picture=picture(model))
    for text in model.remarks:
        branch.add(text, "bad")
    counted = f"{model.parameters:,} parameters, " if model.parameters or model.protocol else ""
    dtypes = f" as {', '.join(model.dtypes)}" if model.dtypes else ""
    branch.add(f"{counted}{_bytes(model.bytes)} of arrays{dtypes}")
    written = ", ".join(f"{name} {number}" for name, number in model.versions.items())
    branch.add(
        f"payload {model.protocol} of {written}" if model.protocol else f"by {written}", "quiet"
    )
    if model.optimizer or model.loss:
        compiled = (("optimizer", model.optimizer), ("loss", model.loss))
        metrics = ("metrics", ", ".join(model.metrics))
        branch.add("; ".join(f"{name} {value}" for name, value in (*compiled, metrics) if value))
    for name, origin in model.custom.items():
        branch.add(f"{name} ({origin})", "bad" if origin == "by value" else "")
    branch.children += shortened(model.layers, _MOST, _of_layer)
    return branch


def _of_layer(layer: Layer) -> Branch:
    shape = f", built for {layer.shape}" if layer.shape else ""
    origin = "" if layer.origin == "keras" else f" [{layer.origin}]"
    text = f"{layer.cls} {layer.name!r}{origin}: {layer.parameters:,} parameters{shape}"
    branch = Branch(text, "bad" if layer.origin == "by value" else "")
    branch.children = shortened(layer.layers, _MOST, _of_layer)
    return branch


def _plain(model: Model) -> dict[str, Any]:
    data = dataclasses.asdict(model)
    data["imports"] = [each.path for each in model.imports]
    return data


def _bytes(number: int) -> str:
    size = float(number)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{number} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
