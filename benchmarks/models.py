"""Models of the benchmarks, from a few hundred bytes of weights to hundreds of megabytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Model(NamedTuple):
    """A function that builds a model, and inputs to compare it with a copy."""

    title: str
    make: Callable[[], Any]
    inputs: Callable[[], Any]


def build(name: str) -> tuple[Any, Any]:
    """Return the model called `name`, the same in each process, and inputs for it."""
    import keras

    keras.utils.set_random_seed(0)
    return MODELS[name].make(), MODELS[name].inputs()


def variables(model: Any) -> list[Any]:
    """Return all variables that must be shipped: those of a model and of its optimizer."""
    optimizer = getattr(model, "optimizer", None)
    return [*model.variables, *(optimizer.variables if optimizer else ())]


def _mlp(depth: int, width: int, inputs: int) -> Any:
    import keras

    hidden = [keras.layers.Dense(width, activation="relu") for _ in range(depth)]
    return keras.Sequential([keras.Input((inputs,)), *hidden, keras.layers.Dense(1)])


def build_wide(X: Any, y: Any) -> Any:  # noqa: N803
    """Build a model with weights of 201 MB, for `keras.wrappers`; its optimizer has no slots."""
    model = _mlp(12, 2048, X.shape[1])
    model.compile("sgd", "mse")
    return model


def _mlp_with_slots() -> Any:
    model = _mlp(4, 2048, 2048)
    model.compile("adam", "mse")
    model.fit(_floats(2048), np.ones((2, 1)), verbose=0)
    return model


def _mobilenet() -> Any:
    import keras

    return keras.applications.MobileNetV2(weights=None)


def _resnet() -> Any:
    import keras

    model = keras.applications.ResNet50(weights=None)
    model.compile("adam", "categorical_crossentropy")
    _step(model, image())
    return model


def _transformer() -> Any:
    model = encoder(12)
    model.compile("adam", "mse")
    _step(model, tokens())
    return model


def encoder(blocks: int) -> Any:
    """Return an encoder of some blocks of a transformer for tokens, not compiled."""
    import keras
    from keras import layers

    inputs = keras.Input((32,), dtype="int32")
    flow = layers.Embedding(8000, 256)(inputs)
    for _ in range(blocks):
        attended = layers.MultiHeadAttention(4, 64, dropout=0.1)(flow, flow)
        flow = layers.LayerNormalization()(layers.Add()([flow, attended]))
        forward = layers.Dense(256)(layers.Dense(1024, activation="gelu")(flow))
        forward = layers.Dropout(0.1)(forward)
        flow = layers.LayerNormalization()(layers.Add()([flow, forward]))
    outputs = layers.Dense(1)(layers.GlobalAveragePooling1D()(flow))
    return keras.Model(inputs, outputs)


def _lstm() -> Any:
    model = untrained_lstm()
    model.compile("adam", "mse")
    model.fit(tokens(), np.ones((2, 1)), verbose=0)
    return model


def untrained_lstm() -> Any:
    """Return two layers of LSTM for tokens, not compiled."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((32,), dtype="int32"),
            layers.Embedding(5000, 128),
            layers.LSTM(256, return_sequences=True),
            layers.LSTM(256),
            layers.Dense(1),
        ]
    )


def _step(model: Any, inputs: Any) -> None:
    """Let the optimizer take one step without `fit`, which would compile for 20 seconds."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(inputs, training=True) - 1.0))
    model.optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)


def _floats(*shape: int) -> Any:
    return np.random.default_rng(0).random((2, *shape), dtype="float32")


def image() -> Any:
    """Return one image."""
    return _floats(224, 224, 3)[:1]


def tokens() -> Any:
    """Return two rows of tokens."""
    return np.random.default_rng(0).integers(0, 5000, (2, 32), dtype="int32")


MODELS = {
    "mlp-2x10": Model("MLP 2x10", lambda: _mlp(2, 10, 10), lambda: _floats(10)),
    "mlp-20x64": Model("MLP 20x64", lambda: _mlp(20, 64, 10), lambda: _floats(10)),
    "mlp-4x2048": Model("MLP 4x2048 + Adam", _mlp_with_slots, lambda: _floats(2048)),
    "mobilenetv2": Model("MobileNetV2", _mobilenet, image),
    "resnet50": Model("ResNet50 + Adam", _resnet, image),
    "transformer": Model("transformer, 12 layers + Adam", _transformer, tokens),
    "lstm": Model("LSTM, 2 layers + Adam", _lstm, tokens),
}
