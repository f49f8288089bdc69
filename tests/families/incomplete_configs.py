"""Objects with incomplete configs: in a fresh process they must predict and train the same.

``python incomplete_configs.py write FOLDER`` builds and pickles them; ``python
incomplete_configs.py read FOLDER`` loads them under another global dtype policy. Both write a word
for each object: empty, or the error.
"""

from __future__ import annotations

import copy
import json
import pickle
import random
import sys
import threading
import traceback
from pathlib import Path

import cloudpickle
import keras
import numpy as np
from keras import dtype_policies, layers

from checks import entering, raises, selected
from keras_reduce import ReduceError

CASES = {}
case = entering(CASES)
CHECKS = {}
check = entering(CHECKS)

X = np.linspace(-1, 1, 24).reshape(8, 3).astype("float32")
Y = np.linspace(0, 1, 8).reshape(8, 1).astype("float32")


def fitted(*parts, optimizer="adam", **how):
    model = keras.Sequential([keras.Input((3,)), *parts, layers.Dense(1, name="last")], name="net")
    return trained(model, optimizer, **how)


def trained(model, optimizer="adam", **how):
    model.compile(optimizer, **{"loss": "mse", "run_eagerly": True, **how})
    model.train_on_batch(X, Y)
    return model


def outcome(model):
    """Return predictions, policies and configs of a model, and the outcome of more training."""
    results = [array(model(X)), array(model.predict_on_batch(X)), policies(model)]
    results.append(repr(model.get_compile_config()))
    model.reset_metrics()
    logs = [model.train_on_batch(X, Y, return_dict=True) for _ in range(2)]
    variables = [*model.variables, *model.optimizer.variables]
    return [*results, logs, type(model.optimizer).__name__, [array(v) for v in variables]]


def array(value):
    converted = keras.ops.convert_to_numpy(value)
    return converted.dtype.name, converted.shape, converted.tobytes()


def policies(model):
    # An input layer computes nothing.
    parts = [p for p in model._flatten_layers() if not isinstance(p, layers.InputLayer)]
    return [(p.name, p.compute_dtype, p.variable_dtype, p.quantization_mode) for p in parts]


# --- get_config() and the constructor disagree ------------------------------------------------


class Scale(layers.Layer):
    """A layer whose config lacks a required argument of its constructor."""

    def __init__(self, units, **arguments):
        super().__init__(**arguments)
        self.units = units
        self.inner = layers.Dense(units)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, inputs):
        return self.inner(inputs)

    def get_config(self):
        return super().get_config()


class Optional(Scale):
    """A layer whose config lacks an optional argument, which is an attribute of another name."""

    def __init__(self, width=2, **arguments):
        super().__init__(width, **arguments)

    def get_config(self):
        return super().get_config()


class Renamed(Scale):
    def __init__(self, n_units, **arguments):
        super().__init__(n_units, **arguments)

    def get_config(self):
        return {**super().get_config(), "n": self.units}


