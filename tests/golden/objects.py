"""The objects in golden files: functions that build each, and its answers.

The answers of an object are plain data, so that a manifest can keep them for ever:

- ``state``: the numbers in it. They must come back bit for bit, on any backend.
- ``answer``: the results that it computes. Another release or machine may round them differently.
- ``says``: names, flags and the like, which must be the same.

Files of old protocols are read by the current `answer`: only add to the results of a function.
"""

from __future__ import annotations

import importlib
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keras_reduce.core import keras_backend

X = (np.arange(24).reshape(8, 3) % 7 / 4 - 0.5).astype("float32")
Y = X.sum(1, keepdims=True) ** 2

# All objects have this container; a few have the others as well, with the same content.
CONTAINERS = ("pickle", "joblib", "joblib.z", "dump")


class Golden(NamedTuple):
    """One object.

    Attributes
    ----------
    build : callable
        Builds it from the module that is Keras and the module with user-defined code.
    kind : str
        Row of the table of reducers, or another kind.
    containers : tuple of str
        Containers in which it is written.
    families : tuple of str
        Families that have such objects.
    backend : str, optional
        The only backend that has such objects.
    by_value : bool
        True if code travels with it, which is bound to a minor version of Python.
    """

    build: Callable[[Any, Any], Any]
    kind: str
    containers: tuple[str, ...] = ("pickle",)
    families: tuple[str, ...] = ("keras3", "keras2")
    backend: str | None = None
    by_value: bool = False


def framework(family: str) -> Any:
    """Return the module that is Keras, of the generation of a family."""
    if family == "keras3":
        return importlib.import_module("keras")
    try:
        return importlib.import_module("tf_keras")
    except ImportError:
        return importlib.import_module("tensorflow").keras


OBJECTS: dict[str, Golden] = {}


def golden(kind: str, **more: Any) -> Callable[[Callable], Callable]:
    """Register a function that builds an object."""

    def enter(build: Callable) -> Callable:
        OBJECTS[build.__name__] = Golden(build, kind, **more)
        return build

    return enter


ONLY_KERAS_3 = {"families": ("keras3",)}


def trained(keras, model, loss="mse", optimizer="adam", **arguments):
    model.compile(optimizer, loss, **arguments)
    model.fit(X, Y, epochs=2, batch_size=4, shuffle=False, verbose=0)
    return model


def built(keras, layer):
    if hasattr(keras, "ops"):
        layer.build((None, 3))
    else:
        layer(X)
    return layer


# --- models -----------------------------------------------------------------------------------


@golden("model", containers=CONTAINERS)
def sequential(keras, code):
    layers = keras.layers
    stack = [layers.Dense(4, activation="relu"), layers.Dropout(0.3, seed=1), layers.Dense(1)]
    model = trained(keras, keras.Sequential([keras.Input((3,)), *stack]), metrics=["mae"])
    model.layers[0].trainable = False
    model.remark = {"by": "the user", "numbers": [1, 2.5]}
    return model


@golden("model")
def functional(keras, code):
    layers = keras.layers
    inputs = keras.Input((3,), name="inputs")
    shared = layers.Dense(3, activation="tanh", name="shared")
    hidden = layers.BatchNormalization(name="norm")(shared(shared(inputs)))
    hidden = layers.concatenate([hidden, code.Scale(0.5, name="scale")(inputs)])
    model = keras.Model(inputs, layers.Dense(1, name="last")(hidden))
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    return trained(keras, model, code.loss, keras.optimizers.SGD(schedule, momentum=0.9))


@golden("model")
def subclassed(keras, code):
    return trained(keras, code.Subclassed())


@golden("model", containers=("pickle", "dump"))
def unbuilt(keras, code):
    return keras.Sequential([keras.layers.Dense(2), keras.layers.Dense(1)])


