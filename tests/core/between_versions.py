"""Dumps of one set of versions, loaded with another.

``between_versions.py write FOLDER`` trains some objects, dumps them, and records their state, their
outputs, and the outcome of further training. ``between_versions.py read FOLDER`` loads the dumps,
which another version of Keras, or one with another backend, may have written, and prints a word
for each: empty, or the difference.
"""

import importlib.metadata
import json
import pickle
import sys
import traceback
import warnings
from pathlib import Path

import joblib
import keras
import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_reduce
from keras_reduce import KerasRegressor
from keras_reduce.core import keras_backend

rng = np.random.default_rng(0)
X = rng.normal(size=(32, 6)).astype("float32")
Y = (X @ rng.normal(size=(6, 1)) + 0.5).astype("float32")
FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}

WRITERS = {
    "pickle": lambda obj, path: path.write_bytes(pickle.dumps(obj)),
    "joblib": joblib.dump,
    "compressed": lambda obj, path: joblib.dump(obj, path, compress=3),
    "dump": keras_reduce.dump,
}
READERS = {
    "pickle": lambda path: pickle.loads(path.read_bytes()),
    "joblib": joblib.load,
    "compressed": joblib.load,
    "dump": keras_reduce.load,
}
CASES = {}


def case(container):
    """Register a function that builds an object, and the way in which the object is dumped."""

    def enter(function):
        CASES[function.__name__] = container, function
        return function

    return enter


# --- objects ------------------------------------------------------------------------------------


@case("pickle")
def sequential():
    layers = keras.layers
    # On Torch, dropout without a seed draws from Torch's global generator, which no model holds.
    seed = 1 if keras.backend.backend() == "torch" else None
    stack = [layers.Dense(8, activation="relu"), layers.Dropout(0.3, seed=seed), layers.Dense(1)]
    model = keras.Sequential([keras.Input((6,)), *stack])
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(X, Y, epochs=2, **FIT)
    return model


@case("joblib")
def functional():
    inputs = keras.Input((6,))
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(4, activation="tanh")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mae")
    model.fit(X, Y, **FIT)
    return model


class Subclassed(keras.Model):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(units, activation="relu")
        self.stack = [keras.layers.Dense(3), keras.layers.LayerNormalization()]
        self.last = keras.layers.Dense(1)

    def call(self, inputs):
        hidden = self.hidden(inputs)
        for layer in self.stack:
            hidden = layer(hidden)
        return self.last(hidden)


@case("dump")
def subclassed():
    model = Subclassed(5)
    model.compile("rmsprop", "mse")
    model.fit(X, Y, **FIT)
    return model


def weighted(y_true, y_pred):
    return keras.ops.mean(keras.ops.square(y_true - y_pred) * 1.5, axis=-1)


@case("dump")
def loss_of_the_user():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    model.compile("nadam", weighted)
    model.fit(X, Y, **FIT)
    return model


