"""Pipelines of data that calls share: what feeds arrays to a model is traced once for each shape.

For each call of ``fit``, ``evaluate`` and ``predict`` Keras describes by three Python functions how
batches are cut from the arrays, and TensorFlow traces all three, which takes as long as to train a
small model for an epoch. What they do follows from the shapes, the size of a batch and whether rows
are shuffled. So the pipeline as a whole is made a function of the arrays, which is traced once and
called from then on.
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
_MOST_BYTES = 1 << 28  # of arrays, of which there are two at once while they become tensors


class _Pipelines:
    """Traced pipelines by what they follow from, those used last at the end."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # A finalizer that clears them may come at any moment.
        # None: seen once, which is no reason to trace it; False: not to be had.
        self._known: OrderedDict[Hashable, Any] = OrderedDict()

    def __len__(self) -> int:
        return sum(1 for found in self._known.values() if found)

    def get(self, key: Hashable) -> tuple[bool, Any]:
        """Return whether `key` has been met before, and what is there for it."""
        with self._lock:
            is_known = key in self._known
            found = self._known.setdefault(key, None)
            self._known.move_to_end(key)
            dropped = [self._known.popitem(last=False) for _ in range(len(self._known) - _MOST)]
        del dropped  # Outside of the lock: TensorFlow has something to do when they go.
        return is_known, found

    def put(self, key: Hashable, found: Any) -> None:
        with self._lock:
            self._known[key] = found

    def clear(self) -> None:
        with self._lock:
            dropped, self._known = self._known, OrderedDict()
        dropped.clear()


pipelines = _Pipelines()


def sharing(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a method ``get_tf_dataset`` that makes what the `original` does, traced once."""

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
        found = original(self)
        if is_known and traced is None:
            pipelines.put(recipe.key, _trace(original, self, recipe, found) or False)
        return found

    return get_tf_dataset


class _Recipe:
    """What a pipeline follows from, and the arrays that it is fed with."""

    def __init__(self, key: Hashable, arrays: list[Any], nest: Any) -> None:
        self.key, self._arrays, self.nest = key, arrays, nest

    @classmethod
    def of(cls, adapter: Any) -> _Recipe | None:
        """Return what the pipeline of an adapter follows from; None if that can't be told."""
        import keras
        import numpy as np
        import tensorflow as tf

        # Private: the seed of all operations that have none of their own; shuffling is one.
        # And a setting with which shuffling without a seed is an error.
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
        """Return the arrays as Keras would have them enter the pipeline."""
        import tensorflow as tf

        # Private: what the original asks for them as well.
        from keras.src.trainers.data_adapters import array_slicing

        made = array_slicing.convert_to_sliceable(self._arrays, target_backend="tensorflow")
        with tf.device("CPU"):  # Where pipelines run; a graphics card shall not see it as a whole.
            return [tf.convert_to_tensor(array) for array in made]


def _trace(original: Callable[[Any], Any], adapter: Any, recipe: _Recipe, found: Any) -> Any:
    """Return `original` as a function of tensors; None if it comes to something else so."""
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
            # The seed of the program is in it on purpose: it is part of the key.
            warnings.filterwarnings("ignore", "Seed .* from outer graph")
            traced = tf.function(make, autograph=False).get_concrete_function(*specs)
        is_same = _call(traced, tensors).element_spec == found.element_spec
    except Exception:
        _log.debug("a pipeline of data can't be traced", exc_info=True)
        return None
    return traced if is_same and not traced.captured_inputs else None


def _call(traced: Any, tensors: list[Any]) -> Any:
    dataset = traced(*tensors)
    # What TensorFlow runs for it lives as long as the function does, which may be dropped here.
    dataset._keras_reduce_function = traced
    return dataset
