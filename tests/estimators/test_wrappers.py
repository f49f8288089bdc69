"""The estimators: scikit-learn's checks, and tests of Keras's features."""

import copy
import gc
import inspect
import io
import os
import pickle
import random
import re
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from exact_models import linear
from keras_reduce.errors import ReduceError
from keras_reduce.estimators.parameters import COMPILE, FIT, PREDICT
from keras_reduce.estimators.parameters import names as names_of_arguments
from keras_reduce.wrappers import EstimatorError, KerasClassifier, KerasRegressor
from processes import python

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
X = RNG.random((60, 5))
Y = X @ np.arange(5.0)
LABELS = np.array(["no", "perhaps", "yes"])[np.digitize(Y, np.quantile(Y, [0.33, 0.67]))]


@pytest.fixture(autouse=True, scope="module")
def _with_keras():
    """Import Keras when a test of this module runs, since its collection must not take seconds."""
    global keras, TqdmCallback
    import keras
    from tqdm.keras import TqdmCallback

    # Imported modules stay: the garbage collector need not traverse them again.
    gc.collect()
    gc.freeze()


# Tracing costs far more than these models: hundreds of fits are quicker without it.
fast = {"run_eagerly": True}


def scikit_learn_checks():
    """Yield all checks of both estimators, with names that contain no addresses."""
    for kind in (KerasRegressor, KerasClassifier):
        estimator = kind(linear, batch_size=500, random_state=0)
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


def create_model(units=4, loss="mse", outputs=1, activation=None, dropout=0.0):
    import keras  # Workers import this module.

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(units, "relu"),
            layers.Dropout(dropout),
            layers.Dense(outputs, activation),
        ]
    )
    model.compile("adam", loss, **fast)
    return model


def create_classifier(loss="sparse_categorical_crossentropy", outputs=3, activation="softmax"):
    return create_model(loss=loss, outputs=outputs, activation=activation)


