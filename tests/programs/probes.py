"""Probes of objects: their outputs, their state, and the outcome of further training.

A probe returns everything observable as a flat mapping of names to arrays, so that two processes
can compare it bit for bit.
"""

from __future__ import annotations

import collections
import contextlib
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError

from keras_reduce import families, reducers


def parts(obj: Any, path: str = "", *, told: bool = True) -> Iterator[tuple[str, Any]]:
    """Yield every Keras object and method of one in a nest of containers and estimators.

    If `told` is given, also those that the method of this name returns.
    """
    if families.of(obj) is not None or isinstance(obj, types.MethodType):
        yield path, obj
    elif isinstance(obj, dict):
        for key, value in obj.items():
            yield from parts(value, f"{path}/{key}", told=told)
    elif isinstance(obj, (list, tuple)):
        for position, value in enumerate(obj):
            yield from parts(value, f"{path}/{position}", told=told)
    elif hasattr(obj, "get_params"):
        for name, value in sorted(vars(obj).items()):
            yield from parts(value, f"{path}/{name}", told=told)
    elif told and getattr(obj, "__name__", "") == "tell":
        yield from parts(obj(), f"{path}()")


def clear_session() -> None:
    """Clear the global state that Keras keeps of earlier models."""
    import keras

    keras.utils.clear_session()


def probe(obj: Any, x: Any, y: Any) -> dict[str, np.ndarray]:
    """Return the outputs and the state of `obj`; change nothing in it but metric state."""
    facts = collections.OrderedDict()
    for method in ("predict", "predict_proba") if hasattr(obj, "get_params") else ():
        with contextlib.suppress(NotFittedError):
            if hasattr(obj, method):
                facts[method] = np.asarray(getattr(obj, method)(x))
    facts["identities"] = np.asarray(_identities(obj))
    for path, part in parts(obj):
        facts[f"{path} description"] = np.asarray(_description(part))
        facts.update(flat(f"{path} state", _state(part)))
        facts.update(flat(f"{path} flags", _flags(part)))
        facts.update(flat(f"{path} answer", _answer(part, x, y)))
    return facts


def advance(obj: Any, x: Any, y: Any) -> dict[str, np.ndarray]:
    """Train `obj`, or the objects in it, some more; return the outcome and the new state."""
    facts = collections.OrderedDict()
    seen = set()
    # A copy in the same process has the same function objects as the original.
    for path, part in parts(obj, told=False):
        if id(part) not in seen:
            seen.add(id(part))
            facts.update(flat(f"{path} advance", _advance(part, x, y)))
            facts.update(flat(f"{path} state", _state(part)))
    return facts


def _description(part: Any) -> str:
    """Return the JSON of the payload of `part`, which must come back complete."""
    if isinstance(part, types.MethodType):
        return f"{part.__name__} of {_description(part.__self__)}"
    _, (json, _, compile_config, _, objects), *_ = reducers.reduce(part)
    below = [_description(child) for child in objects if families.of(child)]
    # A lone optimizer lists the names of its last variables, which have Keras's counter in them.
    return re.sub(r'(?<=["/])variable(_\d+)?(?=["_])', "variable", f"{json}{compile_config}{below}")


def _identities(obj: Any) -> list[int]:
    """Return the index of the first identical part for each part and each callback's model."""
    held = [part for _, part in parts(obj)]
    held += [part.model for part in held if hasattr(part, "on_train_begin")]
    ids = list(map(id, held))
    return [ids.index(number) for number in ids]


def _state(part: Any) -> dict[str, Any]:
    from keras import Layer, Metric, Model, Optimizer

    if not isinstance(part, (Layer, Metric, Optimizer)):
        return {}
    lists = {"variables": part.variables}
    if isinstance(part, Layer):
        lists["metrics"] = part.metrics_variables
    if isinstance(part, Model) and getattr(part, "optimizer", None) is not None:
        lists["optimizer"] = part.optimizer.variables
    return {name: [np.asarray(_numpy(v)) for v in variables] for name, variables in lists.items()}


def _numpy(variable: Any) -> np.ndarray:
    import keras

    is_keras = isinstance(variable, keras.Variable) or keras.ops.is_tensor(variable)
    array = np.array(keras.ops.convert_to_numpy(variable) if is_keras else variable)
    return array if array.dtype.kind != "V" else array.view(f"uint{8 * array.dtype.itemsize}")