def build(units=4):
    hidden = keras.layers.Dense(units, activation="relu")
    model = keras.Sequential([keras.Input((6,)), hidden, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


@case("joblib")
def pipeline():
    regressor = KerasRegressor(build, units=5, epochs=2, shuffle=False, random_state=0)
    return make_pipeline(StandardScaler(), regressor).fit(X, Y)


@case("pickle")
def optimizer():
    adam = keras.optimizers.Adam(0.05, amsgrad=True)
    _apply(adam)
    return adam


@case("pickle")
def metrics():
    results = [keras.metrics.MeanSquaredError(), keras.metrics.AUC(num_thresholds=20)]
    for metric in results:
        metric.update_state(Y > 0, 1 / (1 + np.exp(-Y)))
    return results


@case("compressed")
def history():
    return sequential().history


# --- state, outputs, and further training -------------------------------------------------------


def _apply(optimizer):
    # The original accepts only the variables that it was built for, a copy any of their shapes.
    variables = [v for v in optimizer._trainable_variables if isinstance(v, keras.Variable)]
    variables = variables or [
        keras.Variable(np.zeros(shape, "float32")) for shape in ((3, 2), (2,))
    ]
    for variable in variables:
        variable.assign(keras.ops.ones(variable.shape))
    gradients = [keras.ops.ones(variable.shape) * 0.5 for variable in variables]
    optimizer.apply(gradients, variables)
    return variables


def state(obj):
    if isinstance(obj, list):
        return [array for item in obj for array in state(item)]
    if hasattr(obj, "steps"):
        return state(obj[-1].model_)
    if isinstance(obj, keras.callbacks.History):
        return state(obj.model)
    variables = list(obj.variables)
    if isinstance(obj, keras.Model):
        variables += obj.optimizer.variables
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def answer(obj):
    if isinstance(obj, list):
        return [keras.ops.convert_to_numpy(metric.result()) for metric in obj]
    if hasattr(obj, "steps"):
        return [obj.predict(X)]
    if isinstance(obj, keras.callbacks.History):
        return [*answer(obj.model), np.asarray(obj.epoch), np.asarray(obj.history["loss"])]
    if isinstance(obj, keras.Model):
        return [obj.predict(X, verbose=0)]
    return [keras.ops.convert_to_numpy(obj.learning_rate)]


def trained_on(obj):
    """Train `obj` some more and return its new state."""
    if isinstance(obj, list):
        for metric in obj:
            metric.update_state(Y < 0, 1 / (1 + np.exp(-Y)))
        return answer(obj)
    if hasattr(obj, "steps"):
        return trained_on(obj[-1].model_)
    if isinstance(obj, keras.callbacks.History):
        return trained_on(obj.model)
    if isinstance(obj, keras.Model):
        losses = obj.fit(X, Y, epochs=2, **FIT).history["loss"]
        return [np.asarray(losses), *state(obj)]
    return [keras.ops.convert_to_numpy(variable) for variable in _apply(obj)]


TRAINS = keras.backend.backend() not in keras_backend.INFERENCE_ONLY
# On processors that compute with 16 bits, OpenVINO does so unless it is told otherwise.
RELATIVE, ABSOLUTE = (3e-2, 1e-2) if keras.backend.backend() == "openvino" else (1e-4, 1e-6)


def observed(obj):
    """Return state, outputs and, if the backend trains, the outcome of it as arrays by name."""
    parts = {"state": state(obj), "answer": answer(obj)}
    if TRAINS:
        parts["trained"] = trained_on(obj)
    return {
        f"{part} {n}": value for part, values in parts.items() for n, value in enumerate(values)
    }


# Objects that draw random numbers in training: each backend has its own generator.
RANDOM = {"sequential", "history"}


def versions():
    backend = keras.backend.backend()
    return {
        "keras": keras.__version__,
        "backend": backend,
        backend: sys.modules[backend].__version__,
        "numpy": np.__version__,
        "joblib": joblib.__version__,
        "scikit-learn": importlib.metadata.version("scikit-learn"),
        "python": list(sys.version_info[:2]),
    }


def write(folder):
    folder.mkdir(parents=True, exist_ok=True)
    keras_reduce.install()
    for name, (container, make) in CASES.items():
        keras.utils.set_random_seed(0)
        obj = make()
        WRITERS[container](obj, folder / f"{name}.{container}")
        parts = {"state": state(obj), "answer": answer(obj), "trained": trained_on(obj)}
        arrays = {
            f"{part} {i}": array for part, all_ in parts.items() for i, array in enumerate(all_)
        }
        np.savez(folder / f"{name}.npz", **arrays)
    (folder / "versions.json").write_text(json.dumps(versions()))


def read(folder):
    """Return a word for each object."""
    # Files of another version of scikit-learn are read as well.
    warnings.filterwarnings("ignore", message="Trying to unpickle estimator")
    writer = json.loads((folder / "versions.json").read_text())
    assert writer["python"] == versions()["python"], "code by value needs the same Python"
    words = {}
    for name, (container, _) in CASES.items():
        try:
            obj = READERS[container](folder / f"{name}.{container}")
            words[name] = difference(name, np.load(folder / f"{name}.npz"), observed(obj), writer)
        except Exception:
            words[name] = traceback.format_exc()
    return words


def difference(name, expected, actual, writer):
    written = {place for place in expected.files if TRAINS or not place.startswith("trained")}
    if written != set(actual):
        return f"{sorted(written)} were written, {sorted(actual)} are read"
    for place, array in actual.items():
        before = expected[place]
        if not is_same(name, place.partition(" ")[0], before, array, writer):
            return f"{place}: {before.ravel()[:4]} was written, {array.ravel()[:4]} is read"
    return ""


def is_same(name, part, before, array, writer):
    if before.shape != array.shape:
        return False
    same_backend = writer["backend"] == keras.backend.backend()
    if part == "state":
        # Each backend has its own integer dtypes for seeds and counters.
        is_integer = before.dtype.kind in "iu" and not same_backend
        return np.array_equal(before, array) and (is_integer or before.dtype == array.dtype)
    if part == "trained" and name in RANDOM and not same_backend:
        return bool(np.isfinite(array).all())
    if same_backend and is_bit_equal(writer):
        return before.tobytes() == array.tobytes()
    return np.allclose(before, array, rtol=RELATIVE, atol=ABSOLUTE)


def is_bit_equal(writer):
    """Tell whether results must be the same to the bit: the same code computes them.

    TensorFlow 2.21 rounds some products and tanh differently from 2.18. The carried state is the
    same to the bit in any case.
    """
    ours, backend = versions(), keras.backend.backend()
    return all(ours[name] == writer.get(name) for name in ("keras", backend))


if __name__ == "__main__":
    role, where = sys.argv[1], Path(sys.argv[2])
    if role == "write":
        write(where)
    else:
        print(f"\nWORDS {json.dumps(read(where))}")
