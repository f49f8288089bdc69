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
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, NamedTuple

from ..families.keras3 import private
from ..families.keras3.kinds import is_built_in
from ..families.keras3.tree import is_container
from . import pipelines
from .keys import Role, TraceKey, trace_key

_log = logging.getLogger(__package__)

# Limits. A trace of a small model takes some hundred kilobytes, most of them in TensorFlow.
_MOST_TRACES = 128
_MOST_BYTES = 64 << 20  # of definitions of graphs and of keys
_BYTES_OF_AN_ITEM = 50  # of a key: a reference, and most of a small object


class Trace(NamedTuple):
    """Graph without the variables of the model for which it was traced.

    Attributes
    ----------
    function : AtomicFunction
        TensorFlow's function, without the Python graph, which refers to that model.
    places : list of int
        For each captured input of the graph, the position of the variable in `TraceKey.variables`.
    size : int
        Bytes of the graph's definition and of its cache key.
    """

    function: Any
    places: list[int]
    size: int


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


def trace_hooks() -> Iterable[tuple[Any, str, Callable[[Any], Any]]]:
    """Yield the patches of Keras: class, name, and a function from the old to the new method."""
    import keras

    if keras.backend.backend() != "tensorflow" or not private.can_share_traces():
        return
    # Private: the base class of models that trains them on TensorFlow.
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

    roles: tuple[Role, ...] = ("train", "test", "predict")
    for role in roles:
        yield TensorFlowTrainer, f"make_{role}_function", functools.partial(_sharing, role)
    # Private: the adapter that feeds models with arrays.
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    yield ArrayDataAdapter, "get_tf_dataset", pipelines.sharing


def _sharing(role: Role, original: Callable[..., Any]) -> Callable[..., Any]:
    name = f"{role}_function"

    @functools.wraps(original)
    def make_function(self: Any, force: bool = False) -> Any:
        before = getattr(self, name)
        result = original(self, force=force)
        function = getattr(self, name)
        if function is not None and function is not before:
            traced = function if role == "predict" else _multi_step(function)
            if hasattr(traced, "_function_cache"):
                _let_share(traced, self, role)
        return result

    return make_function


def _multi_step(function: Any) -> Any:
    """Return the traced function within the function that Keras calls for a step."""
    # Private: the name of the closure variable.
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    if "multi_step_on_iterator" not in names:
        return None
    return function.__closure__[names.index("multi_step_on_iterator")].cell_contents


def _let_share(function: Any, model: Any, role: Role) -> None:
    # Private: the cache of a function's traces. The first call of the function adopts it.
    cache = function._function_cache = _Cache(function._function_cache, model, role)
    original = function.get_concrete_function

    @functools.wraps(original)
    def get_concrete_function(*args: Any, **kwargs: Any) -> Any:
        with cache.alone():
            return original(*args, **kwargs)

    # Code that gets a graph, to inspect or to save it, gets one traced for this model.
    function.get_concrete_function = get_concrete_function


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
    """

    def __init__(self, original: Any, model: Any, role: Role) -> None:
        self._original, self._model, self._role = original, model, role
        # Settings that Keras has already read to create the function.
        self._made_for = (model.jit_compile, model.steps_per_execution)
        self._is_alone = False
        # The missing trace, while the function is being traced.
        self._wanted: _Wanted | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def __bool__(self) -> bool:
        return True  # TensorFlow treats an empty cache as none.

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
        _threads.add(threading.get_ident())
        if not self._may_borrow():
            return None
        try:
            return self._borrowed(self._original.generalize(context, function_type), context)
        except Exception:
            # The function will be traced as usual.
            _log.debug("traces of other models can't be used", exc_info=True)
            return None

    def _may_borrow(self) -> bool:
        import tensorflow as tf

        # Private: whether a gradient tape may be watching.
        from tensorflow.python.eager import record

        is_plain = tf.executing_eagerly() and not record.could_possibly_record()
        return _is_on and is_plain and not self._is_alone

    def _borrowed(self, function_type: Any, context: Any) -> Any:
        _forget_with_session()
        arguments = tuple(function_type.parameters.values())
        by_name = _are_named(arguments)
        followed = trace_key(self._model, self._role, by_name=by_name)
        if followed is not None and self._role != "predict":
            if not _build_ahead(self._model, self._role, function_type, followed):
                return None
            followed = trace_key(self._model, self._role, by_name=by_name)
        if followed is None:
            return None
        key = (self._role, self._made_for, arguments, context, followed.key)
        trace = pool.get(key)
        if trace is None:
            self._wanted = _Wanted(key, followed, by_name, random.getstate())
            return None
        handles = [_handle(variable) for variable in followed.variables]
        borrowed = _Borrowed(trace.function, [handles[place] for place in trace.places])
        self._original.add(borrowed, context)
        _count_variables(len(handles))
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
                trace = _without_model(function, after)
                # A number drawn while tracing is a constant of the graph; other models must draw
                # their own.
                if trace is not None and random.getstate() == wanted.random_state:
                    pool.put(wanted.key, trace)
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


def _handle(variable: Any) -> Any:
    return variable._value.handle  # Private: the public value may be a cast of it.


# --- what a trace does beside making a graph --------------------------------------------------


def _build_ahead(model: Any, role: Role, function_type: Any, followed: TraceKey) -> bool:
    """Build what Keras would build while tracing the first step; return whether all is built.

    That is: layers without an input shape, metrics and losses, slots of the optimizer. No
    user-defined code is run. User-defined code that may write is excluded, since a built model is
    traced once instead of twice.
    """
    if not _steps_are_keras_own(model):
        return False
    has_no_slots = model.optimizer is not None and not model.optimizer.built
    # Private, both: the containers of compiled metrics and losses.
    compiled = (model._compile_metrics, model._compile_loss)
    unbuilt = [part for part in compiled if part is not None and not part.built]
    has_unbuilt_layers = not all(layer.built for layer in model._flatten_layers())
    if followed.may_write and (has_unbuilt_layers or unbuilt or (role == "train" and has_no_slots)):
        return False
    if has_unbuilt_layers or unbuilt:
        (iterator,) = function_type.parameters.values()
        if not _build_parts(model, unbuilt, iterator.type_constraint._element_spec):  # Private.
            return False
    if role == "train" and has_no_slots:
        model.optimizer.build(model.trainable_variables)
    return True


def _build_parts(model: Any, unbuilt: list[Any], data: Any) -> bool:
    """Build Keras's own layers, metrics and losses; return whether all are built."""
    import keras

    def symbolic(spec: Any) -> Any:
        return keras.KerasTensor(spec.shape, keras.backend.standardize_dtype(spec.dtype))

    inputs, targets, _ = keras.utils.unpack_x_y_sample_weight(
        keras.tree.map_structure(symbolic, data)
    )
    if not all(layer.built for layer in model._flatten_layers()):
        forward = trace_key(model, "predict")
        if forward is None or forward.has_own_code:
            return False
        # Private: Keras itself builds layers in this way on JAX and Torch.
        keras.src.backend.compute_output_spec(model, inputs, training=False)
        if not all(layer.built for layer in model._flatten_layers()):
            return False
    if not is_container(model):
        return False  # Its outputs are not known without a call.
    # Private, both: the functional model within a sequential one; the outputs of a functional one.
    # New symbolic tensors, since those of a trace have no Keras history either.
    functional = getattr(model, "_functional", None) or model
    outputs = keras.tree.map_structure(symbolic, functional._outputs_struct)
    # The choice of metrics may depend on a size that is known only while tracing.
    if any(None in tensor.shape[1:] for tensor in keras.tree.flatten(outputs)):
        return False
    for part in unbuilt:
        part.build(targets, outputs)
    return True


