"""Estimators beside scikit-optimize, Optuna, imbalanced-learn, polars and pyarrow.

The checks are in a program beside this file. The row `searches` has the packages.
"""

import pytest

from processes import decorated, python

CHECKS = decorated("with_other_packages.py", "check")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("with_other_packages")


@pytest.mark.parametrize("name", CHECKS)
def test_with_other_packages(run_checks, folder, name):
    run_checks("with_other_packages.py", folder).demand(name)


def test_what_was_written_answers_and_trains_in_a_fresh_process(run_checks, folder):
    verdicts = run_checks("with_other_packages.py", folder, needed=CHECKS)
    for name in CHECKS:
        verdicts.demand(name)
    python(
        """
        import sys
        from pathlib import Path
        import joblib

        paths = sorted(Path(sys.argv[1]).glob("*.joblib"))
        assert len(paths) == 12, len(paths)
        contents = {path: joblib.load(path) for path in paths}
        # From here on, models share traces.
        import keras_reduce
        keras_reduce.install()
        for path, (fitted, X, y, expected) in contents.items():
            assert fitted.predict(X).tobytes() == expected.tobytes(), path
            # The build function of a program that is gone builds and trains here as well; alone
            # with the same result as on two workers.
            assert fitted.fit(X, y).predict(X).tobytes() == expected.tobytes(), path
        """,
        folder,
        cwd=folder,
    )