class Strict(Scale):
    """A layer whose constructor lacks the arguments of all layers, such as ``name``."""

    def __init__(self, units):
        super().__init__(units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Blocks(layers.Layer):
    """A layer whose constructor takes its parts as positional arguments."""

    def __init__(self, *blocks, **arguments):
        super().__init__(**arguments)
        self.blocks = list(blocks)

    def call(self, inputs):
        for block in self.blocks:
            inputs = block(inputs)
        return inputs

    def get_config(self):
        blocks = [keras.saving.serialize_keras_object(block) for block in self.blocks]
        return {**super().get_config(), "blocks": blocks}


class Gain(layers.Dense):
    """A layer whose config lacks the arguments that go to the constructor of its base class."""

    def __init__(self, units, gain=1.0, **arguments):
        super().__init__(units, **arguments)
        self.gain = gain

    def call(self, inputs):
        return super().call(inputs) * self.gain

    def get_config(self):
        return {"units": self.units, "gain": self.gain}


class Live(layers.Layer):
    """A layer with layers, a function and an array in its config, not serialized."""

    def __init__(self, inner, function, scale, more=(), **arguments):
        super().__init__(**arguments)
        self.inner, self.function, self.scale, self.more = inner, function, scale, list(more)

    def call(self, inputs):
        outputs = self.inner(inputs)
        for layer in self.more:
            outputs = layer(outputs)
        return self.function(outputs) * self.scale

    def get_config(self):
        arguments = {name: getattr(self, name) for name in ("inner", "function", "scale")}
        return {**super().get_config(), **arguments, "more": list(self.more)}


class Net(keras.Model):
    def __init__(self, units=3, activation="relu", **arguments):
        super().__init__(**arguments)
        self.hidden, self.last = layers.Dense(units, activation), layers.Dense(1)

    def call(self, inputs):
        return self.last(self.hidden(inputs))

    def get_config(self):
        return super().get_config()


class Error(keras.losses.Loss):
    def __init__(self, factor, name="error"):
        super().__init__(name=name)
        self.factor = factor

    def call(self, y_true, y_pred):
        return self.factor * (y_true - y_pred) ** 2

    def get_config(self):
        return super().get_config()


class Total(keras.metrics.Metric):
    def __init__(self, factor=2, name="total", **arguments):
        super().__init__(name=name, **arguments)
        self.times = factor
        self.total = self.add_variable(shape=(), initializer="zeros", name="total")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(self.times * keras.ops.sum(y_true - y_pred))

    def result(self):
        return self.total

    def get_config(self):
        return super().get_config()


class Boosted(keras.optimizers.SGD):
    def __init__(self, learning_rate=0.01, boost=1.0, **arguments):
        super().__init__(learning_rate, **arguments)
        self.boost = boost

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient * self.boost, variable, learning_rate)

    def get_config(self):
        return super().get_config()


class Filled(keras.initializers.Initializer):
    def __init__(self, value):
        self.value = value

    def __call__(self, shape, dtype=None, **more):
        return keras.ops.ones(shape, dtype) * self.value

    def get_config(self):
        return {}


class Decay(keras.regularizers.Regularizer):
    def __init__(self, rate=0.1):
        self.rate = rate

    def __call__(self, weights):
        return self.rate * keras.ops.sum(weights**2)

    def get_config(self):
        return {}


class Falling(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, base):
        self.base = base

    def __call__(self, step):
        return self.base / (1 + keras.ops.cast(step, "float32"))

    def get_config(self):
        return {}


def cube(value):
    return value**3


@case
def a_required_argument_left_out():
    return fitted(Scale(4))


@case
def an_optional_argument_left_out():
    return fitted(Optional(5))


@case
def an_argument_by_another_name():
    return fitted(Renamed(4))


@case
def more_than_the_constructor_takes():
    return fitted(Strict(4))


@case
def arguments_by_position():
    return fitted(Blocks(layers.Dense(4), layers.Dense(2)))


@case
def arguments_of_the_base_left_out():
    return fitted(Gain(4, 2.0, activation="tanh"))


@case
def live_arguments():
    scale = np.linspace(0, 1, 4).astype("float32")
    more = [layers.Dense(4), layers.Dense(4)]
    return fitted(Live(layers.Dense(4), cube, scale), Live(layers.Dense(4), cube, scale, more))


@case
def a_model_without_its_arguments():
    return trained(Net(5, "tanh"))


@case
def parts_of_a_compiled_model():
    rules = {"kernel_initializer": Filled(0.3), "kernel_regularizer": Decay(0.7)}
    optimizer = Boosted(0.1, boost=3.0)
    return fitted(
        layers.Dense(2, **rules), optimizer=optimizer, loss=Error(2.0), metrics=[Total(3)]
    )


@case
def a_schedule():
    return fitted(optimizer=keras.optimizers.Adam(Falling(0.1)))


# --- dtype policies ---------------------------------------------------------------------------


def by_path(*paths, default=None):
    policy_map = dtype_policies.DTypePolicyMap(default_policy=default)
    for path, name in zip(paths, ("mixed_bfloat16", "float64"), strict=False):
        policy_map[path] = keras.DTypePolicy(name)
    return policy_map


