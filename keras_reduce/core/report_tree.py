"""Reports as trees: for a terminal, with colours or without, and as a page of HTML."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import html
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import FileError

__all__ = [
    "Branch",
    "Presentable",
    "as_html",
    "as_text",
    "output",
    "plain",
    "present",
    "shortened",
    "show",
]


@dataclasses.dataclass
class Branch:
    """A line of a report, and the lines below it.

    Attributes
    ----------
    text : str
        The text of the line; shown as it is, even if it looks like markup.
    style : {"", "title", "quiet", "good", "bad"}
        How it looks where there are colours.
    children : list of Branch
        The lines below.
    picture : str
        SVG, for pages only.
    """

    text: str
    style: str = ""
    children: list[Branch] = dataclasses.field(default_factory=list)
    picture: str = ""

    def add(self, text: str, style: str = "") -> Branch:
        """Append a line below this one; returns it."""
        self.children.append(Branch(text, style))
        return self.children[-1]


class Presentable(abc.ABC):
    """A report, whose text is the whole of it; an interactive session shows a page."""

    @abc.abstractmethod
    def tree(self) -> Branch:
        """Return the report as a tree."""

    @abc.abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, which JSON can hold."""

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def to_html(self) -> str:
        """Return the report as a page that runs nothing and loads nothing."""
        return as_html(self.tree())

    def _repr_html_(self) -> str:
        return self.to_html()


def _lines(branch: Branch) -> Iterator[tuple[int, Branch]]:
    """Yield all lines in order, each with its depth; no tree is too deep for that."""
    waiting = [(0, branch)]
    while waiting:
        depth, node = waiting.pop()
        yield depth, node
        waiting.extend((depth + 1, child) for child in reversed(node.children))


def as_text(branch: Branch) -> str:
    """Return a tree as plain text, two spaces for each level."""
    return "\n".join(f"{'  ' * depth}{plain(node.text)}" for depth, node in _lines(branch))


def plain(text: str) -> str:
    """Return a text on one line, without what a terminal or a page would act upon."""
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


_COLOURS = {"title": "bold", "quiet": "dim", "good": "green", "bad": "bold red"}


@contextlib.contextmanager
def output() -> Iterator[None]:
    """Drop the output of a block if its reader, such as ``head``, has ended."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Otherwise the interpreter would report the error when it ends, see
        # https://docs.python.org/3/library/signal.html#note-on-sigpipe.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def show(report: Presentable) -> None:
    """Print a report: as a tree with colours to a terminal, if rich is installed, else as text."""
    file = sys.stdout
    console: Any = None
    if file.isatty():
        try:
            from rich.console import Console
            from rich.text import Text
            from rich.tree import Tree
        except ImportError:
            pass
        else:
            console = Console(file=file)
    if console is None:
        # Characters that the encoding lacks are escaped.
        encoding = file.encoding or "utf-8"
        print(str(report).encode(encoding, "backslashreplace").decode(encoding))
        return

    def line(node: Branch) -> Any:
        return Text(plain(node.text), _COLOURS.get(node.style, ""))

    trees: list[Any] = []
    for depth, node in _lines(report.tree()):
        tree = Tree(line(node)) if depth == 0 else trees[depth - 1].add(line(node))
        trees[depth:] = [tree]
    console.print(trees[0])


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em }}
ul {{ list-style: none; margin: 0; padding-left: 1.4em; border-left: 1px solid #ddd }}
.title {{ font-weight: 600 }} .quiet {{ color: #777 }} .good {{ color: #07753b }}
.bad {{ color: #b00020; font-weight: 600 }}
svg {{ max-width: 100%; height: auto; margin: .5em 0 }}
</style></head><body>
{body}
</body></html>
"""


def as_html(branch: Branch) -> str:
    """Return a tree as a page that runs nothing and loads nothing."""
    parts: list[str] = []
    for event in _events(branch):
        parts.append(event if isinstance(event, str) else _of(event))
    return _PAGE.format(title=html.escape(plain(branch.text)), body="".join(parts))


def _of(node: Branch) -> str:
    text = f'<span class="{html.escape(node.style)}">{html.escape(plain(node.text))}</span>'
    return text + node.picture


def _events(branch: Branch) -> Iterator[str | Branch]:
    depth = 0
    yield "<ul>"
    for level, node in _lines(branch):
        yield from _steps(level - depth)
        depth = level
        yield "<li>"
        yield node
        yield "</li>"
    yield from _steps(-depth)
    yield "</ul>"


def _steps(change: int) -> Iterable[str]:
    return ["<li><ul>"] * change if change > 0 else ["</ul></li>"] * -change


def present(report: Presentable, *, as_json: bool = False, page: str | None = None) -> None:
    """Print a report as a tree or as JSON, or write it to a `page` of HTML.

    Raises
    ------
    FileError
        If the system refuses to write the page.
    """
    if page is not None:
        try:
            Path(page).write_text(report.to_html(), encoding="utf-8")
        except OSError as error:
            raise FileError(
                "The page can't be written", page, str(error), "use another path", error.errno
            ) from error
    with output():
        if as_json:
            print(report.to_json())
        elif page is None:
            show(report)


def shortened(items: list[Any], most: int, line: Callable[[Any], Branch]) -> list[Branch]:
    """Return a line for each item, and one that counts those beyond `most`."""
    branches = [line(item) for item in items[:most]]
    if len(items) > most:
        branches.append(Branch(f"… and {len(items) - most} more", "quiet"))
    return branches
