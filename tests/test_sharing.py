"""Memory that is shared, threads side by side, work not done twice: ``programs/sharing.py``."""

import pytest

from processes import decorated, words

CHECKS = decorated("sharing.py", "check")


@pytest.fixture(scope="module")
def outcome():
    return words("sharing.py")


@pytest.mark.parametrize("name", CHECKS)
def test_sharing(outcome, name):
    assert not outcome[name], outcome[name]