def _steps_are_keras_own(model: Any) -> bool:
    """Return whether user-defined code takes part in a step in layers, losses and metrics only."""
    return all(
        is_built_in(next(cls for cls in type(model).__mro__ if name in vars(cls)))
        and name not in vars(model)
        for name in _steps()
    )


@functools.cache
def _steps() -> frozenset[str]:
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

    names = {name for cls in TensorFlowTrainer.__mro__[:2] for name in vars(cls)}
    return frozenset(name for name in names if not name.startswith("__")) - {
        "compile",
        "fit",
        "evaluate",
        "predict",
        "compile_from_config",
        "get_compile_config",
        "loss",  # an old method, hidden by the attribute
    }


# --- from TensorFlow's trace to one without a model -------------------------------------------


def _without_model(function: Any, followed: TraceKey) -> Trace | None:
    """Return the trace of a function if it captures nothing but variables, else None."""
    places = {id(_handle(variable)): place for place, variable in enumerate(followed.variables)}
    captured = function.captured_inputs
    if any(id(tensor) not in places for tensor in captured):
        return None
    atomic = function.inference_fn
    if not _is_repeatable(atomic):
        return None
    bare = _bare(atomic)
    size = bare.cached_definition.ByteSize() + _BYTES_OF_AN_ITEM * len(followed.key)
    return Trace(bare, [places[id(tensor)] for tensor in captured], size)


def _bare(atomic: Any) -> Any:
    """Return a TensorFlow function without its Python graph."""
    children = [_bare(child) for child in atomic.children]
    # Private: there is no public way to call a graph with other variables.
    return type(atomic)(
        atomic.name, atomic._bound_context, atomic.function_type, children, atomic.call_options
    )


def _is_repeatable(atomic: Any) -> bool:
    """Return whether a graph works for another model: no state except variables and iterators.

    Random operations without a variable have a seed from the time of tracing; others call Python
    functions.
    """
    if atomic.call_options.control_captures:
        return False
    operations = {node.op for node in atomic.cached_definition.node_def}
    return all(map(_is_known, operations)) and all(map(_is_repeatable, atomic.children))


@functools.cache
def _is_known(operation: str) -> bool:
    # Private: the list of TensorFlow's operations.
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(operation)
    if operation in _STATEFUL or operation.startswith(_STATEFUL_GROUPS):
        return True
    return definition is not None and not definition.is_stateful and "PyFunc" not in operation


_STATEFUL_GROUPS = ("Assign", "Iterator", "Resource")
_STATEFUL = frozenset(
    {
        "ReadVariableOp",
        "VarIsInitializedOp",
        "VariableShape",
        "Assert",
        "PrintV2",
        "PartitionedCall",
        "StatefulPartitionedCall",
        "If",
        "While",
        "Case",
        "OptionalFromValue",
        "OptionalGetValue",
        "OptionalHasValue",
        "OptionalNone",
    }
)


# --- kernels ----------------------------------------------------------------------------------

# TensorFlow caches a kernel for each variable ever created, by its numbered name: some twenty
# kilobytes for each. Clearing the cache costs a tenth of a second for the other kernels.
_MANY_VARIABLES = 1000
_variables_since = 0
# Threads in which models have run. If there are several, the kernel cache is not cleared.
_threads: set[int] = set()


def _count_variables(number: int) -> None:
    global _variables_since
    _variables_since += number
    living = {thread.ident for thread in threading.enumerate()}
    if _variables_since >= _MANY_VARIABLES and len(_threads & living) == 1:
        _variables_since = 0
        # Private; `keras.utils.clear_session` calls it as well.
        from tensorflow.python.eager import context

        context.context().clear_kernel_cache()
