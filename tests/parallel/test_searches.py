"""Searches, ensembles and plain batches over worker processes: see ``parallel/searches.py``."""

import pytest

from processes import decorated, python

CHECKS = decorated("searches.py", "check")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("searches")


@pytest.mark.parametrize("name", CHECKS)
def test_search(run_checks, folder, name):
    run_checks("searches.py", folder).demand(name)


def test_a_dumped_search_answers_in_a_fresh_process(run_checks, folder):
    needed = "grid_search_over_two_workers"
    run_checks("searches.py", folder, needed=[needed]).demand(needed)
    python(
        """
        import sys
        import joblib
        import numpy as np
        folder = sys.argv[1]
        search = joblib.load(f"{folder}/search.joblib")
        predictions = search.predict(np.load(f"{folder}/X.npy"))
        assert predictions.tobytes() == np.load(f"{folder}/expected.npy").tobytes()
        # The build function of a program that is gone builds and trains here as well.
        search.best_estimator_.fit(np.load(f"{folder}/X.npy"), predictions)
        """,
        folder,
        cwd=folder,
    )
