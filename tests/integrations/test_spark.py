"""A cluster of Spark: see ``integrations/spark_cluster.py``."""

import pytest

from processes import decorated


@pytest.mark.parametrize("name", decorated("spark_cluster.py", "check"))
def test_spark(run_checks, name):
    run_checks("spark_cluster.py", timeout=600, fresh=True).demand(name)