class Nested(keras.Model):
    def __init__(self, policy, **arguments):
        super().__init__(**arguments)
        self.hidden = layers.Dense(3, name="hidden", dtype=policy)
        self.inner = Nest(policy, name="inner")

    def call(self, inputs):
        return self.inner(self.hidden(inputs))


class Nest(layers.Layer):
    def __init__(self, policy, **arguments):
        super().__init__(**arguments)
        self.last = layers.Dense(1, name="last", dtype=policy)

    def call(self, inputs):
        return self.last(inputs)


@case
def a_map_by_name():
    return fitted(layers.Dense(3, name="first", dtype=by_path("first")))


@case
def a_map_by_path():
    policy = by_path("net/first", "net/second")
    return fitted(
        layers.Dense(3, name="first", dtype=policy), layers.Dense(3, name="second", dtype=policy)
    )


@case
def a_map_with_a_default():
    policy = by_path("first", "net/first", default="bfloat16")
    return fitted(layers.Dense(3, name="first", dtype=policy), layers.Dense(2, dtype=policy))


@case
def a_map_whose_config_has_been_asked_for():
    policy = by_path("net/first")
    policy.get_config()  # This removes the names of its policies.
    return fitted(layers.Dense(3, name="first", dtype=policy))


@case
def a_map_in_a_functional_model():
    inputs = keras.Input((3,))
    hidden = layers.Dense(3, name="first", dtype=by_path("first"))(inputs)
    last = keras.Sequential([layers.Dense(1, name="last", dtype=by_path("n/last"))], name="n")
    return trained(keras.Model(inputs, last(hidden)))


@case
def a_map_in_a_subclassed_model():
    return trained(Nested(by_path("sub/hidden", "sub/inner/last"), name="sub"))


@case(needs="tensorflow")
def a_map_in_a_wrapper():
    recurrent = layers.LSTM(2, name="l", dtype=by_path("net/b/forward_l"))
    return fitted(layers.Reshape((3, 1)), layers.Bidirectional(recurrent, name="b"))


def under(policy, make):
    outer = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return make()
    finally:
        keras.config.set_dtype_policy(outer)


@case
def the_global_policy_scales_the_loss():
    return under("mixed_float16", lambda: fitted(layers.Dense(3)))


@case
def no_loss_is_scaled():
    how = {"auto_scale_loss": False}
    return under("mixed_float16", lambda: fitted(layers.Dense(3), **how))


@case
def a_scaled_loss_of_the_program():
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(), dynamic_growth_steps=2)
    return under("mixed_float16", lambda: fitted(layers.Dense(3), optimizer=scaled))


@case
def a_loss_scale_factor():
    return fitted(layers.Dense(3), optimizer=keras.optimizers.Adam(loss_scale_factor=4.0))


@case
def an_optimizer_and_flags_set_later():
    model = fitted(layers.Dense(3))
    model.optimizer, model.steps_per_execution = keras.optimizers.SGD(0.5), 2
    return model


# --- checks in one process --------------------------------------------------------------------


@check
def dumping_leaves_maps_and_random_numbers_alone():
    policy = by_path("first")
    layer = Scale(2, dtype=policy)
    state = random.getstate()
    pickle.dumps(layer)
    assert random.getstate() == state
    assert policy["first"].name == "mixed_bfloat16"


@check
def the_default_of_a_map_is_that_of_when_it_was_made():
    policy = under("float64", lambda: by_path("first"))
    assert policy.compute_dtype == "float64"
    assert copy.deepcopy(policy).compute_dtype == "float64"


@check
def policies_keep_their_names():
    quantized = {"gptq": "gptq/4/32", "int4": "int4/32", "awq": "awq/4/32"}
    names = {"gptq": "GPTQDTypePolicy", "int4": "Int4DTypePolicy", "awq": "AWQDTypePolicy"}
    for kind, mode in quantized.items():
        cls = getattr(dtype_policies, names[kind], None)  # Not all versions of Keras have it.
        for source in (None, "bfloat16") if cls else ():
            policy = cls(mode, source)
            copied = copy.deepcopy(policy)
            assert copied == policy, (copied, policy)
            assert copied.name == policy.name
    for name in ("int8_from_float32", "float8_from_mixed_bfloat16"):
        assert copy.deepcopy(dtype_policies.get(name)) == dtype_policies.get(name)


