"""What a payload is made of, and what happens to a wrong one: see ``programs/payloads.py``."""

import pytest

from processes import decorated

CHECKS = decorated("payloads.py", "check")


@pytest.mark.parametrize("name", CHECKS)
def test_payload(run_checks, name):
    run_checks("payloads.py").demand(name)
