"""Shared traces: see ``sharing_traces.py``, ``training_by_epochs.py`` and ``reuse.py`` here."""

import pytest

from processes import decorated


@pytest.mark.parametrize("name", decorated("sharing_traces.py", "check"))
def test_traces(run_checks, name):
    run_checks("sharing_traces.py", timeout=1500).demand(name)


@pytest.mark.parametrize("name", decorated("training_by_epochs.py", "check"))
def test_training(run_checks, name):
    run_checks("training_by_epochs.py", timeout=900).demand(name)


@pytest.mark.parametrize("name", decorated("reuse.py", "check"))
def test_estimators_find_the_same_with_shared_traces(run_checks, name):
    run_checks("reuse.py", timeout=900).demand(name)
