"""Objects of other libraries: see ``families/libraries_on_keras3.py`` and ``docs/libraries.md``."""

import pytest

import library_table
from processes import decorated

PROGRAM = "libraries_on_keras3.py"
CARRIED, REFUSED = decorated(PROGRAM, "carried"), decorated(PROGRAM, "refused")
PREFIXES = ("hub_", "tuner_", "hgq2_")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    return library_table.run(PROGRAM, tmp_path_factory.mktemp("libraries"))


@pytest.mark.parametrize("group", CARRIED + REFUSED)
def test_objects(outcomes, group):
    assert library_table.words(outcomes, group) == ({}, {})


def test_table_is_what_was_found(outcomes):
    expected = dict.fromkeys(CARRIED, "carried") | dict.fromkeys(REFUSED, "refused")
    natively = {group: library_table.natively(outcomes, group) for group in expected}
    rows = {group: (natively[group], said) for group, said in expected.items()}
    assert library_table.table(PREFIXES) == rows
