"""Cache of data pipelines: the pipeline from arrays to batches is traced once for each shape.

For each call of ``fit``, ``evaluate`` and ``predict`` Keras creates batches by three Python
functions, and TensorFlow traces all three, which takes as long as an epoch of a small model. Their
graphs depend on the shapes, the batch size and shuffling only. So the whole pipeline becomes a
function of the arrays, which is traced once and then reused.
"""

from __future__ import annotations

import copy
import functools
import logging
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from ..core.payload import PLAIN

_log = logging.getLogger(__package__)
_MOST = 128
_MOST_BYTES = 1 << 28  # of arrays, which exist twice while they are converted to tensors


class _Pipelines:
    """Traced pipelines by key, least recently used first."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # A finalizer may clear them at any moment.
        # None: seen once, so not traced yet; False: can't be traced.
        self._traced: OrderedDict[Hashable, Any] = OrderedDict()

    def __len__(self) -> int:
        return sum(1 for traced in self._traced.values() if traced)

    def get(self, key: Hashable) -> tuple[bool, Any]:
        """Return whether `key` has been seen before, and its pipeline."""
        with self._lock:
            is_known = key in self._traced
            traced = self._traced.setdefault(key, None)
            self._traced.move_to_end(key)
            dropped = [self._traced.popitem(last=False) for _ in range(len(self._traced) - _MOST)]
        del dropped  # Released outside of the lock: TensorFlow then frees resources.
        return is_known, traced

    def put(self, key: Hashable, traced: Any) -> None:
        with self._lock:
            self._traced[key] = traced

    def clear(self) -> None:
        with self._lock:
            dropped, self._traced = self._traced, OrderedDict()
        dropped.clear()


pipelines = _Pipelines()


def sharing(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a method ``get_tf_dataset`` that returns the dataset of `original`, traced once."""

    @functools.wraps(original)
    def get_tf_dataset(self: Any) -> Any:
        try:
            recipe = _Recipe.of(self)
        except Exception:
            _log.debug("a pipeline of data can't be shared", exc_info=True)
            recipe = None
        if recipe is None:
            return original(self)
        is_known, traced = pipelines.get(recipe.key)
        if traced:
            return _call(traced, recipe.tensors())
        dataset = original(self)
        if is_known and traced is None:
            pipelines.put(recipe.key, _trace(original, self, recipe, dataset) or False)
        return dataset

    return get_tf_dataset


class _Recipe:
    """Key of a pipeline, and its arrays."""

    def __init__(self, key: Hashable, arrays: list[Any], nest: Any) -> None:
        self.key, self._arrays, self.nest = key, arrays, nest

    @classmethod
    def of(cls, adapter: Any) -> _Recipe | None:
        """Return the recipe of the pipeline of an adapter; None if it can't be shared."""
        import keras
        import numpy as np
        import tensorflow as tf

        # Private: the seed of operations without a seed, such as shuffling; and the setting with
        # which shuffling without a seed is an error.
        from tensorflow.python.eager import context
        from tensorflow.python.framework.config import is_op_determinism_enabled

        if tf.distribute.has_strategy() or not tf.executing_eagerly():
            return None
        if tf.config.functions_run_eagerly():
            return None
        attributes = {k: v for k, v in vars(adapter).items() if k != "_inputs"}
        arrays = tf.nest.flatten(adapter._inputs)
        if any(type(value) not in PLAIN for value in attributes.values()):
            return None
        if any(type(a) is not np.ndarray or a.dtype.kind not in "iufb" for a in arrays):
            return None
        if sum(array.nbytes for array in arrays) > _MOST_BYTES:
            return None
        nest = tf.nest.map_structure(lambda _: 0, adapter._inputs)
        key = (
            type(adapter),
            tuple(sorted((name, type(v), v) for name, v in attributes.items())),
            repr(nest),
            tuple((array.shape, array.dtype.str) for array in arrays),
            keras.config.floatx(),
            context.global_seed(),
            is_op_determinism_enabled(),
        )
        return cls(key, arrays, nest)

    def tensors(self) -> list[Any]:
        """Return the arrays as tensors, converted as by Keras."""
        import tensorflow as tf

        # Private: the conversion that the original method uses.
        from keras.src.trainers.data_adapters import array_slicing

        sliceables = array_slicing.convert_to_sliceable(self._arrays, target_backend="tensorflow")
        with tf.device("CPU"):  # Pipelines run there; a graphics card must not get the whole array.
            return [tf.convert_to_tensor(array) for array in sliceables]


def _trace(original: Callable[[Any], Any], adapter: Any, recipe: _Recipe, dataset: Any) -> Any:
    """Return `original` as a traced function of tensors; None if the result would differ."""
    import tensorflow as tf

    blank = copy.copy(adapter)
    blank._inputs = None
    nest = recipe.nest

    def make(*tensors: Any) -> Any:
        twin = copy.copy(blank)
        twin._inputs = tf.nest.pack_sequence_as(nest, tensors)
        return original(twin)

    try:
        tensors = recipe.tensors()
        specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in tensors]
        with warnings.catch_warnings():
            # The seed of the program is part of the key, so it may be part of the graph.
            warnings.filterwarnings("ignore", "Seed .* from outer graph")
            traced = tf.function(make, autograph=False).get_concrete_function(*specs)
        is_same = _call(traced, tensors).element_spec == dataset.element_spec
    except Exception:
        _log.debug("a pipeline of data can't be traced", exc_info=True)
        return None
    return traced if is_same and not traced.captured_inputs else None


def _call(traced: Any, tensors: list[Any]) -> Any:
    dataset = traced(*tensors)
    # The dataset needs the function, which the cache may drop.
    dataset._keras_reduce_function = traced
    return dataset
