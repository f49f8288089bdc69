"""Clusters of Ray: see ``integrations/ray_cluster.py``."""

import pytest

from processes import decorated


@pytest.mark.parametrize("name", decorated("ray_cluster.py", "check"))
def test_ray(run_checks, name):
    run_checks("ray_cluster.py", timeout=600, fresh=True).demand(name)