def recording(record, *, accept=("epochs", "batch_size")):
    """Return a build function whose model records the arguments of its calls in `record`."""
    import keras  # Workers import this module.

    class Recording(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def fit(self, x, y, **kwargs):
            record["fit"] = {"x": x, "y": y, **kwargs}
            return super().fit(x, y, **kwargs)

        def predict(self, x, **kwargs):
            record["predict"] = kwargs
            return super().predict(x, **kwargs)

    def build(units=3, size=None, **kwargs):
        record["build"] = {"units": units, "size": size, **kwargs}
        model = Recording()
        model.compile("adam", "mse", **fast)
        return model

    return build


# --- parameters --------------------------------------------------------------------------------


def test_parameters_go_where_they_are_named():
    record = {}
    estimator = KerasRegressor(recording(record), units=7, epochs=2, batch_size=9, other=1)
    estimator.fit(X, Y, epochs=3)
    assert record["build"] == {"units": 7, "size": None, "other": 1}
    fit = record["fit"]
    assert fit["x"].shape == X.shape
    assert {name: fit[name] for name in fit if name not in "xy"} == {
        "epochs": 3,
        "batch_size": 9,
        "verbose": 0,
    }
    estimator.predict(X)
    assert record["predict"] == {"batch_size": 9, "verbose": 0}
    estimator.predict(X, batch_size=2, verbose=0)
    assert record["predict"] == {"batch_size": 2, "verbose": 0}


def test_get_set_clone():
    estimator = KerasRegressor(create_model, units=3, epochs=2)
    assert estimator.get_params(deep=False) == {
        "build_fn": create_model,
        "random_state": None,
        "units": 3,
        "epochs": 2,
    }
    assert estimator.sk_params == {"units": 3, "epochs": 2}
    estimator.set_params(units=5, batch_size=7, random_state=1)
    twin = clone(estimator)
    assert twin.get_params() == estimator.get_params()
    twin.set_params(dropout=0.5)
    assert "dropout" not in estimator.get_params()
    assert twin.filter_sk_params(create_model, {"units": 1}) == {"units": 1, "dropout": 0.5}
    assert repr(KerasRegressor(units=3, build_fn=None)) == "KerasRegressor(units=3)"


@pytest.mark.parametrize(
    "act",
    [
        lambda: KerasRegressor(create_model, epoch=3),
        lambda: KerasRegressor(create_model).set_params(epoch=3),
        # The parameter is refused as soon as there is a build function.
        lambda: KerasRegressor(epoch=3).set_params(build_fn=create_model).fit(X, Y),
    ],
    ids=["init", "set_params", "fit"],
)
def test_unknown_parameter(act):
    with pytest.raises(EstimatorError, match="epoch is not a legal parameter") as caught:
        act()
    assert isinstance(caught.value, ValueError)
    assert "did you mean epochs?" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_refused_set_changes_nothing():
    estimator = KerasRegressor(create_model, units=2)
    with pytest.raises(ValueError, match="wrong is not a legal parameter"):
        estimator.set_params(units=3, random_state=3, wrong=3)
    assert estimator.get_params(deep=False) == {
        "build_fn": create_model,
        "random_state": None,
        "units": 2,
    }


def test_names_of_kerass_own_methods():
    # The estimator has a copy of the names, so as not to import Keras.
    def names(method):
        return set(names_of_arguments(method)) - {"self", "x", "y"}

    assert names(keras.Model.fit) == FIT
    assert names(keras.Model.predict) == PREDICT | {"callbacks"}
    assert names(keras.Model.evaluate) >= PREDICT
    assert names(keras.Model.compile) >= COMPILE
    # Keras 2 had these; programs may still set them.
    KerasRegressor(create_model, workers=2, use_multiprocessing=True).fit(X, Y)


def test_forms_of_build_fn():
    class Builder:
        def __call__(self, units):
            return create_model(units)

    class Own(KerasRegressor):
        def __call__(self, units=2):
            return create_model(units)

    for estimator in (
        KerasRegressor(Builder(), units=6),
        Own(units=6),
        KerasRegressor(partial(create_model, units=6)),
        KerasRegressor(partial(create_model), units=6),
        KerasRegressor(Builder().__call__, units=6),
        KerasRegressor(model=create_model, units=6),
    ):
        assert clone(estimator).fit(X, Y).model_.layers[0].units == 6
    for estimator in (KerasRegressor(Builder()), Own()):
        with pytest.raises(ValueError, match="unit is not a legal parameter"):
            estimator.set_params(unit=6)


def test_model_means_build_fn_unless_build_fn_takes_it():
    assert KerasRegressor(model=create_model).build_fn is create_model
    assert KerasRegressor().set_params(model=create_model).build_fn is create_model
    assert "model" not in KerasRegressor(model=create_model).get_params()

    def choose(model="small"):
        return create_model({"small": 2, "large": 8}[model])

    estimator = KerasRegressor(choose, model="large")
    assert estimator.get_params()["model"] == "large"
    assert estimator.fit(X, Y).model.layers[0].units == 8
    assert estimator.set_params(model="small").build_fn is choose
    with pytest.raises(ValueError, match="model is not a legal parameter"):
        KerasRegressor(create_model, model=create_model)


def test_meta_is_told_only_to_who_asks():
    seen = {}

    def build(meta):
        seen.update(meta)
        return create_model(outputs=meta["n_outputs_"])

    KerasRegressor(build).fit(X, np.column_stack([Y, Y]))
    assert seen == {
        "X_shape_": (60, 5),
        "n_features_in_": 5,
        "n_outputs_": 2,
        "target_type_": "continuous-multioutput",
    }
    seen.clear()

    def build_classifier(meta):
        seen.update(meta)
        return create_classifier(outputs=meta["n_classes_"])

    KerasClassifier(build_classifier).fit(X, LABELS)
    assert seen.pop("classes_").tolist() == ["no", "perhaps", "yes"]
    assert seen == {
        "X_shape_": (60, 5),
        "n_features_in_": 5,
        "n_classes_": 3,
        "target_type_": "multiclass",
    }


@pytest.mark.parametrize(
    ("build_fn", "message"),
    [
        (None, "There is nothing to build a model with"),
        (3, "build_fn is 3"),
        (lambda: None, "returned None, not a Keras model"),
        (lambda: "model", "returned a str, not a Keras model"),
        (lambda: keras.Sequential(), "a model that is not compiled"),
        (lambda: keras.Sequential(), re.escape("call model.compile(optimizer=..., loss=...)")),
    ],
)
def test_build_functions_that_cannot_be_used(build_fn, message):
    with pytest.raises(EstimatorError, match=message):
        KerasRegressor(build_fn).fit(X, Y)


def test_a_model_in_place_of_a_build_function():
    given = create_model()
    given.fit(X, Y, verbose=0)
    before = given.get_weights()
    estimator = KerasRegressor(model=given, random_state=0, epochs=2)
    expected = weights_of(estimator.fit(X, Y).model_)
    # Each fit and each clone trains a copy, from the weights and the state of the optimizer.
    assert all(map(np.array_equal, given.get_weights(), before))
    for twin in (estimator, clone(estimator), pickle.loads(pickle.dumps(estimator))):
        assert weights_of(twin.fit(X, Y).model_) == expected
    scores = [cross_val_score(each, X, Y, cv=2) for each in (estimator, clone(estimator))]
    assert np.array_equal(*scores)
    keras.utils.set_random_seed(0)
    given.fit(X, Y, epochs=2, verbose=0)
    assert weights_of(given) == expected
    # As it is, for predictions.
    ready = KerasRegressor(given)
    ready.model = given
    assert np.array_equal(ready.predict(X), given.predict(X, verbose=0)[:, 0])
    with pytest.raises(EstimatorError, match="units is not a legal parameter"):
        estimator.set_params(units=3)


def weights_of(model):
    return b"".join(each.tobytes() for each in model.get_weights())


def test_a_first_step_is_traced_once():
    code = """
import keras, keras_reduce, numpy as np
from keras_reduce import scikeras
keras_reduce.install(reuse=False)
X, y = np.ones((40, 4)), np.arange(40.0)

def build(seed=True):
    if seed:
        keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.Dense(2), keras.layers.Dropout(0.2)]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model

traces, original = [], keras.optimizers.Adam.apply

def apply(self, *args, **kwargs):
    traces.append(self)
    return original(self, *args, **kwargs)

keras.optimizers.Adam.apply = apply
native = build()
native.fit(X, y, epochs=2, verbose=0)
for estimator in (
    keras_reduce.KerasRegressor(build, epochs=2),
    scikeras.KerasRegressor(build, epochs=2, verbose=0),
):
    model = estimator.fit(X, y).model_
    assert traces.count(model.optimizer) == 1 < traces.count(native.optimizer)
    for mine, expected in zip(model.get_weights(), native.get_weights(), strict=True):
        assert np.array_equal(mine, expected)
    for mine, expected in zip(model.optimizer.variables, native.optimizer.variables, strict=True):
        assert np.array_equal(mine, expected)
"""
    python(code)


# --- the life of a model -----------------------------------------------------------------------


def test_model_before_and_after_fit():
    estimator = KerasRegressor(create_model)
    assert not hasattr(estimator, "model")
    for use in (estimator.predict, lambda x: estimator.score(x, Y), lambda x: estimator.model):
        with pytest.raises(NotFittedError):
            use(X)
    assert estimator.fit(X, Y) is estimator
    assert estimator.model is estimator.model_
    assert estimator.history_.model is estimator.model
    assert estimator.model.count_params() == 4 * 6 + 5


def test_a_model_saved_apart_is_put_back():
    estimator = KerasRegressor(create_model).fit(X, Y)
    expected, model = estimator.predict(X), estimator.model
    estimator.model = None
    with pytest.raises(NotFittedError):
        estimator.predict(X)
    assert not hasattr(estimator, "history_")
    estimator.model = model
    assert np.array_equal(estimator.predict(X), expected)
    fresh = KerasRegressor(create_model)
    fresh.model = model
    assert np.array_equal(fresh.predict(X), expected)


def test_each_fit_builds_anew_and_callbacks_stay_as_they_were():
    stop = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=1e9)
    estimator = KerasRegressor(create_model, callbacks=[stop], epochs=5)
    first = estimator.fit(X, Y).model
    assert len(estimator.history_.epoch) == 2
    assert estimator.fit(X, Y).model is not first
    assert stop.model is None
    mine = keras.callbacks.History()
    estimator.fit(X, Y, callbacks=[mine])
    assert mine.epoch == [0, 1, 2, 3, 4]


