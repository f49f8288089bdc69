"""Cache of traces: the second of two equal models runs the graphs traced for the first.

Keras wraps the steps of a model in functions that TensorFlow traces. For a small model tracing
takes longer than training, and leaks megabytes each time. The variables of a graph are captured
inputs. So the graph of one model, called with the variables of another, is the graph of the other
if both models have the same key (`keys`).

The cache holds no models and no weights. TensorFlow looks for a graph in the cache of a function
before it traces. `_Cache` replaces that cache: if the function has no trace of its own, it looks
for one among the traces of other models.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

from ..families.keras3 import private
from . import optimized, pipelines, stored
from .building import build_ahead, steps_are_keras_own
from .graphs import Trace, handle_of, without_model
from .keys import Role, TraceKey, trace_key

_log = logging.getLogger(__package__)

# Limits. A trace of a small model takes some hundred kilobytes, most of them in TensorFlow.
_MOST_TRACES = 128
_MOST_BYTES = 64 << 20  # of definitions of graphs and of keys


class _Pool:
    """Traces of this process, least recently used first."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # A finalizer may clear it at any moment.
        self._traces: OrderedDict[Hashable, Trace] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._traces)

    def get(self, key: Hashable) -> Trace | None:
        with self._lock:
            trace = self._traces.get(key)
            if trace is not None:
                self._traces.move_to_end(key)
            return trace

    def put(self, key: Hashable, trace: Trace) -> None:
        dropped = []  # Released outside of the lock: TensorFlow then frees resources.
        with self._lock:
            if key in self._traces or trace.size > _MOST_BYTES:
                return
            self._traces[key] = trace
            self._size += trace.size
            while len(self._traces) > _MOST_TRACES or self._size > _MOST_BYTES:
                _, oldest = self._traces.popitem(last=False)
                self._size -= oldest.size
                dropped.append(oldest)

    def clear(self) -> None:
        with self._lock:
            dropped, self._traces, self._size = self._traces, OrderedDict(), 0
        dropped.clear()


pool = _Pool()
_is_on = False


def share_traces(on: bool) -> None:
    """Turn sharing on or off, and clear the cache."""
    global _is_on
    _is_on = on and private.can_share_traces()
    if _is_on:
        optimized.prepare()
    _forget()
    if _is_on:
        _forget_with_session()


def _forget() -> None:
    pool.clear()
    pipelines.pipelines.clear()


def _forget_with_session() -> None:
    """Clear the cache at the next ``keras.utils.clear_session()``."""
    # Private: the object that clear_session() replaces.
    from keras.src.backend.common import global_state

    tracker = global_state.GLOBAL_STATE_TRACKER
    if _session() is not tracker:
        _followed[:] = [weakref.ref(tracker)]
        weakref.finalize(tracker, _forget).atexit = False


_followed: list[weakref.ref[Any]] = []


def _session() -> Any:
    return _followed[0]() if _followed else None


