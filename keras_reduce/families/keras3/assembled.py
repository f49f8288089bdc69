"""Objects that are put together from others: symbolic tensors, calls, functions, variables.

No config of Keras's describes them. Each is taken apart into what JSON can hold and values that
the pickler carries; since the pickler knows what it has met before, a tensor that is the input of
one call and the output of another is one tensor after the trip.
"""

from __future__ import annotations

import functools
import importlib
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from ...core.array_backends import dtype_name
from ...custom_objects import by_value, found_as
from ...errors import PayloadError, ReduceError
from .._shared.lookups import LOOKUPS
from .kinds import bases
from .layouts import rename

Parts = tuple[dict[str, Any], tuple[Any, ...]]


class _Assembly(NamedTuple):
    """How a kind is taken apart, and put together from the same two parts."""

    take_apart: Callable[[Any], Parts]
    put_together: Callable[..., Any]


def is_assembled(obj: Any) -> bool:
    """Return whether `obj` is of a kind that this module takes apart."""
    return _kind(obj) is not None


def take_apart(obj: Any) -> tuple[str, dict[str, Any], tuple[Any, ...]]:
    """Return the kind of `obj`, what JSON can hold of it, and values for the pickler."""
    kind = _kind(obj)
    assert kind is not None
    if type(obj) is not bases()[kind]:  # type: ignore[index]
        raise ReduceError(
            f"{type(obj).__qualname__}, a subclass of {bases()[kind].__name__}, "  # type: ignore[index]
            "can't be carried",
            cause="the arguments of its constructor are not known",
            cure="give the class a __reduce__",
        )
    return kind, *_ASSEMBLIES[kind].take_apart(obj)


def put_together(kind: str, plain: dict[str, Any], values: tuple[Any, ...]) -> Any:
    """Return an object like the one that `take_apart` was given."""
    return _ASSEMBLIES[kind].put_together(plain, *values)


def _kind(obj: Any) -> str | None:
    import keras

    if isinstance(obj, keras.Layer):
        return None
    return next((kind for kind in _ASSEMBLIES if isinstance(obj, _base(kind))), None)


def _base(kind: str) -> type | tuple[()]:
    return dict(bases()).get(kind, ())  # type: ignore[call-overload, no-any-return]


# --- keras.Variable -------------------------------------------------------------------------


def _take_variable_apart(variable: Any) -> Parts:
    plain = {
        "shape": list(variable.shape),
        "dtype": dtype_name(variable),
        "trainable": variable.trainable,
        "autocast": variable._autocast,  # Private, as are the rest: they have no public getters.
        "aggregation": variable.aggregation,
        "synchronization": variable.synchronization,
        "name": variable.name,
        "path": variable.path,
        "overwrite_with_gradient": variable.overwrite_with_gradient,
    }
    return plain, (variable.regularizer, variable.constraint)


def _make_variable(plain: dict[str, Any], regularizer: Any, constraint: Any) -> Any:
    import keras

    arguments = {**plain, "shape": tuple(plain["shape"])}
    path, overwrite = arguments.pop("path"), arguments.pop("overwrite_with_gradient")
    # TensorFlow makes no zeros of 8 bits, so that they are cast.
    is_tiny = arguments["dtype"].startswith("float8")
    variable = keras.Variable(_cast_zeros if is_tiny else "zeros", **arguments)
    rename(variable, path)
    variable.overwrite_with_gradient = overwrite
    variable.regularizer, variable.constraint = regularizer, constraint
    return variable


def _cast_zeros(shape: tuple[int, ...], dtype: str) -> Any:
    import keras

    return keras.ops.cast(keras.ops.zeros(shape, "float32"), dtype)


# --- symbolic tensors, and the calls that made them -----------------------------------------


def _take_tensor_apart(tensor: Any) -> Parts:
    plain = {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "sparse": tensor.sparse,
        "record_history": tensor.record_history,
    }
    if getattr(tensor, "ragged", False):
        plain.update(
            ragged=True, ragged_rank=tensor.ragged_rank, row_splits_dtype=tensor.row_splits_dtype
        )
    node = _made_by(tensor)
    if node is None:
        return plain, ()
    plain["output"] = next(i for i, output in enumerate(node.outputs) if output is tensor)
    # Everything before it in order, nearest last: a deep graph would need deep recursion else.
    return plain, (*_upstream(node), node)


