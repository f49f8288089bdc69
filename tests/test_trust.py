"""Loading with ``trusted=``: see ``programs/trusting.py`` and ``programs/attacks.py``."""

import pytest

from processes import decorated, words

PROGRAMS = ("trusting.py", "attacks.py")


@pytest.fixture(scope="module")
def found():
    return {program: words(program, timeout=900) for program in PROGRAMS}


@pytest.mark.parametrize(
    ("program", "name"),
    [(program, name) for program in PROGRAMS for name in decorated(program, "check")],
)
def test_trust(found, program, name):
    assert not found[program][name], found[program][name]
