"""Loading with ``trusted=``: see ``audit/loading_by_a_list.py`` and ``audit/attacks.py``."""

import json

import pytest

from processes import decorated, program, python

CHECKS = {name: decorated(name, "check") for name in ("loading_by_a_list.py", "attacks.py")}


@pytest.mark.parametrize(
    ("file", "name"),
    [(file, name) for file, names in CHECKS.items() for name in names],
)
def test_trust(run_checks, file, name):
    run_checks(file, timeout=900).demand(name)


def test_files_that_nobody_wrote(tmp_path):
    """A sample; ``python tests/audit/fuzz.py 1800 1`` is half an hour of it."""
    printed = python(program("fuzz.py"), 500, 7, 1500, cwd=tmp_path, timeout=600)
    (line,) = [line for line in printed.splitlines() if line.startswith("TABLE ")]
    found = json.loads(line.removeprefix("TABLE "))
    assert found["wrong"] == []
    assert found["cases"] == 1500
    assert found["table"]["by_trusting: loads"] > 10
    assert found["table"]["by_trusting: UntrustedError"] > 100
