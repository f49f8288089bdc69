"""Keras models in scikit-learn's searches, ensembles and other meta-estimators.

Each is fitted on two workers, written, and read by a test in another process.
"""

import contextlib
import io
import re
import sys
from pathlib import Path

import joblib
import keras
import numpy as np
import sklearn
from joblib import parallel_config
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.callback import ProgressBar
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import AdaBoostClassifier, AdaBoostRegressor, StackingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RANSACRegressor
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
)
from sklearn.multioutput import ClassifierChain, MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import keras_reduce
from checks import check, main, raises
from keras_reduce import scikeras

# Models of one architecture share traces, which is cheaper than computing eagerly.
keras_reduce.install()
rng = np.random.default_rng(0)
X = rng.normal(size=(40, 4)).astype("float32")
Y = X @ np.array([1.0, -2.0, 0.5, 0.0])
YES = np.where(Y > 0, "yes", "no")
WEIGHTS = (np.arange(40) % 3).astype(float)
GROUPS = np.arange(40) // 10


def build(meta, units=3):
    is_classifier = "n_classes_" in meta
    last = ("sigmoid", "binary_crossentropy") if is_classifier else (None, "mse")
    model = keras.Sequential([keras.layers.Dense(units, "relu"), keras.layers.Dense(1, last[0])])
    model.compile(keras.optimizers.Adam(0.05), last[1])
    return model


# One step for each epoch.
OPTIONS = {"random_state": 0, "batch_size": 40, "verbose": 0}


def regressor(**parameters):
    return keras_reduce.KerasRegressor(build, **OPTIONS, **parameters)


def classifier(**parameters):
    return keras_reduce.KerasClassifier(build, **OPTIONS, **parameters)


def routed_regressor(**parameters):
    return scikeras.KerasRegressor(build, **OPTIONS, **parameters)


def routed_classifier(**parameters):
    return scikeras.KerasClassifier(build, **OPTIONS, **parameters)


def answers(fitted, samples):
    """Return the bits of all that an estimator answers."""
    methods = ("predict_proba", "predict", "transform")
    given = [getattr(fitted, name)(samples) for name in methods if hasattr(fitted, name)]
    assert given
    return b"".join(np.asarray(each).tobytes() for each in given)


def carried(name, fitted, y, **parameters):
    """Write an estimator, and what a reader must get from it."""
    joblib.dump((fitted, X, y, parameters, answers(fitted, X)), FOLDER / f"{name}.joblib")


def on_two_workers(estimator, y, **parameters):
    """Return the estimator, fitted; the reading process fits it alone, with the same result."""
    with parallel_config("keras", n_jobs=2):
        return estimator.fit(X, y, **parameters)


def search(estimator, grid, **options):
    return GridSearchCV(estimator, grid, **{"cv": 2, "error_score": "raise", **options})


# --- meta-estimators -----------------------------------------------------------------------------


@check
def features_selected_one_by_one():
    selector = SequentialFeatureSelector(regressor(), n_features_to_select=1, cv=2)
    fitted = on_two_workers(selector, Y)
    assert fitted.get_support().sum() == 1
    carried("selector", fitted, Y)


@check
def calibrated_probabilities():
    for ensemble in (True, False):
        calibrated = CalibratedClassifierCV(classifier(epochs=2), cv=2, ensemble=ensemble)
        fitted = on_two_workers(calibrated, YES, sample_weight=WEIGHTS)
        assert fitted.predict_proba(X).shape == (40, 2)
        carried(f"calibrated_{ensemble}", fitted, YES, sample_weight=WEIGHTS)


@check
def tuned_threshold():
    tuned = TunedThresholdClassifierCV(routed_classifier(), cv=2, random_state=0)
    fitted = on_two_workers(tuned, YES)
    assert 0 <= fitted.best_threshold_ <= 1
    carried("threshold", fitted, YES)


@check
def frozen_estimators():
    fitted = classifier(epochs=2).fit(X, YES)
    frozen = FrozenEstimator(fitted)
    assert clone(frozen).estimator.model_ is fitted.model_
    calibrated = on_two_workers(CalibratedClassifierCV(frozen, cv=2), YES)
    inner = calibrated.calibrated_classifiers_[0].estimator
    assert answers(inner, X) == answers(fitted, X)
    carried("frozen", calibrated, YES)


@check
def stacked_estimators():
    fitted = [("a", classifier().fit(X, YES)), ("b", routed_classifier(epochs=2).fit(X, YES))]
    prefit = on_two_workers(StackingClassifier(fitted, cv="prefit"), YES)
    assert prefit.named_estimators_["a"].model_ is fitted[0][1].model_
    carried("prefit", prefit, YES)
    carried("stacked", on_two_workers(StackingClassifier(fitted, cv=2), YES), YES)


@check
def transformed_targets_in_a_search():
    transformed = TransformedTargetRegressor(regressor(), transformer=MinMaxScaler())
    candidates = search(transformed, {"regressor__units": [2, 4]})
    fitted = on_two_workers(candidates, Y, sample_weight=WEIGHTS)
    assert fitted.predict(X).shape == (40,)
    carried("transformed", fitted, Y, sample_weight=WEIGHTS)


