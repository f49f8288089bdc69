"""Results of `joblib.hash`: the program runs in two processes, which must agree.

``python hashes.py FOLDER`` prints a hash for each object. The first process writes a pickle of all
objects and joblib's cache to FOLDER, and the second uses them.
"""

import functools
import json
import pickle
import sys
import threading
import time
import types
from pathlib import Path

import joblib
import keras
import numpy as np
from keras import layers, ops
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import importable
import keras_reduce
from keras_reduce import KerasRegressor

keras_reduce.install()

FACTOR = 2.0
LOCK = threading.Lock()
NAMES = {"b", "a", "c"}
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(12, 3)), rng.normal(size=12)


def scaled(values):
    return values * FACTOR if NAMES else scaled(values)


def compiled():
    """Return a `tf.function` by name, with TensorFlow; else nothing."""
    if keras.config.backend() != "tensorflow":
        return {}
    import tensorflow as tf

    return {"tf_function": tf.function(scaled)}


def guarded(values):
    with LOCK:
        return scaled(values)


class Scale(layers.Layer):
    kinds = frozenset(("x", "y"))

    def __init__(self, by=1.0, **kwargs):
        super().__init__(**kwargs)
        self.by = by

    @property
    def twice(self):
        return 2 * self.by

    @staticmethod
    def shift(inputs):
        return inputs + FACTOR

    def call(self, inputs, training=False):
        return self.shift(inputs * self.by) if training else scaled(inputs)


class Features(TransformerMixin, BaseEstimator):
    """A transformer that trains a model, and counts how often."""

    def __init__(self, build=None, count=None):
        self.build, self.count = build, count

    def fit(self, x, y=None):
        with Path(self.count).open("a") as file:
            file.write("fitted\n")
        self.model_ = self.build()
        self.model_.fit(x, y, verbose=0, shuffle=False)
        return self

    def transform(self, x):
        return self.model_.predict(x, verbose=0)


def build(units=2, seed=None):
    if seed is not None:
        keras.utils.set_random_seed(seed)
    hidden = [Scale(0.5), layers.Dropout(0.5), layers.Lambda(lambda x: x + FACTOR)]
    model = keras.Sequential([keras.Input((3,)), *hidden, layers.Dense(units), layers.Dense(1)])
    model.compile("adam", lambda t, p: ops.mean(ops.square(t - p) * FACTOR), run_eagerly=True)
    return model


def objects():
    keras.utils.set_random_seed(1)
    model = build()
    stopping = keras.callbacks.EarlyStopping("loss", restore_best_weights=True)
    model.fit(X, Y, epochs=2, shuffle=False, verbose=0, callbacks=[stopping])
    model.note = {"by": ("me", 1), "words": [frozenset(("b", "a", "c"))]}
    pipeline = make_pipeline(StandardScaler(), KerasRegressor(build, epochs=1, random_state=0))
    inputs = keras.Input((2,), name="inputs")
    return {
        "model": model,
        "layer": model.layers[0],
        "optimizer": model.optimizer,
        "history": model.history,
        "callback": stopping,
        "method": model.predict,
        "unfitted": KerasRegressor(lambda: build(3), callbacks=[stopping]),
        "fitted": pipeline.fit(X, Y),
        "metric": keras.metrics.AUC(num_thresholds=5),
        "initializer": keras.initializers.GlorotUniform(),
        "seed_generator": keras.random.SeedGenerator(),
        "variable": keras.Variable([0.1, 0.2], dtype="bfloat16", name="v"),
        "tensor": layers.Dense(2, name="named")(inputs),
        **compiled(),
        "reference": layers.Activation(importable.ImportableScale(2.0)),
    }


def code():
    """Return functions and classes that plain pickle refuses."""
    closure = (lambda by: lambda x: x * by)(3)
    return {"function": scaled, "guarded": guarded, "class": Scale, "closure": closure}


def differences(model):
    """Return variants of `model` that must have other hashes, by name of the difference."""
    variants = {}
    weights = model.layers[-1].kernel.numpy()
    flipped = pickle.loads(pickle.dumps(model))
    bits = weights.copy().view("uint32")
    bits[0, 0] ^= 1
    flipped.layers[-1].kernel.assign(bits.view("float32"))
    variants["one bit of a weight"] = flipped
    for name, change in {
        "a flag": lambda copy: setattr(copy.layers[0], "trainable", False),
        "an attribute": lambda copy: setattr(copy, "note", {**copy.note, "by": ("me", 2)}),
        "an inner attribute": lambda copy: setattr(copy.layers[1], "note", 1),
        "a seed": lambda copy: copy.layers[1].seed_generator.next(),
        "a slot": lambda copy: copy.optimizer.iterations.assign_add(1),
        "a rate": lambda copy: setattr(copy.optimizer, "learning_rate", 0.5),
        "a count": lambda copy: setattr(copy.layers[0], "by", 0.25),
    }.items():
        variants[name] = pickle.loads(pickle.dumps(model))
        change(variants[name])
    variants["a loss"] = pickle.loads(pickle.dumps(model))
    variants["a loss"].compile(variants["a loss"].optimizer, "mse", run_eagerly=True)
    return variants


def changed_code():
    """Return pairs of different functions or classes of one name."""

    def cached(by):
        @functools.lru_cache
        def number():
            return by

        return lambda: number()

    def holding(value):
        return lambda: value

    def make(by):
        def named(x):
            return x + by

        class Named(layers.Layer):
            def call(self, inputs):
                return inputs * by

        return named, Named

    def other():
        def named(x):
            return x - 1

        class Named(layers.Layer):
            def call(self, inputs):
                return -inputs

        return named, Named

    pairs = [*zip(make(1), make(2), strict=True), *zip(make(1), other(), strict=True)]
    pairs += [
        (cached(1), cached(2)),
        (holding(types.MappingProxyType({1: 2})), holding(types.MappingProxyType({1: 3}))),
        (holding(memoryview(b"a")), holding(memoryview(b"b"))),
        (holding(frozenset("ab")), holding(frozenset("ac"))),
    ]
    return {str(number): pair for number, pair in enumerate(pairs)}


def main(folder):
    shipped = objects()
    first = {name: joblib.hash(obj) for name, obj in {**shipped, **code()}.items()}
    assert pickle.dumps(shipped["model"]) == pickle.dumps(shipped["model"])
    time.sleep(1.1)  # Keras's own pickles contain the time in seconds.
    again = {name: joblib.hash(obj) for name, obj in {**shipped, **code()}.items()}

    file = folder / "objects.pickle"
    if not file.exists():
        file.write_bytes(pickle.dumps(shipped))
    travelled = {n: joblib.hash(o) for n, o in pickle.loads(file.read_bytes()).items()}

    features = Features(build, str(folder / "count.txt"))
    steps = [("scale", StandardScaler()), ("features", features), ("ridge", Ridge())]
    function = FunctionTransformer(lambda values: values * FACTOR)
    steps.insert(1, ("function", function))
    pipeline = Pipeline(steps, memory=str(folder / "cache"))
    predicted = pipeline.fit(X, Y).predict(X)

    model_hash = joblib.hash(shipped["model"])
    words = {
        "first": first,
        "again": again,
        "travelled": travelled,
        "predicted": predicted.tolist(),
        "differences": {
            name: joblib.hash(other) != model_hash
            for name, other in differences(shipped["model"]).items()
        },
        "code": {n: joblib.hash(a) != joblib.hash(b) for n, (a, b) in changed_code().items()},
    }
    print(f"\nWORDS {json.dumps(words)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
