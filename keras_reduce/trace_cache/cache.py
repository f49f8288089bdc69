"""Traces that models share: the second model of a kind runs the graphs that the first has made.

Keras wraps the steps of a model in functions that TensorFlow traces, which for a small model takes
longer than to train it, and leaves megabytes behind each time. A graph takes variables from
outside. So a graph of one model, given the variables of another, is that one's graph, if both
follow from the same key (`keys`).

No model changes hands, and nothing of a model is kept. TensorFlow keeps the graphs of a function
in a cache, where it looks before it traces. `_Cache` stands in its place: what the function itself
has not traced yet, it looks for among the traces of other models.
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

# What may be kept. A trace of a small model takes some hundred kilobytes, most of it TensorFlow's.
_MOST_TRACES = 128
_MOST_BYTES = 64 << 20  # of definitions of graphs and of keys
_BYTES_OF_AN_ITEM = 50  # of a key: a reference, and most of a small object


class Trace(NamedTuple):
    """A graph without the variables of the model that it was made for.

    Attributes
    ----------
    function : AtomicFunction
        TensorFlow's function, without its Python side, which refers to that model.
    places : list of int
        Which variable of a model is wanted at each place where the graph takes one.
    size : int
        Bytes of the definition, and of the key that it is kept under.
    """

    function: Any
    places: list[int]
    size: int


class _Pool:
    """The traces of this process, those used last at the end."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # A finalizer that clears it may come at any moment.
        self._traces: OrderedDict[Hashable, Trace] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._traces)

    def get(self, key: Hashable) -> Trace | None:
        with self._lock:
            found = self._traces.get(key)
            if found is not None:
                self._traces.move_to_end(key)
            return found

    def put(self, key: Hashable, trace: Trace) -> None:
        dropped = []  # Outside of the lock: TensorFlow has something to do when they go.
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
    """Begin or cease to share traces; what has been traced is forgotten."""
    global _is_on
    _is_on = on and private.can_share_traces()
    _forget()
    if _is_on:
        _forget_with_session()


def _forget() -> None:
    pool.clear()
    pipelines.pipelines.clear()


def _forget_with_session() -> None:
    """Have the pool cleared by ``keras.utils.clear_session()``."""
    # Private: what that function puts another one in the place of.
    from keras.src.backend.common import global_state

    tracker = global_state.GLOBAL_STATE_TRACKER
    if _session() is not tracker:
        _followed[:] = [weakref.ref(tracker)]
        weakref.finalize(tracker, _forget).atexit = False


_followed: list[weakref.ref[Any]] = []


def _session() -> Any:
    return _followed[0]() if _followed else None


def trace_hooks() -> Iterable[tuple[Any, str, Callable[[Any], Any]]]:
    """Return where Keras makes what is traced: class, name, old -> new method."""
    import keras

    if keras.backend.backend() != "tensorflow" or not private.can_share_traces():
        return
    # Private: the base class of models that trains them on TensorFlow.
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

    roles: tuple[Role, ...] = ("train", "test", "predict")
    for role in roles:
        yield TensorFlowTrainer, f"make_{role}_function", functools.partial(_sharing, role)
    # Private: what feeds models with arrays.
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    yield ArrayDataAdapter, "get_tf_dataset", pipelines.sharing


def _sharing(role: Role, original: Callable[..., Any]) -> Callable[..., Any]:
    name = f"{role}_function"

    @functools.wraps(original)
    def make_function(self: Any, force: bool = False) -> Any:
        before = getattr(self, name)
        found = original(self, force=force)
        made = getattr(self, name)
        if made is not None and made is not before:
            traced = made if role == "predict" else _multi_step(made)
            if hasattr(traced, "_function_cache"):
                _let_share(traced, self, role)
        return found

    return make_function


def _multi_step(function: Any) -> Any:
    """Return the traced function within the function that Keras calls for a step."""
    # Private: the name by which it is found there.
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    if "multi_step_on_iterator" not in names:
        return None
    return function.__closure__[names.index("multi_step_on_iterator")].cell_contents


