"""Servers to compare `served_model` with: with files of Keras, or loading before the fork."""

import functools
import os

import keras
import numpy as np
import served_model
from served_model import wsgi

import keras_reduce

__all__ = ["wsgi"]


@functools.cache
def model():
    return keras.models.load_model(os.environ["MODEL"])


if os.environ["MODEL"].endswith(".keras"):
    served_model.model = model
else:
    keras_reduce.install()
    served_model.model().predict(np.ones((1, 512)), verbose=0)
