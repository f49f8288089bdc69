"""Files that are written with one backend and read with another.

``python crossing.py write FOLDER`` trains models on the current backend, and writes them and the
expected values. ``python crossing.py read FOLDER`` loads them, on the same backend or on another
one, in a program that has not called `install`. Weights must be the same to the bit, and
predictions as close as two libraries compute; training goes on with the same slots.
"""

import json
import pickle
import sys
from pathlib import Path

import joblib
import keras
import numpy as np
from keras import layers, ops, optimizers
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_reduce
from checks import CHECKS, entering, main, raises
from keras_reduce import KerasRegressor
from keras_reduce.errors import KerasReduceError

BACKEND = keras.config.backend()
TRAINS = BACKEND in ("tensorflow", "jax", "torch")
MODELS = {}
model = entering(MODELS)

rng = np.random.default_rng(0)
X = rng.normal(size=(24, 6)).astype("float32")
Y = (X @ rng.normal(size=(6, 1)) + 0.5).astype("float32")
SERIES = rng.normal(size=(24, 7, 3)).astype("float32")
IMAGES = rng.random((24, 8, 8, 3)).astype("float32")


def compiled(network, optimizer="adam", **options):
    network.compile(optimizer=optimizer, loss="mse", **options)
    return network


def mlp(*hidden):
    return keras.Sequential([keras.Input((6,)), *hidden, layers.Dense(1)])


# --- models that draw no random numbers in training -------------------------------------------


@model
def sequential():
    hidden = [layers.Dense(8, "relu"), layers.BatchNormalization()]
    return compiled(mlp(*hidden), metrics=["mae"]), X


@model
def functional():
    inputs = keras.Input((6,))
    shared = layers.Dense(6, "tanh")
    hidden = layers.add([shared(inputs), shared(shared(inputs))])
    outputs = layers.Dense(1)(ops.exp(-ops.square(hidden)))
    network = keras.Model(inputs, outputs)
    return compiled(network, optimizers.SGD(0.05, momentum=0.9, nesterov=True)), X


@model
def convolutional():
    hidden = [layers.Conv2D(4, 3, activation="relu"), layers.SeparableConv2D(4, 3)]
    network = [keras.Input((8, 8, 3)), *hidden, layers.GlobalAveragePooling2D(), layers.Dense(1)]
    return compiled(keras.Sequential(network), "rmsprop"), IMAGES


@model
def recurrent():
    hidden = [layers.Bidirectional(layers.LSTM(3, return_sequences=True)), layers.GRU(3)]
    network = keras.Sequential([keras.Input((7, 3)), *hidden, layers.Dense(1)])
    return compiled(network, optimizers.Nadam(0.01)), SERIES


@model
def attentive():
    inputs = keras.Input((7, 3))
    hidden = layers.LayerNormalization()(inputs + layers.MultiHeadAttention(2, 4)(inputs, inputs))
    network = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(hidden)))
    schedule = optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)
    return compiled(network, optimizers.AdamW(schedule, clipnorm=1.0)), SERIES


class Scale(layers.Layer):
    def build(self, input_shape):
        self.gain = self.add_weight(shape=(input_shape[-1],), initializer="ones")
        self.inner = layers.Dense(4)
        self.inner.build(input_shape)

    def call(self, inputs):
        return self.inner(inputs * self.gain)


@model
def custom_code():
    network = mlp(Scale(), layers.Lambda(lambda value: ops.tanh(value) * 1.5))
    network.compile("adam", lambda true, predicted: ops.mean(ops.square(true - predicted)))
    return network, X


class Inherited(keras.Model):
    def __init__(self, depth):
        super().__init__()
        self.stack = [layers.Dense(4, "relu") for _ in range(depth)]
        self.last = layers.Dense(1)

    def call(self, inputs):
        for layer in self.stack:
            inputs = layer(inputs)
        return self.last(inputs)


@model
def subclassed():
    network = Inherited(2)
    network(X)
    return compiled(network), X


@model
def scaled_loss():
    inner = optimizers.Adam(0.01)
    return compiled(mlp(layers.Dense(4)), optimizers.LossScaleOptimizer(inner)), X


@model(needs="tensorflow torch")  # On JAX, Keras (3.15) can't fit such a model a second time.
def averaged():
    return compiled(mlp(layers.Dense(4)), optimizers.Adam(0.01, use_ema=True)), X


