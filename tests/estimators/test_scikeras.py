"""Estimators with the parameters of SciKeras; the checks are in two programs beside this file."""

from pathlib import Path

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from exact_models import linear
from keras_reduce.scikeras import KerasClassifier, KerasRegressor
from processes import decorated, python

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("scikeras")


@pytest.mark.parametrize("name", decorated("routed_parameters.py", "check"))
def test_parameters(run_checks, folder, name):
    run_checks("routed_parameters.py", folder).demand(name)


@pytest.mark.parametrize("name", decorated("data_of_every_form.py", "check"))
def test_data(run_checks, folder, name):
    run_checks("data_of_every_form.py", folder, path=[HERE]).demand(name)


@pytest.mark.parametrize("name", decorated("several_heads.py", "check"))
def test_several_outputs(run_checks, folder, name):
    run_checks("several_heads.py", folder).demand(name)


def test_dumped_models_with_several_outputs_train_on_in_a_fresh_process(run_checks, folder):
    needed = "a_search_over_two_workers"
    run_checks("several_heads.py", folder, needed=[needed]).demand(needed)
    python(
        """
        import sys
        import joblib
        for name in ("kerasregressor", "kerasclassifier"):
            pipeline, given = joblib.load(f"{sys.argv[1]}/{name}.joblib")
            expected = joblib.load(f"{sys.argv[1]}/{name}_expected.joblib")
            X, y = given["X"], given["y"]
            assert pipeline.predict(X).tobytes() == given["predicted"].tobytes()
            scaler, best = pipeline
            best.partial_fit(scaler.transform(X), y)
            weights = sorted(best.model_.weights, key=lambda each: each.path)
            bits = b"".join(each.numpy().tobytes() for each in weights)
            assert bits == expected["trained_further"]
            pipeline.fit(X, y)
        """,
        folder,
        cwd=folder,
    )


def test_a_dumped_search_trains_on_in_a_fresh_process(run_checks, folder):
    needed = "a_search_over_two_workers"
    run_checks("routed_parameters.py", folder, needed=[needed]).demand(needed)
    python(
        """
        import sys
        import joblib
        import numpy as np
        folder = sys.argv[1]
        search = joblib.load(f"{folder}/routed.joblib")
        X, y = np.load(f"{folder}/X.npy"), np.load(f"{folder}/y.npy")
        expected = np.load(f"{folder}/expected.npz")
        assert search.predict(X).tobytes() == expected["predicted"].tobytes()
        scaler, best = search.best_estimator_
        best.partial_fit(scaler.transform(X), y)
        weights = b"".join(each.tobytes() for each in best.model_.get_weights())
        assert weights == open(f"{folder}/trained_further", "rb").read()
        # The build function of a program that is gone builds and trains here as well.
        search.best_estimator_.fit(X, y)
        """,
        folder,
        cwd=folder,
    )


def test_dumped_tutorials_answer_in_a_fresh_process(run_checks, folder):
    needed = "tutorials_are_carried"
    run_checks("data_of_every_form.py", folder, path=[HERE], needed=[needed]).demand(needed)
    python(
        """
        import sys
        import joblib
        import numpy as np
        for name, (estimator, X, y, expected) in joblib.load(
            f"{sys.argv[1]}/tutorials.joblib"
        ).items():
            methods = ("predict", "predict_proba", "transform")
            results = [getattr(estimator, m)(X) for m in methods if hasattr(estimator, m)]
            flat = [e for r in results for e in (r if type(r) is list else [r])]
            assert b"".join(np.asarray(e).tobytes() for e in flat) == expected, name
            estimator.fit(X, y)
        """,
        folder,
        cwd=folder,
        path=[HERE],
    )


class ExactRegressor(KerasRegressor):
    """An estimator that makes scikit-learn's checks demand a good score."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = False
        return tags


class ExactClassifier(KerasClassifier):
    """An estimator that makes scikit-learn's checks demand a good score."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = False
        return tags


def scikit_learn_checks():
    """Yield all checks of both estimators, with names that contain no addresses."""
    for kind in (ExactRegressor, ExactClassifier):
        estimator = kind(linear, batch_size=500, random_state=0, verbose=0)
        for copied, check in estimator_checks_generator(estimator):
            if check.func.__name__.endswith("_decision_function"):
                continue  # scikit-learn skips it: a method that these estimators lack.
            options = ",".join(f"{name}={value}" for name, value in check.keywords.items())
            name = f"{check.func.__name__}({options})" if options else check.func.__name__
            yield pytest.param(copied, check, id=f"{kind.__name__}-{name}")


# No check is expected to fail.
@pytest.mark.parametrize(("estimator", "check"), list(scikit_learn_checks()))
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_no_framework_is_imported():
    python(
        """
        import sys
        import numpy as np
        from sklearn.base import clone
        import keras_reduce.scikeras
        from keras_reduce.scikeras import KerasClassifier, KerasRegressor
        from keras_reduce.scikeras.utils import loss_name
        from keras_reduce.scikeras.utils.transformers import RegressorTargetEncoder
        estimator = clone(KerasRegressor(print, loss="mse", model__units=2))
        estimator.set_params(optimizer__learning_rate=0.1, epochs=3)
        encoder = RegressorTargetEncoder().fit(np.ones(3))
        assert encoder.inverse_transform(np.ones((3, 1))).shape == (3,)
        assert not {"keras", "tensorflow", "scikeras"} & set(sys.modules)
        """,
        fresh=True,
    )
