"""Memory that is shared, threads side by side, work not done twice: ``programs/sharing.py``."""

import pytest

from processes import decorated

CHECKS = decorated("sharing.py", "check")


@pytest.mark.parametrize("name", CHECKS)
def test_sharing(run_checks, name):
    run_checks("sharing.py").demand(name)