@pytest.fixture(scope="module")
def locked_class():
    class Locked(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()
            self.notes = {"lock": self.lock, "epochs": []}

        def on_epoch_end(self, epoch, logs=None):
            with self.lock:
                self.notes["epochs"].append(epoch)

    return Locked


# tqdm 4.66 complains when half a copy of a bar is dropped.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_callbacks_that_cannot_be_copied(locked_class):
    class Logged(keras.callbacks.Callback):
        """A callback with attributes that can't be copied."""

        def __init__(self):
            super().__init__()
            self.data = tf.data.Dataset.range(2)
            self.inner = keras.callbacks.CallbackList([locked_class()], add_history=False)
            self.epochs = []

        def on_epoch_end(self, epoch, logs=None):
            self.epochs.append(epoch)

    tf = pytest.importorskip("tensorflow")
    locked, logged, bar = locked_class(), Logged(), TqdmCallback(verbose=0, file=io.StringIO())
    estimator = KerasRegressor(create_model, callbacks=[locked, logged, bar], epochs=2)
    for fitted in (estimator.fit(X, Y), clone(estimator).fit(X, Y), estimator.fit(X, Y)):
        assert len(fitted.history_.epoch) == 2
    scores = cross_val_score(estimator, X, Y, cv=2, error_score="raise")
    assert np.isfinite(scores).all()
    # The user's callbacks are unchanged.
    assert locked.notes == {"lock": locked.lock, "epochs": []}
    assert logged.epochs == []
    assert locked.model is logged.model is None
    twin = clone(estimator).sk_params["callbacks"]
    assert [type(each) for each in twin] == [locked_class, Logged, TqdmCallback]
    assert twin[0] is not locked
    assert twin[0].lock is twin[0].notes["lock"] is locked.lock
    assert twin[0].notes["epochs"] is not locked.notes["epochs"]
    assert twin[1].data is logged.data


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_callbacks_that_cannot_leave_the_process(dumps, locked_class):
    estimator = KerasRegressor(create_model, callbacks=[keras.callbacks.History(), locked_class()])
    with pytest.raises(ReduceError, match="A callback can't be pickled") as caught:
        dumps(make_pipeline(StandardScaler(), estimator))
    assert caught.value.where == "KerasRegressor.sk_params['callbacks'][1].lock"
    assert "n_jobs=1" in caught.value.cure
    # The cure works.
    del estimator.sk_params["callbacks"]
    assert dumps(estimator.fit(X, Y, callbacks=[locked_class()]).sk_params)


class LockedBuilder:
    def __init__(self):
        self.parts = [threading.Lock()]

    def __call__(self, guard=None):
        return create_model()


def test_parameters_that_cannot_be_copied():
    for parameters, where in (
        ({"build_fn": LockedBuilder()}, "KerasRegressor.build_fn.parts[0]"),
        ({"build_fn": lambda guard: guard, "guard": [threading.Lock()]}, "sk_params['guard'][0]"),
    ):
        estimator = KerasRegressor(**parameters)
        with pytest.raises(EstimatorError, match="can't be copied for a clone") as caught:
            clone(make_pipeline(estimator))
        assert where in caught.value.where
        assert "lock" in caught.value.cause


def test_random_state():
    def fit(random_state, **kwargs):
        estimator = KerasRegressor(create_model, dropout=0.3, epochs=2, random_state=random_state)
        return estimator.set_params(**kwargs).fit(X, Y).predict(X)

    expected = fit(3)
    assert np.array_equal(fit(3), expected)
    assert not np.array_equal(fit(4), expected)
    state = np.random.RandomState(0)
    assert not np.array_equal(fit(state), fit(state))
    # The result is that of a program without the estimator.
    keras.utils.set_random_seed(3)
    model = create_model(dropout=0.3)
    model.fit(X, Y, epochs=2, verbose=0)
    assert np.array_equal(model.predict(X, verbose=0)[:, 0], expected)
    # With None, the estimator draws nothing and sets no seed.
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    fit(None, shuffle=False)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002

    seeds = []

    def build(random_state):
        seeds.append(random_state)
        return create_model()

    KerasRegressor(build, random_state=5).fit(X, Y)
    assert seeds == [5]


def slow_model(seed_of_another=None):
    """Build a model in two steps; in between, other threads have time to draw.

    If `seed_of_another` is given, other estimators are fitted in between.
    """
    import keras  # Workers import this module.

    layers = [keras.Input((5,)), keras.layers.Dense(3)]
    if seed_of_another is None:
        time.sleep(0.05)
    else:
        another = KerasRegressor(slow_model, random_state=seed_of_another)
        cross_val_score(another.fit(X, Y), X, Y, cv=2, n_jobs=2, error_score="raise")
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile("adam", "mse", **fast)
    return model


def drawn(random_state, build=slow_model, **parameters):
    """Return the weights of a newly fitted model."""
    estimator = KerasRegressor(build, random_state=random_state, **parameters).fit(X, Y)
    return np.concatenate([w.ravel() for w in estimator.model.get_weights()]).tolist()


def in_threads(*calls):
    with parallel_config("threading"):
        return Parallel(n_jobs=len(calls))(calls)


def test_seeded_fits_in_threads():
    expected = [drawn(seed) for seed in range(3)]
    # The fit without a seed draws as well.
    *actual, _ = in_threads(*(delayed(drawn)(seed) for seed in (0, 1, 2, None)))
    assert actual == expected


def test_seeded_fits_beside_threads_that_only_draw():
    expected, is_over, draws = drawn(0), threading.Event(), []

    def draw():
        while not is_over.wait(0.005):
            draws.append(random.random())

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        assert drawn(0) == expected
    finally:
        is_over.set()
        thread.join()
    assert draws
    assert random.random.__self__ is random.randint.__self__  # the module's functions are restored


@pytest.mark.parametrize("outer", [0, None])
@pytest.mark.parametrize("inner", [0, None])
def test_estimators_inside_a_build_function_never_wait_for_their_own_fit(outer, inner):
    results = []

    def fit():
        calls = (delayed(drawn)(outer, seed_of_another=inner) for _ in range(2))
        results.extend(in_threads(*calls))

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    thread.join(120)
    assert len(results) == 2, "fits wait for one another"
    assert inner is None or outer is None or results[0] == results[1]


def test_unseeded_fits_run_beside_each_other():
    both = threading.Barrier(2, timeout=60)

    def build():
        both.wait()
        return create_model()

    in_threads(*(delayed(drawn)(None, build) for _ in range(2)))


def test_quiet_unless_asked(capsys):
    KerasRegressor(create_model).fit(X, Y).predict(X)
    KerasClassifier(create_classifier).fit(X, LABELS).score(X, LABELS)
    assert capsys.readouterr() == ("", "")
    KerasRegressor(create_model, verbose=2).fit(X, Y)
    assert "loss" in capsys.readouterr().out


# --- regression --------------------------------------------------------------------------------


def test_regressor():
    estimator = KerasRegressor(create_model, epochs=2).fit(X, Y)
    assert is_regressor(estimator)
    assert estimator.n_features_in_ == 5
    assert estimator.predict(X).shape == (60,)
    assert estimator.score(X, Y) == pytest.approx(r2_score(Y, estimator.predict(X)))
    weight = RNG.random(60)
    weighted = r2_score(Y, estimator.predict(X), sample_weight=weight)
    assert estimator.score(X, Y, weight, batch_size=8) == pytest.approx(weighted)
    with pytest.raises(ValueError, match="X has 4 features, but KerasRegressor is expecting 5"):
        estimator.predict(X[:, :4])


@pytest.mark.filterwarnings("error")
def test_targets_that_are_whole_numbers():
    estimator = KerasRegressor(create_model).fit(X, np.arange(60))
    assert estimator.target_type_ == "continuous"


@pytest.mark.parametrize("columns", [1, 3])
def test_columns_of_y_come_back(columns):
    y = np.column_stack([Y] * columns)
    estimator = KerasRegressor(create_model, outputs=columns).fit(X, y)
    assert estimator.n_outputs_ == columns
    assert estimator.predict(X).shape == y.shape
    assert isinstance(estimator.score(X, y), float)


def test_feature_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcde"))
    estimator = KerasRegressor(create_model, random_state=0).fit(frame, pandas.Series(Y))
    assert estimator.feature_names_in_.tolist() == list("abcde")
    expected = KerasRegressor(create_model, random_state=0).fit(X, Y).predict(X)
    assert np.array_equal(estimator.predict(frame), expected)
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(frame[list("edcba")])


def test_images_and_sequences():
    def build(shape):
        layers = [keras.Input(shape), keras.layers.Dense(2), keras.layers.GlobalMaxPooling1D()]
        model = keras.Sequential([*layers, keras.layers.Dense(1)])
        model.compile("adam", "mse", **fast)
        return model

    estimator = KerasRegressor(build, shape=(None, 2)).fit(RNG.random((60, 7, 2)), Y)
    assert not hasattr(estimator, "n_features_in_")
    # Sequences of another length are accepted.
    assert estimator.predict(RNG.random((60, 4, 2))).shape == (60,)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        estimator.predict(np.full((60, 4, 2), np.nan))


def test_several_inputs():
    def build():
        left, right = keras.Input((2,), name="left"), keras.Input((3,), name="right")
        outputs = keras.layers.Dense(1)(keras.layers.Concatenate()([left, right]))
        model = keras.Model([left, right], outputs)
        model.compile("adam", "mse", **fast)
        return model

    parts = [X[:, :2], X[:, 2:]]
    estimator = KerasRegressor(build).fit(parts, Y, validation_data=(parts, Y))
    assert "val_loss" in estimator.history_.history
    assert estimator.predict(parts).shape == (60,)
    named = {"left": parts[0], "right": parts[1]}
    assert np.array_equal(estimator.predict(named), estimator.predict(parts))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        estimator.fit([parts[0], parts[1][:3]], Y)


@pytest.mark.parametrize("dtype", [str, object])
def test_text(dtype):
    def build():
        vectorize = keras.layers.TextVectorization(output_sequence_length=3)
        vectorize.adapt(["good bad fine"])
        layers = [vectorize, keras.layers.Embedding(9, 2), keras.layers.Flatten()]
        model = keras.Sequential(
            [keras.Input((), dtype="string"), *layers, keras.layers.Dense(1, "sigmoid")]
        )
        model.compile("adam", "binary_crossentropy", **fast)
        return model

    words = np.array(["good", "bad", "fine fine"] * 4, dtype)
    estimator = KerasClassifier(build).fit(words, words != "bad")
    assert estimator.predict(words.tolist()).dtype == bool


def ragged():
    yield "lists", [[1.0, 2.0], [3.0]], "lengths such as 1, 2"
    yield "arrays", [np.ones(5), np.ones(7)], "lengths such as 5, 7"
    objects = np.empty(2, object)
    objects[:] = [np.ones(2), np.ones(4)]
    yield "objects", objects, "lengths such as 2, 4"
    yield "deep", [[[1.0], [2.0]], [[1.0], [2.0, 3.0]]], "lengths such as 1, 2"
    yield "sequences", [np.ones((3, 2)), np.ones((4, 2))], "2 arrays, taken as 2 inputs"
    alike = np.empty(2, object)
    alike[:] = [np.ones(2), np.ones(2)]
    yield "alike", alike, re.escape("numpy.stack(list(X))")


@pytest.mark.parametrize(
    ("given", "message"), [pytest.param(*each, id=name) for name, *each in ragged()]
)
def test_ragged_samples(given, message):
    with pytest.raises(EstimatorError, match=message) as caught:
        KerasRegressor(create_model).fit(given, Y[:2])
    assert "Reshape your data" not in str(caught.value)
    estimator = KerasRegressor(create_model)
    estimator.model = create_model()
    if "inputs" not in message:
        with pytest.raises(EstimatorError, match=message):
            estimator.predict(given)


def test_ragged_tensors_and_targets():
    tf = pytest.importorskip("tensorflow")
    with pytest.raises(EstimatorError, match=re.escape("keras.utils.pad_sequences")) as caught:
        KerasRegressor(create_model).fit(tf.ragged.constant([[1.0, 2.0], [3.0]]), Y[:2])
    assert caught.value.where == "X"
    with pytest.raises(EstimatorError, match="lengths such as 1, 2") as caught:
        KerasRegressor(create_model).fit(X[:2], [[1.0, 2.0], [3.0]])
    assert caught.value.where == "y"


def sequences(units=1, loss="mse"):
    import keras  # Workers import this module.

    model = keras.Sequential([keras.Input((None, 2)), keras.layers.Dense(units)])
    model.compile("sgd", loss, **fast)
    return model


def test_weights_of_time_steps():
    steps, targets, weights = RNG.random((20, 5, 2)), RNG.random((20, 5, 1)), RNG.random((20, 5))
    estimator = KerasRegressor(sequences, random_state=0, shuffle=False, epochs=2)
    trained_weights = estimator.fit(steps, targets, sample_weight=weights).model.get_weights()
    keras.utils.set_random_seed(0)
    model = sequences()
    model.fit(steps, targets, sample_weight=weights, shuffle=False, epochs=2, verbose=0)
    for ours, expected in zip(trained_weights, model.get_weights(), strict=True):
        assert np.array_equal(ours, expected)
    assert not np.array_equal(
        trained_weights[0], estimator.fit(steps, targets).model.get_weights()[0]
    )
    # A sparse loss has no axis of units among its targets.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sparse = KerasRegressor(sequences, units=3, loss=loss)
    sparse.fit(steps, RNG.integers(3, size=(20, 5)), sample_weight=weights)


@pytest.mark.parametrize(
    ("X", "y", "weights", "parameters"),
    [
        # Keras would drop the axis of units, and find no step to weight.
        (np.ones((4, 5, 2)), np.ones((4, 5)), np.ones((4, 5)), {"build_fn": sequences}),
        # Keras would multiply each sample's loss by the sum of its weights.
        (np.ones((4, 5)), np.ones((4, 3)), np.ones((4, 3)), {"outputs": 3}),
        (np.ones((4, 5, 2)), np.ones((4, 5, 1)), np.ones((4, 3)), {"build_fn": sequences}),
    ],
    ids=["one_unit", "columns", "lengths"],
)
def test_weights_of_steps_that_are_none(X, y, weights, parameters):  # noqa: N803
    estimator = KerasRegressor(**{"build_fn": create_model, **parameters})
    with pytest.raises(EstimatorError, match=r"y\[..., None\]") as caught:
        estimator.fit(X, y, sample_weight=weights)
    assert f"got an array of shape {weights.shape}" in str(caught.value)


def heads(kind, activation=None):
    import keras  # Workers import this module.

    inputs = keras.Input((5,))
    outputs = [keras.layers.Dense(3, activation, name=f"head{i}")(inputs) for i in range(2)]
    kinds = {
        "list": outputs,
        "dict": {"a": outputs[0], "b": outputs[1]},
        "nested": {"a": outputs[0], "b": {"c": outputs[1]}},
        "one": {"a": outputs[0]},
    }
    return keras.Model(inputs, kinds[kind])


@pytest.mark.parametrize("kind", ["list", "dict", "nested"])
def test_several_outputs(kind):
    regressor, classifier = KerasRegressor(create_model), KerasClassifier(create_classifier)
    classifier.fit(X, LABELS)
    for estimator, method in ((regressor, "predict"), (classifier, "predict_proba")):
        estimator.model = heads(kind, "softmax")
        with pytest.raises(EstimatorError, match="The model has 2 outputs") as caught:
            getattr(estimator, method)(X)
        assert "(60, 3), (60, 3)" in caught.value.cause


def test_one_output_with_a_name():
    estimator = KerasRegressor(create_model)
    estimator.model = model = heads("one")
    assert np.array_equal(estimator.predict(X), model.predict(X, verbose=0)["a"])


# --- classification ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        "categorical_crossentropy",
        "binary_crossentropy",
        "mse",
        pytest.param(lambda: keras.losses.categorical_crossentropy, id="function"),
        pytest.param(
            lambda: keras.losses.CategoricalFocalCrossentropy(),
            id="categorical_focal_crossentropy",
        ),
        pytest.param(
            lambda: keras.losses.SparseCategoricalCrossentropy(name="mine"),
            id="mine",
        ),
        "own",
    ],
)
@pytest.mark.parametrize("built", [True, False], ids=["built", "deferred"])
def test_labels_and_losses(loss, built):
    loss = loss if isinstance(loss, str) else loss()

    def own_loss(y_true, y_pred):
        assert y_true.shape[-1] != 3  # positions
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred)

    def build(loss):
        model = keras.Sequential([keras.layers.Dense(3, "softmax")])
        if built:
            model.build((None, 5))
        model.compile("adam", own_loss if loss == "own" else loss, **fast)
        return model

    estimator = KerasClassifier(build, loss=loss, random_state=0).fit(X, LABELS)
    assert is_classifier(estimator)
    assert estimator.classes_.tolist() == ["no", "perhaps", "yes"]
    probability = estimator.predict_proba(X)
    assert probability.shape == (60, 3)
    predicted = estimator.predict(X)
    assert np.array_equal(predicted, estimator.classes_[probability.argmax(axis=1)])
    assert estimator.score(X, LABELS) == accuracy_score(LABELS, predicted)

    if loss != "own":
        one_hot = np.eye(3)[np.searchsorted(estimator.classes_, LABELS)]
        same = clone(estimator).fit(X, one_hot)
        assert same.classes_.tolist() == [0, 1, 2]
        assert np.array_equal(same.predict_proba(X), probability)
        assert same.score(X, one_hot) == estimator.score(X, LABELS)


