"""The global random generator of a program, for layers that draw from it."""

import pytest

from processes import words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("seeds")


@pytest.fixture(scope="module")
def written(folder):
    return words("seeded_fits.py", folder, "write")


def test_a_program_that_has_not_drawn_goes_on_where_the_other_left_off(folder, written):
    assert words("seeded_fits.py", folder, "read") == written


def test_workers_go_on_so_each_time(folder, written):
    assert words("seeded_fits.py", folder, "workers") == written


def test_a_program_that_has_drawn_keeps_its_own(folder, written):
    drawn = words("seeded_fits.py", folder, "own")
    # A model whose layers draw nothing can't have changed the generator.
    assert list(drawn) == list(written)
    assert all(numbers == drawn["none"] for numbers in drawn.values())
