"""Transformers: the checks are in a program beside this file; and scikit-learn's own checks."""

from pathlib import Path

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

import keras_reduce
from exact_models import coder
from keras_reduce import scikeras
from processes import decorated, python

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("transformers")


@pytest.mark.parametrize("name", decorated("encoding_models.py", "check"))
def test_transformers(run_checks, folder, name):
    run_checks("encoding_models.py", folder).demand(name)


def test_dumped_transformers_train_on_in_a_fresh_process(run_checks, folder):
    needed = "a_pipeline_in_a_search_over_two_workers"
    run_checks("encoding_models.py", folder, needed=[needed]).demand(needed)
    python(
        """
        import sys
        import joblib
        for name in ("named", "routed"):
            search = joblib.load(f"{sys.argv[1]}/{name}.joblib")
            X, labels, expected = joblib.load(f"{sys.argv[1]}/{name}_expected.joblib")
            best = search.best_estimator_[:2]
            assert best.transform(X).tobytes() == expected["codes"].tobytes()
            best[1].partial_fit(best[0].transform(X))
            weights = b"".join(each.tobytes() for each in best[1].model_.get_weights())
            assert weights == expected["weights"]
            assert best.transform(X).tobytes() == expected["codes_later"].tobytes()
            # The build function of a program that is gone builds and trains here as well.
            search.best_estimator_.fit(X, labels)
        """,
        folder,
        cwd=folder,
    )


def scikit_learn_checks():
    """Yield all checks of both transformers, with names that contain no addresses."""
    for name, kind, options in (
        ("named", keras_reduce.KerasTransformer, {}),
        ("routed", scikeras.KerasTransformer, {"verbose": 0}),
    ):
        estimator = kind(coder, encoder="code", batch_size=500, random_state=0, **options)
        for copied, check in estimator_checks_generator(estimator):
            keywords = ",".join(f"{key}={value}" for key, value in check.keywords.items())
            function = check.func.__name__
            yield pytest.param(copied, check, id=f"{name}-{function}({keywords})")


# No check is expected to fail.
@pytest.mark.parametrize(("estimator", "check"), list(scikit_learn_checks()))
def test_scikit_learn_checks(estimator, check):
    check(estimator)
