"""Searches, ensembles and random sequences of operations: the same results with shared traces.

``reuse.py lives 200`` tries two hundred random sequences.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import pickle
import sys
import tempfile

import keras
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run
from joblib import Parallel, delayed, parallel_config
from keras import layers, ops
from sklearn.base import clone
from sklearn.ensemble import BaggingRegressor
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

import keras_reduce
from checks import bits, check, main
from keras_reduce import KerasClassifier, KerasRegressor
from keras_reduce.core import trace_folders
from keras_reduce.trace_cache import cache

keras_reduce.install()
rng = np.random.default_rng(0)
X = rng.normal(size=(36, 5)).astype("float32")
Y = X.sum(axis=1)
LABELS = np.where(Y > 0, "up", "down")
WEIGHTS = rng.random(36)

borrowed = []
# Private: no public name tells the use of shared traces.
_init = cache._Borrowed.__init__


def _noting(self, *arguments):
    _init(self, *arguments)
    borrowed.append(self)


# Private: no public name tells the use of shared traces.
cache._Borrowed.__init__ = _noting


# --- searches and ensembles ----------------------------------------------------------------------


def skewed(factor):
    def loss(y_true, y_pred):
        difference = y_true - y_pred
        return ops.mean(ops.maximum(factor * difference, (factor - 1) * difference), axis=-1)

    return loss


def build(units=4, rate=0.2, optimizer="sgd", loss="mse", depth=1, norm=True):
    """Build a model that gets the number of features from the data."""
    hidden = [layers.Dense(units, "relu") for _ in range(depth)]
    norms = [layers.BatchNormalization()] if norm else []
    model = keras.Sequential([*hidden, *norms, layers.Dropout(rate), layers.Dense(1)])
    model.compile(optimizer, skewed(loss) if isinstance(loss, float) else loss)
    return model


def build_classifier(meta, units=4):
    hidden = layers.Dense(units, "tanh")
    model = keras.Sequential(
        [keras.Input((meta["n_features_in_"],)), hidden, layers.Dense(2, "softmax")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def build_with_input(units=4):
    return build_classifier({"n_features_in_": 5}, units)


def build_for_keras(X, y, units=4):  # noqa: N803
    return build(units)


def regressor(**parameters):
    return KerasRegressor(build, **{"epochs": 2, "batch_size": 8, "random_state": 0, **parameters})


def scores(results):
    return {name: value for name, value in results.items() if "time" not in name}


def grid_search(n_jobs):
    grid = [
        {"kerasregressor__units": [6]},
        {"kerasregressor__batch_size": [9]},
        {"kerasregressor__optimizer": ["adam"], "kerasregressor__norm": [False]},
        {"kerasregressor__loss": [0.3, 0.7], "kerasregressor__depth": [2]},
    ]
    pipeline = make_pipeline(StandardScaler(), regressor())
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs, error_score="raise").fit(X, Y)
    return scores(search.cv_results_), search.best_params_, search.predict(X)


def randomized_search(n_jobs):
    estimator = KerasClassifier(
        build_classifier, epochs=2, batch_size=8, random_state=1, class_weight="balanced"
    )
    search = RandomizedSearchCV(
        estimator,
        {"units": [3, 4], "epochs": [1, 2, 3]},
        n_iter=2,
        cv=2,
        n_jobs=n_jobs,
        random_state=0,
        error_score="raise",
    ).fit(X, LABELS)
    return scores(search.cv_results_), search.predict_proba(X)


def cross_validation(n_jobs):
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=0, restore_best_weights=True)
    estimator = regressor(epochs=4, validation_split=0.2, callbacks=[stopping])
    validation = cross_validate(
        estimator,
        X,
        Y,
        cv=2,
        n_jobs=n_jobs,
        return_estimator=True,
        error_score="raise",
        params={"sample_weight": WEIGHTS},
    )
    models = [fitted.model_ for fitted in validation["estimator"]]
    assert len(set(map(id, models))) == 2
    answers = [fitted.predict(X) for fitted in validation["estimator"]]
    # Each estimator has its own model, and changes of one don't affect the others.
    models[0].set_weights([np.zeros_like(array) for array in models[0].get_weights()])
    assert np.array_equal(validation["estimator"][1].predict(X), answers[1])
    history = [fitted.history_.history for fitted in validation["estimator"]]
    return validation["test_score"], answers, history


def bagging(n_jobs):
    ensemble = BaggingRegressor(
        regressor(), n_estimators=2, max_features=0.6, n_jobs=n_jobs, random_state=0
    )
    return ensemble.fit(X, Y, sample_weight=WEIGHTS).predict(X)


def importance(n_jobs):
    fitted = make_pipeline(StandardScaler(), regressor()).fit(X, Y)
    return permutation_importance(
        fitted, X, Y, n_repeats=2, n_jobs=n_jobs, random_state=0
    ).importances


def without_seeds_of_their_own(n_jobs):
    """Search with estimators that draw from the global generator, in one process only."""
    from scikeras.wrappers import KerasClassifier as SciKerasClassifier

    results = []
    for estimator, grid in (
        (regressor(random_state=None), {"units": [4, 5]}),
        (
            SciKerasClassifier(build_with_input, units=4, epochs=2, verbose=0),
            [{"units": [5]}, {"optimizer__learning_rate": [0.1, 0.2]}],
        ),
        (
            keras.wrappers.SKLearnRegressor(
                build_for_keras, fit_kwargs={"epochs": 2, "verbose": 0}
            ),
            {"model_kwargs": [{"units": 4}, {"units": 5}]},
        ),
    ):
        if not has_tags(estimator):
            continue  # SciKeras 0.13 with scikit-learn 1.6.0.
        keras.utils.set_random_seed(3)
        search = GridSearchCV(estimator, grid, cv=2, error_score="raise")
        targets = LABELS if "Classifier" in type(estimator).__name__ else Y
        results.append(scores(search.fit(X, targets).cv_results_))
    return results


def has_tags(estimator):
    try:
        get_tags(estimator)
    except AttributeError:
        return False
    return True


def the_same(function, n_jobs):
    """Require that a function returns the same with shared traces and without."""
    borrowed.clear()
    with keras_reduce.installed(reuse=False):
        keras.utils.set_random_seed(0)
        expected = bits(function(n_jobs))
        assert not borrowed
    # In the second call, all traces are shared; in the first, those within a search.
    again = function in (randomized_search, importance) and n_jobs == 1
    for _ in range(1 + again):
        keras.utils.set_random_seed(0)
        assert bits(function(n_jobs)) == expected
    assert n_jobs > 1 or borrowed


@check
def grid_search_with_1_jobs():
    the_same(grid_search, 1)


@check
def grid_search_with_2_jobs():
    the_same(grid_search, 2)


@check
def randomized_search_with_1_jobs():
    the_same(randomized_search, 1)


@check
def randomized_search_with_2_jobs():
    the_same(randomized_search, 2)


@check
def cross_validation_with_1_jobs():
    the_same(cross_validation, 1)


@check
def cross_validation_with_2_jobs():
    the_same(cross_validation, 2)


@check
def bagging_with_1_jobs():
    the_same(bagging, 1)


@check
def bagging_with_2_jobs():
    the_same(bagging, 2)


@check
def importance_with_1_jobs():
    the_same(importance, 1)


@check
def importance_with_2_jobs():
    the_same(importance, 2)


@check
def estimators_of_others():
    the_same(without_seeds_of_their_own, 1)


@check
def two_searches_at_once():
    """Search in two threads; the build function has all seeds, since others are global."""

    def build(units):
        first, second = (keras.initializers.GlorotUniform(seed) for seed in (1, 2))
        hidden = layers.Dense(units, "relu", kernel_initializer=first)
        last = layers.Dense(1, kernel_initializer=second)
        model = keras.Sequential([keras.Input((5,)), hidden, layers.Dropout(0.2, seed=3), last])
        model.compile("adam", "mse")
        return model

    def search(units):
        estimator = KerasRegressor(build, units=4, epochs=2, shuffle=False)
        grid = {"units": units, "batch_size": [9]}
        fitted = GridSearchCV(estimator, grid, cv=2, n_jobs=1, error_score="raise").fit(X, Y)
        return bits(scores(fitted.cv_results_))

    grids = [[4, 5], [5, 4]]
    with keras_reduce.installed(reuse=False):
        expected = list(map(search, grids))
    borrowed.clear()
    with parallel_config("threading"):
        assert Parallel(2)(delayed(search)(units) for units in grids) == expected
    assert borrowed


# --- random sequences of operations --------------------------------------------------------------


@contextlib.contextmanager
def alone():
    """Turn off the sharing of traces for a block."""
    # Private: a twin traces in the same process, without sharing.
    cache._is_on = False
    try:
        yield
    finally:
        cache._is_on = True


class Noisy(layers.Layer):
    def __init__(self, level=0.1, **kwargs):
        super().__init__(**kwargs)
        self.level = level
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, inputs, training=False):
        if not training:
            return inputs
        return (
            inputs + keras.random.normal(ops.shape(inputs), seed=self.seed_generator) * self.level
        )


def build_noisy(units=4, level=0.1):
    model = keras.Sequential([layers.Dense(units), Noisy(level), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5), skewed(0.4))
    return model


CHANGES = {
    "frozen": lambda model: (
        setattr(model.layers[0], "trainable", False),
        model.compile("sgd", "mse"),
    ),
    "compiled again": lambda model: model.compile("adam", "mae"),
    "learning rate": lambda model: setattr(model.optimizer, "learning_rate", 0.02),
    "momentum": lambda model: setattr(model.optimizer, "clipvalue", 0.1),
    "weights": lambda model: model.layers[0].kernel.assign(ops.ones_like(model.layers[0].kernel)),
    "attribute": lambda model: setattr(model, "note", {"mine": [1, 2]}),
    "level": lambda model: setattr(model.layers[1], "level", 0.5),
    "activation": lambda model: setattr(model.layers[0], "activation", keras.activations.tanh),
    "traced again": lambda model: model.make_train_function(force=True),
}
WAYS = {
    "pickle": lambda estimator: pickle.loads(pickle.dumps(estimator)),
    "deepcopy": copy.deepcopy,
    "clone": clone,
}


class Lives(RuleBasedStateMachine):
    """Several estimators; a twin of each does the same without shared traces."""

    @initialize()
    def begin(self):
        self.pairs, self.kept, self.steps = [], [], 0
        self.folder = tempfile.TemporaryDirectory()
        trace_folders.use(user=self.folder.name)
        # Each life begins with a fit, which from the second life on has a trace to share.
        self.make(noisy=False, units=3)
        self.both(lambda estimator: seen(estimator.fit(X, Y).model_), *self.pairs[0])

    def both(self, action, *pair):
        """Apply an action to both estimators of a pair; the results must be the same."""
        self.steps += 1
        results = []
        for estimator, context in zip(pair, (contextlib.nullcontext(), alone()), strict=True):
            with context:
                keras.utils.set_random_seed(self.steps)
                results.append(action(estimator))
        assert bits(results[0]) == bits(results[1])

    @rule(noisy=st.booleans(), units=st.sampled_from([3, 4]))
    @precondition(lambda self: len(self.pairs) < 4)
    def make(self, noisy, units):
        create = functools.partial(KerasRegressor, build_noisy if noisy else build)
        self.pairs.append([create(units=units, batch_size=9) for _ in range(2)])

    @rule(data=st.data(), epochs=st.integers(1, 2), rows=st.sampled_from([18, 20]))
    @precondition(lambda self: self.pairs)
    def fit(self, data, epochs, rows):
        def action(estimator):
            estimator.fit(X[:rows], Y[:rows], epochs=epochs)
            return estimator.history_.history, seen(estimator.model_)

        self.both(action, *data.draw(st.sampled_from(self.pairs)))

    @rule(data=st.data())
    @precondition(lambda self: self.fitted())
    def go_on(self, data):
        def action(estimator):
            history = estimator.model_.fit(X, Y, batch_size=9, verbose=0).history
            return history, seen(estimator.model_)

        self.both(action, *data.draw(st.sampled_from(self.fitted())))

    @rule(data=st.data(), rows=st.sampled_from([18, 20]), frequency=st.sampled_from([1, 2]))
    @precondition(lambda self: self.fitted())
    def validate(self, data, rows, frequency):
        def action(estimator):
            model, options = estimator.model_, {"batch_size": 9, "verbose": 0}
            history = model.fit(
                X[:rows],
                Y[:rows],
                epochs=2,
                validation_data=(X[rows:], Y[rows:]),
                validation_freq=frequency,
                callbacks=[keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=0)],
                **options,
            )
            return history.history, model.evaluate(X[:rows], Y[:rows], **options), seen(model)

        self.both(action, *data.draw(st.sampled_from(self.fitted())))

    @rule(data=st.data(), rows=st.sampled_from([1, 9, 11, 36]))
    @precondition(lambda self: self.fitted())
    def predict(self, data, rows):
        pair = data.draw(st.sampled_from(self.fitted()))
        self.both(lambda estimator: estimator.predict(X[:rows]), *pair)

    @rule(data=st.data(), change=st.sampled_from(sorted(CHANGES)))
    @precondition(lambda self: self.fitted())
    def change(self, data, change):
        def action(estimator):
            CHANGES[change](estimator.model_)
            return seen(estimator.model_)

        self.both(action, *data.draw(st.sampled_from(self.fitted())))

    @rule(data=st.data())
    @precondition(lambda self: self.fitted())
    def keep(self, data):
        pair = data.draw(st.sampled_from(self.fitted()))
        model = pair[0].model_
        self.kept.append((model, bits(seen(model))))
        for estimator in pair:
            estimator.model = None

    @rule(data=st.data())
    @precondition(lambda self: self.pairs)
    def drop(self, data):
        self.pairs.remove(data.draw(st.sampled_from(self.pairs)))

    @rule(data=st.data(), way=st.sampled_from(sorted(WAYS)))
    @precondition(lambda self: self.pairs)
    def ship(self, data, way):
        pair = data.draw(st.sampled_from(self.pairs))
        pair[:] = map(WAYS[way], pair)

    @rule()
    def forget(self):
        """Forget all traces: later ones are read from the folder, as another process would."""
        cache.pool.clear()

    def fitted(self):
        return [pair for pair in self.pairs if pair[0].__sklearn_is_fitted__()]

    def teardown(self):
        trace_folders.use(user=None)
        self.folder.cleanup()
        # Models that were put aside are unchanged.
        for model, before in getattr(self, "kept", ()):
            assert bits(seen(model)) == before


def seen(model):
    """Return the state of a model and its optimizer."""
    variables = [*model.variables, *model.optimizer.variables]
    return [np.asarray(variable) for variable in variables]


@check
def random_lives_are_as_those_of_their_twins():
    run(
        Lives,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=14,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert borrowed


EXAMPLES = int(sys.argv[2]) if len(sys.argv) > 2 else 6

if __name__ == "__main__":
    main(*sys.argv[1:2])