def _flags(part: Any) -> dict[str, Any]:
    from keras import Layer, Model

    flags: dict[str, Any] = {}
    if isinstance(part, Layer):
        flags["trainable"] = [v.trainable for v in part.variables]
        flags["layers"] = [layer.trainable for layer in part._flatten_layers()]
    if isinstance(part, Model):
        flags["compiled"] = part.compiled
        if part.compiled:
            flags["names"] = [str(metric.name) for metric in part.metrics]
            flags["epochs"] = len(part.history.epoch) if hasattr(part, "history") else -1
            flags["model_of_history"] = not hasattr(part, "history") or part.history.model is part
    return flags


def _answer(part: Any, x: Any, y: Any) -> Any:
    if isinstance(part, types.MethodType):
        return part(x)
    from keras import Layer, Loss, Metric, Model

    if isinstance(part, Model):
        return part.predict_on_batch(_tensors(_batch(x))) if _fits(part, x) else 0
    if isinstance(part, Layer):
        return part(x) if part.built else 0
    if isinstance(part, Metric):
        return part.result()
    if isinstance(part, Loss):
        return part(y, x)
    return _OTHER_ANSWERS.get(families.of(part).kind(part), lambda *_: 0)(part, x)


def _answer_of_variable(variable: Any, x: Any) -> Any:
    flags = [variable.trainable, variable._autocast, variable.overwrite_with_gradient]
    return [_numpy(variable), variable.name, variable.path, variable.aggregation, *flags]


def _answer_of_initializer(initializer: Any, x: Any) -> Any:
    # A shape that all initializers accept, also those that need a square matrix.
    return initializer((4, 4))


def _answer_of_policy(policy: Any, x: Any) -> Any:
    return [policy.name, policy.compute_dtype, policy.variable_dtype]


def _answer_of_tensor(tensor: Any, x: Any) -> Any:
    import keras

    facts = [tensor.name, str(tensor.shape), tensor.dtype, tensor.sparse]
    if not hasattr(tensor, "_keras_history"):
        return facts
    sources = keras.utils.get_source_inputs(tensor)
    return [*facts, [s.name for s in sources], keras.Function(sources, tensor)([x] * len(sources))]


def _answer_of_callback(callback: Any, x: Any) -> Any:
    handles = ("_model", "_writers", "_summary_module", "_prev_summary_state", "csv_file", "writer")
    attributes = {name: _plain(v) for name, v in vars(callback).items() if name not in handles}
    return {**attributes, "model": callback.model.get_weights() if callback.model else []}