@pytest.mark.parametrize("labels", [[5, 9], ["b", "a"], [True, False]])
def test_one_sigmoid_unit(labels):
    y = np.array(labels)[(np.median(Y) < Y).astype(int)]
    estimator = KerasClassifier(
        create_classifier, loss="binary_crossentropy", outputs=1, activation="sigmoid"
    ).fit(X, y)
    probability = estimator.predict_proba(X)
    assert probability.shape == (60, 2)
    assert np.allclose(probability.sum(axis=1), 1)
    assert set(estimator.predict(X)) <= set(labels)


@pytest.mark.parametrize("outputs", [1, 2])
def test_logits(outputs):
    losses = {1: keras.losses.BinaryCrossentropy, 2: keras.losses.SparseCategoricalCrossentropy}
    y = np.median(Y) < Y
    estimator = KerasClassifier(
        create_classifier, outputs=outputs, activation=None, loss=losses[outputs](from_logits=True)
    ).fit(X, y)
    probability = estimator.predict_proba(X)
    assert probability.min() >= 0
    assert np.allclose(probability.sum(axis=1), 1)
    raw = estimator.model.predict(X, verbose=0)
    expected = raw[:, 0] > 0 if outputs == 1 else raw.argmax(axis=1) == 1
    assert np.array_equal(estimator.predict(X), expected)


