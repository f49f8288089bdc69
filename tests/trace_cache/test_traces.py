"""Traces that models share: see ``trace_cache/sharing_traces.py`` and ``trace_cache/reuse.py``."""

import pytest

from processes import decorated, words


@pytest.mark.parametrize("name", decorated("sharing_traces.py", "check"))
def test_traces(run_checks, name):
    run_checks("sharing_traces.py", timeout=1500).demand(name)


@pytest.mark.parametrize("part", ["searches", "lives"])
def test_estimators_find_the_same_with_shared_traces(part):
    found = words("reuse.py", part, timeout=900)
    assert found
    assert not any(found.values()), "\n".join(found.values())
