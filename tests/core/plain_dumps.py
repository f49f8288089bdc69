"""Functions and classes of ``__main__`` in joblib dumps, for a program that lacks their code."""

import pickle
import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import keras_reduce

FOLDER = Path(sys.argv[1])
FACTOR = 3.0


def times_factor(values):
    return values * FACTOR


class Doubling(TransformerMixin, BaseEstimator):
    def __init__(self, function=None):
        self.function = function

    def fit(self, x, y=None):
        self.memory_ = np.asarray(x)
        return self

    def transform(self, x):
        return self.function(x) * 2


def self_referring(depth):
    return 0 if depth == 0 else 1 + self_referring(depth - 1)


keras_reduce.install()
shared = {"table": np.arange(6.0)}
pipeline = make_pipeline(
    FunctionTransformer(times_factor),
    FunctionTransformer(lambda values: values + shared["table"].sum()),
    Doubling(times_factor),
).fit(np.ones((2, 2)))
content = {
    "pipeline": pipeline,
    "recursion": self_referring,
    "twice": [times_factor, times_factor],
    "class": Doubling,
    "builtin": len,
    "reference": np.mean,
    "shared": shared,
}
joblib.dump(content, FOLDER / "plain.joblib")
joblib.dump(content, FOLDER / "compressed.joblib", compress=("gzip", 3))
np.save(FOLDER / "expected.npy", pipeline.transform(np.ones((2, 2))))

keras_reduce.install(functions_by_value=False)
joblib.dump(times_factor, FOLDER / "reference.joblib")
keras_reduce.install(functions_by_value=True)

# Plain pickle carries no functions by value, but an estimator reduces its own ones.
wrapper = keras_reduce.KerasRegressor(lambda units=2: units + FACTOR, epochs=3)
(FOLDER / "wrapper.pickle").write_bytes(pickle.dumps(wrapper))