class Locked(layers.Layer):
    def __init__(self, units, **arguments):
        super().__init__(**arguments)
        self.units, self.guard = units, threading.Lock()

    def get_config(self):
        return super().get_config()


@check
def what_attributes_cannot_carry_names_the_argument():
    cure = ("get_config() of Locked", "constructor: 'units'", "let get_config() return")
    with raises(ReduceError, "sequential.layers[0].guard", *cure):
        cloudpickle.dumps(keras.Sequential([Locked(3)]))


@check(needs="tensorflow")
def a_preprocessing_layer_names_the_argument():
    class Lookup(layers.StringLookup):
        def __init__(self, extra, **arguments):
            super().__init__(**arguments)
            self.extra = extra

        def get_config(self):
            return super().get_config()

    with raises(ReduceError, "get_config() of", "Lookup", "'extra'"):
        pickle.dumps(Lookup(3))


# --- preprocessing layers ---------------------------------------------------------------------

TEXTS = ["the cat sat", "a dog ran", "the owl sat", "cats and dogs"]
MORE = ["one cat more", "a cow sat"]
NUMBERS = np.array([[7], [9], [11], [7], [12]])
SOURCES = ("adapted", "given", "set", "counted", "none")
MODES = ("int", "one_hot", "multi_hot", "count", "tf_idf")


def lookups():
    """Yield names, layers and data: every output mode with every source of a vocabulary."""
    import tensorflow as tf

    words = tf.constant([["cat"], ["dog"], ["owl"], ["cat"], ["unknown"]])
    kinds = {
        layers.StringLookup: (["cat", "dog", "owl"], words, words[1:3]),
        layers.IntegerLookup: ([7, 9, 11], tf.constant(NUMBERS), tf.constant(NUMBERS[1:3])),
        layers.TextVectorization: (["cat", "sat", "the"], tf.constant(TEXTS), tf.constant(MORE)),
    }
    for mode in MODES:
        for sparse, limit, padded in (
            (False, None, False),
            (False, 12, False),
            (False, 12, True),
            (True, 12, True),
        ):
            if sparse and mode == "int":
                continue
            how = {"output_mode": mode, "max_tokens": limit, "pad_to_max_tokens": padded}
            for cls, (vocabulary, data, more) in kinds.items():
                for source in SOURCES:
                    given = {"vocabulary": vocabulary}
                    given |= {"idf_weights": [1.0, 2.0, 3.0]} if mode == "tf_idf" else {}
                    layer = cls(sparse=sparse, **how, **(given if source == "given" else {}))
                    if source == "adapted":
                        layer.adapt(data)
                    elif source == "set":
                        layer.set_vocabulary(**given)
                    elif source == "counted":
                        layer.update_state(data)
                    yield (
                        f"{cls.__name__} {mode} {sparse} {limit} {padded} {source}",
                        layer,
                        data,
                        more,
                    )


def attempted(function, *arguments):
    """Return the bits of the result of a function, or the name of its error."""
    import tensorflow as tf

    try:
        result = function(*arguments)
    except Exception as error:
        return type(error).__name__
    if isinstance(result, tf.SparseTensor):
        return [array(result.indices), array(result.values), array(result.dense_shape)]
    return array(result) if keras.ops.is_tensor(result) else result


def answers(layer, data, more):
    """Return the outputs of a layer before and after it is adapted to more data."""
    results = [attempted(layer, data), attempted(layer.get_vocabulary), repr(layer.get_config())]
    results += [attempted(layer.finalize_state), attempted(layer, data)]
    results += [attempted(layer.update_state, more), attempted(layer.finalize_state)]
    return [*results, attempted(layer, more), attempted(layer.adapt, more), attempted(layer, more)]


@check(needs="tensorflow")
def lookups_of_every_mode_and_source():
    differing = []
    for name, layer, data, more in lookups():
        copied = pickle.loads(pickle.dumps(layer))
        if answers(copied, data, more) != answers(layer, data, more):
            differing.append(name)
    assert differing == []


