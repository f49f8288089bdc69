"""Patches of Keras and TensorFlow that let models share traces."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from ..families.keras3 import private
from . import cache, kernels, pipelines, whole_epochs
from .keys import Role

__all__ = ["patches"]


def patches() -> Iterator[tuple[Any, str, Callable[[Any], Any]]]:
    """Yield class or module, name, and a function from the original to its replacement."""
    import keras

    if keras.backend.backend() != "tensorflow" or not private.can_share_traces():
        return
    # Private: the base class of models that trains them on TensorFlow.
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

    roles: tuple[Role, ...] = ("train", "test", "predict")
    for role in roles:
        name = f"make_{role}_function"
        yield TensorFlowTrainer, name, functools.partial(cache.sharing, role)
    # Private: the adapter that feeds models with arrays.
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    yield ArrayDataAdapter, "get_tf_dataset", pipelines.sharing
    if private.WHOLE_EPOCHS.is_complete():
        for name, patch in whole_epochs.PATCHES.items():
            yield TensorFlowTrainer, name, patch
    if private.KERNELS.is_complete():
        yield from kernels.patches()
