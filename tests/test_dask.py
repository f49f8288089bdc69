"""Clusters of Dask: see ``programs/dask_cluster.py``."""

import pytest

from processes import decorated, python, words
from test_readme import OF_ENGINES, programs


@pytest.fixture(scope="module")
def outcome():
    return words("dask_cluster.py", timeout=600)


@pytest.mark.parametrize("name", decorated("dask_cluster.py", "check"))
def test_dask(outcome, name):
    assert not outcome[name], outcome[name]


@pytest.mark.parametrize("name", sorted(OF_ENGINES))
def test_programs_of_readme(tmp_path, name):
    (tmp_path / name).write_text(programs()[name])
    assert python(tmp_path / name, cwd=tmp_path).splitlines()[-1] in (
        "{'units': 4}",
        "{'units': 8}",
    )
