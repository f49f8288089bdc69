"""Whole epochs in one call of a graph, and predictions without a data pipeline.

For each call of ``fit``, Keras turns arrays into a pipeline of data, starts an iterator of it for
each epoch, and calls a graph for each batch. For a small model all of that takes longer than the
computation. If no code sees single batches, a loop within one graph takes the batches from the
arrays, and computes the same steps in the same order.
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..families.keras3 import private
from ..families.keras3.kinds import is_built_in
from . import cache
from .building import steps_are_keras_own
from .keys import Role

_log = logging.getLogger(__package__)
# Seconds that a call of a graph should take at most: only between calls, a program is interrupted.
_LONGEST = 0.2
_FIRST_STEPS = 8

Patch = Callable[[Callable[..., Any]], Callable[..., Any]]
# Returns what does the work of a method of Keras for these arguments; None if Keras is to do it.
Plan = Callable[[Any, Mapping[str, Any]], Callable[[], Any] | None]


def _planned(plan: Plan) -> Patch:
    """Return the patch of a method of Keras: it does as `plan` says, where there is a plan."""

    def patch(original: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)

        @functools.wraps(original)
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                bound = signature.bind(self, *args, **kwargs)
                bound.apply_defaults()
                run = plan(self, bound.arguments) if _is_plain(self) else None
            except Exception:
                # Also for arguments that are wrong: Keras then raises its own error.
                _log.debug("arrays can't be taken at once", exc_info=True)
                run = None
            return original(self, *args, **kwargs) if run is None else run()

        return method

    return patch


# --- conditions -------------------------------------------------------------------------------


def _is_plain(model: Any) -> bool:
    """Return whether steps of `model` run in graphs, on the CPU, one for each batch."""
    import keras
    import tensorflow as tf

    limits = (getattr(keras.config, name, None) for name in ("max_epochs", "max_steps_per_epoch"))
    return (
        cache.may_share()
        and private.is_tested()
        and not (model.run_eagerly or model.jit_compile or model._distribute_strategy)  # Private.
        and model.steps_per_execution == 1
        and not tf.config.functions_run_eagerly()
        and not tf.distribute.has_strategy()
        and not tf.config.list_logical_devices("GPU")
        and not any(limit and limit() for limit in limits)
        and steps_are_keras_own(model)
    )


# Methods of callbacks that Keras calls for batches.
_FOR_BATCHES = tuple(
    f"on_{kind}_{when}"
    for kind in ("batch", "train_batch", "test_batch")
    for when in ("begin", "end")
)
# Methods that it calls before the first batch, at which Keras traces.
_BEFORE = ("set_model", "set_params", "on_train_begin", "on_epoch_begin", "on_test_begin")


def _see_no_batches(callbacks: Any) -> bool:
    """Return whether no callback sees a batch, or runs user-defined code before the first one."""
    import keras

    if callbacks is None:
        return True
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = callbacks.callbacks
    return isinstance(callbacks, (list, tuple)) and all(
        isinstance(each, keras.callbacks.Callback)
        and not any(_overrides(each, name) for name in _FOR_BATCHES)
        and (is_built_in(type(each)) or not any(_overrides(each, name) for name in _BEFORE))
        for each in callbacks
    )


def _overrides(callback: Any, name: str) -> bool:
    import keras

    base = keras.callbacks.Callback
    return name in vars(callback) or getattr(type(callback), name) is not getattr(base, name)


# --- arrays in batches ------------------------------------------------------------------------


class _Batches(NamedTuple):
    """Arrays that are cut into batches.

    Attributes
    ----------
    arrays : nest of ndarray
        Inputs, or tuples of inputs, targets and weights, as Keras passes them to steps.
    rows : int
        Length of each array.
    size : int
        Rows in a batch; the last one may have fewer.
    """

    arrays: Any
    rows: int
    size: int

    @classmethod
    def of(
        cls, x: Any, y: Any, sample_weight: Any, size: int | None, *, class_weight: Any = None
    ) -> _Batches | None:
        """Return the batches that Keras would make of arrays; None for other data."""
        import tensorflow as tf

        # Private: the adapter that checks and packs arrays, and the conversion of their types.
        from keras.src.trainers.data_adapters import array_slicing
        from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

        given = [a for a in tf.nest.flatten((x, y, sample_weight)) if a is not None]
        if not given or not all(
            type(a) is np.ndarray and a.dtype.kind in "iufb" and a.dtype.isnative and a.ndim
            for a in given
        ):
            return None
        adapter = ArrayDataAdapter(
            x, y, sample_weight=sample_weight, batch_size=size, class_weight=class_weight
        )
        nest = tf.nest.map_structure(lambda _: 0, adapter._inputs)
        arrays = tf.nest.flatten(adapter._inputs)
        # Private, both: the rows of all arrays, and those of a batch.
        rows, size = adapter._num_samples, adapter._batch_size
        if any(each is None for each in arrays) or rows < 1 or size < 1:
            return None
        converted = array_slicing.convert_to_sliceable(arrays, target_backend="tensorflow")
        packed = tf.nest.pack_sequence_as(nest, converted)
        return cls(_without_lists(packed), rows, size)

    @property
    def number(self) -> int:
        """Number of batches."""
        return -(-self.rows // self.size)

    def cut(self) -> Iterator[Any]:
        """Yield the batches as tensors."""
        import tensorflow as tf

        for start in range(0, self.rows, self.size):
            rows = slice(start, start + self.size)
            yield tf.nest.map_structure(
                lambda array, rows=rows: tf.convert_to_tensor(array[rows]), self.arrays
            )


def _without_lists(nest: Any) -> Any:
    """Return a nest with tuples in place of lists, as pipelines of data return them."""
    if isinstance(nest, (list, tuple)):
        return tuple(map(_without_lists, nest))
    if isinstance(nest, dict):
        return {name: _without_lists(each) for name, each in nest.items()}
    return nest


def _may_shuffle() -> bool:
    """Return whether shuffling is possible: a program that demands determinism needs a seed."""
    # Private, both: the setting, and the seed of operations that are given none.
    from tensorflow.python.eager import context
    from tensorflow.python.framework.config import is_op_determinism_enabled

    return context.global_seed() is not None or not is_op_determinism_enabled()


def _order(rows: int, shuffle: bool) -> Any:
    """Return the order of rows in an epoch, as Keras's pipeline would shuffle them."""
    # Private: the seed of operations that are given none.
    from tensorflow.python.eager import context

    if not shuffle:
        return np.arange(rows)
    seed = context.global_seed()
    if seed is None:
        return np.random.default_rng().permutation(rows)  # with entropy of the operating system
    return (_seeded_order if rows < _MANY_ROWS else _seeded_order.__wrapped__)(rows, seed)


