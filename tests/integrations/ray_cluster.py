"""Local clusters of Ray: one without a setup of workers, then one with it.

All results are compared with those of the same program alone, bit for bit.
"""

from __future__ import annotations

import os
import pickle
import secrets
import shutil
import tempfile
from pathlib import Path

import cloudpickle
import joblib
import keras
import numpy as np
import ray
import ray.tune
from ray.util.joblib import register_ray
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import keras_reduce
from checks import bits, check, main, raises
from cluster_models import (
    BATCH,
    DISGUISES,
    OTHERS,
    PATIENCE,
    PROGRAM,
    Parts,
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
from keras_reduce.core import array_backends

MEBIBYTE = 1 << 20

# --- clusters --------------------------------------------------------------------------------


def start(**environment):
    """Start a cluster with this runtime environment, in place of the running one."""
    ray.shutdown()
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=600 * MEBIBYTE,
        _temp_dir=FOLDER,
        log_to_driver=False,
        runtime_env=environment,
    )


def disguised(**variables):
    """Return options of tasks and actors for workers that seem to have other packages installed."""
    search = os.pathsep.join([str(DISGUISES), os.environ["PYTHONPATH"]])
    return {"runtime_env": {"env_vars": {"PYTHONPATH": search, **variables}}}


# Options for workers that can't be used, and their error messages.
UNFIT = (
    (disguised(HIDDEN="keras_reduce"), "keras_reduce is missing here"),
    (disguised(KERAS_VERSION="3.1.0"), f"keras 3.1.0 here, {keras.__version__} there"),
    (
        disguised(IMPORTED_WITH="numpy"),
        "computes with 'numpy', that of its program with 'tensorflow'",
    ),
)


# --- through joblib, to workers without a setup ----------------------------------------------


def on_ray(**ray_remote_args):
    return joblib.parallel_config("ray", n_jobs=2, ray_remote_args=ray_remote_args)


@check
def tasks_run_in_other_processes():
    with on_ray():
        processes = joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(2))
    assert PROGRAM not in processes


@check
def a_search_outlives_a_worker_and_finds_what_it_finds_alone():
    """Kill a worker: Ray starts another one, which gets its task.

    One search covers all wrappers, since each parallel call starts its own processes.
    """
    mark = Path(FOLDER, "killed")
    ours = keras_reduce.KerasRegressor(killing(mark), epochs=2, batch_size=BATCH, random_state=0)
    pipeline = Pipeline([("scale", StandardScaler()), ("model", ours)])
    grid = [
        {"model": [ours, scikeras_regressor()], "model__units": [3, 4]},
        {"model": [keras_regressor()], "model__model_kwargs": [{"units": 3}, {"units": 4}]},
    ]
    alone = grid_search(pipeline, grid, n_jobs=1)
    assert not mark.exists()
    with on_ray(max_restarts=3, max_task_retries=3):
        search = grid_search(pipeline, grid)
    assert mark.exists()
    assert scores(search) == scores(alone)
    assert search.best_index_ == alone.best_index_


@check
def estimators_that_workers_have_fitted_come_back_whole():
    alone = validated(regressor(), n_jobs=1)
    with on_ray():
        distributed = validated(regressor())
    assert_same_estimators(distributed, alone)


@check
def ensembles_come_back_whole():
    alone = ensemble(n_jobs=1)
    with on_ray():
        distributed = ensemble()
    assert_same_ensembles(distributed, alone)


@check
def batches_are_refused_where_they_would_be_others():
    for options, said in UNFIT:
        with raises(ray.exceptions.RayError, said, "Ray worker ", "What to do"), on_ray(**options):
            grid_search(regressor(), {"kerasregressor__units": [3]})


# --- tasks and actors of the program ---------------------------------------------------------


asked = ray.remote(answers)
asked_to_read = ray.remote(read)


@ray.remote
def are_one(parts):
    return parts.others[0] is parts.model is parts.others[1]["again"]


@ray.remote
def continued(model):
    keras.utils.set_random_seed(4)
    model.fit(X, Y, batch_size=BATCH, verbose=0)
    return {"model": model, "pair": (model, model.history)}


def result(reference):
    return ray.get(reference, timeout=PATIENCE)


