"""Models that are changed after they were built: see ``families/later_changes.py``."""

import pytest

from processes import ELSEWHERE, decorated, words

CHECKS = decorated("later_changes.py", "check")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("later_changes")


@pytest.mark.parametrize("name", CHECKS)
def test_copies_are_equal(run_checks, folder, name):
    run_checks("later_changes.py", "write", folder, timeout=900).demand(name)


def test_files_are_equal_in_a_process_without_the_classes(run_checks, folder):
    run_checks("later_changes.py", "write", folder, timeout=900).finish()
    # In another working directory, the writer's program can't be imported by chance.
    outcomes = words("later_changes.py", "read", folder, timeout=900, cwd=folder, **ELSEWHERE)
    assert len(outcomes) >= 24
    assert not any(outcomes.values()), outcomes