@golden("graph", containers=CONTAINERS)
def sharing(keras, code):
    """Build models that share a layer, with the layer, a history and a callback."""
    layer = keras.layers.Dense(2, name="shared")
    first, second = (
        keras.Sequential([keras.Input((3,)), layer, keras.layers.Dense(1, name=name)])
        for name in ("one", "two")
    )
    trained(keras, first)
    callback = code.Counting()
    callback.set_model(second)
    content = {"models": [first, second], "layer": layer, "history": first.history}
    return {**content, "callback": callback, "array": X, "words": "beside it"}


@golden("estimator", containers=("pickle", "dump"))
def estimator(keras, code):
    import keras_reduce

    return keras_reduce.KerasRegressor(code.build, units=5, epochs=2, random_state=0).fit(X, Y)


@golden("model", by_value=True, containers=("pickle", "joblib", "dump"), **ONLY_KERAS_3)
def code_by_value(keras, code):
    """Build functions from source text, so that they contain no path of this machine."""
    names = {"__name__": "__main__", "keras": keras}
    source = "def shifted(inputs):\n    return inputs + OFFSET\n\nOFFSET = 3.0\n"
    exec(compile(source, "by_value.py", "exec"), names)
    layers = [keras.Input((3,)), keras.layers.Lambda(names["shifted"]), keras.layers.Dense(1)]
    return trained(keras, keras.Sequential(layers))


# --- layers -----------------------------------------------------------------------------------


@golden("layer", containers=CONTAINERS)
def layer(keras, code):
    made = keras.layers.Dense(2, kernel_regularizer="l2", kernel_constraint="max_norm")
    made.remark = "the user's"
    return built(keras, made)


@golden("layer")
def layer_of_the_user(keras, code):
    return built(keras, code.Scale(3.0))


@golden("layer", **ONLY_KERAS_3)
def layer_of_half_precision(keras, code):
    return built(keras, keras.layers.Dense(2, dtype="bfloat16"))


@golden("layer", backend="tensorflow", **ONLY_KERAS_3)
def layer_with_a_vocabulary(keras, code):
    made = keras.layers.StringLookup()
    made.adapt(["the", "cat", "sat", "the"])
    return made


# --- all other kinds --------------------------------------------------------------------------


@golden("function", **ONLY_KERAS_3)
def function(keras, code):
    inputs = keras.Input((3,), name="inputs")
    return keras.Function(inputs, keras.ops.tanh(keras.layers.Dense(2, name="dense")(inputs)))


@golden("operation", **ONLY_KERAS_3)
def operation(keras, code):
    inputs = keras.Input((3,), name="inputs")
    return keras.ops.sum(inputs, axis=-1)._keras_history.operation


@golden("node", **ONLY_KERAS_3)
def node(keras, code):
    inputs = keras.Input((3,), name="inputs")
    return keras.ops.exp(inputs)._keras_history.operation._inbound_nodes[0]


@golden("tensor", **ONLY_KERAS_3)
def tensor(keras, code):
    inputs = keras.Input((3,), name="inputs")
    return keras.ops.exp(keras.layers.Dense(2, name="dense")(inputs)) * 2.0


@golden("optimizer", containers=("pickle", "joblib", "dump"))
def optimizer(keras, code):
    made = keras.optimizers.Adam(0.01, beta_1=0.8, amsgrad=True)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="dense")])
    trained(keras, model, optimizer=made)
    return made


@golden("training", containers=("pickle", "dump"), **ONLY_KERAS_3)
def optimizer_beside_its_models(keras, code):
    one, two = (
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name=name)], name=name)
        for name in ("one", "two")
    )
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build([*one.trainable_variables, *two.trainable_variables])
    for scale, network in enumerate((one, two), 1):
        own = network.trainable_variables
        optimizer.apply([scale * keras.ops.ones(v.shape) for v in own], own)
    return {"optimizer": optimizer, "one": one, "two": two}


@golden("model", **ONLY_KERAS_3)
def weak_reference(keras, code):
    encoder = keras.layers.Dense(2, name="encoder")
    inputs = keras.Input((3,))
    decoder = code.Tied(encoder, name="decoder")
    return trained(keras, keras.Model(inputs, decoder(encoder(inputs)), name="tied"))


