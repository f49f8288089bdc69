"""Keep several models in one file, and look into it without loading any of them.

Writes ``zoo.joblib`` and ``zoo.html`` into the current folder. Needs TensorFlow:
``pip install 'keras_reduce[tensorflow]'``.
"""

from pathlib import Path

import keras

import keras_reduce


def dense():
    """Return a small network for tables."""
    layers = [keras.Input((10,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(1)]
    return keras.Sequential(layers, name="dense")


def convolutional():
    """Return a small network for images."""
    inputs = keras.Input((28, 28, 1))
    hidden = keras.layers.Conv2D(8, 3, activation="relu")(inputs)
    hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(inputs, keras.layers.Dense(10, "softmax")(hidden), name="convolutional")


def recurrent():
    """Return a small network for sequences."""
    layers = [keras.Input((None, 4)), keras.layers.GRU(8), keras.layers.Dense(2)]
    return keras.Sequential(layers, name="recurrent")


if __name__ == "__main__":
    zoo = {model.name: model for model in (dense(), convolutional(), recurrent())}
    for model in zoo.values():
        model.compile("adam", "mse")
    keras_reduce.dump({"models": zoo, "note": "untrained"}, "zoo.joblib", compress=3)

    report = keras_reduce.inspect("zoo.joblib")  # Reads opcodes; executes nothing.
    Path("zoo.html").write_text(report.to_html())
    print(f"zoo.joblib: {report.size} bytes, digests {report.digests}; the page is zoo.html")
    for path, model in report.models:
        print(f"{path}: {model.cls} {model.name!r}, {model.parameters:,} parameters")
    foreign = [name.path for name in report.names if name.kind == "foreign"]
    print(f"names of other packages: {foreign or 'none'}")

    loaded = keras_reduce.load("zoo.joblib", trusted=[])  # Nothing in it needs to be listed.
    print(f"loaded: {', '.join(loaded['models'])}")
