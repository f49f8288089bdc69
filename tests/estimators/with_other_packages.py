"""Estimators with searches, samplers and frames of other packages, over two workers."""

import sys
import warnings
from pathlib import Path

import joblib
import keras
import numpy as np
import optuna
import polars as pl
import pyarrow as pa
from imblearn.ensemble import BalancedBaggingClassifier
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline as make_sampling_pipeline
from joblib import parallel_config
from optuna.distributions import IntDistribution
from optuna_integration.sklearn import OptunaSearchCV
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import GridSearchCV
from skopt import BayesSearchCV

import keras_reduce
from checks import check, main
from keras_reduce import scikeras

# Models of one architecture share traces, which is cheaper than computing eagerly.
keras_reduce.install()
optuna.logging.set_verbosity(optuna.logging.ERROR)
rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3)).astype("float32")
Y = X.sum(axis=1)
RARE = np.where(X[:, 0] > 1, "rare", "often")
KINDS = np.array(["low", "mean", "high"])[np.digitize(X[:, 1], [-0.5, 0.5])]
OPTIONS = {"random_state": 0, "batch_size": 40, "verbose": 0}


def build(meta, units=2):
    is_classifier = "n_classes_" in meta
    last = ("sigmoid", "binary_crossentropy") if is_classifier else (None, "mse")
    model = keras.Sequential([keras.layers.Dense(units, "relu"), keras.layers.Dense(1, last[0])])
    model.compile("adam", last[1])
    return model


BOTH = {"named": keras_reduce, "routed": scikeras}


def carried(name, fitted, samples, y):
    """Write an estimator, and what a reader must get from it."""
    joblib.dump((fitted, samples, y, fitted.predict(samples)), FOLDER / f"{name}.joblib")


@check
def bayesian_search():
    for name, module in BOTH.items():
        units = "units" if name == "named" else "model__units"
        search = BayesSearchCV(
            module.KerasRegressor(build, **OPTIONS),
            {units: (2, 4), "epochs": (1, 2)},
            n_iter=2,
            n_points=2,
            cv=2,
            random_state=0,
            error_score="raise",
        )
        with parallel_config("keras", n_jobs=2):
            search.fit(X, Y)
        assert set(search.best_params_) == {units, "epochs"}
        carried(f"bayes_{name}", search, X, Y)


@check
def search_with_optuna():
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    for name, module in BOTH.items():
        units = "units" if name == "named" else "model__units"
        for is_pruning in (False, True):
            # Pruning trains trial by trial with `partial_fit`.
            search = OptunaSearchCV(
                module.KerasRegressor(build, **OPTIONS),
                {units: IntDistribution(2, 4)},
                n_trials=2,
                cv=2,
                max_iter=2,
                enable_pruning=is_pruning,
                random_state=0,
                error_score="raise",
            )
            with parallel_config("keras", n_jobs=2):
                search.fit(X, Y)
            assert 2 <= search.best_params_[units] <= 4
            assert [trial.state.name for trial in search.trials_] == ["COMPLETE"] * 2
        carried(f"optuna_{name}", search.best_estimator_, X, Y)


@check
def samplers_and_ensembles_of_imbalanced_learn():
    for name, module in BOTH.items():
        classifier = module.KerasClassifier(build, **OPTIONS)
        sampled = make_sampling_pipeline(RandomOverSampler(random_state=0), classifier)
        search = GridSearchCV(
            sampled, {"kerasclassifier__epochs": [1, 2]}, cv=2, error_score="raise"
        )
        bagged = BalancedBaggingClassifier(classifier, n_estimators=2, random_state=0)
        with parallel_config("keras", n_jobs=2):
            search.fit(X, RARE)
            bagged.fit(X, RARE)
        assert bagged.predict_proba(X).shape == (40, 2)
        carried(f"sampled_{name}", search, X, RARE)
        carried(f"bagged_{name}", bagged, X, RARE)


class Columns(TransformerMixin, BaseEstimator):
    """An encoder of a frame with a column of categories as two inputs."""

    def fit(self, frame):
        self.kinds_ = np.unique(column(frame, "kind"))
        return self

    def transform(self, frame):
        kinds = np.searchsorted(self.kinds_, column(frame, "kind"))
        return {
            "kind": kinds[:, None],
            "numbers": np.column_stack([column(frame, name) for name in "ab"]).astype("float32"),
        }


def column(frame, name):
    given = frame[name]
    array = given.to_numpy() if hasattr(given, "to_numpy") else np.asarray(given)
    return array.astype(str) if name == "kind" else array


def kinds_and_numbers():
    kind, numbers = keras.Input((1,), name="kind"), keras.Input((2,), name="numbers")
    embedded = keras.layers.Flatten()(keras.layers.Embedding(3, 2)(kind))
    outputs = keras.layers.Dense(1)(keras.layers.Concatenate()([embedded, numbers]))
    model = keras.Model({"kind": kind, "numbers": numbers}, outputs)
    model.compile("adam", "mse")
    return model


def hooked(module):
    class OfFrames(module.KerasRegressor):
        @property
        def feature_encoder(self):
            return Columns()

    return OfFrames(kinds_and_numbers, **OPTIONS)


def frames():
    columns = {"a": X[:, 0], "b": X[:, 1], "kind": KINDS}
    yield "polars", pl.DataFrame(columns).with_columns(pl.col("kind").cast(pl.Categorical))
    table = pa.table(columns)
    kinds = table["kind"].combine_chunks().dictionary_encode()
    yield "pyarrow", table.set_column(2, "kind", kinds)


@check
def frames_with_categories_into_two_inputs():
    expected = None
    for title, frame in frames():
        for name, module in BOTH.items():
            estimator = hooked(module)
            search = GridSearchCV(estimator, {"epochs": [1, 2]}, cv=2, error_score="raise")
            with parallel_config("keras", n_jobs=2):
                search.fit(frame, Y)
            best = search.best_estimator_
            assert best.feature_names_in_.tolist() == ["a", "b", "kind"], title
            predicted = search.predict(frame)
            expected = predicted if expected is None else expected
            assert np.array_equal(predicted, expected), (title, name)
            carried(f"{title}_{name}", search, frame, Y)


@check
def frames_of_numbers():
    expected = None
    for name, module in BOTH.items():
        estimator = module.KerasRegressor(build, **OPTIONS)
        expected = estimator.fit(X, Y).predict(X)
        columns = {each: X[:, i] for i, each in enumerate("abc")}
        for frame in (pl.DataFrame(columns), pa.table(columns)):
            fitted = estimator.fit(frame, Y)
            assert fitted.feature_names_in_.tolist() == list("abc")
            assert np.array_equal(fitted.predict(frame), expected), (name, type(frame))
            assert isinstance(fitted.fit(frame, pl.Series(Y)).score(frame, Y), float)


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    main(*sys.argv[2:])