@golden("model", by_value=True, **ONLY_KERAS_3)
def changed_parts(keras, code):
    """Build a layer whose inner layers were changed after it was built."""
    attention = keras.layers.MultiHeadAttention(2, 3, name="attention")
    attention.scale = keras.Variable([1.0, 2.0], name="scale")
    inputs = keras.Input((3,))
    rows = keras.layers.Reshape((3, 1), name="rows")(inputs)
    found = keras.layers.Flatten(name="found")(attention(rows, rows))
    outputs = keras.layers.Dense(1, name="last")(found)
    query, key = attention._query_dense, attention._key_dense
    query.name, query.input_spec, key.supports_masking = "own", None, False
    key.peer, query.told = weakref.ref(query), lambda: (attention.name, query.name)
    return trained(keras, keras.Model(inputs, outputs, name="changed"))


@golden("model", by_value=True, **ONLY_KERAS_3)
def loss_over_its_model(keras, code):
    hidden = keras.layers.Dense(2, name="hidden")
    last = keras.layers.Dense(1, name="last")
    model = keras.Sequential([keras.Input((3,)), hidden, last], name="over")

    # Not an array: its pickle within the code would name modules of this version of NumPy.
    row = [[0.5, -0.25, 1.0]]

    def loss(targets, outputs):
        return keras.ops.mean((targets - outputs) ** 2) + keras.ops.mean(
            model(keras.ops.array(row)) ** 2
        )

    return trained(keras, model, loss=loss)


@golden("metric", containers=("pickle", "dump"))
def metric(keras, code):
    made = keras.metrics.MeanAbsoluteError(name="error")
    made.update_state(Y, Y * 0.5)
    return made


@golden("loss")
def loss(keras, code):
    return keras.losses.Huber(delta=0.7)


@golden("initializer")
def initializer(keras, code):
    return keras.initializers.GlorotUniform(seed=3)


@golden("regularizer")
def regularizer(keras, code):
    return keras.regularizers.L1L2(0.25, 0.5)


@golden("constraint")
def constraint(keras, code):
    return keras.constraints.MaxNorm(0.5, axis=1)


@golden("schedule")
def schedule(keras, code):
    return keras.optimizers.schedules.CosineDecay(0.5, 100, alpha=0.25)


@golden("schedule")
def schedule_of_the_user(keras, code):
    return code.HalfCosine(0.5)


@golden("policy")
def policy(keras, code):
    is_keras_3 = hasattr(keras, "dtype_policies")
    policies = keras.dtype_policies.DTypePolicy if is_keras_3 else keras.mixed_precision.Policy
    return policies("mixed_bfloat16")


@golden("callback", containers=("pickle", "joblib"))
def callback(keras, code):
    made = keras.callbacks.EarlyStopping(patience=7, restore_best_weights=True)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="dense")])
    model.compile("sgd", "mse")
    model.fit(X, Y, validation_data=(X, Y), callbacks=[made], epochs=2, verbose=0, shuffle=False)
    return made


@golden("callback")
def callback_of_the_user(keras, code):
    made = code.Counting()
    made.on_epoch_end(4)
    return made


@golden("seed_generator", **ONLY_KERAS_3)
def seed_generator(keras, code):
    made = keras.random.SeedGenerator(11, name="seeds")
    keras.random.normal((2,), seed=made)
    return made


@golden("variable", **ONLY_KERAS_3)
def variable(keras, code):
    made = keras.Variable(X, name="values", trainable=False, regularizer="l2")
    made.assign(made * 3)
    return made


@golden("tf_function", backend="tensorflow", **ONLY_KERAS_3)
def tf_function(keras, code):
    return importlib.import_module("golden_code_tensorflow").doubled


# --- answers ----------------------------------------------------------------------------------


def answer(keras: Any, obj: Any, kind: str) -> dict[str, dict[str, Any]]:
    """Return the answers of `obj`, as plain data."""
    said = _ANSWERS[kind](keras, obj)
    return {part: {k: _plain(keras, v) for k, v in vs.items()} for part, vs in said.items()}