_MANY_ROWS = 1 << 16  # Their orders are not kept.


@functools.lru_cache(maxsize=16)
def _seeded_order(rows: int, seed: int) -> Any:
    """Return the order in which a pipeline shuffles rows: the same in each epoch.

    It depends on the seed of the program only, since each iterator starts its stream of numbers.
    """
    import tensorflow as tf

    del seed  # TensorFlow itself reads it.

    def order(_: Any) -> Any:
        return tf.random.shuffle(tf.range(rows, dtype=tf.int64))

    # Converting it by AutoGraph would take longer than the rest.
    orders = tf.data.Dataset.range(1).map(tf.autograph.experimental.do_not_convert(order))
    return next(iter(orders)).numpy()


# --- loops ------------------------------------------------------------------------------------


class _Loop:
    """Graph that runs a step of a model for several batches of arrays.

    Parameters
    ----------
    model : keras.Model
        A compiled model.
    role : {"train", "test"}
        The step.
    batches : _Batches
        The arrays.
    """

    def __init__(self, model: Any, role: Role, batches: _Batches) -> None:
        import tensorflow as tf

        self.batches = batches
        self._tensors = tf.nest.map_structure(tf.convert_to_tensor, batches.arrays)
        self._steps = _FIRST_STEPS
        self._run = _loop_of(model, role, batches, self._tensors)

    def run(self, order: Any) -> None:
        """Run the step for all batches of the rows in an order."""
        import tensorflow as tf

        order, size = tf.constant(order, tf.int64), tf.constant(self.batches.size, tf.int64)
        step, number = 0, self.batches.number
        while step < number:
            end = min(step + self._steps, number)
            start = time.perf_counter()
            self._run(
                self._tensors, order, size, tf.constant(step, tf.int64), tf.constant(end, tf.int64)
            )
            seconds = time.perf_counter() - start
            self._steps = max(1, int((end - step) * min(8, _LONGEST / max(seconds, 1e-6))))
            step = end


