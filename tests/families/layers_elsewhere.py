"""Layers of Keras that its NumPy and OpenVINO backends compute, and those that they can't.

Where there is no TensorFlow, each public layer must answer, or be in the table of
``docs/backends.md``. With a command line, this program prints the layers that don't answer.
"""

from __future__ import annotations

import inspect
import pickle
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

import keras_reduce
from checks import check, main

keras_reduce.install()

PAGE = Path(__file__).parents[2] / "docs" / "backends.md"
rng = np.random.default_rng(0)
VECTORS = rng.random((4, 6)).astype("float32")
SERIES = rng.random((2, 8, 4)).astype("float32")
IMAGES = rng.random((2, 8, 8, 3)).astype("float32")
VOLUMES = rng.random((2, 5, 5, 5, 2)).astype("float32")
FILMS = rng.random((2, 3, 8, 8, 3)).astype("float32")
VOLUMES_IN_TIME = rng.random((1, 2, 4, 4, 4, 2)).astype("float32")
TOKENS = rng.integers(0, 5, (4, 6))
WORDS = np.array([["cat"], ["dog"]])
SIGNALS = rng.random((2, 600)).astype("float32")
STATE = np.zeros((4, 2), "float32")
INPUTS = (VECTORS, SERIES, IMAGES, VOLUMES, FILMS, VOLUMES_IN_TIME)

# Arguments of constructors that have no default, or one by which no layer can be built.
ARGUMENTS: dict[str, Any] = {
    "activation": "relu",
    "alpha": 0.5,
    "axes": 1,
    "cells": lambda: [layers.LSTMCell(2), layers.LSTMCell(2)],
    "cell": lambda: layers.LSTMCell(2),
    "dims": (2, 1),
    "equation": "ab,bc->ac",
    "factor": 0.2,
    "filters": 2,
    "function": lambda: abs,
    "head_dim": 2,
    "height": 4,
    "input_dim": 9,
    "kernel_size": 2,
    "key_dim": 2,
    "layer": lambda: layers.Dense(2),
    "layers": lambda: [layers.Rescaling(2.0)],
    "max_number": 2,
    "min_value": 0.0,
    "n": 2,
    "num_bins": 4,
    "num_heads": 2,
    "num_key_value_heads": 1,
    "num_query_heads": 2,
    "num_tokens": 9,
    "output_dim": 2,
    "output_shape": 2,
    "output_size": 2,
    "pool_size": 2,
    "rate": 0.3,
    "scale": 0.5,
    "sequence_length": 8,
    "stddev": 0.1,
    "target_shape": (-1, 1),
    "units": 2,
    "value_range": (0, 1),
    "width": 4,
}
# Layers that want other arguments than most that have an argument of the name.
OWN_ARGUMENTS: dict[str, dict[str, Any]] = {
    "Bidirectional": {"layer": lambda: layers.LSTM(2)},
    "GroupNormalization": {"groups": 2},
    "Discretization": {"bin_boundaries": [0.2, 0.5]},
    "IntegerLookup": {"vocabulary": [1, 2, 3]},
    "MelSpectrogram": {"fft_length": 256, "sequence_stride": 64},
    "RandomPosterization": {"factor": 4},
    "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1},
    "RandomZoom": {"height_factor": 0.1},
    "StringLookup": {"vocabulary": ["cat", "dog"]},
    "TextVectorization": {"vocabulary": ["cat", "dog"]},
}
OWN_INPUTS: dict[str, Any] = {
    "CategoryEncoding": TOKENS,
    "Embedding": TOKENS,
    "GRUCell": (VECTORS, [STATE]),
    "GroupQueryAttention": (SERIES, SERIES),
    "HashedCrossing": ((TOKENS[:, :1], TOKENS[:, :1]),),
    "IntegerLookup": TOKENS,
    "LSTMCell": (VECTORS, [STATE, STATE]),
    "MelSpectrogram": SIGNALS,
    "MultiHeadAttention": (SERIES, SERIES),
    "STFTSpectrogram": SIGNALS[..., None],
    "SimpleRNNCell": (VECTORS, [STATE]),
    "StackedRNNCells": (VECTORS, [[STATE, STATE], [STATE, STATE]]),
    "StringLookup": WORDS,
    "TextVectorization": WORDS,
}
OF_SEVERAL = [
    "Add",
    "AdditiveAttention",
    "Attention",
    "Average",
    "Concatenate",
    "Dot",
    "Maximum",
    "Minimum",
    "Multiply",
    "Subtract",
]
# Base classes, layers that wrap another framework, and one that takes dictionaries of boxes.
NOT_TRIED = [
    "InputLayer",
    "Layer",
    "Wrapper",
    "RNN",
    "FlaxLayer",
    "JaxLayer",
    "TFSMLayer",
    "TorchModuleWrapper",
    "MaxNumBoundingBoxes",
]