def _let_share(function: Any, model: Any, role: Role) -> None:
    # Private: where TensorFlow keeps the traces of a function. It is taken over by the function's
    # first call.
    cache = function._function_cache = _Cache(function._function_cache, model, role)
    original = function.get_concrete_function

    @functools.wraps(original)
    def get_concrete_function(*args: Any, **kwargs: Any) -> Any:
        with cache.alone():
            return original(*args, **kwargs)

    # Who asks for a graph, to look at it or to save it, gets one of this model alone.
    function.get_concrete_function = get_concrete_function


class _Cache:
    """What `tf.function` takes for its cache of traces, with a view of those of other models.

    Its methods are called under the lock of the function.

    Parameters
    ----------
    own : FunctionCache
        TensorFlow's own.
    model : keras.Model
        Whose function it is.
    role : {"train", "test", "predict"}
        What the function does.
    """

    def __init__(self, own: Any, model: Any, role: Role) -> None:
        self._own, self._model, self._role = own, model, role
        # What Keras has read already, to make the function.
        self._made_for = (model.jit_compile, model.steps_per_execution)
        self._is_alone = False
        # What is looked for while the function is being traced.
        self._wanted: _Wanted | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def __bool__(self) -> bool:
        return True  # TensorFlow takes what has no length for no cache.

    def values(self) -> list[Any]:
        """Return what the function has traced itself: nothing else is to be saved with it."""
        return [trace for trace in self._own.values() if not isinstance(trace, _Borrowed)]

    def __len__(self) -> int:
        """Count what the function has traced itself: by this, TensorFlow warns of too many."""
        return len(self.values())

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let nothing be seen of other models."""
        before, self._is_alone = self._is_alone, True
        try:
            yield
        finally:
            self._is_alone = before

    def lookup(self, function_type: Any, context: Any = None) -> Any:
        """Return the trace for arguments of a type, None if there is none."""
        found = self._own.lookup(function_type, context)
        if found is not None:
            if not isinstance(found, _Borrowed) or self._may_borrow():
                return found
            # It knows nothing of gradients, and has no graph to be put into another one.
            self._own.delete(found.function_type, context)
            return None
        self._wanted = None
        _threads.add(threading.get_ident())
        if not self._may_borrow():
            return None
        try:
            return self._borrowed(self._own.generalize(context, function_type), context)
        except Exception:
            # Nothing is lost but time: it will be traced as ever.
            _log.debug("traces of other models can't be looked at", exc_info=True)
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
        self._own.add(borrowed, context)
        _count_variables(len(handles))
        return borrowed

    def add(self, function: Any, context: Any = None) -> None:
        """Enter a trace of the function's own."""
        self._own.add(function, context)
        wanted, self._wanted = self._wanted, None
        if wanted is None:
            return
        try:
            after = trace_key(self._model, self._role, by_name=wanted.by_name)
            if after is not None and _is_same(wanted.followed, after):
                trace = _without_model(function, after)
                # A number drawn while tracing is in the graph; each model is to draw its own.
                if trace is not None and random.getstate() == wanted.random_state:
                    pool.put(wanted.key, trace)
        except Exception:
            _log.debug("a trace can't be shared", exc_info=True)


class _Wanted(NamedTuple):
    """What no model has traced yet, with what it follows from."""

    key: Hashable
    followed: TraceKey
    by_name: bool
    random_state: Any


def _are_named(arguments: tuple[Any, ...]) -> bool:
    """Return whether there are dictionaries in the types of a function's arguments."""
    # As the types of TensorFlow and of its pipelines are written; there is no other way to both.
    # A set, say, would pass for one: then a name too much is in the key, which is safe.
    text = repr(arguments)
    return "Dict[" in text or "{" in text


def _is_same(before: TraceKey, after: TraceKey) -> bool:
    """Return whether tracing has left the model as it was.

    If it has not, another model needs to be traced for that alone.
    """
    return before.key == after.key and list(map(id, before.variables)) == list(
        map(id, after.variables)
    )