def _numbers(keras, variables):
    return {str(place): _array(keras, variable) for place, variable in enumerate(variables)}


def _array(keras, value):
    array = keras.ops.convert_to_numpy(value) if hasattr(keras, "ops") else np.asarray(value)
    return (
        array.astype("float32") if array.dtype.kind == "V" or array.dtype.itemsize == 2 else array
    )


def _of_model(keras, model):
    state = _numbers(keras, model.variables) if model.built else {}
    said = {
        "layers": [layer.name for layer in model.layers],
        "trainable": [layer.trainable for layer in model.layers],
        "compiled": bool(getattr(model, "compiled", False)),
        "remark": getattr(model, "remark", None),
    }
    # Attributes set by a program on layers that another layer's constructor creates.
    told = [layer for layer in model._flatten_layers() if hasattr(layer, "told")]
    if told:
        said["told"] = [[*layer.told(), layer.input_spec] for layer in told]
        peers = [layer for layer in model._flatten_layers() if hasattr(layer, "peer")]
        said["peers"] = [[layer.peer().name, layer.supports_masking] for layer in peers]
    found = {"state": state, "says": said, "answer": {}}
    if getattr(model, "optimizer", None) is not None:
        slots = _numbers(keras, _variables_of(model.optimizer))
        state |= {f"optimizer {place}": value for place, value in slots.items()}
        # First, since Keras 2 drops it when a model predicts.
        said["history"] = model.history.epoch
        said["history is of the model"] = model.history.model is model
        found["answer"]["history"] = model.history.history["loss"]
        found["answer"]["loss"] = model.evaluate(X, Y, verbose=0)
    if model.built:
        found["answer"]["predict"] = model.predict(X, verbose=0)
    return found


def _variables_of(obj):
    variables = obj.variables
    return variables() if callable(variables) else variables


def _of_graph(keras, found):
    first, second = found["models"]
    history = first.history
    parts = {"one": _of_model(keras, first), "two": _of_model(keras, second)}
    # predict() gives the model another history on OpenVINO (Keras 3.15), and in Keras 2, whose
    # golden files say so.
    if keras.__version__.startswith("2."):
        history = first.history
    said = {
        "shared": first.layers[0] is second.layers[0] is found["layer"],
        "history": found["history"] is history and found["history"].model is first,
        "callback": found["callback"].model is second,
        "words": found["words"],
    }
    merged = {
        section: {
            f"{k} {name}": v for k, part in parts.items() for name, v in part[section].items()
        }
        for section in ("state", "answer", "says")
    }
    merged["says"] |= said
    merged["state"]["array"] = found["array"]
    return merged


def _of_estimator(keras, estimator):
    found = _of_model(keras, estimator.model_)
    parameters = {k: v for k, v in estimator.get_params(deep=False).items() if k != "build_fn"}
    found["says"]["parameters"] = parameters
    found["says"]["build_fn"] = estimator.get_params(deep=False)["build_fn"].__name__
    found["answer"]["score"] = estimator.score(X, Y)
    return found


def _of_layer(keras, layer):
    says = {"name": layer.name, "remark": getattr(layer, "remark", None)}
    if hasattr(layer, "get_vocabulary"):
        return {"says": {**says, "vocabulary": layer.get_vocabulary()}}
    says["dtype"] = str(layer.compute_dtype)
    return {
        "state": _numbers(keras, layer.variables),
        "says": says,
        "answer": {"call": _array(keras, layer(X))},
    }


def _of_tensor(keras, tensor):
    (source,) = keras.utils.get_source_inputs(tensor)
    function = keras.Function(source, tensor)
    return {
        "says": {"shape": list(tensor.shape), "dtype": tensor.dtype, "source": source.name},
        "answer": {"call": function(X)},
    }


def _of_optimizer(keras, optimizer):
    return {
        "state": _numbers(keras, _variables_of(optimizer)),
        "says": {"beta_1": optimizer.beta_1, "amsgrad": optimizer.amsgrad},
        "answer": {"learning_rate": float(optimizer.learning_rate)},
    }


