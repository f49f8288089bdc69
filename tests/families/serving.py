"""Answers without TensorFlow: models and estimators on Keras's NumPy and OpenVINO backends.

Files that were written on TensorFlow are read by the tests of golden files.
"""

from __future__ import annotations

import copy
import pickle
import sys
import tempfile
from pathlib import Path

import cloudpickle
import joblib
import keras
import numpy as np
from keras import layers
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_reduce
from checks import bits, check, main, raises
from keras_reduce import KerasClassifier, KerasRegressor
from keras_reduce.errors import FrameworkError

keras_reduce.install()
rng = np.random.default_rng(0)
X = rng.normal(size=(20, 6)).astype("float32")
TOKENS = rng.integers(0, 9, size=(20, 6))
IMAGES = rng.random(size=(4, 8, 8, 3)).astype("float32")


def dense():
    stack = [layers.Dense(64, "gelu"), layers.BatchNormalization(), layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input((6,)), *stack, layers.Dense(2)])
    model.compile("adam", "mse", metrics=["mae"])
    return model


def convolutions():
    inputs = keras.Input((8, 8, 3))
    hidden = layers.Conv2D(4, 3, activation="relu")(inputs)
    hidden = layers.DepthwiseConv2D(3)(layers.ZeroPadding2D()(hidden))
    hidden = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(hidden))
    return keras.Model(inputs, layers.Dense(3, "softmax")(hidden))


def recurrent():
    inputs = keras.Input((6,), dtype="int32")
    hidden = layers.Bidirectional(layers.LSTM(3))(layers.Embedding(9, 8)(inputs))
    return keras.Model(inputs, layers.Dense(2)(hidden))


def attention():
    inputs = keras.Input((6,), dtype="int32")
    hidden = layers.Embedding(9, 8)(inputs)
    hidden = layers.LayerNormalization()(hidden + layers.MultiHeadAttention(2, 4)(hidden, hidden))
    return keras.Model(inputs, layers.Dense(2)(hidden))


class Scaled(layers.Layer):
    def __init__(self, factor=2.0, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, inputs):
        return keras.ops.tanh(inputs) * self.factor


def own_layer():
    return keras.Sequential([keras.Input((6,)), layers.Dense(4), Scaled(3.0)])


def quantized():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Dense(2)])
    model.layers[0].quantize("int8")
    return model


MODELS = {
    dense: X,
    convolutions: IMAGES,
    recurrent: TOKENS,
    attention: TOKENS,
    own_layer: X,
    quantized: X,
}


def by_file(dump, load):
    def ship(model):
        with tempfile.TemporaryDirectory() as folder:
            dump(model, Path(folder, "model"))
            return load(Path(folder, "model"))

    return ship


def out_of_band(model):
    buffers = []
    content = pickle.dumps(model, 5, buffer_callback=buffers.append)
    return pickle.loads(content, buffers=buffers)


TRANSPORTS = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "out of band": out_of_band,
    "cloudpickle": lambda model: pickle.loads(cloudpickle.dumps(model)),
    "deepcopy": copy.deepcopy,
    "joblib": by_file(joblib.dump, joblib.load),
    "compressed": by_file(lambda obj, path: joblib.dump(obj, path, compress=3), joblib.load),
    "dump": by_file(keras_reduce.dump, keras_reduce.load),
    "mapped": by_file(keras_reduce.dump, lambda path: keras_reduce.load(path, mmap_mode="r")),
}


@check
def models_answer_the_same_after_every_transport():
    for make, inputs in MODELS.items():
        keras.utils.set_random_seed(0)
        model = make()
        expected = bits(model.predict(inputs, verbose=0))
        for name, ship in TRANSPORTS.items():
            copied = ship(model)
            assert bits(copied.predict(inputs, verbose=0)) == expected, (make, name)
            assert bits(copied.get_weights()) == bits(model.get_weights()), (make, name)


@check
def a_copy_has_weights_of_its_own():
    model = dense()
    before = bits(model.get_weights())
    for name, ship in TRANSPORTS.items():
        copied = ship(model)
        copied.set_weights([array + 1 for array in copied.get_weights()])
        copied.layers[0].kernel.assign(keras.ops.zeros((6, 64)))
        assert bits(model.get_weights()) == before, name


@check
def estimators_say_that_they_can_not_be_fitted():
    def build(units):
        last = layers.Dense(units, "softmax" if units > 1 else None)
        model = keras.Sequential([keras.Input((6,)), layers.Dense(4, "relu"), last])
        model.compile("adam", "mse" if units == 1 else "sparse_categorical_crossentropy")
        return model

    for estimator in (KerasRegressor(build, units=1), KerasClassifier(build, units=3)):
        with raises(FrameworkError, f"the {keras.backend.backend()} backend", "KERAS_BACKEND"):
            make_pipeline(StandardScaler(), estimator).fit(X, (X[:, 0] > 0).astype(int))


@check
def nothing_else_is_imported():
    dense().predict(X, verbose=0)
    assert not {"tensorflow", "torch"} & sys.modules.keys()


def _is_within(array, memory):
    start = array.__array_interface__["data"][0]
    first = memory.__array_interface__["data"][0]
    return first <= start < first + memory.nbytes


@check(needs="numpy")
def mapped_weights_are_the_memory_of_the_file():
    model = keras.Sequential([keras.Input((300,)), layers.Dense(300)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        keras_reduce.dump(model, path)
        content = path.read_bytes()
        loaded = keras_reduce.load(path, mmap_mode="r")
        kernel = loaded.layers[0].kernel.value
        assert not kernel.flags.writeable
        base = kernel
        while not isinstance(base, np.memmap):
            base = base.base
        assert _is_within(kernel, base)
        loaded.layers[0].kernel.assign(np.ones((300, 300)))
        loaded.layers[0].bias.assign_add(np.ones(300))
        assert path.read_bytes() == content


@check(needs="numpy")
def weights_out_of_band_are_the_buffers():
    model = keras.Sequential([keras.Input((300,)), layers.Dense(300)])
    buffers = []
    content = pickle.dumps(model, 5, buffer_callback=buffers.append)
    frozen = [bytes(buffer.raw()) for buffer in buffers]
    copied = pickle.loads(content, buffers=frozen)
    kernel = copied.layers[0].kernel.value
    assert any(_is_within(kernel, np.frombuffer(each, "uint8")) for each in frozen)
    mutable = [bytearray(each) for each in frozen]
    copied = pickle.loads(content, buffers=mutable)
    for each in mutable:
        each[:] = bytes(len(each))  # It belongs to the program, which may write over it.
    assert bits(copied.get_weights()) == bits(model.get_weights())


if __name__ == "__main__":
    main()