def test_targets_that_are_refused():
    estimator = KerasClassifier(create_classifier)
    with pytest.raises(ValueError, match="Unknown label type"):
        estimator.fit(X, Y)
    with pytest.raises(EstimatorError, match="categorical_crossentropy and 3 output units don't"):
        estimator.fit(X, np.ones((60, 3)))
    with pytest.raises(ValueError, match="Each row of y must be one-hot"):
        estimator.fit(X, np.full((60, 3), 0.5))
    with pytest.raises(EstimatorError, match="the model has one output, and y has 0, 1"):
        estimator.fit(X, np.column_stack([LABELS, LABELS]))
    with pytest.raises(ValueError, match="y has 1 class"):
        estimator.fit(X, np.ones(60))
    with pytest.raises(ValueError, match=re.escape("fit has not seen: ['maybe']")):
        estimator.fit(X, LABELS, validation_data=(X[:1], ["maybe"]))
    with pytest.raises(EstimatorError, match="2 output units for 3 classes"):
        estimator.set_params(outputs=2).fit(X, LABELS)
    with pytest.raises(EstimatorError, match="1 output units for 3 classes"):
        estimator.set_params(outputs=1).fit(X, LABELS)


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy"])
def test_a_fold_that_lacks_a_class(loss):
    estimator = KerasClassifier(create_classifier, loss=loss, outputs=4).fit(X, LABELS)
    assert estimator.predict_proba(X).shape == (60, 3)
    assert set(estimator.predict(X)) <= set(LABELS)


