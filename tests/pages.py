"""The pages: README, other Markdown files beside it, and `docs`; and the programs on them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
# What a program needs that the environment of README's command lacks: the row that runs it. See
# ``test_keras2.py`` and ``test_dask.py``.
NEEDS = {"classic.py": "keras2", "in_mlflow.py": "company", "on_dask.py": "clusters"}


def pages():
    """Return the paths of all pages, README first."""
    others = sorted({*ROOT.glob("*.md")} - {README})
    return [README, *others, *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language, page=README):
    """Return the blocks of a language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def programs():
    """Return the programs of all pages by name.

    A block of Python that begins with the name of a file starts a program; others continue it.
    A program may be on two pages, if it is the same.
    """
    texts = {}
    for page in pages():
        parts = {}
        for block in blocks("python", page):
            start = re.match(r"# (\w+\.py)\n", block)
            if start:
                name = start[1]
                assert name not in parts, f"{page.name} has two programs {name}"
                parts[name] = ""
            assert parts, f"{page.name}: the first block of Python must begin with '# name.py'"
            parts[name] += block
        for each, text in parts.items():
            assert texts.setdefault(each, text) == text, f"{each} differs between two pages"
    return texts


def needing(row):
    """Return the names of the programs that run in a row; those of all others for an empty name."""
    return sorted(name for name in programs() if NEEDS.get(name, "") == row)


def anchors(text):
    """Return the anchors of the headings in Markdown, as web sites and MyST make them."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def links(text):
    """Return the targets of the links and pictures in Markdown."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "``", text)
    return re.findall(r"\]\(([^)\s]+)\)", text)
