"""Traces that models share: see ``programs/traces.py`` and ``programs/reuse.py``."""

import pytest

from processes import decorated, words


@pytest.fixture(scope="module")
def outcome():
    return words("traces.py", timeout=1500)


@pytest.mark.parametrize("name", decorated("traces.py", "check"))
def test_traces(outcome, name):
    assert not outcome[name], outcome[name]


@pytest.mark.parametrize("part", ["searches", "lives"])
def test_estimators_find_the_same_with_shared_traces(part):
    found = words("reuse.py", part, timeout=900)
    assert found
    assert not any(found.values()), "\n".join(found.values())
