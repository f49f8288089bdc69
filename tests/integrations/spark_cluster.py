"""A local cluster of Spark: two executors, each with a JVM and a Python process.

All results are compared with those of the same program alone, bit for bit.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import tempfile
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
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_reduce
from checks import bits, check, main, raises
from cluster_models import (
    BATCH,
    DISGUISES,
    PROGRAM,
    Scaled,
    X,
    Y,
    answers,
    as_if_on,
    assert_same_ensembles,
    assert_same_estimators,
    behaviour,
    ensemble,
    grid_search,
    keras_regressor,
    killing,
    read,
    regressor,
    scikeras_regressor,
    scores,
    trained,
    validated,
)
from keras_reduce import registry
from keras_reduce.core import process_role

# --- through joblib --------------------------------------------------------------------------


def on_spark():
    return joblib.parallel_config("spark", n_jobs=2)


@check
def tasks_run_in_other_processes():
    with on_spark():
        processes = joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(2))
    assert PROGRAM not in processes


@check
def searches_find_what_they_find_alone():
    grid = {"kerasregressor__units": [3, 4]}
    alone = grid_search(regressor(), grid)
    with on_spark():
        search = grid_search(regressor(), grid)
    assert scores(search) == scores(alone)
    assert behaviour(search.best_estimator_[-1].model_) == behaviour(
        alone.best_estimator_[-1].model_
    )


@check
def a_search_outlives_a_worker():
    """Kill a worker: Spark gives its task to a new one, which is set up as well."""
    grid = {"kerasregressor__units": [3, 4]}
    alone = grid_search(regressor(), grid)
    mark = Path(FOLDER, "killed")
    with on_spark():
        search = grid_search(regressor(killing(mark)), grid)
    assert mark.exists()
    assert scores(search) == scores(alone)
    assert search.best_params_ == alone.best_params_


@check
def wrappers_of_others_are_searched():
    grids = {"units": [3]}, {"model_kwargs": [{"units": 3}]}
    for wrapper, grid in zip((scikeras_regressor(), keras_regressor()), grids, strict=True):
        pipeline = make_pipeline(StandardScaler(), wrapper)
        grid = {f"{type(wrapper).__name__.lower()}__{name}": v for name, v in grid.items()}
        alone = grid_search(pipeline, grid)
        with on_spark():
            search = grid_search(pipeline, grid)
        assert scores(search) == scores(alone)


@check
def estimators_that_workers_have_fitted_come_back_whole():
    for estimator in (regressor(), scikeras_regressor()):
        alone = validated(estimator)
        with on_spark():
            distributed = validated(estimator)
        assert_same_estimators(distributed, alone)


@check
def ensembles_come_back_whole():
    alone = ensemble()
    with on_spark():
        distributed = ensemble()
    assert_same_ensembles(distributed, alone)


@check
def errors_of_tasks_come_out():
    def failing():
        raise ValueError("no model today")

    pipeline = regressor().set_params(kerasregressor__build_fn=failing)
    with raises(PythonException, "ValueError: no model today"), on_spark():
        grid_search(pipeline, {"kerasregressor__epochs": [1]})


CLASSES = "_DYNAMIC_CLASS_TRACKER_BY_CLASS"


def is_changed():
    """Return for each patch True if it is applied."""
    methods = ("abort_everything", "supports_retrieve_callback", "retrieve_result_callback")
    theirs = vars(SparkDistributedBackend)
    are_one = (
        vars(pyspark.cloudpickle.cloudpickle)[CLASSES] is vars(cloudpickle.cloudpickle)[CLASSES]
    )
    return [*(theirs.get(name) is not ORIGINAL[name] for name in methods), are_one]


@check
def uninstalling_puts_back_what_was_there():
    assert is_changed() == [True] * 4
    keras_reduce.uninstall()
    try:
        assert is_changed() == [False] * 4
    finally:
        keras_reduce.install()
    assert is_changed() == [True] * 4


# --- jobs of the program ---------------------------------------------------------------------


def ran(function, *items):
    """Return the results of `function` for items, each in its own task."""
    return CONTEXT.parallelize(items, len(items)).map(function).collect()


class Asked:
    """An object that unpickles to the name of the unpickling process."""

    def __reduce__(self):
        return process_role.here, ()


@check
def workers_are_told_from_the_program():
    asked = Asked()
    for name, is_worker in ran(lambda _: (asked, process_role.is_worker()), 0, 1):
        assert name.startswith("Spark worker, stage ")
        assert is_worker
    assert not process_role.is_worker()
    assert process_role.here().startswith("process ")


@check
def what_tasks_return_comes_back_whole():
    returned = ran(keras_reduce.spark.prepared(trained), 3, 4)
    for units, model in zip((3, 4), returned, strict=True):
        assert isinstance(model.layers[1], Scaled)
        assert behaviour(model) == behaviour(trained(units))

    def fitted(units):
        return regressor(units=units).fit(X, Y)

    returned = ran(keras_reduce.spark.prepared(fitted), 3, 4)
    for units, pipeline in zip((3, 4), returned, strict=True):
        assert bits(pipeline.predict(X)) == bits(fitted(units).predict(X))
        assert bits(pipeline[-1].history_.history) == bits(fitted(units)[-1].history_.history)


@check
def a_file_of_another_backend_is_read_but_not_a_message():
    model = trained()
    with as_if_on("jax"):
        path = Path(FOLDER, "model.pickle")
        path.write_bytes(pickle.dumps(model))
        carried = CONTEXT.broadcast(model)
        for sent in (lambda _: answers(model), lambda _: answers(carried.value)):
            with raises(PythonException, "FrameworkError", "'jax'", "at Spark worker, stage "):
                ran(sent, 0)
    # With `pickle.loads` inside a user-defined function, and as the function itself.
    ((predictions, is_unchanged),) = ran(read, path)
    assert is_unchanged
    assert bits(predictions) == bits(answers(model))
    blobs = CONTEXT.parallelize([path.read_bytes()])
    (predictions,) = blobs.map(pickle.loads).map(answers).collect()
    assert bits(predictions) == bits(answers(model))


def by_blocks(pipeline):
    """Return the predictions of a pipeline for the blocks of rows that Spark creates."""
    blocks = [pipeline.predict(X[start : start + BATCH]) for start in range(0, len(X), BATCH)]
    return bits(np.concatenate(blocks))


@check
def a_broadcast_pipeline_is_loaded_once_by_each_worker():
    fitted = regressor().fit(X, Y)
    carried = CONTEXT.broadcast(fitted)

    def answers(frames):
        for frame in frames:
            pipeline = carried.value
            pipeline.uses = getattr(pipeline, "uses", 0) + 1
            predictions = pipeline.predict(frame.to_numpy())
            yield pd.DataFrame({"answer": predictions, "worker": os.getpid(), "use": pipeline.uses})

    frame = SPARK.createDataFrame(pd.DataFrame(X, columns=list("abcde")))
    uses = []
    for function in (answers, keras_reduce.spark.prepared(answers)):
        table = frame.mapInPandas(function, "answer float, worker long, use long").toPandas()
        assert bits(table["answer"].to_numpy()) == by_blocks(fitted)
        uses.extend(zip(table["worker"][::BATCH], table["use"][::BATCH], strict=True))
    assert len(uses) == 2 * len(X) / BATCH
    # After a second load, a worker would have counted from 1 again.
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
        table = frame.select(pandas_udf(function, "float")(*"abcde").alias("answer")).toPandas()
        assert bits(table["answer"].to_numpy()) == by_blocks(fitted)


# --- other workers ---------------------------------------------------------------------------


@contextlib.contextmanager
def other_workers(**environment):
    """Run jobs of a block in new workers, as if the cluster was started with `environment`."""
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
    def settings_of_worker(_):
        options = registry.current()
        installed = registry.is_installed(), options.functions_by_value, options.reuse
        return *installed, os.environ["KERAS_BACKEND"], "keras" in sys.modules

    with other_workers(KERAS_BACKEND="jax"):
        assert ran(settings_of_worker, 0) == [(False, True, True, "jax", False)]
        with keras_reduce.installed(functions_by_value=False, reuse=False):
            assert (
                ran(keras_reduce.spark.prepared(settings_of_worker), 0, 1)
                == [(True, False, False, "tensorflow", False)] * 2
            )


@check
def workers_that_are_not_fit_say_so():
    unfit = {
        "keras_reduce is missing here": {"HIDDEN": "keras_reduce"},
        "tensorflow, with which the program's Keras computes, is missing": {"HIDDEN": "tensorflow"},
        f"keras 3.1.0 here, {keras.__version__} there": {"KERAS_VERSION": "3.1.0"},
        "computes with 'numpy', that of its program with 'tensorflow'": {"IMPORTED_WITH": "numpy"},
    }
    for said, environment in unfit.items():
        demanded = PythonException, said, "at Spark worker, stage ", "What to do"
        with other_workers(**environment):
            with raises(*demanded):
                ran(keras_reduce.spark.prepared(trained), 3)
            with raises(*demanded), on_spark():
                grid_search(regressor(), {"kerasregressor__units": [3]})


def session(folder):
    """Start a cluster of two executors with one core each, on the loopback interface only."""
    # Such a cluster writes into the folder in which Spark is installed.
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
        # The same as for functions of SQL; otherwise Spark would start other workers for these.
        "spark.executorEnv.SPARK_SIMPLIFIED_TRACEBACK": "1",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(BATCH),  # rows per block
        "spark.sql.warehouse.dir": folder,
        "spark.task.maxFailures": "2",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = SparkSession.builder.master("local-cluster[2,1,1024]")
    return builder.config(map=options).getOrCreate()


if __name__ == "__main__":
    ORIGINAL = dict.fromkeys(["supports_retrieve_callback", "retrieve_result_callback"])
    ORIGINAL.update(abort_everything=SparkDistributedBackend.abort_everything)
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