@check
def arguments_may_be_models_and_hold_some():
    """Send models to workers without a setup: payloads carry the installation."""
    model = trained()
    expected = bits(model.predict(X, verbose=0))
    inside = Parts(model, (model, {"again": model}))
    for each in (model, inside, ray.put(model), ray.put(inside)):  # in one worker
        assert bits(result(asked.remote(each))) == expected
    assert result(are_one.remote(inside))
    back = result(continued.remote(model))
    assert back["pair"][0] is back["model"]
    assert back["pair"][1] is back["model"].history
    assert type(back["model"].layers[1]) is Scaled
    keras.utils.set_random_seed(4)
    model.fit(X, Y, batch_size=BATCH, verbose=0)
    assert behaviour(back["model"]) == behaviour(model)


@check
def a_file_of_another_backend_is_read_but_not_a_message():
    model = trained()
    with as_if_on("jax"):
        path = Path(FOLDER, "model.pickle")
        path.write_bytes(pickle.dumps(model))
        captured = ray.remote(lambda: answers(model))
        for sent in (
            lambda: asked.remote(model),
            lambda: asked.remote(ray.put(Parts(model, ()))),
            captured.remote,
        ):
            with raises(ray.exceptions.RayError, OTHERS, "Ray worker "):
                result(sent())
    predictions, is_unchanged = result(asked_to_read.remote(path))
    assert is_unchanged
    assert bits(predictions) == bits(answers(model))


@check
def models_are_refused_where_nothing_can_load_them():
    options = disguised(HIDDEN="keras_reduce")
    with raises(ray.exceptions.RayError, "No module named 'keras_reduce'", "pid="):
        result(asked.options(**options).remote(trained()))


@ray.remote
def train(seed):
    return trained(seed=seed)


@ray.remote
def fit(seed):
    return regressor(random_state=seed).fit(X, Y)


@ray.remote
def about():
    options = keras_reduce.registry.current()
    return os.environ["KERAS_BACKEND"], os.environ["MARK"], options.reuse


@ray.remote
def without_keras():
    return "done"


@check
def what_tasks_return_comes_back_whole():
    def first():
        os.environ["MARK"] += " and set by a hook"

    with keras_reduce.installed(reuse=False):
        environment = keras_reduce.ray.runtime_env(
            env_vars={"MARK": "kept"}, worker_process_setup_hook=first
        )
    start(**environment)
    expected = keras.backend.backend(), "kept and set by a hook", False
    assert result(about.remote()) == expected
    models = [train.remote(0), train.remote(1), fit.remote(2)]
    for seed, returned in enumerate(result(models[:2])):
        assert type(returned.layers[1]) is Scaled
        assert behaviour(returned) == behaviour(trained(seed=seed))
    local = regressor(random_state=2).fit(X, Y)
    assert behaviour(result(models[2])[-1].model_) == behaviour(local[-1].model_)


@check
def unfit_workers_of_a_prepared_cluster_refuse_keras_only():
    for options, said in UNFIT:
        assert result(without_keras.options(**options).remote()) == "done"
        with raises(ray.exceptions.RayError, said, "Ray worker ", "What to do"):
            result(train.options(**options).remote(0))
        with raises(ray.exceptions.RayError, said, "Ray worker ", "What to do"):
            result(continued.options(**options).remote(trained()))


def remember():
    CALLED.append("by its path")


CALLED = []


@check
def hooks_may_be_named_by_their_path():
    hook = "worker_process_setup_hook"
    keras_reduce.ray.runtime_env(**{hook: "__main__.remember"})[hook]()
    assert CALLED == ["by its path"]


@check
def environments_must_not_ask_for_another_backend():
    with raises(ValueError, "the backend 'numpy'", "leave KERAS_BACKEND out"):
        keras_reduce.ray.runtime_env(env_vars={"KERAS_BACKEND": "numpy"})


CLASSES = "_DYNAMIC_CLASS_TRACKER_BY_CLASS"


def is_changed():
    return vars(ray.cloudpickle.cloudpickle)[CLASSES] is vars(cloudpickle.cloudpickle)[CLASSES]


@check
def uninstalling_puts_back_what_was_there():
    assert is_changed()
    keras_reduce.uninstall()
    try:
        assert not is_changed()
    finally:
        keras_reduce.install()
    assert is_changed()


# --- memory ----------------------------------------------------------------------------------


def large(size, layers):
    inner = [keras.layers.Dense(size, use_bias=False) for _ in range(layers)]
    model = keras.Sequential([keras.Input((size,)), *inner])
    model.compile("sgd", "mse")
    return model


