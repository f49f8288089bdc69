"""Models in MLflow, in each of its formats, read by a program that has only called `install`."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile

import keras
import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import importable
import keras_reduce
from checks import check, main, raises

X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
Y = X.sum(axis=1)
FORMATS = (None, "skops", "cloudpickle", "pickle")
READER = """
import pickle, sys
import keras_reduce
keras_reduce.install()
import mlflow.pyfunc, mlflow.sklearn
import numpy as np
from keras_reduce import families

name, X, Y, expected = pickle.loads(sys.stdin.buffer.read())
for load in (mlflow.sklearn.load_model, mlflow.pyfunc.load_model):
    assert np.array_equal(load(name).predict(X), expected[0])
estimator = mlflow.sklearn.load_model(name)
model = estimator[-1].model_
model.fit(X, Y, epochs=1, shuffle=False, verbose=0)
assert all(map(np.array_equal, model.get_weights(), expected[1]))
"""


def model():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dropout(0.3), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def wrapped():
    wrapper = keras.wrappers.SKLearnRegressor(model(), fit_kwargs={"epochs": 1, "verbose": 0})
    return make_pipeline(StandardScaler(), wrapper).fit(X, Y)


def logged(estimator, **options):
    """Return the address of a logged estimator. What the environment has is not asked for."""
    with mlflow.start_run():
        info = mlflow.sklearn.log_model(estimator, name="model", pip_requirements=[], **options)
    return info.model_uri


def read_elsewhere(name, pipeline):
    """Compare predictions and further training of the model of another process, to the bit."""
    predicted = pipeline.predict(X)
    part = pipeline[-1].model_
    weights = part.get_weights()
    part.fit(X, Y, epochs=1, shuffle=False, verbose=0)
    expected = predicted, part.get_weights()
    assert not all(map(np.array_equal, weights, expected[1]))
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READER],
        input=pickle.dumps((name, X, Y, expected)),
        check=True,
        timeout=200,
    )


@check
def the_default_format_is_skops():
    name = logged(wrapped())
    flavor = mlflow.models.get_model_info(name).flavors["sklearn"]
    assert flavor["serialization_format"] == "skops", flavor


@check
def a_pipeline_comes_back_in_another_process():
    pipeline = wrapped()
    read_elsewhere(logged(pipeline), pipeline)


@check
def every_format_works():
    pipeline = wrapped()
    for serialization_format in FORMATS:
        name = logged(pipeline, serialization_format=serialization_format)
        for load in (mlflow.sklearn.load_model, mlflow.pyfunc.load_model):
            assert np.array_equal(load(name).predict(X), pipeline.predict(X))


@check
def names_of_the_program_must_be_trusted():
    estimator = keras_reduce.KerasRegressor(importable.build, epochs=1, verbose=0).fit(X, Y)
    with raises(MlflowException, "importable.build", "skops_trusted_types"):
        logged(estimator)
    name = logged(estimator, skops_trusted_types=["importable.build"])
    assert np.array_equal(mlflow.sklearn.load_model(name).predict(X), estimator.predict(X))


@check
def code_of_the_program_is_refused_and_the_other_format_works():
    estimator = keras_reduce.KerasRegressor(model, epochs=1, verbose=0).fit(X, Y)
    with raises(MlflowException, "cloudpickle") as refusal:
        logged(estimator)
    reason = refusal.error.__cause__
    assert isinstance(reason, keras_reduce.ReduceError)
    assert reason.where == "__main__.model"
    assert 'serialization_format="cloudpickle"' in reason.cure
    name = logged(estimator, serialization_format="cloudpickle")
    assert np.array_equal(mlflow.sklearn.load_model(name).predict(X), estimator.predict(X))


@check
def an_autologged_search_comes_back_in_another_process():
    wrapper = keras_reduce.KerasRegressor(importable.build, epochs=1, verbose=0)
    mlflow.sklearn.autolog(log_input_examples=False, silent=True)
    try:
        with mlflow.start_run() as run:
            pipeline = make_pipeline(StandardScaler(), wrapper)
            grid = {"kerasregressor__units": [2, 3]}
            search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2, error_score="raise").fit(X, Y)
    finally:
        mlflow.sklearn.autolog(disable=True)
    assert mlflow.get_run(run.info.run_id).data.params["best_kerasregressor__units"]
    (best,) = [
        each
        for each in mlflow.search_logged_models(output_format="list")
        if each.source_run_id == run.info.run_id and "best" in each.name
    ]
    read_elsewhere(best.model_uri, search.best_estimator_)


if __name__ == "__main__":
    keras_reduce.install()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        contextlib.chdir(folder),
    ):
        # Also for the processes that this one starts.
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        main(*sys.argv[1:])