@check
def outliers_set_aside_in_a_search():
    ransac = RANSACRegressor(
        regressor(), min_samples=0.5, max_trials=2, residual_threshold=50, random_state=0
    )
    fitted = on_two_workers(search(ransac, {"estimator__units": [2, 4]}), Y)
    assert fitted.best_estimator_.inlier_mask_.sum() >= 20
    carried("ransac", fitted, Y)


@check
def boosted_in_a_search():
    for name, kind, estimator, y in (
        ("boosted_labels", AdaBoostClassifier, classifier(epochs=15), YES),
        ("boosted_numbers", AdaBoostRegressor, routed_regressor(epochs=2), Y),
    ):
        boosted = kind(estimator, n_estimators=2, random_state=0)
        fitted = on_two_workers(search(boosted, {"learning_rate": [1.0]}), y, sample_weight=WEIGHTS)
        carried(name, fitted, y, sample_weight=WEIGHTS)


@check
def halving_over_epochs_that_no_constructor_got():
    halving = HalvingGridSearchCV(
        routed_regressor(),
        {"model__units": [2, 4]},
        resource="epochs",
        max_resources=2,
        factor=2,
        cv=2,
        random_state=0,
    )
    fitted = on_two_workers(halving, Y)
    assert fitted.best_params_["epochs"] == 2
    carried("halving", fitted, Y)


@check
def one_estimator_for_each_output():
    columns = np.column_stack([Y, -Y])
    fitted = on_two_workers(MultiOutputRegressor(regressor()), columns)
    assert fitted.predict(X).shape == (40, 2)
    carried("each_output", fitted, columns)
    binary = np.column_stack([Y > 0, X[:, 0] > 0]).astype(int)
    chain = ClassifierChain(classifier(), cv=2, random_state=0).fit(X, binary)
    assert chain.predict_proba(X).shape == (40, 2)
    with parallel_config("keras", n_jobs=2):
        likely = cross_val_predict(classifier(), X, YES, cv=2, method="predict_proba")
    expected = cross_val_predict(classifier(), X, YES, cv=2, method="predict_proba")
    assert likely.tobytes() == expected.tobytes()


# --- metadata ------------------------------------------------------------------------------------


@check
def metadata_in_a_pipeline_in_a_search():
    with sklearn.config_context(enable_metadata_routing=True):
        for name, estimator in (("by_name", classifier()), ("by_prefix", routed_classifier())):
            plain = make_pipeline(StandardScaler(), estimator)
            weighted = clone(estimator).set_fit_request(sample_weight=True)
            weighted.set_score_request(sample_weight=True)
            scaler = StandardScaler().set_fit_request(sample_weight=False)
            pipeline = make_pipeline(scaler, weighted)
            grid = {f"{pipeline.steps[-1][0]}__epochs": [1, 2]}
            candidates = search(pipeline, grid, cv=GroupKFold(2))
            parameters = {"sample_weight": WEIGHTS, "groups": GROUPS}
            fitted = on_two_workers(candidates, YES, **parameters)
            carried(f"routed_{name}", fitted, YES, **parameters)
            # The weights reached the fit and the score.
            best = fitted.best_estimator_
            scaled = best[0].transform(X)
            epochs = fitted.best_params_[f"{pipeline.steps[-1][0]}__epochs"]
            alone = clone(estimator).set_params(epochs=epochs)
            assert answers(alone.fit(scaled, YES, sample_weight=WEIGHTS), scaled) == answers(
                best, X
            )
            assert answers(clone(alone).fit(scaled, YES), scaled) != answers(best, X)
            parts = next(GroupKFold(2).split(X, YES, GROUPS))
            first = clone(pipeline).set_params(**dict.fromkeys(grid, 1))
            first.fit(X[parts[0]], YES[parts[0]], sample_weight=WEIGHTS[parts[0]])
            score = first.score(X[parts[1]], YES[parts[1]], sample_weight=WEIGHTS[parts[1]])
            assert fitted.cv_results_["split0_test_score"][0] == score
            with raises(ValueError, "sample_weight", "not explicitly set as requested"):
                plain.fit(X, YES, sample_weight=WEIGHTS)


@check
def other_arguments_of_fit_by_routing():
    given = {"yes": 3.0}
    with sklearn.config_context(enable_metadata_routing=True):
        for make in (classifier, regressor):
            estimator = make().set_fit_request(epochs=True, class_weight=True)
            pipeline = make_pipeline(StandardScaler(), estimator)
            y = YES if make is classifier else Y
            options = {"epochs": 2, **({"class_weight": given} if make is classifier else {})}
            pipeline.fit(X, y, **options)
            scaled = pipeline[0].transform(X)
            expected = make(**options).fit(scaled, y)
            assert answers(expected, scaled) == answers(pipeline, X)
            fitted = GridSearchCV(pipeline, {}, cv=2, error_score="raise").fit(X, y, **options)
            assert len(fitted.best_estimator_[-1].history_.epoch) == 2
            pipeline.set_params(**{f"{pipeline.steps[-1][0]}__units": 2})
            assert clone(pipeline)[-1].get_metadata_routing().fit.requests["epochs"]
            twin = keras_reduce.loads(keras_reduce.dumps(pipeline))
            twin.fit(X, y, **options)