def _make_tensor(plain: dict[str, Any], *nodes: Any) -> Any:
    import keras

    if not nodes:
        return keras.KerasTensor(**plain)
    tensor = nodes[-1].outputs[plain["output"]]
    tensor.name = plain["name"]
    return tensor


def _made_by(tensor: Any) -> Any:
    history = getattr(tensor, "_keras_history", None)
    if history is None or history.operation is None:
        return None
    return history.operation._inbound_nodes[history.node_index]


def _upstream(node: Any) -> list[Any]:
    """Return the calls that `node` depends on, each after those that it depends on itself."""
    ordered: list[Any] = []
    seen: set[int] = {id(node)}
    open_ends = [(node, iter(node.parent_nodes))]
    while open_ends:
        current, parents = open_ends[-1]
        parent = next((p for p in parents if id(p) not in seen), None)
        if parent is None:
            open_ends.pop()
            ordered.append(current)
        else:
            seen.add(id(parent))
            open_ends.append((parent, iter(parent.parent_nodes)))
    return ordered[:-1]


def _take_node_apart(node: Any) -> Parts:
    return {}, (node.operation, node.arguments.args, node.arguments.kwargs)


def _call_again(plain: dict[str, Any], operation: Any, args: Any, kwargs: Any) -> Any:
    import keras

    if not isinstance(operation, keras.Operation):
        raise PayloadError(
            "The call that a symbolic tensor comes from is not of an operation",
            cause=f"it is of a {type(operation).__qualname__}: the payload was made by hand",
            cure="write it again from the original object",
        )
    if not isinstance(operation, keras.layers.InputLayer):  # Whose one call is its creation.
        operation(*args, **kwargs)
    return operation._inbound_nodes[-1]


def _take_function_apart(function: Any) -> Parts:
    # Private: the nesting of inputs and outputs, which the public lists don't show.
    return {"name": function.name}, (function._inputs_struct, function._outputs_struct)


def _make_function(plain: dict[str, Any], inputs: Any, outputs: Any) -> Any:
    import keras

    return keras.Function(inputs, outputs, **plain)


# --- tf.function ----------------------------------------------------------------------------


def _take_tf_function_apart(function: Any) -> Parts:
    python_function = function.python_function
    module, name = python_function.__module__, python_function.__qualname__
    if found_as(function, module, name):
        return {"module": module, "name": name}, ()
    method = getattr(function, "__wrapped__", None)
    if isinstance(method, types.MethodType) and hasattr(method.__self__, "target"):
        # TensorFlow makes a function of its own for each object that a decorated method is
        # looked up on, and lets the object be known by a weak reference only.
        return {"method": python_function.__name__}, (method.__self__.target,)
    if isinstance(method, types.MethodType):
        # Of a live object, which the pickler knows: not by value.
        return {}, (_Method(method), _options(function))
    return {}, (by_value(python_function, LOOKUPS), _options(function))


def _options(function: Any) -> dict[str, Any]:
    # Private: how it was decorated; only the signature has a public getter.
    return {
        "input_signature": function.input_signature,
        "autograph": function._autograph,
        "jit_compile": function._jit_compile,
        "reduce_retracing": function._reduce_retracing,
        "experimental_autograph_options": function._experimental_autograph_options,
        "experimental_attributes": function._attributes or None,
    }


class _Method:
    """A bound method on its way through a pickler: the object and the name."""

    def __init__(self, method: types.MethodType) -> None:
        self._method = method

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._method.__self__, self._method.__name__)


def _make_tf_function(plain: dict[str, Any], *values: Any) -> Any:
    import tensorflow as tf

    if "module" in plain:
        module = importlib.import_module(plain["module"])
        return functools.reduce(getattr, plain["name"].split("."), module)
    if "method" in plain:
        return getattr(values[0], plain["method"])
    python_function, options = values
    return tf.function(python_function, **options)


_ASSEMBLIES = {
    "variable": _Assembly(_take_variable_apart, _make_variable),
    "tensor": _Assembly(_take_tensor_apart, _make_tensor),
    "node": _Assembly(_take_node_apart, _call_again),
    "function": _Assembly(_take_function_apart, _make_function),
    "tf_function": _Assembly(_take_tf_function_apart, _make_tf_function),
}