def row(model):
    return np.ones((1, *model.input_shape[1:]), "float32") / model.input_shape[-1]


def is_shared(variable):
    """Tell whether the memory of a variable is a shared mapping of a file."""
    address = array_backends.read(variable, "tensorflow").__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, access, _, _, _, *path = line.split(maxsplit=5)
        first, end = (int(each, 16) for each in span.split("-"))
        if first <= address < end:
            return access.endswith("s") and bool(path)
    raise AssertionError("nowhere")


@ray.remote
class Reader:
    """An actor with a model, which measures its memory."""

    def __init__(self):
        model = large(8, 2)  # Costs of the first model must not count for the next.
        model.predict(row(model), verbose=0)
        model.fit(row(model), row(model), verbose=0)

    def take(self, reference):
        self.model = ray.get(reference[0])

    def answer(self):
        return self.model.predict(row(self.model), verbose=0)

    def train(self):
        self.model.fit(row(self.model), row(self.model) * 2, verbose=0)

    def shared(self):
        return [is_shared(each) for each in self.model.trainable_variables]

    def memory(self):
        """Return the proportional and the private memory of this process in bytes."""
        lines = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()]
        kilobytes = {words[0]: int(words[1]) << 10 for words in lines[1:]}
        return np.array(
            [kilobytes["Pss:"], kilobytes["Private_Clean:"] + kilobytes["Private_Dirty:"]]
        )


@check
def actors_share_the_memory_of_a_stored_model():
    model = large(2048, 12)
    size = sum(each.nbytes for each in model.get_weights())
    assert size > 190 * MEBIBYTE
    expected = bits(model.predict(row(model), verbose=0))
    stored = ray.put(model)
    readers = [Reader.remote(), Reader.remote()]

    def asked(method, *arguments):
        return result([getattr(each, method).remote(*arguments) for each in readers])

    before = asked("memory")
    asked("take", [stored])
    assert {bits(answer) for answer in asked("answer")} == {expected}
    assert asked("shared") == [[True] * 12] * 2
    grown = [after - first for after, first in zip(asked("memory"), before, strict=True)]
    assert sum(share for share, _ in grown) < 1.2 * size, grown
    assert all(private < 0.2 * size for _, private in grown), grown

    # Training moves variables to private memory.
    result(readers[0].train.remote())
    assert asked("shared") == [[False] * 12, [True] * 12]
    assert bits(result(readers[0].answer.remote())) != expected
    assert bits(result(readers[1].answer.remote())) == expected
    for theirs, ours in zip(result(stored).get_weights(), model.get_weights(), strict=True):
        assert theirs.tobytes() == ours.tobytes()

    # Ray does not use this memory for other objects as long as a variable refers to it.
    del stored
    others = [ray.put(np.full(250 * MEBIBYTE, 7, "uint8")) for _ in range(2)]
    assert bits(result(readers[1].answer.remote())) == expected
    assert len(others) == 2


def tried(config, model):
    """Train a copy of a model with a learning rate, and return its behaviour."""
    copied = cloudpickle.loads(cloudpickle.dumps(model))
    copied.optimizer.learning_rate = config["rate"]
    return {"bits": behaviour(copied), "process": os.getpid()}


@check
def trials_of_ray_tune_get_the_model():
    rates = [0.01, 0.1]
    model = trained()
    expected = {rate: tried({"rate": rate}, model)["bits"] for rate in rates}
    tuner = ray.tune.Tuner(
        ray.tune.with_parameters(tried, model=model),
        param_space={"rate": ray.tune.grid_search(rates)},
        run_config=ray.tune.RunConfig(storage_path=FOLDER, verbose=0),
    )
    results = list(tuner.fit())
    assert {each.config["rate"]: each.metrics["bits"] for each in results} == expected
    assert PROGRAM not in {each.metrics["process"] for each in results}


if __name__ == "__main__":
    keras_reduce.install()
    register_ray()
    FOLDER = tempfile.mkdtemp(prefix="ray-")
    # Without these, Ray writes a token to the home directory and reports its usage.
    os.environ.update(RAY_AUTH_TOKEN=secrets.token_hex(), RAY_USAGE_STATS_ENABLED="0")
    try:
        start()
        main()
    finally:
        ray.shutdown()
        shutil.rmtree(FOLDER, ignore_errors=True)