@check(needs="tensorflow")
def other_preprocessing_layers():
    import tensorflow as tf

    words = tf.constant([["cat"], ["dog"], ["owl"]])
    binned, counted = layers.Discretization(num_bins=3), layers.Discretization(num_bins=3)
    binned.adapt(X)
    counted.update_state(X)
    scaled = layers.Normalization()
    scaled.adapt(X)
    latin = layers.StringLookup()
    latin.update_state(tf.constant([[b"\xff\xfe"], [b"caf\xc3\xa9"]]))
    latin_copied = copy.deepcopy(latin)
    assert latin_copied.token_counts.lookup(tf.constant([b"\xff\xfe"])).numpy() == [1]
    for layer, data in (
        (binned, X),
        (scaled, X),
        (layers.Discretization(bin_boundaries=[0.0]), X),
        (layers.Normalization(mean=0.5, variance=2.0, invert=True), X),
        *((layers.Hashing(5, output_mode=mode), words) for mode in MODES[:4]),
        *((layers.CategoryEncoding(3, output_mode=m), tf.constant([[0, 2]])) for m in MODES[1:4]),
        *((layers.HashedCrossing(5, output_mode=m), (words, words)) for m in MODES[:2]),
    ):
        expected = attempted(layer, data)
        assert attempted(copy.deepcopy(layer), data) == expected, layer
    copied = copy.deepcopy(counted)
    for layer in (counted, copied):
        layer.update_state(2 * X)
        layer.finalize_state()
    assert copied.bin_boundaries == counted.bin_boundaries


@check(needs="tensorflow")
def feature_spaces():
    import tensorflow as tf

    data = {"size": tf.constant([0.5, 1.5, 4.0]), "animal": tf.constant(["cat", "dog", "owl"])}
    space = keras.utils.FeatureSpace({"size": "float_normalized", "animal": "string_categorical"})
    copied = copy.deepcopy(space)
    for each in (space, copied):
        assert attempted(each, data) == "ValueError"  # adapt() must be called first.
        each.adapt(tf.data.Dataset.from_tensor_slices(data))
    assert attempted(copied, data) == attempted(space, data)
    assert attempted(copy.deepcopy(space), data) == attempted(space, data)


@check(needs="tensorflow")
def a_vocabulary_from_a_file():
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("cat\ndog")
        file.flush()
        layer = layers.StringLookup(vocabulary=file.name)
    copied = copy.deepcopy(layer)
    assert copied.get_vocabulary() == layer.get_vocabulary()
    assert attempted(copied.adapt, ["owl"]) == attempted(layer.adapt, ["owl"]) == "ValueError"


# --- both sides -------------------------------------------------------------------------------


def attempt(function, *arguments):
    try:
        return function(*arguments) or ""
    except Exception:
        return traceback.format_exc()


def write(folder):
    import keras_reduce

    keras_reduce.install()
    words = {name: attempt(CHECKS[name]) for name in selected(CHECKS)}
    for name in selected(CASES):
        words[name] = attempt(write_one, name, CASES[name], folder)
    return words


def write_one(name, make, folder):
    keras.utils.set_random_seed(len(name))
    model = make()
    pickled, copied = pickle.dumps(model), copy.deepcopy(model)
    expected = outcome(model)
    (folder / f"{name}.pickle").write_bytes(pickle.dumps((pickled, expected)))
    return difference(expected, outcome(copied))


def read(folder):
    keras.config.set_dtype_policy("mixed_float16")
    return {path.stem: attempt(read_one, path) for path in sorted(folder.glob("*.pickle"))}


def read_one(path):
    pickled, expected = pickle.loads(path.read_bytes())
    return difference(expected, outcome(pickle.loads(pickled)))


def difference(expected, actual):
    pairs = zip(expected, actual, strict=True)
    return "\n".join(f"{one} against {other}"[:1000] for one, other in pairs if one != other)


if __name__ == "__main__":
    ROLE, FOLDER = sys.argv[1], Path(sys.argv[2])
    WORDS = {"write": write, "read": read}[ROLE](FOLDER)
    (FOLDER / f"{ROLE}.json").write_text(json.dumps(WORDS))
