"""A cluster of Spark's: two executors on this machine, each with a JVM and a process of Python.

Whatever comes back is compared with what the same program does alone, bit for bit.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import tempfile
import types
from pathlib import Path

import cloudpickle
import joblib
import keras
import numpy as np
import pandas as pd
import pyspark
from joblibspark import register_spark
from joblibspark.backend import SparkDistributedBackend
from pyspark.errors import PythonException
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf
from scikeras.wrappers import KerasRegressor as SciKerasRegressor
from sklearn.ensemble import BaggingRegressor
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_reduce
from checks import bits, check, main, raises
from keras_reduce import registry, workers

# Batches are all of one size: TensorFlow computes those of a second one, and from then on all, by a
# trace for any size, which rounds otherwise than one for a certain size.
rng = np.random.default_rng(0)
X = rng.normal(size=(24, 5)).astype("float32")
Y = X.sum(1)

DISGUISES = Path(__file__).parent / "disguises"


class Scaled(keras.layers.Layer):
    """A layer that no worker can import."""

    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def build(units=4, rate=0.2):
    hidden = [keras.layers.Dense(units, "relu"), Scaled(1.5), keras.layers.Dropout(rate)]
    model = keras.Sequential([keras.Input((5,)), *hidden, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def build_for_keras(X, y, units=4):  # noqa: N803
    return build(units)


def trained(units=4, seed=1):
    keras.utils.set_random_seed(seed)
    model = build(units)
    model.fit(X, Y, batch_size=6, verbose=0)
    return model


def regressor(**parameters):
    options = {"epochs": 2, "batch_size": 6, "random_state": 0, **parameters}
    return make_pipeline(StandardScaler(), keras_reduce.KerasRegressor(build, **options))


def life(model):
    """Return what a model answers, and what becomes of it."""
    keras.utils.set_random_seed(2)  # The order of rows is the program's, and none of the model's.
    answer = model.predict(X, verbose=0)
    history = model.fit(X, Y, batch_size=6, verbose=0).history
    return bits(
        [answer, history, *model.get_weights(), *map(np.asarray, model.optimizer.variables)]
    )


def scores(search):
    return bits({name: v for name, v in search.cv_results_.items() if "time" not in name})


# --- by way of joblib ------------------------------------------------------------------------


def on_spark():
    return joblib.parallel_config("spark", n_jobs=2)


def grid_search(pipeline, grid, **options):
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise", **options)
    return search.fit(X, Y)


@check
def searches_find_what_they_find_alone():
    grid = {"kerasregressor__units": [3, 4]}
    alone = grid_search(regressor(), grid)
    with on_spark():
        found = grid_search(regressor(), grid)
    assert scores(found) == scores(alone)
    assert life(found.best_estimator_[-1].model_) == life(alone.best_estimator_[-1].model_)


@check
def a_search_outlives_a_worker():
    """Spark gives the task to a new one, which is set up as the one was that was killed."""
    grid = {"kerasregressor__units": [3, 4]}
    alone = grid_search(regressor(), grid)
    mark = Path(FOLDER, "killed")

    def killing(units=4, rate=0.2):
        with contextlib.suppress(FileExistsError):
            mark.touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        return build(units, rate)

    with on_spark():
        found = grid_search(regressor().set_params(kerasregressor__build_fn=killing), grid)
    assert mark.exists()
    means = [bits(search.cv_results_["mean_test_score"]) for search in (found, alone)]
    assert means[0] == means[1]


@check
def wrappers_of_others_are_searched():
    others = (
        SciKerasRegressor(build, units=4, epochs=1, verbose=0, random_state=0),
        keras.wrappers.SKLearnRegressor(build_for_keras, fit_kwargs={"epochs": 1, "verbose": 0}),
    )
    grids = {"units": [3]}, {"model_kwargs": [{"units": 3}]}
    for wrapper, grid in zip(others, grids, strict=True):
        pipeline = make_pipeline(StandardScaler(), wrapper)
        name = type(wrapper).__name__.lower()
        with on_spark():
            found = grid_search(pipeline, {f"{name}__{key}": v for key, v in grid.items()})
        assert found.predict(X).size == 24
        assert np.isfinite(found.cv_results_["mean_test_score"]).all()


@check
def estimators_that_workers_have_fitted_come_back_whole():
    options = {"cv": 2, "return_estimator": True, "error_score": "raise"}
    alone = cross_validate(regressor(), X, Y, **options)
    with on_spark():
        found = cross_validate(regressor(), X, Y, **options)
    assert bits(found["test_score"]) == bits(alone["test_score"])
    for theirs, ours in zip(found["estimator"], alone["estimator"], strict=True):
        assert bits(theirs[-1].history_.history) == bits(ours[-1].history_.history)
        assert isinstance(theirs[-1].model_.layers[1], Scaled)
        assert life(theirs[-1].model_) == life(ours[-1].model_)


@check
def estimators_of_others_come_back_with_the_classes_of_the_program():
    wrapper = SciKerasRegressor(build, epochs=1, batch_size=6, verbose=0, random_state=0)
    options = {"cv": 2, "return_estimator": True, "error_score": "raise"}
    alone = cross_validate(wrapper, X, Y, **options)
    with on_spark():
        found = cross_validate(wrapper, X, Y, **options)
    for theirs, ours in zip(found["estimator"], alone["estimator"], strict=True):
        assert isinstance(theirs.model_.layers[1], Scaled)
        assert life(theirs.model_) == life(ours.model_)


@check
def ensembles_come_back_whole():
    def ensemble():
        return BaggingRegressor(regressor(), n_estimators=2, random_state=0)

    alone = ensemble().fit(X, Y)
    with on_spark():
        found = ensemble().fit(X, Y)
    assert bits(found.predict(X)) == bits(alone.predict(X))


@check
def errors_of_tasks_come_out():
    def failing():
        raise ValueError("no model today")

    pipeline = regressor().set_params(kerasregressor__build_fn=failing)
    with raises(PythonException, "ValueError: no model today"), on_spark():
        grid_search(pipeline, {"kerasregressor__epochs": [1]})


@check
def uninstalling_puts_back_what_was_there():
    names = {"abort_everything", "supports_retrieve_callback", "retrieve_result_callback"}
    installed = {name: vars(SparkDistributedBackend).get(name) for name in names}
    assert all(installed.values())
    keras_reduce.uninstall()
    try:
        left = vars(SparkDistributedBackend)
        assert [name for name in names if left.get(name) is installed[name]] == []
        assert names & set(left) == {"abort_everything"}
    finally:
        keras_reduce.install()


# --- jobs of the program's own ---------------------------------------------------------------


def ran(function, *items):
    """Return what `function` makes of items, each in a task of its own."""
    return CONTEXT.parallelize(items, len(items)).map(function).collect()


class Asked:
    """Comes out of a pickle as the name of the process that has unpickled it."""

    def __reduce__(self):
        return workers.here, ()


@check
def workers_are_told_from_the_program():
    asked = Asked()
    for name, is_worker in ran(lambda _: (asked, workers.is_worker()), 0, 1):
        assert name.startswith("Spark worker, stage ")
        assert is_worker
    assert not workers.is_worker()
    assert workers.here().startswith("process ")


@check
def what_tasks_return_comes_back_whole():
    found = ran(keras_reduce.spark.prepared(trained), 3, 4)
    for units, model in zip((3, 4), found, strict=True):
        assert isinstance(model.layers[1], Scaled)
        assert life(model) == life(trained(units))

    def fitted(units):
        return regressor(units=units).fit(X, Y)

    found = ran(keras_reduce.spark.prepared(fitted), 3, 4)
    for units, pipeline in zip((3, 4), found, strict=True):
        assert bits(pipeline.predict(X)) == bits(fitted(units).predict(X))
        assert bits(pipeline[-1].history_.history) == bits(fitted(units)[-1].history_.history)


def by_blocks(pipeline):
    """Return what a pipeline answers to blocks of rows, as Spark hands them out."""
    blocks = [pipeline.predict(X[start : start + BLOCK]) for start in range(0, len(X), BLOCK)]
    return bits(np.concatenate(blocks))


@check
def a_broadcast_pipeline_is_loaded_once_by_each_worker():
    fitted = regressor().fit(X, Y)
    carried = CONTEXT.broadcast(fitted)

    def answers(frames):
        for frame in frames:
            pipeline = carried.value
            pipeline.uses = getattr(pipeline, "uses", 0) + 1
            found = pipeline.predict(frame.to_numpy())
            yield pd.DataFrame({"answer": found, "worker": os.getpid(), "use": pipeline.uses})

    frame = SPARK.createDataFrame(pd.DataFrame(X, columns=list("abcde")))
    uses = []
    for function in (answers, keras_reduce.spark.prepared(answers)):
        found = frame.mapInPandas(function, "answer float, worker long, use long").toPandas()
        assert bits(found["answer"].to_numpy()) == by_blocks(fitted)
        uses.extend(zip(found["worker"][::BLOCK], found["use"][::BLOCK], strict=True))
    assert len(uses) == 2 * len(X) / BLOCK
    # A worker that had loaded another one would have begun to count anew.
    assert len(set(uses)) == len(uses)
    assert not hasattr(fitted, "uses")


@check
def a_broadcast_pipeline_predicts_in_functions_of_sql():
    fitted = regressor().fit(X, Y)
    carried = CONTEXT.broadcast(fitted)

    def answer(*columns: pd.Series) -> pd.Series:
        return pd.Series(carried.value.predict(np.column_stack(columns)))

    frame = SPARK.createDataFrame(pd.DataFrame(X, columns=list("abcde")))
    for function in (answer, keras_reduce.spark.prepared(answer)):
        found = frame.select(pandas_udf(function, "float")(*"abcde").alias("answer")).toPandas()
        assert bits(found["answer"].to_numpy()) == by_blocks(fitted)


# --- workers of their own --------------------------------------------------------------------


@contextlib.contextmanager
def other_workers(**environment):
    """Let jobs run in other workers, as if the cluster had been started with `environment`."""
    before = dict(CONTEXT.environment)
    search = os.pathsep.join([str(DISGUISES), os.environ["PYTHONPATH"]])
    CONTEXT.environment.update(environment, PYTHONPATH=search)
    try:
        yield
    finally:
        CONTEXT.environment.clear()
        CONTEXT.environment.update(before)


@check
def workers_are_set_up_as_the_program_is():
    def found(_):
        options = registry.current()
        installed = registry.is_installed(), options.functions_by_value, options.reuse
        return *installed, os.environ["KERAS_BACKEND"], "keras" in sys.modules

    with other_workers(KERAS_BACKEND="jax"):
        assert ran(found, 0) == [(False, True, True, "jax", False)]
        with keras_reduce.installed(functions_by_value=False, reuse=False):
            assert (
                ran(keras_reduce.spark.prepared(found), 0, 1)
                == [(True, False, False, "tensorflow", False)] * 2
            )


@check
def workers_that_are_not_fit_say_so():
    unfit = {
        "keras_reduce is missing here": {"HIDDEN": "keras_reduce"},
        "tensorflow, with which the program's Keras computes, is missing": {"HIDDEN": "tensorflow"},
        f"keras 3.1.0 here, {keras.__version__} there": {"KERAS_VERSION": "3.1.0"},
    }
    for said, environment in unfit.items():
        demanded = PythonException, "ImportError", said, "at Spark worker, stage ", "What to do"
        with other_workers(**environment):
            with raises(*demanded):
                ran(keras_reduce.spark.prepared(trained), 3)
            with raises(*demanded), on_spark():
                grid_search(regressor(), {"kerasregressor__units": [3]})


@check
def a_worker_with_another_backend_says_so():
    sent = cloudpickle.dumps(keras_reduce.spark.prepared(trained))

    def computes_with_another(_):
        sys.modules["keras"] = keras = types.ModuleType("keras")
        keras.config = types.SimpleNamespace(backend=lambda: "numpy")
        pickle.loads(sent)

    said = "computes with 'numpy', that of its program with 'tensorflow'"
    with (
        other_workers(),
        raises(PythonException, "FrameworkError", said, "at Spark worker, stage ", "What to do"),
    ):
        ran(computes_with_another, 0)


BLOCK = 6  # rows that Spark hands to a function at once


def session(folder):
    """Start a cluster of two executors with a core each, on the loopback interface only."""
    # Such a cluster writes into the folder that Spark is installed in.
    home = Path(folder, "home")
    home.mkdir()
    for part in Path(pyspark.__file__).parent.iterdir():
        if part.name != "work":
            (home / part.name).symlink_to(part)
    local = {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    os.environ.update(local, SPARK_HOME=str(home), SPARK_LOCAL_DIRS=folder)
    options = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        # As for functions of SQL, for which Spark would start other workers otherwise.
        "spark.executorEnv.SPARK_SIMPLIFIED_TRACEBACK": "1",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(BLOCK),
        "spark.sql.warehouse.dir": folder,
        "spark.task.maxFailures": "2",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = SparkSession.builder.master("local-cluster[2,1,1024]")
    return builder.config(map=options).getOrCreate()


if __name__ == "__main__":
    keras_reduce.install()
    register_spark()
    with tempfile.TemporaryDirectory(prefix="spark-") as FOLDER:
        SPARK = session(FOLDER)
        CONTEXT = SPARK.sparkContext
        CONTEXT.setLogLevel("OFF")
        try:
            main()
        finally:
            SPARK.stop()
