"""Traces that models share: see ``programs/traces.py``."""

import pytest

from processes import decorated, words

CHECKS = decorated("traces.py", "check")


@pytest.fixture(scope="module")
def outcome():
    return words("traces.py", timeout=900)


@pytest.mark.parametrize("name", CHECKS)
def test_traces(outcome, name):
    assert not outcome[name], outcome[name]