def public() -> dict[str, type[keras.Layer]]:
    """Return the layers that Keras exports, each once."""
    classes = {name: value for name, value in vars(layers).items() if isinstance(value, type)}
    names = {name for name, value in classes.items() if issubclass(value, keras.Layer)}
    return {
        name: classes[name] for name in sorted(names.difference(NOT_TRIED)) if _is_its_name(name)
    }


def _is_its_name(name: str) -> bool:
    return getattr(layers, name).__name__ == name


def build(name: str) -> keras.Layer:
    """Build a layer of a class."""
    arguments = {
        parameter: ARGUMENTS[parameter]
        for parameter, value in inspect.signature(getattr(layers, name)).parameters.items()
        if parameter in ARGUMENTS and value.default in (inspect.Parameter.empty, None)
    }
    arguments = OWN_ARGUMENTS.get(name, arguments)
    values = {key: value() if callable(value) else value for key, value in arguments.items()}
    return getattr(layers, name)(**values)


def _inputs(name: str) -> Iterator[tuple[Any, ...]]:
    if name in OWN_INPUTS:
        inputs = OWN_INPUTS[name]
        yield inputs if isinstance(inputs, tuple) else (inputs,)
    elif name in OF_SEVERAL:
        yield ([SERIES, SERIES],)
    else:
        yield from ((each,) for each in INPUTS)


def called(layer: keras.Layer, inputs: tuple[Any, ...]) -> list[np.ndarray]:
    """Return the outputs of a layer that does not train."""
    has_modes = "training" in inspect.signature(layer.call).parameters
    outputs = layer(*inputs, **({"training": False} if has_modes else {}))
    return [keras.ops.convert_to_numpy(each) for each in keras.tree.flatten(outputs)]


def answer(name: str) -> tuple[keras.Layer, tuple[Any, ...], list[np.ndarray]]:
    """Return a layer, inputs of a shape that it takes, and its outputs."""
    failures = []
    for inputs in _inputs(name):
        layer = build(name)
        try:
            return layer, inputs, called(layer, inputs)
        except Exception as error:
            failures.append(error)
    raise failures[0]


def failure(name: str) -> str:
    """Return why a layer, or its copy, computes nothing or something else; else an empty string."""
    try:
        layer, inputs, expected = answer(name)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    outputs = called(pickle.loads(pickle.dumps(layer)), inputs)
    # OpenVINO fuses an array that it was given with other operations than one that it computed.
    tolerance = 1e-5 if keras.backend.backend() == "openvino" else 0.0
    is_same = all(map(partial(np.allclose, rtol=tolerance, atol=tolerance), outputs, expected))
    return "" if is_same else "its copy has another answer"


def listed() -> set[str]:
    """Return the layers in the table's row of this backend."""
    title = {"numpy": "NumPy", "openvino": "OpenVINO"}[keras.backend.backend()]
    rows = re.findall(rf"^\| {title} \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@check
def each_layer_answers_or_is_on_the_page():
    failures = {name: why for name in public() if (why := failure(name))}
    assert failures.keys() == listed(), failures


def show() -> None:
    """Print the layers that don't answer."""
    for name in public():
        if why := failure(name):
            print(name, why[:300].replace("\n", " "))


if __name__ == "__main__":
    main() if len(sys.argv) == 1 else show()