# --- scikit-learn's callbacks --------------------------------------------------------------------


class Tasks:
    """A callback that notes tasks in files, since it is called in workers."""

    max_propagation_depth = None

    def __init__(self, folder, stop_at=None):
        self.folder, self.stop_at = Path(folder), stop_at

    def note(self, kind, estimator, context):
        name = f"{kind} {type(estimator).__name__} {context.task_name} {context.task_id}"
        with (self.folder / name).open("a") as file:
            file.write(".")

    def setup(self, estimator, context):
        self.note("setup", estimator, context)

    def teardown(self, estimator, context):
        self.note("teardown", estimator, context)

    def on_fit_task_begin(self, estimator, context):
        self.note("begin", estimator, context)

    def on_fit_task_end(self, estimator, context):
        self.note("end", estimator, context)
        return context.task_name == "epoch" and context.task_id == self.stop_at

    def counted(self):
        return {path.name: len(path.read_text()) for path in self.folder.iterdir()}


class Scores:
    """A callback that predicts with the estimator of each epoch."""

    def __init__(self):
        self.found = []

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None, metadata=None):  # noqa: N803
        if context.task_name == "epoch":
            self.found.append((fitted_estimator, metadata))


@check
def epochs_are_tasks_of_a_search():
    for kind, estimator in (("by_name", regressor()), ("by_prefix", routed_regressor())):
        folder = FOLDER / f"tasks_{kind}"
        folder.mkdir()
        tasks = Tasks(folder)
        pipeline = make_pipeline(StandardScaler(), estimator)
        fitted = search(pipeline, {"kerasregressor__epochs": [1, 3]}).set_callbacks(tasks)
        on_two_workers(fitted, Y)
        counted = tasks.counted()
        best = fitted.best_params_["kerasregressor__epochs"]
        # Two candidates in two folds, and the refit.
        for when in ("begin", "end"):
            epochs = [counted.get(f"{when} KerasRegressor epoch {i}", 0) for i in range(4)]
            late = 2 + (best == 3)
            assert epochs == [5, late, late, 0], (when, epochs)
        assert counted["setup GridSearchCV fit 0"] == counted["teardown GridSearchCV fit 0"] == 1
        # No callback of a fit stays at the model, nor at the estimator.
        last = fitted.best_estimator_[-1]
        assert not {"_parent_callback_ctx", "_callback_fit_ctx"} & vars(last).keys()
        alone = (
            clone(last).set_callbacks(Tasks(folder)).fit(fitted.best_estimator_[0].transform(X), Y)
        )
        assert answers(alone, X) == answers(last, X)


@check
def a_callback_stops_a_fit():
    for kind, make in (("by_name", regressor), ("by_prefix", routed_regressor)):
        folder = FOLDER / f"stops_{kind}"
        folder.mkdir()
        tasks = Tasks(folder, stop_at=1)
        estimator = make(epochs=5).set_callbacks(tasks)
        estimator.fit(X, Y)
        assert answers(estimator, X) == answers(make(epochs=2).fit(X, Y), X)
        assert tasks.counted()["end KerasRegressor fit 0"] == 1
        begun, ended = (
            sum(n for name, n in tasks.counted().items() if name.startswith(when))
            for when in ("begin", "end")
        )
        assert begun == ended == 3
        clone(estimator).partial_fit(X, Y)
        # Callbacks of Keras that stop the fit leave no task open.
        stopping = keras.callbacks.EarlyStopping("loss", min_delta=1e9)
        again = make(epochs=5, callbacks=[stopping]).set_callbacks(tasks).fit(X, Y)
        assert tasks.counted()["teardown KerasRegressor fit 0"] == 3
        begun, ended = (
            sum(n for name, n in tasks.counted().items() if name.startswith(when))
            for when in ("begin", "end")
        )
        assert begun == ended == 3 + 2 + 3
        assert again.get_params()["callbacks"] == [stopping] or kind == "by_name"


@check
def estimators_of_each_epoch():
    for make in (regressor, routed_regressor):
        scores = Scores()
        estimator = make(epochs=2, shuffle=False).set_callbacks(scores).fit(X, Y, WEIGHTS)
        (first, metadata), (second, _) = scores.found
        assert metadata["sample_weight"] is WEIGHTS
        alone = make(epochs=1, shuffle=False).fit(X, Y, WEIGHTS)
        assert answers(first, X) == answers(alone, X)
        assert answers(second, X) == answers(estimator, X)
        assert second.model_ is not estimator.model_


@check
def a_progress_bar_counts_epochs():
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        on_two_workers(search(regressor(), {"epochs": [3, 4]}).set_callbacks(ProgressBar()), Y)
    fits = re.findall(r"KerasRegressor - fit.*100%", shown.getvalue())
    assert len(fits) == 5, shown.getvalue()


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    main(*sys.argv[2:])
