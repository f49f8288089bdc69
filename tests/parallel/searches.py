"""scikit-learn's meta-estimators over worker processes, with all own code in ``__main__``."""

import multiprocessing
import pickle
import sys
import threading
import time
from pathlib import Path

import joblib
import keras
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingRegressor, StackingRegressor
from sklearn.inspection import permutation_importance
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_reduce
from checks import check, main, raises
from keras_reduce import KerasRegressor, reducers

keras_reduce.install()
rng = np.random.default_rng(0)
X = rng.normal(size=(30, 4)).astype("float32")
Y = X.sum(axis=1)

# Models from workers are counted in the rebuilder, which pickle looks up in this module.
arrived = []
rebuild_model = reducers.rebuild_model


def counting(*arguments):
    obj = rebuild_model(*arguments)
    if isinstance(obj, keras.Model):  # Layers use the same rebuilder.
        arrived.append(obj.name)
    return obj


class Halved(keras.layers.Layer):
    def call(self, inputs):
        return inputs / 2


def build(units=3):
    model = keras.Sequential(
        [keras.Input((4,)), Halved(), keras.layers.Dense(units), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(0.05), loss="mse", run_eagerly=True)
    return model


def regressor(**parameters):
    return KerasRegressor(build, **{"epochs": 1, "random_state": 0, **parameters})


def pipeline():
    return make_pipeline(StandardScaler(), regressor())


def count_arrivals(function):
    reducers.rebuild_model = counting
    arrived.clear()
    try:
        return function(), len(arrived)
    finally:
        reducers.rebuild_model = rebuild_model


@check
def grid_search_over_two_workers():
    grid = {"kerasregressor__units": [2, 3], "kerasregressor__epochs": [1, 2]}
    parallel, sequential = (
        GridSearchCV(pipeline(), grid, cv=2, n_jobs=n_jobs, error_score="raise").fit(X, Y)
        for n_jobs in (2, 1)
    )
    name = "mean_test_score"
    assert parallel.cv_results_[name].tobytes() == sequential.cv_results_[name].tobytes()
    assert parallel.best_params_ == sequential.best_params_
    joblib.dump(parallel, FOLDER / "search.joblib")
    np.save(FOLDER / "expected.npy", parallel.predict(X))
    np.save(FOLDER / "X.npy", X)


@check
def estimators_that_come_back():
    results, arrivals = count_arrivals(
        lambda: cross_validate(
            pipeline(), X, Y, cv=2, n_jobs=2, return_estimator=True, error_score="raise"
        )
    )
    assert arrivals == 2
    first, second = results["estimator"]
    assert first[-1].model_ is not second[-1].model_
    assert np.isfinite(first.predict(X)).all()
    assert type(first[-1].model_.layers[0]) is Halved


@check
def ensembles():
    for estimator in (
        BaggingRegressor(pipeline(), n_estimators=2, n_jobs=2, random_state=0),
        StackingRegressor([("keras", pipeline()), ("ridge", Ridge())], cv=2, n_jobs=2),
        ColumnTransformer([("scale", StandardScaler(), [0])], n_jobs=2),
    ):
        (fitted, arrivals) = count_arrivals(lambda e=estimator: e.fit(X, Y))
        if hasattr(fitted, "predict"):
            assert arrivals, type(fitted)
            assert np.isfinite(fitted.predict(X)).all()


@check
def permutation_importance_of_a_fitted_pipeline():
    fitted = pipeline().fit(X, Y)
    parallel, sequential = (
        permutation_importance(fitted, X, Y, n_repeats=2, n_jobs=n_jobs, random_state=0)
        for n_jobs in (2, 1)
    )
    assert parallel.importances.tobytes() == sequential.importances.tobytes()


def built_in_steps():
    """Build a model in two steps; in between, another thread has time to draw."""
    layers = [keras.Input((4,)), keras.layers.Dense(3)]
    time.sleep(0.05)
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile("sgd", loss="mse", run_eagerly=True)
    return model


@check
def seeded_fits_in_threads_of_workers():
    estimator = KerasRegressor(built_in_steps, random_state=0)
    bagging = BaggingRegressor(estimator, n_estimators=4, n_jobs=2, random_state=0)
    # The sum of two jobs of a bagging is rounded differently from that of one, so both have two.
    outer, both = (
        cross_val_score(bagging, X, Y, cv=2, n_jobs=n_jobs, error_score="raise")
        for n_jobs in (1, 2)
    )
    assert outer.tobytes() == both.tobytes()


class Locked(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


@check
def callbacks_that_cannot_leave_the_process():
    estimator = regressor(callbacks=[Locked()])
    cross_val_score(estimator, X, Y, cv=2, error_score="raise")
    with raises(Exception, "") as demand:
        cross_val_score(estimator, X, Y, cv=2, n_jobs=2, error_score="raise")
    causes = [demand.error, demand.error.__cause__]
    assert any("sk_params['callbacks'][0].lock" in str(cause) for cause in causes), causes
    assert any("n_jobs=1" in str(cause) for cause in causes), causes


class Batches(keras.utils.PyDataset):
    def __init__(self):
        super().__init__(workers=2, use_multiprocessing=True)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X[index::3], Y[index::3]


def trained_on_batches():
    method = multiprocessing.get_start_method()
    if method == "fork":
        model = build()
        model.fit(Batches(), epochs=2, verbose=0, shuffle=False)
    return method


@check
def batches_that_other_processes_make_in_a_worker():
    is_forked = multiprocessing.get_all_start_methods()[0] == "fork"
    methods = joblib.Parallel(n_jobs=2)(joblib.delayed(trained_on_batches)() for _ in range(2))
    assert methods == ["fork" if is_forked else "loky"] * 2


def look_around(_):
    import copyreg

    import keras
    from joblib.parallel import BatchedCalls

    return (
        keras_reduce.is_installed(),
        keras.layers.Dense(1).__reduce__()[0].__module__,
        BatchedCalls in copyreg.dispatch_table,
    )


EXPECTED = (True, "keras_reduce.reducers", True)


@check
def a_batch_carries_the_installation():
    for backend in ("loky", "multiprocessing"):
        with joblib.parallel_config(backend=backend):
            # One task only, since each worker with a task imports Keras.
            seen = joblib.Parallel(n_jobs=2)([joblib.delayed(look_around)(0)])
        assert seen == [EXPECTED], (backend, seen)


@check
def options_travel_with_it():
    with keras_reduce.installed(functions_by_value=False):
        # Private: no public name tells the options in effect.
        work = joblib.delayed(lambda: keras_reduce.registry._current.functions_by_value)
        # New workers: the running ones have been installed with other options.
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            options = joblib.Parallel(n_jobs=2)([work(), work()])
    assert set(options) == {False}


@check
def a_payload_carries_the_installation_to_any_child():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        importable = sys.modules["checks"]
        assert importable is not None
        layer = keras.layers.Dense(1)
        assert pool.apply(reducer_of, (layer,)) == "keras_reduce.reducers"


def reducer_of(layer):
    return layer.__reduce__()[0].__module__


@check
def loading_in_a_program_installs_nothing():
    content = pickle.dumps(keras.layers.Dense(1))
    keras_reduce.uninstall()
    try:
        pickle.loads(content)
        assert not keras_reduce.is_installed()
    finally:
        keras_reduce.install()


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    main()
