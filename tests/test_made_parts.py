"""What a constructor makes and a config doesn't say: see ``programs/made_parts.py``."""

import json

import pytest

from processes import PROGRAMS, decorated, python

CASES = decorated("made_parts.py", "case")
REFUSED = decorated("made_parts.py", "refused")
VARIANTS = ("importable", "main")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The words of the writer and of the reader, each in a process of its own."""
    folder = tmp_path_factory.mktemp("made_parts")
    for role in ("write", "read"):
        python(PROGRAMS / "made_parts.py", role, folder)
    return {role: json.loads((folder / f"{role}.json").read_text()) for role in ("write", "read")}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", CASES)
def test_ships(found, name, variant):
    assert not found["write"][f"{name}-{variant}"], found["write"][f"{name}-{variant}"]
    assert not found["read"][f"{name}-{variant}"], found["read"][f"{name}-{variant}"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_when_written(found, name, variant):
    assert not found["write"][f"{name}-{variant}"], found["write"][f"{name}-{variant}"]