@model
def adafactor_and_half_precision():
    hidden = [layers.Dense(4, dtype="mixed_bfloat16"), layers.Dense(4, dtype="bfloat16")]
    return compiled(mlp(*hidden), optimizers.Adafactor(0.01)), X


def variables(network):
    """Return the values of all variables of a model and its optimizer, in Keras's order."""
    listed = [*network.variables, *network.metrics_variables]
    optimizer = getattr(network, "optimizer", None)
    listed += optimizer.variables if optimizer is not None else []
    return [values(variable) for variable in listed]


def values(variable):
    array = np.array(keras.ops.convert_to_numpy(variable))
    return array if array.dtype.kind != "V" else array.view(f"uint{8 * array.dtype.itemsize}")


def write_model(network, x, folder, name):
    """Write a model to files, and the expected values."""
    if TRAINS:
        network.fit(x, Y, epochs=2, batch_size=8, shuffle=False, verbose=0)
    (folder / f"{name}.pickle").write_bytes(pickle.dumps(network))
    keras_reduce.dump(network, folder / f"{name}.joblib")
    expected = {
        "variables": variables(network),
        "answers": network.predict(x, verbose=0),
        "iterations": int(network.optimizer.iterations),
        "rate": float(keras.ops.convert_to_numpy(network.optimizer.learning_rate)),
    }
    if TRAINS:
        expected["losses"] = network.fit(x, Y, epochs=3, batch_size=8, shuffle=False, verbose=0)
        expected["losses"] = expected["losses"].history["loss"]
    (folder / f"{name}.expected").write_bytes(pickle.dumps((expected, x)))


def write(folder):
    keras_reduce.install()
    keras.utils.set_random_seed(1)
    for name, build in MODELS.items():
        write_model(*build(), folder, name)
    for name, build in OTHERS.items():
        (folder / f"{name}.other").write_bytes(pickle.dumps(build()))
    (folder / "writer.json").write_text(json.dumps({"backend": BACKEND, "models": list(MODELS)}))


# --- other objects ----------------------------------------------------------------------------

OTHERS = {}
other = entering(OTHERS)


@other
def dropout():
    """Return a model with random layers, which draw other numbers on another backend."""
    network = compiled(mlp(layers.Dense(8), layers.Dropout(0.5), layers.GaussianNoise(0.1)))
    if TRAINS:
        network.fit(X, Y, epochs=1, batch_size=8, shuffle=False, verbose=0)
    return network, variables(network)


@other
def seed_generators():
    generators = [keras.random.SeedGenerator(seed) for seed in (5, 2**31 - 7)]
    for generator in generators:
        keras.random.normal((2,), seed=generator)
    return generators, [values(generator.state) for generator in generators]


@other
def lone_objects():
    variable = keras.Variable([1, 2], dtype="int64", trainable=False)
    optimizer = optimizers.Adam(0.01)
    optimizer.build([keras.Variable(np.ones((3, 2), "float32"))])
    metric = keras.metrics.Mean()
    metric.update_state([1.0, 2.0])
    return [variable, optimizer, metric], values(metric.result())


@other
def in_double_precision():
    """Return float64 variables: one whose values need 64 bits, and one whose values don't."""
    fine = keras.Variable(np.array([1.0 + 2.0**-40, 0.5]), dtype="float64")
    return pickle.dumps(fine), pickle.dumps(keras.Variable(np.ones(2), dtype="float64")), BACKEND


@other
def estimator():
    def build(units=3):
        return compiled(mlp(layers.Dense(units)), run_eagerly=True)

    pipeline = make_pipeline(StandardScaler(), KerasRegressor(build, epochs=2, random_state=0))
    if not TRAINS:
        return pipeline, None
    return pipeline.fit(X, Y[:, 0]), pipeline.predict(X)


@other(needs="tensorflow")
def of_tensorflow():
    import tensorflow as tf

    @tf.function
    def square(value):
        return value * value

    words = layers.StringLookup(vocabulary=["a", "b"])
    return pickle.dumps(square), pickle.dumps(words)


# --- the reader --------------------------------------------------------------------------------


def near(actual, expected, *, within=2e-3):
    actual, expected = (np.asarray(value, "float64") for value in (actual, expected))
    assert actual.shape == expected.shape
    assert np.allclose(actual, expected, rtol=within, atol=within), (actual - expected).ravel()[:5]