def _loop_of(model: Any, role: Role, batches: _Batches, tensors: Any) -> Any:
    """Return the function that loops over batches, traced or not.

    TensorFlow runs the trace of an earlier call if its type is the same or more general, and
    otherwise traces for a type that covers earlier ones. Keras's step functions do so for types of
    batches, and so does this, since a trace for a fixed size of batches rounds differently.
    """
    import tensorflow as tf

    # Keras's pipeline has batches of a fixed size if the last one is full.
    size = None if batches.rows % batches.size else batches.size
    nest = repr(tf.nest.map_structure(lambda _: 0, tensors))
    types = tuple(
        tf.TensorSpec([size, *tensor.shape[1:]], tensor.dtype)
        for tensor in tf.nest.flatten(tensors)
    )
    step_function = getattr(model, f"{role}_function")
    loops: dict[Any, Any] = vars(step_function).setdefault("_shared_loops", {})
    earlier = [other for each, other in loops if each == nest]
    chosen = types if types in earlier else _closest(types, earlier)
    if chosen is None:
        chosen = functools.reduce(_common, earlier, types)
    if (nest, chosen) not in loops:
        batch = tf.nest.pack_sequence_as(tensors, chosen)
        loops[nest, chosen] = _new_loop(model, role, step_function, batch)
    return loops[nest, chosen]


_Types = tuple[Any, ...]


def _closest(types: _Types, earlier: list[_Types]) -> _Types | None:
    """Return the least general of those types that are more general than `types`, if any."""
    closest = None
    for other in earlier:
        if _is_subtype(types, other) and (closest is None or _is_subtype(other, closest)):
            closest = other
    return closest


def _is_subtype(types: _Types, other: _Types) -> bool:
    return all(a.is_subtype_of(b) for a, b in zip(types, other, strict=True))


def _common(types: _Types, other: _Types) -> _Types:
    """Return the least general types that cover both; `types` if there are none of known rank."""
    pairs = zip(types, other, strict=True)
    common = [a.most_specific_common_supertype([b]) for a, b in pairs]
    has_ranks = all(each is not None and each.shape.rank is not None for each in common)
    return tuple(common) if has_ranks else types


def _new_loop(model: Any, role: Role, step_function: Any, batch: Any) -> Any:
    """Return a `tf.function` that runs a step for batches of a type."""
    import tensorflow as tf

    step = cache.step_of(step_function)

    def run(arrays: Any, order: Any, size: Any, start: Any, end: Any) -> Any:
        def body(number: Any) -> Any:
            rows = order[number * size : (number + 1) * size]
            step(
                tf.nest.map_structure(
                    lambda array, spec: tf.ensure_shape(tf.gather(array, rows, axis=0), spec.shape),
                    arrays,
                    batch,
                )
            )
            return number + 1

        # One iteration at a time, since each reads the variables that the one before has written.
        # TensorFlow optimizes graphs with an output only as it does Keras's.
        return tf.while_loop(lambda number: number < end, body, [start], parallel_iterations=1)

    whole = tf.nest.map_structure(
        lambda spec: tf.TensorSpec([None, *spec.shape[1:]], spec.dtype), batch
    )
    number, order = tf.TensorSpec([], tf.int64), tf.TensorSpec([None], tf.int64)
    function = tf.function(
        tf.autograph.experimental.do_not_convert(run),
        input_signature=[whole, order, number, number, number],
    )
    cache.let_share(function, model, role, batch)
    return function


# --- what Keras's methods do beside the steps -------------------------------------------------