def _plain(value: Any) -> Any:
    """Return `value` if it is plain data, else the name of its type."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (str, int, float, bool, np.ndarray, np.generic, type(None))):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)


_OTHER_ANSWERS = {
    "variable": _answer_of_variable,
    "seed_generator": lambda generator, x: generator.state,
    "initializer": _answer_of_initializer,
    "regularizer": lambda regularizer, x: regularizer(np.ones((4, 4), "float32")),
    "constraint": lambda constraint, x: constraint(np.arange(16.0).reshape(4, 4)),
    "schedule": lambda schedule, x: [schedule(step) for step in range(5)],
    "policy": _answer_of_policy,
    "tensor": _answer_of_tensor,
    "function": lambda function, x: function(x),
    "operation": lambda operation, x: operation(x),
    "tf_function": lambda function, x: function(x),
    "callback": _answer_of_callback,
}


def _tensors(x: Any) -> Any:
    """Return `x` as tensors if there is text in it: Keras accepts no arrays of strings."""
    if not any(isinstance(item, np.ndarray) and item.dtype == object for item in _items(x)):
        return x
    import tensorflow as tf

    return tf.nest.map_structure(tf.constant, x)


def _items(x: Any) -> list[Any]:
    import keras

    items: list[Any] = keras.tree.flatten(x)
    return items


def _fits(model: Any, x: Any) -> bool:
    if not model.built or x is None:
        return False
    # In a search or an ensemble a model may have other columns than the estimator around it.
    shape = getattr(model, "input_shape", None)
    return not isinstance(x, np.ndarray) or not isinstance(shape, tuple) or shape[1:] == x.shape[1:]


def _batch(data: Any) -> Any:
    """Return a batch of `data`: without the input pipeline of `fit`, which takes 0.1 s."""
    import keras

    return keras.tree.map_structure(lambda array: array[:8], data)


def _advance(part: Any, x: Any, y: Any) -> Any:
    import keras
    from keras import ops

    if isinstance(part, types.MethodType):
        return part(x)
    if isinstance(part, keras.Model):
        if not _fits(part, x) or not _numeric(x):
            return 0
        if not part.compiled:
            return part(x, training=True)
        if y is None:
            y = np.linspace(0, 1, len(x)).reshape(-1, 1).astype("float32")
            y = np.arange(len(x)) % 3 if "sparse" in str(part.loss) else y
        if type(part).train_step is not keras.Model.train_step:  # Some accept no sample weights.
            return part.fit(x, y, batch_size=8, shuffle=False, verbose=0).history
        part.reset_metrics()
        return part.train_on_batch(*_batch((x, y)), return_dict=True)
    if isinstance(part, keras.utils.FeatureSpace):
        return part(x)
    if isinstance(part, keras.Layer):
        return [part(x, training=True) for _ in range(2)] if part.built else 0
    if isinstance(part, keras.Metric):
        part.update_state(*((x,) if type(part) is keras.metrics.Mean else (y, x)))
        return part.result()
    if isinstance(part, keras.Optimizer):
        # The original accepts only the variables that it was built for, a copy any of their shapes.
        variables = [v for v in part._trainable_variables if isinstance(v, keras.Variable)]
        variables = variables or [keras.Variable(np.ones((3, 2))), keras.Variable(np.ones(2))]
        for variable in variables:
            variable.assign(ops.ones(variable.shape))
        # In another order, if it has seen them.
        applied = variables[::-1] if part.built else variables
        part.apply([ops.ones(variable.shape) for variable in applied], applied)
        return variables
    kind = families.of(part).kind(part)
    if kind == "variable":
        part.assign(ops.logical_not(part) if part.dtype == "bool" else part + 1)
        return part
    if kind == "seed_generator":
        return keras.random.normal((3,), seed=part)
    if kind == "callback" and part.model is not None and y is not None:
        fitted = part.model.fit(
            x, y, epochs=1, batch_size=8, shuffle=False, verbose=0, callbacks=[part]
        )
        return {"logs": fitted.history, "after": _answer_of_callback(part, x)}
    return _answer(part, x, y)


def _numeric(x: Any) -> bool:
    return not isinstance(x, np.ndarray) or x.dtype.kind in "fiu"


def flat(
    prefix: str, value: Any, array_of: Callable[[Any], np.ndarray] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays in a nest by name; `array_of` converts values with a dtype to arrays."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flat(f"{prefix}/{key}", item, array_of)
    elif isinstance(value, (list, tuple)):
        yield f"{prefix}/len", np.asarray(len(value))
        for position, item in enumerate(value):
            yield from flat(f"{prefix}/{position}", item, array_of)
    else:
        yield prefix, (array_of or _numpy)(value) if hasattr(value, "dtype") else np.asarray(value)


def difference(expected: dict[str, np.ndarray], actual: dict[str, np.ndarray]) -> str:
    """Return the first name whose arrays differ in a bit, or an empty string."""
    if list(expected) != list(actual):
        missing = [name for name in expected if name not in actual]
        return f"names differ: {missing[:3] or [n for n in actual if n not in expected][:3]}"
    for name, array in expected.items():
        other = actual[name]
        if array.dtype.kind == "U" and array.ndim == 0 and array != other:
            one, two = str(array), str(other)
            pairs = enumerate(zip(one, two, strict=False))
            place = next((i for i, (ours, theirs) in pairs if ours != theirs), len(one))
            near = slice(max(place - 60, 0), place + 60)
            return f"{name}: ...{one[near]}... against ...{two[near]}..."
        if array.dtype != other.dtype or array.shape != other.shape:
            return f"{name}: {array.dtype}{array.shape} against {other.dtype}{other.shape}"
        if array.dtype == object:
            if array.tolist() != other.tolist():
                return f"{name}: {array.tolist()} against {other.tolist()}"
        elif array.tobytes() != other.tobytes():
            return f"{name}: {array.ravel()[:4]} against {other.ravel()[:4]}"
    return ""
