"""Keras models in scikit-learn's meta-estimators; the checks are in a program beside this file."""

import pytest

from processes import decorated, python


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("workflows")


CHECKS = decorated("workflows.py", "check")


@pytest.mark.parametrize("name", CHECKS)
def test_workflows(run_checks, folder, name):
    run_checks("workflows.py", folder).demand(name)


def test_what_was_written_answers_and_trains_in_a_fresh_process(run_checks, folder):
    verdicts = run_checks("workflows.py", folder, needed=CHECKS)
    for name in CHECKS:
        verdicts.demand(name)
    python(
        """
        import sys
        from pathlib import Path
        import joblib
        import numpy as np
        import sklearn

        def answers(fitted, X):
            methods = ("predict_proba", "predict", "transform")
            given = [getattr(fitted, name)(X) for name in methods if hasattr(fitted, name)]
            return b"".join(np.asarray(each).tobytes() for each in given)

        paths = sorted(Path(sys.argv[1]).glob("*.joblib"))
        assert len(paths) == 15, len(paths)
        for path in paths:
            fitted, X, y, parameters, expected = joblib.load(path)
            assert answers(fitted, X) == expected, path
            # The build function of a program that is gone builds and trains here as well; alone
            # with the same result as on two workers.
            with sklearn.config_context(enable_metadata_routing="groups" in parameters):
                fitted.fit(X, y, **parameters)
            assert answers(fitted, X) == expected, path
        """,
        folder,
        cwd=folder,
    )
