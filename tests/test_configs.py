"""Objects that a config alone does not describe: see ``programs/configs.py``."""

import json

import pytest

from processes import PROGRAMS, decorated, python

CASES, CHECKS = (decorated("configs.py", mark) for mark in ("case", "check"))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Words of the writer and of the reader, each in a process of its own."""
    folder = tmp_path_factory.mktemp("configs")
    for role in ("write", "read"):
        python(PROGRAMS / "configs.py", role, folder, timeout=600)
    return {role: json.loads((folder / f"{role}.json").read_text()) for role in ("write", "read")}


@pytest.mark.parametrize("name", CHECKS)
def test_in_one_process(outcome, name):
    assert outcome["write"][name] == ""


@pytest.mark.parametrize("name", CASES)
def test_a_copy_and_what_a_fresh_process_reads_go_on_bit_for_bit(outcome, name):
    assert outcome["write"][name] == ""
    assert outcome["read"][name] == ""