def same_values(actual, expected):
    """Require equal arrays from two backends; only the width of integers may differ."""
    assert len(actual) == len(expected)
    for one, two in zip(actual, expected, strict=True):
        if one.dtype.kind in "iu" and two.dtype.kind in "iu":
            assert np.array_equal(one, two), (one, two)
        else:
            assert (one.dtype, one.tobytes()) == (two.dtype, two.tobytes())


def reading(folder, name):
    def read():
        expected, x = pickle.loads((folder / f"{name}.expected").read_bytes())
        within = 5e-2 if "half" in name else 2e-3
        load = {"pickle": lambda path: pickle.loads(path.read_bytes()), "joblib": joblib.load}
        for suffix, function in load.items():
            network = function(folder / f"{name}.{suffix}")
            same_values(variables(network), expected["variables"])
            assert int(network.optimizer.iterations) == expected["iterations"]
            near(keras.ops.convert_to_numpy(network.optimizer.learning_rate), expected["rate"])
            near(network.predict(x, verbose=0), expected["answers"], within=within)
            if not TRAINS:
                continue
            # And back: the loaded model can be pickled again.
            network = keras_reduce.loads(keras_reduce.dumps(network))
            fitted = network.fit(x, Y, epochs=3, batch_size=8, shuffle=False, verbose=0)
            if "losses" in expected:
                near(fitted.history["loss"], expected["losses"], within=10 * within)

    return read


def reads(name):
    """Register a check of the object called `name` in `OTHERS`."""

    def enter(function):
        def read():
            path = FOLDER / f"{name}.other"
            if path.exists():
                function(*pickle.loads(path.read_bytes()))

        CHECKS[name] = read
        return function

    return enter


@reads("dropout")
def reads_dropout(network, expected):
    same_values(variables(network), expected)
    if TRAINS:
        fitted = network.fit(X, Y, epochs=1, batch_size=8, shuffle=False, verbose=0)
        assert np.isfinite(fitted.history["loss"]).all()


@reads("seed_generators")
def reads_seed_generators(generators, expected):
    for generator, state in zip(generators, expected, strict=True):
        both = (values(generator.state), state)
        assert np.array_equal(*(numbers.astype("int64") & 0xFFFFFFFF for numbers in both))
        keras.random.normal((2,), seed=generator)


@reads("lone_objects")
def reads_lone_objects(objects, result):
    variable, optimizer, metric = objects
    assert values(variable).tolist() == [1, 2]
    assert variable.dtype == "int64"
    near(values(metric.result()), result)
    if TRAINS:
        target = keras.Variable(np.ones((3, 2), "float32"))
        optimizer.apply([ops.ones((3, 2))], [target])
        assert int(optimizer.iterations) == 1


@reads("in_double_precision")
def reads_double_precision(fine, coarse, written_on):
    assert values(pickle.loads(coarse)).tolist() == [1.0, 1.0]
    if BACKEND != "jax" or written_on == "jax":
        expected = 1.0 if written_on == "jax" else 1.0 + 2.0**-40
        assert values(pickle.loads(fine)).tolist() == [expected, 0.5]
    else:
        with raises(KerasReduceError, "JAX uses 32 bits", "jax_enable_x64"):
            pickle.loads(fine)


@reads("estimator")
def reads_estimator(pipeline, expected):
    if expected is not None:
        near(pipeline.predict(X), expected)
    if TRAINS:
        pipeline.fit(X, Y[:, 0])


@reads("of_tensorflow")
def reads_what_is_of_tensorflow(square, words):
    try:
        import tensorflow as tf
    except ImportError:
        for payload in (square, words):
            with raises(KerasReduceError, "ensor", "What to do"):
                pickle.loads(payload)
        return
    assert float(pickle.loads(square)(tf.constant(3.0))) == 9.0
    assert pickle.loads(words).get_vocabulary() == ["[UNK]", "a", "b"]


if __name__ == "__main__":
    task, FOLDER = sys.argv[1], Path(sys.argv[2])
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)  # Compiling would take most of the time.
    if task == "write":
        write(FOLDER)
    else:
        # The writer's names: on its backend there may be other models. Their code is in the files.
        written = json.loads((FOLDER / "writer.json").read_text())
        CHECKS.update({name: reading(FOLDER, name) for name in written["models"]})
        main()