def _of_training(keras, found):
    optimizer, networks = found["optimizer"], [found["two"], found["one"]]
    numbers = _numbers(keras, _variables_of(optimizer))
    for network in networks:
        own = network.trainable_variables
        optimizer.apply([keras.ops.ones(v.shape) for v in own], own)
    after = [_array(keras, variable) for network in networks for variable in network.variables]
    return {"state": numbers, "answer": {"after": after}}


def _of_metric(keras, metric):
    return {
        "state": _numbers(keras, metric.variables),
        "says": {"name": metric.name},
        "answer": {"result": metric.result()},
    }


def _of_callback(keras, callback):
    names = ("epochs", "patience", "best", "best_epoch", "wait")
    values = {name: getattr(callback, name) for name in names if hasattr(callback, name)}
    best = values.pop("best", None)
    model = callback.model if hasattr(callback, "patience") else None
    return {
        "state": _numbers(keras, model.variables) if model is not None else {},
        "says": values,
        "answer": {} if best is None else {"best": best},
    }


def _of_variable(keras, variable):
    says = {"name": variable.name, "trainable": variable.trainable, "dtype": str(variable.dtype)}
    return {"state": {"value": _array(keras, variable)}, "says": says}


def _calling(*arguments):
    def answer(keras, obj):
        return {"answer": {"call": _array(keras, obj(*arguments))}}

    return answer


_ANSWERS: dict[str, Callable[[Any, Any], dict[str, dict[str, Any]]]] = {
    "model": _of_model,
    "graph": _of_graph,
    "estimator": _of_estimator,
    "layer": _of_layer,
    "function": _calling(X),
    "operation": _calling(X),
    "node": lambda keras, node: {
        "says": {"operation": type(node.operation).__name__, "inputs": len(node.input_tensors)}
    },
    "tensor": _of_tensor,
    "optimizer": _of_optimizer,
    "training": _of_training,
    "metric": _of_metric,
    "loss": _calling(Y, Y * 0.5),
    "initializer": lambda keras, made: {"drawn": {"call": _array(keras, made((2, 3)))}},
    "regularizer": _calling(X),
    "constraint": _calling(X),
    "schedule": lambda keras, made: {
        "answer": {str(step): _array(keras, made(step)) for step in (0, 10, 200)}
    },
    "policy": lambda keras, policy: {
        "says": {"name": policy.name, "types": [policy.compute_dtype, policy.variable_dtype]}
    },
    "callback": _of_callback,
    "seed_generator": lambda keras, made: {
        "state": {"state": _array(keras, made.state)},
        "says": {"seed": made._initial_seed},
    },
    "variable": _of_variable,
    "tf_function": _calling(X),
}


def _plain(keras: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(keras, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(keras, item) for item in value]
    if isinstance(value, (str, int, float, bool, types.NoneType)):
        return value
    # Each float32 is a float64 as well, and JSON keeps these.
    return _array(keras, value).tolist()


def difference(expected: dict, found: dict, *, same_backend: bool) -> str:
    """Return the first difference, or an empty string."""
    for part, values in expected.items():
        if part == "drawn" and not same_backend:
            continue  # Each backend draws other random numbers.
        for name, value in values.items():
            other = found.get(part, {}).get(name, "nothing")
            exact = part in ("state", "says")
            if value != other and (exact or not _is_close(value, other)):
                return f"{part} {name}: {value} was written, {other} is read"
    return ""


def _is_close(value: Any, other: Any) -> bool:
    """Tell whether numbers in nests of lists are close."""
    if isinstance(value, list) and any(isinstance(item, list) for item in value):
        return len(value) == len(other) and all(map(_is_close, value, other))
    return np.allclose(value, other, rtol=RELATIVE, atol=ABSOLUTE)


# On processors that compute with 16 bits, OpenVINO does so unless it is told otherwise.
RELATIVE, ABSOLUTE = (3e-2, 1e-2) if keras_backend.expected() == "openvino" else (1e-4, 1e-6)
