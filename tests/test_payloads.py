"""What a payload is made of, and what happens to a wrong one: see ``programs/payloads.py``."""

import pytest

from processes import decorated, words

CHECKS = decorated("payloads.py", "check")


@pytest.fixture(scope="module")
def outcome():
    return words("payloads.py")


@pytest.mark.parametrize("name", CHECKS)
def test_payload(outcome, name):
    assert not outcome[name], outcome[name]
