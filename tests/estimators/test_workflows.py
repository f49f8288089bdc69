"""Keras models in scikit-learn's meta-estimators; the checks are in a program beside this file."""

import pytest

from processes import decorated, python


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("workflows")


CHECKS = decorated("workflows.py", "check")
FORMS = decorated("sequences_images_texts.py", "check")


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
        contents = {path: joblib.load(path) for path in paths}
        # From here on, models share traces.
        import keras_reduce
        keras_reduce.install()
        for path, (fitted, X, y, parameters, expected) in contents.items():
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


@pytest.mark.parametrize("name", FORMS)
def test_sequences_images_and_texts(run_checks, folder, name):
    run_checks("sequences_images_texts.py", folder / "forms").demand(name)


def test_searches_of_every_form_train_on_in_a_fresh_process(run_checks, folder):
    verdicts = run_checks("sequences_images_texts.py", folder / "forms", needed=FORMS)
    for name in FORMS:
        verdicts.demand(name)
    python(
        """
        import sys
        from pathlib import Path
        import joblib

        paths = sorted(Path(sys.argv[1], "forms").glob("*.joblib"))
        assert len(paths) == 13, len(paths)
        contents = {path: joblib.load(path) for path in paths}
        # From here on, models share traces.
        import keras_reduce
        keras_reduce.install()
        for path, (search, X, y) in contents.items():
            predicted, trained_further = joblib.load(path.with_suffix(".expected"))
            assert search.predict(X).tobytes() == predicted.tobytes(), path
            best = search.best_estimator_
            best[-1].partial_fit(best[:-1].transform(X) if len(best) > 1 else X, y)
            weights = b"".join(each.tobytes() for each in best[-1].model_.get_weights())
            assert weights == trained_further, path
            # The build function of a program that is gone builds and trains here as well.
            assert search.fit(X, y).predict(X).tobytes() == predicted.tobytes(), path
        """,
        folder,
        cwd=folder,
    )
