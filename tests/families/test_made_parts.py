"""Parts that a constructor creates and a config lacks: see ``families/made_parts.py``."""

import pytest

from processes import decorated

CASES = decorated("made_parts.py", "case")
REFUSED = decorated("made_parts.py", "refused")
VARIANTS = ("importable", "main")


@pytest.fixture
def outcomes(write_and_read):
    """The words of the writer and of the reader, each in its own process."""
    return write_and_read("made_parts.py")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", CASES)
def test_ships(outcomes, name, variant):
    assert not outcomes["write"][f"{name}-{variant}"], outcomes["write"][f"{name}-{variant}"]
    assert not outcomes["read"][f"{name}-{variant}"], outcomes["read"][f"{name}-{variant}"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_when_written(outcomes, name, variant):
    assert not outcomes["write"][f"{name}-{variant}"], outcomes["write"][f"{name}-{variant}"]
