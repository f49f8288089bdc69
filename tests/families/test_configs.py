"""Objects with incomplete configs: see ``families/incomplete_configs.py``."""

import pytest

from processes import decorated

CASES, CHECKS = (decorated("incomplete_configs.py", mark) for mark in ("case", "check"))


@pytest.fixture
def outcome(write_and_read):
    """Words of the writer and of the reader, each in its own process."""
    return write_and_read("incomplete_configs.py")


@pytest.mark.parametrize("name", CHECKS)
def test_in_one_process(outcome, name):
    assert outcome["write"][name] == ""


@pytest.mark.parametrize("name", CASES)
def test_a_copy_and_what_a_fresh_process_reads_go_on_bit_for_bit(outcome, name):
    assert outcome["write"][name] == ""
    assert outcome["read"][name] == ""