def test_validation_data_is_encoded_like_the_rest():
    estimator = KerasClassifier(create_classifier, validation_data=(X, LABELS)).fit(X, LABELS)
    assert "val_loss" in estimator.history_.history
    estimator = KerasClassifier(create_classifier, validation_split=0.2).fit(X, LABELS)
    assert "val_loss" in estimator.history_.history


def weights_after(fit):
    estimator = KerasClassifier(create_classifier, random_state=0, epochs=2)
    return np.concatenate([w.ravel() for w in fit(estimator).model.get_weights()])


def test_weights():
    position = np.searchsorted(["no", "perhaps", "yes"], LABELS)
    sample_weight = np.array([1.0, 5.0, 0.5])[position]
    plain = weights_after(lambda e: e.fit(X, LABELS))
    expected = weights_after(lambda e: e.fit(X, LABELS, sample_weight=sample_weight))
    assert not np.array_equal(plain, expected)
    for class_weight in ({"perhaps": 5, "yes": 0.5}, {1: 5, 2: 0.5}):
        actual = weights_after(
            lambda e, w=class_weight: e.set_params(class_weight=w).fit(X, LABELS)
        )
        assert np.array_equal(actual, expected)
    both = weights_after(
        lambda e: e.fit(X, LABELS, sample_weight / 2, class_weight=dict.fromkeys(range(3), 2))
    )
    assert np.array_equal(both, expected)
    few = np.flatnonzero(LABELS != "no")[:9]
    kept = np.concatenate([few, np.flatnonzero(LABELS == "no")])
    balanced = weights_after(lambda e: e.fit(X[kept], LABELS[kept], class_weight="balanced"))
    assert not np.array_equal(balanced, weights_after(lambda e: e.fit(X[kept], LABELS[kept])))
    with pytest.raises(ValueError, match="class_weight has keys that are no class"):
        weights_after(lambda e: e.fit(X, LABELS, class_weight={"maybe": 1}))
    with pytest.raises(ValueError, match="Sample weights must be 1D"):
        weights_after(lambda e: e.fit(X, LABELS, sample_weight=np.ones((60, 2))))