class _Borrowed:
    """A trace of another model with the variables of this one, as `tf.function` calls its own."""

    def __init__(self, function: Any, captured_inputs: list[Any]) -> None:
        self._function, self.captured_inputs = function, captured_inputs
        self.function_type = function.function_type
        self._garbage_collector = self

    def release(self) -> None:
        """Leave the graph alone: it is not this one's."""

    def _call_flat(self, tensor_inputs: Any, captured_inputs: Any) -> Any:
        return self._function.call_preflattened([*tensor_inputs, *captured_inputs])


def _handle(variable: Any) -> Any:
    return variable._value.handle  # Private: the public value may be a cast of it.


# --- what a trace does beside making a graph --------------------------------------------------


def _build_ahead(model: Any, role: Role, function_type: Any, followed: TraceKey) -> bool:
    """Build what Keras builds while it traces the first step; tell whether all is built.

    Layers without an input shape, metrics and losses, slots of the optimizer. No code of the user's
    is run for it. But where nothing is to be built, TensorFlow traces once and not twice, which is
    not to be noticed either.
    """
    if not _steps_are_keras_own(model):
        return False
    has_no_slots = model.optimizer is not None and not model.optimizer.built
    # Private, both: what `compile` makes of metrics and losses.
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
    """Build layers of Keras's own, metrics and losses; tell whether all are built then."""
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
        # Private: how Keras itself builds in advance where it does not trace (on JAX and Torch).
        keras.src.backend.compute_output_spec(model, inputs, training=False)
        if not all(layer.built for layer in model._flatten_layers()):
            return False
    if not is_container(model):
        return False  # What it gives can't be told without calling it.
    # Private, both: what a sequential model wraps its layers in; what a functional one returns.
    # Without the history of a symbolic tensor, which one that is being traced has not either.
    functional = getattr(model, "_functional", None) or model
    outputs = keras.tree.map_structure(symbolic, functional._outputs_struct)
    # A size that is not known here, but while tracing, might decide between metrics.
    if any(None in tensor.shape[1:] for tensor in keras.tree.flatten(outputs)):
        return False
    for part in unbuilt:
        part.build(targets, outputs)
    return True


def _steps_are_keras_own(model: Any) -> bool:
    """Return whether no code of the user's takes part in a step but in layers, losses and metrics."""
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
        *("compile", "fit", "evaluate", "predict", "compile_from_config", "get_compile_config"),
        "loss",  # a method of old, which the attribute hides
    }


# --- from TensorFlow's trace to one without a model -------------------------------------------


def _without_model(function: Any, followed: TraceKey) -> Trace | None:
    """Return the graph of a traced function, if nothing but variables comes from outside."""
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
    """Return one of TensorFlow's functions without the Python side of its graph."""
    children = [_bare(child) for child in atomic.children]
    # Private, all of it: there is no public way to call a graph with other variables.
    return type(atomic)(
        atomic.name, atomic._bound_context, atomic.function_type, children, atomic.call_options
    )


def _is_repeatable(atomic: Any) -> bool:
    """Return whether a graph does the same for another model: no state but variables and iterators.

    Operations on random numbers without a variable have a seed from the time of the trace; others
    call functions of Python.
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
        *("ReadVariableOp", "VarIsInitializedOp", "VariableShape", "Assert", "PrintV2"),
        *("PartitionedCall", "StatefulPartitionedCall", "If", "While", "Case"),
        *("OptionalFromValue", "OptionalGetValue", "OptionalHasValue", "OptionalNone"),
    }
)


# --- kernels ----------------------------------------------------------------------------------

# TensorFlow keeps a kernel for each variable ever made, under its name, which Keras numbers: some
# twenty kilobytes for each. To look up all others anew takes a tenth of a second.
_MANY_VARIABLES = 1000
_variables_since = 0
# Those in which models have computed. While another one does, kernels are left alone.
_threads: set[int] = set()


def _count_variables(number: int) -> None:
    global _variables_since
    _variables_since += number
    living = {thread.ident for thread in threading.enumerate()}
    if _variables_since >= _MANY_VARIABLES and len(_threads & living) == 1:
        _variables_since = 0
        # Private, and what `keras.utils.clear_session` does as well.
        from tensorflow.python.eager import context

        context.context().clear_kernel_cache()
