"""Clusters of Dask: see ``programs/dask_cluster.py``."""

import pytest

from processes import decorated, words


@pytest.fixture(scope="module")
def outcome():
    return words("dask_cluster.py", timeout=600)


@pytest.mark.parametrize("name", decorated("dask_cluster.py", "check"))
def test_dask(outcome, name):
    assert not outcome[name], outcome[name]