def _fit(model: Any, given: Mapping[str, Any]) -> Callable[[], Any] | None:
    """Return a function that trains `model` on arrays; None if Keras is to do it."""
    import keras

    # Private: how Keras splits arrays, and unpacks what it is given.
    from keras.src.trainers.data_adapters import array_slicing, data_adapter_utils

    if (
        given["verbose"] != 0
        or given["steps_per_epoch"]
        or given["validation_steps"]
        or given["shuffle"] not in (True, False)
        or isinstance(given["callbacks"], keras.callbacks.CallbackList)
        or not _see_no_batches(given["callbacks"])
        or not model.compiled
        or model._initial_epoch  # Private: the epoch at which a backup goes on.
    ):
        return None
    size, epochs = given["batch_size"], range(given["initial_epoch"], given["epochs"])
    data, validation = (given["x"], given["y"], given["sample_weight"]), given["validation_data"]
    if given["validation_split"] and validation is None:
        data, validation = array_slicing.train_validation_split(data, given["validation_split"])
    batches = _Batches.of(*data, size, class_weight=given["class_weight"])
    if batches is None or not cache.is_unused(model, "train"):
        return None
    validating = None
    if validation is not None:
        x, y, weight = data_adapter_utils.unpack_x_y_sample_weight(validation)
        validating = _Batches.of(x, y, weight, given["validation_batch_size"] or size)
        if validating is None or not cache.is_unused(model, "test"):
            return None
    shuffle = bool(given["shuffle"])
    if shuffle and not _may_shuffle():
        return None

    def fit() -> Any:
        callbacks = keras.callbacks.CallbackList(
            given["callbacks"],
            add_history=True,
            verbose=0,
            epochs=epochs.stop,
            steps=batches.number,
            model=model,
        )
        model.stop_training = False
        model.make_train_function()
        training = _Loop(model, "train", batches)
        evaluating = None
        callbacks.on_train_begin()
        logs = None
        for epoch in epochs:
            model.reset_metrics()
            callbacks.on_epoch_begin(epoch)
            training.run(_order(batches.rows, shuffle))
            logs = dict(model.get_metrics_result())
            # Private: whether this is an epoch for validation.
            if validating is not None and model._should_eval(epoch, given["validation_freq"]):
                model.make_test_function()
                evaluating = evaluating or _Loop(model, "test", validating)
                results = _evaluated(model, evaluating, callbacks)
                logs.update({f"val_{name}": value for name, value in results.items()})
            callbacks.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        if isinstance(model.optimizer, keras.Optimizer) and epochs.stop > 0:
            model.optimizer.finalize_variable_values(model.trainable_weights)
        callbacks.on_train_end(logs=logs)
        return model.history

    return fit


def _evaluate(model: Any, given: Mapping[str, Any]) -> Callable[[], Any] | None:
    """Return a function that evaluates `model` on arrays; None if Keras is to do it."""
    import keras

    callbacks = given["callbacks"]
    is_list = isinstance(callbacks, keras.callbacks.CallbackList)
    if (
        (given["verbose"] != 0 and not is_list)
        or given["steps"]
        or given.get("kwargs")
        or not _see_no_batches(callbacks)
        or not model.compiled
    ):
        return None
    batches = _Batches.of(given["x"], given["y"], given["sample_weight"], given["batch_size"])
    if batches is None or not cache.is_unused(model, "test"):
        return None

    def evaluate() -> Any:
        listed = (
            callbacks
            if is_list
            else keras.callbacks.CallbackList(
                callbacks, verbose=0, epochs=1, steps=batches.number, model=model
            )
        )
        model.make_test_function()
        results = _evaluated(model, _Loop(model, "test", batches), listed)
        # Private: the order of the values in a list.
        return results if given["return_dict"] else model._flatten_metrics_in_order(results)

    return evaluate


def _evaluated(model: Any, loop: _Loop, callbacks: Any) -> Any:
    """Return the metrics of `model` for the batches of a loop."""
    # Private: the conversion of results to numbers.
    from keras.src.utils.python_utils import pythonify_logs

    model.stop_evaluating = False
    callbacks.on_test_begin()
    model.reset_metrics()
    loop.run(_order(loop.batches.rows, shuffle=False))
    results = pythonify_logs(model.get_metrics_result())
    callbacks.on_test_end(results)
    return results


def _has_rows(output: Any) -> bool:
    """Return whether an output is a dense tensor with a row for each sample."""
    import tensorflow as tf

    return isinstance(output, tf.Tensor) and bool(output.shape.rank)


def _predict(model: Any, given: Mapping[str, Any]) -> Callable[[], Any] | None:
    """Return a function that predicts for arrays; None if Keras is to do it."""
    import keras

    # Private: what joins the outputs of batches, and makes arrays of them.
    from keras.src.backend.tensorflow.trainer import (
        convert_to_np_if_not_ragged,
        potentially_ragged_concat,
    )

    if given["verbose"] != 0 or given["steps"] or given["callbacks"]:
        return None
    batches = _Batches.of(given["x"], None, None, given["batch_size"])
    if batches is None:
        return None

    def join(*parts: Any) -> Any:
        shapes = {tuple(part.shape[1:]) if _has_rows(part) else None for part in parts}
        if len(shapes) == 1 and None not in shapes:
            return np.concatenate([part.numpy() for part in parts])
        return convert_to_np_if_not_ragged(potentially_ragged_concat(list(parts)))

    def predict() -> Any:
        model.make_predict_function()
        model.stop_predicting = False
        outputs = [model.predict_function([batch]) for batch in batches.cut()]
        return keras.tree.map_structure(join, *outputs)

    return predict


PATCHES: Mapping[str, Patch] = {
    "fit": _planned(_fit),
    "evaluate": _planned(_evaluate),
    "predict": _planned(_predict),
}
