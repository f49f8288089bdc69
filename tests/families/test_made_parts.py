"""What a constructor makes and a config doesn't say: see ``families/made_parts.py``."""

import pytest

from processes import decorated

CASES = decorated("made_parts.py", "case")
REFUSED = decorated("made_parts.py", "refused")
VARIANTS = ("importable", "main")


@pytest.fixture
def found(write_and_read):
    """The words of the writer and of the reader, each in a process of its own."""
    return write_and_read("made_parts.py")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", CASES)
def test_ships(found, name, variant):
    assert not found["write"][f"{name}-{variant}"], found["write"][f"{name}-{variant}"]
    assert not found["read"][f"{name}-{variant}"], found["read"][f"{name}-{variant}"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_when_written(found, name, variant):
    assert not found["write"][f"{name}-{variant}"], found["write"][f"{name}-{variant}"]
