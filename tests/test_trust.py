"""Loading with ``trusted=``: see ``programs/trusting.py`` and ``programs/attacks.py``."""

import json

import pytest

from processes import PROGRAMS as FOLDER
from processes import decorated, python

PROGRAMS = ("trusting.py", "attacks.py")


@pytest.mark.parametrize(
    ("program", "name"),
    [(program, name) for program in PROGRAMS for name in decorated(program, "check")],
)
def test_trust(run_checks, program, name):
    run_checks(program, timeout=900).demand(name)


def test_files_that_nobody_wrote(tmp_path):
    """A sample; ``python tests/programs/fuzz.py 1800 1`` is half an hour of it."""
    printed = python(FOLDER / "fuzz.py", 500, 7, 1500, cwd=tmp_path, timeout=600)
    (line,) = [line for line in printed.splitlines() if line.startswith("TABLE ")]
    found = json.loads(line.removeprefix("TABLE "))
    assert found["wrong"] == []
    assert found["cases"] == 1500
    assert found["table"]["by_trusting: loads"] > 10
    assert found["table"]["by_trusting: UntrustedError"] > 100
