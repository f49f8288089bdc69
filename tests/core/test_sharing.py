"""Shared memory, concurrent threads, work that is not repeated: see ``core/sharing_weights.py``."""

import pytest

from processes import decorated

CHECKS = decorated("sharing_weights.py", "check")


@pytest.mark.parametrize("name", CHECKS)
def test_sharing(run_checks, name):
    run_checks("sharing_weights.py").demand(name)