# --- in company --------------------------------------------------------------------------------


def test_grid_search_in_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), KerasRegressor(create_model, random_state=0))
    grid = {"kerasregressor__units": [2, 8], "kerasregressor__epochs": [1, 3]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, Y)
    best = search.best_estimator_[-1]
    assert best.model.layers[0].units == search.best_params_["kerasregressor__units"]
    assert len(best.history_.epoch) == search.best_params_["kerasregressor__epochs"]
    assert search.score(X, Y) == pytest.approx(r2_score(Y, search.predict(X)))


def test_halving_search_over_epochs():
    regressor = KerasRegressor(create_model, random_state=0)
    for estimator, prefix in (
        (regressor, ""),
        (make_pipeline(StandardScaler(), regressor), "kerasregressor__"),
    ):
        search = HalvingGridSearchCV(
            estimator,
            {f"{prefix}units": [2, 4]},
            resource=f"{prefix}epochs",
            max_resources=2,
            factor=2,
            cv=2,
            error_score="raise",
        ).fit(X, Y)
        assert search.best_params_[f"{prefix}epochs"] == 2


def test_defaults_of_keras_are_parameters():
    estimator = KerasRegressor(create_model, epochs=3)
    defaults = {
        name: parameter.default
        for method in (keras.Model.predict, keras.Model.fit)
        for name, parameter in inspect.signature(method).parameters.items()
    }
    parameters = estimator.get_params()
    assert parameters.pop("epochs") == 3
    assert parameters.pop("verbose") == 0
    assert parameters.pop("build_fn") is create_model
    assert parameters == {name: defaults.get(name) for name in parameters}
    data = {"class_weight", "sample_weight", "validation_data"}
    assert parameters.keys() >= defaults.keys() - data - {"self", "x", "y", "callbacks"} - {
        "epochs",
        "verbose",
    }
    assert estimator.get_params(deep=False).keys() == {"build_fn", "random_state", "epochs"}
    assert clone(estimator).sk_params == {"epochs": 3}
    assert "batch_size" not in repr(estimator)
    # Defaults of the build function have priority.
    assert "epochs" not in KerasRegressor(lambda epochs=5: None).get_params()


