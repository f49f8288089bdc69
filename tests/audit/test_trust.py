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


def test_files_that_no_pickler_wrote(tmp_path):
    """Fuzz 1,500 cases; ``python tests/audit/fuzz.py 1800 1`` does it for half an hour."""
    printed = python(program("fuzz.py"), 500, 7, 1500, cwd=tmp_path, timeout=600)
    (line,) = [line for line in printed.splitlines() if line.startswith("TABLE ")]
    outcomes = json.loads(line.removeprefix("TABLE "))
    assert outcomes["wrong"] == []
    assert outcomes["cases"] == 1500
    assert outcomes["table"]["by_trusting: loads"] > 10
    assert outcomes["table"]["by_trusting: UntrustedError"] > 100