def sharing(role: Role, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method that makes a step function of a model, and lets it share its traces."""
    name = f"{role}_function"

    @functools.wraps(original)
    def make_function(self: Any, force: bool = False) -> Any:
        before = getattr(self, name)
        result = original(self, force=force)
        function = getattr(self, name)
        if function is not None and function is not before:
            traced = function if role == "predict" else _multi_step(function)
            if hasattr(traced, "_function_cache"):
                let_share(traced, self, role)
        return result

    return make_function


def _multi_step(function: Any) -> Any:
    """Return the traced function within the function that Keras calls for a step."""
    return _enclosed(function, "multi_step_on_iterator")


def step_of(function: Any) -> Any:
    """Return the function for one batch within the function that Keras calls for a step."""
    return _enclosed(function, "one_step_on_data")


def _enclosed(function: Any, name: str) -> Any:
    # Private: the names of the closure variables.
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    return function.__closure__[names.index(name)].cell_contents if name in names else None


def is_unused(model: Any, role: Role) -> bool:
    """Return whether `model` has no traces yet for steps that Keras calls one by one."""
    function = getattr(model, f"{role}_function")
    traced = None if function is None else _multi_step(function)
    return function is None or (traced is not None and not traced._function_cache.has_traces)


def let_share(function: Any, model: Any, role: Role, batch: Any = None) -> None:
    """Let a `tf.function` that runs a step of a model share its traces.

    Parameters
    ----------
    function : tf.function
        A function that has not been called.
    model : keras.Model
        The model.
    role : {"train", "test", "predict"}
        The step.
    batch : nest of tf.TensorSpec, optional
        A batch of what the step is called with. By default, `function` is Keras's, which is called
        with an iterator of batches.
    """
    # Private: the cache of a function's traces. The first call of the function adopts it.
    cache = function._function_cache = _Cache(function._function_cache, model, role, batch)
    original = function.get_concrete_function

    @functools.wraps(original)
    def get_concrete_function(*args: Any, **kwargs: Any) -> Any:
        with cache.alone():
            return original(*args, **kwargs)

    # Code that gets a graph, to inspect or to save it, gets one traced for this model.
    function.get_concrete_function = get_concrete_function


def may_share() -> bool:
    """Return whether models may run traces of others now: eagerly, without a gradient tape."""
    import tensorflow as tf

    # Private: whether a gradient tape may be watching.
    from tensorflow.python.eager import record

    return _is_on and tf.executing_eagerly() and not record.could_possibly_record()


def build_optimizer(model: Any) -> None:
    """Create the slots of the optimizer of a model that is about to be trained for the first time.

    TensorFlow traces a step twice if it creates variables. Nothing is done where user-defined code
    may notice that it is traced once, and where the trace is shared or there is none.

    Parameters
    ----------
    model : keras.Model
        A model of Keras 3, on any backend.
    """
    import keras

    if (
        keras.backend.backend() == "tensorflow"
        and model.built
        and not (model.run_eagerly or model.optimizer.built or may_share())
        and steps_are_keras_own(model)
    ):
        followed = trace_key(model, "train")
        if followed is not None and not followed.may_write:
            model.optimizer.build(model.trainable_variables)


class _Cache:
    """Replacement of the cache of a `tf.function`, with access to traces of other models.

    Its methods are called under the lock of the function.

    Parameters
    ----------
    original : FunctionCache
        TensorFlow's cache.
    model : keras.Model
        The model of the function.
    role : {"train", "test", "predict"}
        The step that the function runs.
    batch : nest of tf.TensorSpec or None
        A batch, if the function goes through arrays rather than through an iterator.
    """

    def __init__(self, original: Any, model: Any, role: Role, batch: Any) -> None:
        self._original, self._model, self._role, self._batch = original, model, role, batch
        # Settings that Keras has already read to create the function.
        self._made_for = (model.jit_compile, model.steps_per_execution)
        self._is_alone = False
        # The missing trace, while the function is being traced.
        self._wanted: _Wanted | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def __bool__(self) -> bool:
        return True  # TensorFlow treats an empty cache as none.

    @property
    def has_traces(self) -> bool:
        """True if the function has been called."""
        return bool(self._original.values())

    def values(self) -> list[Any]:
        """Return traces of the function itself, which alone may be saved with it."""
        return [trace for trace in self._original.values() if not isinstance(trace, _Borrowed)]

    def __len__(self) -> int:
        """Count traces of the function itself: TensorFlow warns if there are too many."""
        return len(self.values())

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hide traces of other models in this block."""
        before, self._is_alone = self._is_alone, True
        try:
            yield
        finally:
            self._is_alone = before

    def lookup(self, function_type: Any, context: Any = None) -> Any:
        """Return the trace for a type of arguments; None if there is none."""
        trace = self._original.lookup(function_type, context)
        if trace is not None:
            if not isinstance(trace, _Borrowed) or self._may_borrow():
                return trace
            # A borrowed trace supports no gradients, and can't be inlined into another graph.
            self._original.delete(trace.function_type, context)
            return None
        self._wanted = None
        if not self._may_borrow():
            return None
        try:
            return self._borrowed(self._original.generalize(context, function_type), context)
        except Exception:
            # The function will be traced as usual.
            _log.debug("traces of other models can't be used", exc_info=True)
            return None

    def _may_borrow(self) -> bool:
        return may_share() and not self._is_alone

    def _borrowed(self, function_type: Any, context: Any) -> Any:
        _forget_with_session()
        arguments = tuple(function_type.parameters.values())
        by_name = _are_named(arguments)
        followed = trace_key(self._model, self._role, by_name=by_name)
        if followed is not None and self._role != "predict":
            # Private: the type of the batches of an iterator.
            batch = self._batch or arguments[0].type_constraint._element_spec
            if not build_ahead(self._model, self._role, batch, followed):
                return None
            followed = trace_key(self._model, self._role, by_name=by_name)
        if followed is None:
            return None
        made_for = (*self._made_for, repr(self._batch))
        key = (self._role, made_for, arguments, context, followed.key)
        trace = pool.get(key)
        if trace is None:
            trace = stored.find(key, arguments, followed)
            if trace is not None:
                pool.put(key, trace)
        if trace is None:
            self._wanted = _Wanted(key, followed, by_name, random.getstate())
            return None
        handles = [handle_of(variable) for variable in followed.variables]
        borrowed = _Borrowed(trace.function, [handles[place] for place in trace.places])
        self._original.add(borrowed, context)
        return borrowed

    def add(self, function: Any, context: Any = None) -> None:
        """Add a trace of the function itself, and share it if possible."""
        self._original.add(function, context)
        wanted, self._wanted = self._wanted, None
        if wanted is None:
            return
        try:
            after = trace_key(self._model, self._role, by_name=wanted.by_name)
            if after is not None and _is_same(wanted.followed, after):
                trace = without_model(function, after)
                # A number drawn while tracing is a constant of the graph; other models must draw
                # their own.
                if trace is not None and random.getstate() == wanted.random_state:
                    pool.put(wanted.key, trace)
                    if trace.size <= _MOST_BYTES:
                        stored.keep(wanted.key, trace, function)
        except Exception:
            _log.debug("a trace can't be shared", exc_info=True)


class _Wanted(NamedTuple):
    """Key of a trace that no model has traced yet, and the state before tracing."""

    key: Hashable
    followed: TraceKey
    by_name: bool
    random_state: Any


def _are_named(arguments: tuple[Any, ...]) -> bool:
    """Return whether the types of a function's arguments contain dictionaries."""
    # By their text, the only common form of types of TensorFlow and of its pipelines. A false
    # positive, such as a set, adds names to the key, which is safe.
    text = repr(arguments)
    return "Dict[" in text or "{" in text


def _is_same(before: TraceKey, after: TraceKey) -> bool:
    """Return whether tracing has not changed the model.

    Otherwise, other models must be traced for the same change.
    """
    return before.key == after.key and list(map(id, before.variables)) == list(
        map(id, after.variables)
    )


class _Borrowed:
    """Trace of another model with the variables of this one, with the interface of own traces."""

    def __init__(self, function: Any, captured_inputs: list[Any]) -> None:
        self._function, self.captured_inputs = function, captured_inputs
        self.function_type = function.function_type
        self._garbage_collector = self

    def release(self) -> None:
        """Do nothing: the graph belongs to another function."""

    def _call_flat(self, tensor_inputs: Any, captured_inputs: Any) -> Any:
        return self._function.call_preflattened([*tensor_inputs, *captured_inputs])
