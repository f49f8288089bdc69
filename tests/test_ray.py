"""Clusters of Ray: see ``programs/ray_cluster.py``."""

import pytest

from processes import decorated, words


@pytest.fixture(scope="module")
def outcome():
    return words("ray_cluster.py", timeout=600)


@pytest.mark.parametrize("name", decorated("ray_cluster.py", "check"))
def test_ray(outcome, name):
    assert not outcome[name], outcome[name]
