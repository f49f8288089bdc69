"""Searches, ensembles and plain batches over worker processes: see ``programs/searches.py``."""

import pytest

from processes import decorated, python, words

CHECKS = decorated("searches.py", "check")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("searches")


@pytest.fixture(scope="module")
def outcome(folder):
    return words("searches.py", folder)


@pytest.mark.parametrize("name", CHECKS)
def test_search(outcome, name):
    assert not outcome[name], outcome[name]


def test_a_dumped_search_answers_in_a_fresh_process(outcome, folder):
    assert "grid_search_over_two_workers" in outcome
    python(
        """
        import sys
        import joblib
        import numpy as np
        folder = sys.argv[1]
        search = joblib.load(f"{folder}/search.joblib")
        found = search.predict(np.load(f"{folder}/X.npy"))
        assert found.tobytes() == np.load(f"{folder}/expected.npy").tobytes()
        # The build function of a program that is gone builds and trains here as well.
        search.best_estimator_.fit(np.load(f"{folder}/X.npy"), found)
        """,
        folder,
        cwd=folder,
    )
