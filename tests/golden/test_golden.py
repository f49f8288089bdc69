"""Golden files of all protocols: they must load and answer as when they were written.

They are in ``golden/protocol-N/FAMILY``, with a manifest; ``golden/write.py`` writes them.
"""

import hashlib
import json
import re
import sys

import pytest

from keras_reduce import reducers
from keras_reduce.core import payload
from keras_reduce.families import protocol
from keras_reduce.families._shared.versions import generation
from keras_reduce.files import trailer
from processes import BACKEND, ELSEWHERE, ROOT, python

GOLDEN = ROOT / "tests" / "golden"
MANIFESTS = sorted(GOLDEN.glob("protocol-*/*/manifest.json"))
FOLDERS = [path.parent for path in MANIFESTS]


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


def name_of(folder):
    return folder.relative_to(GOLDEN).as_posix() if hasattr(folder, "parts") else folder


def is_installed(family):
    if family == "keras3":
        return generation("keras") == 3
    return generation("keras") == 2 or generation("tf_keras") == 2


def loadable():
    """Return the files that can be loaded in this environment."""
    minor = f"{sys.version_info.major}.{sys.version_info.minor}."
    return [
        (folder, name)
        for folder in FOLDERS
        if is_installed(manifest_of(folder)["family"])
        for name, entry in manifest_of(folder)["files"].items()
        if entry["backend"] in (None, BACKEND)
        if entry["python"] is None or entry["python"].startswith(minor)
    ]


LOADABLE = loadable()


# --- the files --------------------------------------------------------------------------------


def test_every_protocol_has_files():
    protocols = {manifest_of(folder)["protocol"] for folder in FOLDERS}
    assert protocols == set(range(1, payload.PROTOCOL + 1))


# Kinds of objects that Keras 2 lacks, or that have no type there.
ONLY_KERAS_3 = {
    "function",
    "operation",
    "seed_generator",
    "variable",
    "tensor",
    "node",
    "tf_function",
}


# Private: the list of families has no public name.
@pytest.mark.parametrize("family", sorted(set(protocol._ADAPTERS.values())))
def test_every_kind_has_a_file_of_the_current_protocol(family):
    folder = GOLDEN / f"protocol-{payload.PROTOCOL}" / family
    kinds = {entry["kind"] for entry in manifest_of(folder)["files"].values()}
    missing = reducers.TABLE.keys() - kinds
    assert missing == (set() if family == "keras3" else ONLY_KERAS_3)


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_files_are_those_of_the_manifest(folder):
    listed = {name: entry["sha256"] for name, entry in manifest_of(folder)["files"].items()}
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert files == listed


def test_no_file_is_without_a_manifest():
    stray = [path for path in GOLDEN.glob("protocol-*/**/*") if path.is_file()]
    assert {path.parent for path in stray} == set(FOLDERS)
    assert sum(path.stat().st_size for path in stray) < 2_000_000


@pytest.mark.parametrize("folder", sorted({folder for folder, _ in LOADABLE}), ids=name_of)
def test_loads_by_a_list_of_what_is_trusted(folder):
    """Load files with names from a list; code by value must be refused."""
    entries = manifest_of(folder)["files"]
    names = [name for each, name in LOADABLE if each == folder]
    by_value = [name for name in names if entries[name]["python"]]
    by_name = [name for name in names if name not in by_value]
    assert len(by_name) > 20
    python(
        """
        import sys
        import keras_reduce
        folder, *names = sys.argv[1:]
        trusted = [f"golden_code_{each}." for each in ("keras2", "keras3", "tensorflow")]
        for name in names:
            is_by_value, name = name.split(":")
            try:
                keras_reduce.load(f"{folder}/{name}", verify=False, trusted=trusted)
            except keras_reduce.UntrustedError as error:
                assert is_by_value == "True", (name, str(error))
                assert "no list can trust" in str(error)
            else:
                assert is_by_value == "False", name
        """,
        folder,
        *(f"{name in by_value}:{name}" for name in names),
        path=[GOLDEN],
    )


# --- answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("folder", "name"), LOADABLE, ids=name_of)
def test_loads_and_answers_as_written(run_checks, folder, name):
    run_checks("read_again.py", folder, path=[GOLDEN]).demand(name)


# --- the format -------------------------------------------------------------------------------


CHANGED = """
The wire format of written pickles has changed:

{}

If all readers of protocol {} read it right, record it: python tests/golden/write.py --note. If not,
raise payload.PROTOCOL as described there, keep the reader of the old one, and write golden files.
"""


def items(path):
    """Yield the entries of a format, each as one line."""
    for name, parts in json.loads(path.read_text()).items():
        for part, entries in parts.items():
            yield from (f"{name}, {part}: {item}" for item in entries)


FAMILIES = sorted({manifest_of(folder)["family"] for folder, _ in LOADABLE})


def _either(item):
    """Return an entry in a form that does not depend on the choice of Keras 3's backend."""
    return str(item).replace(
        "receive(bool, bool, bool, NoneType)", "receive(bool, bool, bool, str)"
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_format_is_the_one_that_was_noted(family, tmp_path):
    path = tmp_path / "format.json"
    arguments = ["--note", "--family", family, "--into", path]
    python(GOLDEN / "write.py", *arguments, path=[GOLDEN], **ELSEWHERE)
    backend = BACKEND if family == "keras3" else "tensorflow"
    noted_in = GOLDEN / "wire" / f"{family}-{backend}.json"
    actual, noted = ({_either(item) for item in items(each)} for each in (path, noted_in))
    changes = [f"+ {item}" for item in actual - noted] + [f"- {item}" for item in noted - actual]
    assert not changes, CHANGED.format("\n".join(sorted(changes)), payload.PROTOCOL)


def test_format_of_files_is_the_one_that_was_promised():
    folder = GOLDEN / f"protocol-{payload.PROTOCOL}" / "keras3"
    assert manifest_of(folder)["format"] == trailer.VERSION


def test_files_are_not_overwritten(tmp_path):
    (tmp_path / "there").write_text("")
    with pytest.raises(AssertionError, match=r"has files: raise payload.PROTOCOL"):
        python(GOLDEN / "write.py", "--into", tmp_path, path=[GOLDEN], **ELSEWHERE)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_the_documentation_names_all_that_stands_in_pickles():
    said = (ROOT / "docs" / "wire-format.md").read_text()
    rebuilders, marks = set(), set()
    for path in (ROOT / "keras_reduce").rglob("*.py"):
        text = path.read_text()
        if path.parent.name == "keras_reduce":
            pattern = r"^(?:def |reduce_\w+, )(rebuild_\w+|receive)\b"
            rebuilders |= set(re.findall(pattern, text, re.MULTILINE))
        marks |= set(re.findall(r'"?\b(keras_reduce_[a-z_]+)\b', text))
    marks -= {"keras_reduce_specimen", "keras_reduce_setup"}  # Names of a layer and of a function.
    assert set(re.findall(r"`(?:keras_reduce\.\w+\.)?(rebuild_\w+|receive)`", said)) == rebuilders
    assert set(re.findall(r"`(keras_reduce_\w+)`", said)) == marks
    for module, name in re.findall(r"`keras_reduce\.([\w.]+)\.(\w+)`", said):
        text = (ROOT / "keras_reduce" / f"{module.replace('.', '/')}.py").read_text()
        assert re.search(rf"^(?:def |class |reduce_\w+, ){name}\b", text, re.MULTILINE), name
