"""The table of files in ``docs/how-it-works.md`` names each module of the package."""

import re

from processes import ROOT

PAGE = (ROOT / "docs" / "how-it-works.md").read_text()


def test_each_module_is_in_the_table():
    package = ROOT / "keras_reduce"
    modules = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    named = {
        name
        for line in PAGE.partition("## Which file holds what")[2].splitlines()
        for name in re.findall(r"`([\w/]+\.py)`", line.rpartition("|")[0].rpartition("|")[2])
    }
    assert named <= modules, named - modules
    # The docstring of a subpackage describes it.
    missing = {name for name in modules - named if not name.endswith("__init__.py")}
    assert not missing


def test_pictures_are_there():
    pictures = re.findall(r"!\[[^\]]+\]\((.*?)\)", PAGE)
    assert pictures == ["journey.svg", "processes.svg"]
    for name in pictures:
        text = (ROOT / "docs" / name).read_text()
        # With its own background, it is readable on a dark page as well.
        assert '<rect x="0.5" y="0.5"' in text
        for file in re.findall(r"\b[\w/]+\.py\b", text):
            folders = ("", "parallel/", "families/keras3/")
            assert any((ROOT / "keras_reduce" / folder / file).is_file() for folder in folders)


def test_files_and_names_of_the_guide_for_contributors_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    files = {
        name
        for name in re.findall(r"\b(?:docs|keras_reduce|tests|\w+)/[\w/.]+\.(?:py|md)\b", text)
        if not (ROOT / name).is_file()
    }
    package = ROOT / "keras_reduce"
    assert not {name for name in files if not (package / name).is_file()}
    code = "".join(
        path.read_text() for folder in ("keras_reduce", "tests") for path in _modules(folder)
    )
    for name in re.findall(r"`(_?[A-Z][A-Z_]+|_[a-z]+)`", text):
        assert re.search(rf"^(?:def )?{name}\b", code, re.MULTILINE), name


def _modules(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def test_each_finding_is_on_the_page_of_surprises():
    page = (ROOT / "docs" / "surprises.md").read_text()
    findings = {path.name for path in (ROOT / "findings").iterdir()}
    assert set(re.findall(r"`(\w+\.sh)`", page)) == findings
