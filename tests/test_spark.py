"""A cluster of Spark's: see ``programs/spark_cluster.py``."""

import pytest

from processes import decorated, words


@pytest.fixture(scope="module")
def outcome():
    return words("spark_cluster.py", timeout=600)


@pytest.mark.parametrize("name", decorated("spark_cluster.py", "check"))
def test_spark(outcome, name):
    assert not outcome[name], outcome[name]