def test_cross_validation_of_a_classifier():
    scores = cross_val_score(KerasClassifier(create_classifier, epochs=2), X, LABELS, cv=3)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_plain_pickle_of_a_lambda_loads_in_another_process(tmp_path):
    factor = 2
    estimator = KerasRegressor(build_fn=lambda units: create_model(units * factor), units=3)
    estimator.fit(X, Y)
    path = tmp_path / "estimator.pickle"
    path.write_bytes(pickle.dumps((estimator, X, estimator.predict(X))))
    code = """
import pickle, sys
estimator, X, expected = pickle.load(open(sys.argv[1], "rb"))
assert (estimator.predict(X) == expected).all()
assert estimator.history_.model is estimator.model
estimator.set_params(units=5).fit(X, X[:, 0])
assert estimator.model.layers[0].units == 10
"""
    python(code, path, path=[Path(__file__).parent, ROOT / "tests"])


def test_copies_share_functions():
    calls = []

    def build():
        calls.append(1)
        return create_model()

    estimator = KerasRegressor(build, callbacks=[]).fit(X, Y)
    shallow, deep = copy.copy(estimator), copy.deepcopy(estimator)
    assert shallow.model is estimator.model
    assert shallow.sk_params["callbacks"] is estimator.sk_params["callbacks"]
    assert deep.model is not estimator.model
    assert deep.history_.model is deep.model
    assert deep.sk_params["callbacks"] is not estimator.sk_params["callbacks"]
    assert np.array_equal(deep.predict(X), estimator.predict(X))
    for twin in (shallow, deep):
        assert twin.set_params(epochs=2).fit(X, Y).model is not estimator.model
    assert "epochs" not in estimator.sk_params
    assert len(calls) == 3


def test_unfitted_estimators_pickle_and_importable_functions_go_by_name():
    estimator = pickle.loads(pickle.dumps(KerasRegressor(create_model, units=3)))
    assert estimator.build_fn is create_model
    assert estimator.get_params()["units"] == 3


def test_no_framework_is_imported_for_parameters():
    code = """
import sys
from sklearn.base import clone
from keras_reduce import KerasClassifier, KerasRegressor
def build(units=1): pass
clone(KerasRegressor(build, units=2, epochs=3)).set_params(batch_size=1)
assert not {"keras", "tensorflow"} & set(sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
