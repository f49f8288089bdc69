"""What `inspect` has found: as data, as a tree, as a page."""

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
    """Something that loading would import, and may call.

    Attributes
    ----------
    path : str
        Module and name.
    count : int
        How often it is named.
    kind : {"known", "keras", "foreign"}
        Of a library that is known, of Keras, or of somebody else.
    warning : str
        Why it can do anything; empty if it is not known to.
    """

    path: str
    count: int
    kind: str
    warning: str = ""


@dataclasses.dataclass(repr=False)
class Report(Presentable):
    """What is in a file, as far as its opcodes show.

    Its text is the report; so is what an interactive session shows.

    Attributes
    ----------
    path : str
        The file.
    size : int
        Its bytes.
    compression : str
        The method; empty without.
    protocols : list of int
        Of pickle.
    as_joblib : bool
        Whether it was read as `joblib.load` reads it, which looks for arrays between opcodes;
        `pickle.load` would find something else.
    digests : {"right", "wrong", "none"}
        Whether the file is as `keras_reduce.dump` wrote it; none if something else wrote it.
    signed : bool
        Whether there is a signature. Only `load` with a key tells whether it is right.
    content : list of Branch
        The tree of objects of each pickle.
    models : list of (str, Model)
        Each Keras object that is not part of another, with the path to it.
    names : list of Name
        All that would be imported.
    code : list of str
        Functions and classes that are in the file by value.
    odd : list of str
        What no pickler writes, or hides what is meant.
    ended : str
        Where and why reading ended before the end; empty if it did not.
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
        """Return the report as plain data, which JSON can hold."""
        found = dataclasses.asdict(self)
        found["content"] = [as_text(each) for each in self.content]
        found["models"] = [{"path": path, **_plain(model)} for path, model in self.models]
        return found

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
            root.add("signed; load(path, key=...) tells whether that is right", "quiet")
        for text in (*([f"Reading ended {self.ended}"] if self.ended else []), *self.odd):
            root.add(text, "bad")
        contents = root.add("Content", "title")
        contents.children = self.content
        if self.models:
            models = root.add("Keras", "title")
            said, quiet = _parted(self.models, lambda each: each[1].remarks)
            models.children = [_of_model(*each) for each in said]
            models.children += shortened(quiet, _MOST, lambda each: _of_model(*each))
        if self.code:
            code = root.add("Code in the file itself, which loading makes and may run", "bad")
            code.children = [Branch(name, "bad") for name in self.code]
        titles = {
            "foreign": "Would import, of somebody else",
            "keras": "Would import, of Keras",
            "known": "Would import, of NumPy, SciPy, scikit-learn, joblib and this package",
        }
        for kind, title in titles.items():
            names = [name for name in self.names if name.kind == kind]
            if names:
                branch = root.add(title, "bad" if kind == "foreign" else "title")
                said, quiet = _parted(names, lambda name: name.warning)
                branch.children = [*map(_of_name, said), *shortened(quiet, _MOST, _of_name)]
        return root


def _parted(items: list[Any], is_bad: Callable[[Any], Any]) -> tuple[list[Any], list[Any]]:
    """Return what is bad, of which nothing is ever left out, and the rest."""
    return [each for each in items if is_bad(each)], [each for each in items if not is_bad(each)]


_DIGESTS = {
    "right": "digests: as keras_reduce.dump wrote it",
    "wrong": "digests: NOT as keras_reduce.dump wrote it",
    "none": "digests: none, so keras_reduce.dump did not write it",
}
_CUT_OFF = "digests: none; the file is cut off, or keras_reduce.dump did not write it"


def named(reading: Reading, imports: list[Global]) -> list[Name]:
    """Return all that would be imported, sorted by whose it is."""
    counts = reading.globals + Counter(imports)
    found = [
        Name(
            each.path, count, *trust_policy.standing(each.module, each.name, each in reading.called)
        )
        for each, count in counts.items()
    ]
    return sorted(found, key=lambda name: (name.kind, name.path))


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
    found = dataclasses.asdict(model)
    found["imports"] = [each.path for each in model.imports]
    return found


def _bytes(number: int) -> str:
    size = float(number)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{number} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
