"""Traces that models share: the same results to the bit, and no sharing of different models."""

from __future__ import annotations

import contextlib
import copy
import enum
import functools
import gc
import pickle
import random
import sys
import tempfile
import threading
import weakref
from operator import attrgetter
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from joblib import Parallel, delayed, parallel_config
from keras import layers, losses, ops, optimizers
from numpy import load

import keras_reduce
import zoo
from checks import bits, check, main
from keras_reduce.trace_cache import cache, pipelines
from keras_reduce.trace_cache import keys as trace_keys

keras_reduce.install()
X, Y = zoo.X, zoo.Y

# --- records of new and shared traces ------------------------------------------------------------

traced, borrowed = [], []


def _noting(method, seen):
    @functools.wraps(method)
    def noting(self, *arguments):
        method(self, *arguments)
        seen.append(self._role if method.__name__ == "add" else "")

    return noting


# Private: no public name tells the use of shared traces.
cache._Cache.add = _noting(cache._Cache.add, traced)
# Private: no public name tells the use of shared traces.
cache._Borrowed.__init__ = _noting(cache._Borrowed.__init__, borrowed)


def traced_anew():
    """Return the steps that have been traced since the last call of this function."""
    roles = set(traced)
    traced.clear()
    return roles


ALL = {"train", "test", "predict"}


def mlp(*hidden, **options):
    model = zoo.mlp(*(hidden or (layers.Dense(4, activation="relu"),)))
    model.compile(**{"optimizer": "adam", "loss": "mse", **options})
    return model


def life(model, x=X, y=Y):
    """Train a model and predict; return results and variables, bit for bit."""
    results = [model.fit(x, y, epochs=2, batch_size=8, verbose=0, validation_split=0.25).history]
    results.append(model.predict(x, batch_size=7, verbose=0))
    results.append(model.fit(x, y, batch_size=8, verbose=0).history)
    return bits([results, *variables_of(model)])


def variables_of(model):
    return [np.asarray(variable) for variable in (*model.variables, *model.optimizer.variables)]


# --- the zoo -----------------------------------------------------------------------------------


def compiled(model, x=X, y=Y, *, optimizer=None, loss="mse", eager=False, epochs=0, **options):
    """Replace `zoo.trained`: compile only, without eager execution.

    The optimizer is SGD, since a trace of a step with Adam takes twice as long. Models of `mlp` and
    the zoo's case of all optimizers have Adam.
    """
    model.compile(optimizer=optimizer or optimizers.SGD(momentum=0.9), loss=loss, **options)
    return model, x, y


zoo.trained = compiled

# Steps that are traced for each model of a case, with the reason.
TRACED_ANEW = {
    "own_train_step": {"train", "test"},  # a user-defined step may do anything
    "subclassed_model": {"train"},  # its outputs are not known before its code has run
    "subclassed_model_with_containers": {"train"},
    "subclassed_model_of_models": {"train"},
    "sequential_that_fills_itself": {"train"},
    "normalization_adapted": ALL,  # the adapted values are constants in the graph
    "attributes_at_every_level": ALL,  # it has a step that counts
}
SKIPPED = {
    "recurrent_stateful",  # it accepts batches of one size
    "functional_list_of_outputs",  # its results have numbered names; see below
    "callbacks_after_use",  # it runs eagerly
    # Not tried: other objects in them trace separately, or they take minutes to trace.
    "lora_on_inner_layers",
    "quantized_inner_layers",
    "calibrated_by_gptq",
    "losses_over_their_own_model",
    "weak_references_between_layers",
    "optimizers_beside_their_models",
    "optimizer_that_models_share",
}


class UntrainedError(Exception):
    """The case needs a trained model, which is not available here."""


@check
def models_of_the_zoo_share_traces_and_learn_the_same():
    wrong, tried = [], 0
    for name in zoo.CASES.keys() - SKIPPED:
        with keras_reduce.installed(reuse=False):
            expected = [short_life(*case) for case in trainable(name)]
        tried += len(expected)
        traced_anew()
        first, anew = [], []
        for case in trainable(name) if expected else ():
            first.append(short_life(*case))
            anew.append(traced_anew())
        # Models of one case may share traces among themselves.
        assert all("train" in roles for roles in anew), name
        assert set().union(*anew) == (ALL if anew else set()), name
        for position, case in enumerate(trainable(name) if expected else ()):
            if not first[position] == short_life(*case) == expected[position]:
                wrong.append(f"{name} {position}: another result")
            if (anew := traced_anew()) != TRACED_ANEW.get(name, set()):
                wrong.append(f"{name} {position}: traced again are {sorted(anew)}")
    assert not wrong, "\n".join(wrong)
    assert tried >= 50


def seed(number):
    """Seed what Keras draws from, and leave TensorFlow its kernels and optimized graphs.

    Its own generator, which `keras.utils.set_random_seed` seeds too, is used only to shuffle here.
    """
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 - Keras has it seeded, too


def trainable(name):
    """Build a case; return its trainable models, each with the data in batches."""
    seed(1)
    try:
        with mock.patch.object(keras.Model, "fit", side_effect=UntrainedError):
            objects, x, y = zoo.CASES[name]()
    except (UntrainedError, AttributeError):
        return []  # It needs the history of a trained model.
    models = [objects, *(objects.values() if isinstance(objects, dict) else ())]
    is_compiled = lambda model: isinstance(model, keras.Model) and model.compiled  # noqa: E731
    models = [model for model in models if is_compiled(model) and not model.run_eagerly]
    if y is None or not models:
        return []
    # Making batches of arrays would take longer than training: see the checks of pipelines.
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    return [(model, batches) for model in models]


def short_life(model, batches):
    seed(2)
    results = [model.fit(batches, epochs=2, verbose=0, validation_data=batches).history]
    results.append(model.predict(batches, verbose=0))
    results.append(model.fit(batches, verbose=0).history)
    return bits([results, *variables_of(model)])


# --- differences that change the cache key -------------------------------------------------------


def key(model, role="train"):
    """Build a model and return the cache key of its trace."""
    model._symbolic_build(data_batch=(X[:2], Y[:2]))
    trace_key = trace_keys.trace_key(model, role)
    return trace_key and trace_key.key


FACTOR = 2.0


def by_global(y_true, y_pred):
    return FACTOR * ops.mean(ops.square(y_true - y_pred), axis=-1)


def by_closure(factor):
    def loss(y_true, y_pred):
        return factor * ops.mean(ops.square(y_true - y_pred), axis=-1)

    return loss


def by_default(factor):
    def loss(y_true, y_pred, by=factor):
        return by * ops.mean(ops.square(y_true - y_pred), axis=-1)

    return loss


def with_attribute(factor):
    def loss(y_true, y_pred):
        return loss.factor * ops.mean(ops.square(y_true - y_pred), axis=-1)

    loss.factor = factor
    return loss


def as_if_keras(factor):
    @functools.wraps(losses.mean_squared_error)
    def loss(y_true, y_pred):
        return losses.mean_squared_error(y_true, y_pred) * FACTORS["by"]

    FACTORS["by"] = factor
    return loss


FACTORS = {}


def named_input(name):
    inputs = keras.Input((6,), name=name)
    model = keras.Model(inputs, layers.Dense(4, "relu")(inputs))
    model.compile("adam", "mse")
    return model


def by_array(values):
    table = np.array(values, "float32")
    return lambda y_true, y_pred: ops.mean(ops.abs(y_true - y_pred)) * table[0]


class Shift(layers.Layer):
    def __init__(self, by=1.0, **kwargs):
        super().__init__(**kwargs)
        self.by = by

    def call(self, inputs):
        return inputs + self.by


def other_shift():
    class Shift(layers.Layer):
        def __init__(self, by=1.0):
            super().__init__()
            self.by = by

        def call(self, inputs):
            return inputs - self.by

    return Shift()


def frozen():
    model = mlp()
    model.layers[0].trainable = False
    return model


def set_late(attribute, value, part=lambda model: model):
    def build():
        model = mlp()
        setattr(part(model), attribute, value)
        return model

    return build


def connected(order):
    inputs = keras.Input((6,))
    first, second = layers.Dense(4)(inputs), layers.Dense(4, "relu")(inputs)
    model = keras.Model(inputs, ops.subtract(*((first, second) if order else (second, first))))
    model.compile("adam", "mse")
    return model


def two_inputs(*names):
    one, two = (keras.Input((6,), name=name) for name in names)
    model = keras.Model([one, two], layers.Dense(1)(layers.concatenate([one, two])))
    model.compile("adam", "mse")
    return model


def two_outputs(*names):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, [layers.Dense(1, name=name)(inputs) for name in names])
    model.compile("adam", ["mse", "mse"])
    return model


def first_layer(model):
    return model.layers[0]


DIFFERENT = {
    "as it is": mlp,
    "units": lambda: mlp(layers.Dense(5, activation="relu")),
    "activation": lambda: mlp(layers.Dense(4, activation="tanh")),
    "no activation": lambda: mlp(layers.Dense(4)),
    "bias": lambda: mlp(layers.Dense(4, activation="relu", use_bias=False)),
    "regularizer": lambda: mlp(layers.Dense(4, "relu", kernel_regularizer="l2")),
    "its strength": lambda: mlp(
        layers.Dense(4, "relu", kernel_regularizer=keras.regularizers.L2(0.2))
    ),
    "of the bias": lambda: mlp(layers.Dense(4, "relu", bias_regularizer="l2")),
    "constraint": lambda: mlp(layers.Dense(4, "relu", kernel_constraint="non_neg")),
    "dtype": lambda: mlp(layers.Dense(4, "relu", dtype="mixed_bfloat16")),
    "dropout": lambda: mlp(layers.Dropout(0.1)),
    "its rate": lambda: mlp(layers.Dropout(0.2)),
    "its shape": lambda: mlp(layers.Dropout(0.2, noise_shape=(None, 1))),
    "its rate set late": set_late("activation", keras.activations.elu, first_layer),
    "momentum of a norm": lambda: mlp(layers.BatchNormalization(momentum=0.5)),
    "epsilon of a norm": lambda: mlp(layers.BatchNormalization(epsilon=0.5)),
    "zero": lambda: mlp(layers.Lambda(lambda x: x * 0.0)),
    "minus zero": lambda: mlp(layers.Lambda(lambda x: x * -0.0)),
    "one": lambda: mlp(layers.Lambda(lambda x: x * 1)),
    "one as float": lambda: mlp(layers.Lambda(lambda x: x * 1.0)),
    "frozen": frozen,
    "a flag of a variable": set_late("trainable", False, lambda model: model.layers[0].bias),
    "two layers": lambda: mlp(layers.Dense(4, "relu"), layers.Dense(4, "relu")),
    "order of arguments": lambda: connected(True),
    "the other order": lambda: connected(False),
    "optimizer": lambda: mlp(optimizer="sgd"),
    "momentum": lambda: mlp(optimizer=optimizers.SGD(momentum=0.9)),
    "nesterov": lambda: mlp(optimizer=optimizers.SGD(momentum=0.9, nesterov=True)),
    "beta": lambda: mlp(optimizer=optimizers.Adam(beta_1=0.8)),
    "amsgrad": lambda: mlp(optimizer=optimizers.Adam(amsgrad=True)),
    "clipping": lambda: mlp(optimizer=optimizers.Adam(clipnorm=1.0)),
    "clipping set late": set_late("clipvalue", 0.5, lambda model: model.optimizer),
    "weight decay": lambda: mlp(optimizer=optimizers.Adam(weight_decay=0.1)),
    "moving average": lambda: mlp(optimizer=optimizers.Adam(use_ema=True)),
    "accumulation": lambda: mlp(optimizer=optimizers.Adam(gradient_accumulation_steps=2)),
    "schedule": lambda: mlp(optimizer=optimizers.Adam(optimizers.schedules.CosineDecay(0.1, 5))),
    "its length": lambda: mlp(optimizer=optimizers.Adam(optimizers.schedules.CosineDecay(0.1, 6))),
    "its start": lambda: mlp(optimizer=optimizers.Adam(optimizers.schedules.CosineDecay(0.2, 5))),
    "loss": lambda: mlp(loss="mae"),
    "loss object": lambda: mlp(loss=losses.Huber(1.5)),
    "its delta": lambda: mlp(loss=losses.Huber(2.5)),
    "reduction": lambda: mlp(loss=losses.Huber(2.5, reduction="sum")),
    "weight of the loss": lambda: mlp(loss_weights=[0.5]),
    "metric": lambda: mlp(metrics=["mae"]),
    "weighted metric": lambda: mlp(weighted_metrics=["mae"]),
    "name of a metric": lambda: mlp(metrics=[keras.metrics.MeanAbsoluteError(name="other")]),
    "steps": lambda: mlp(steps_per_execution=2),
    "XLA": lambda: mlp(jit_compile=True),
    "global": lambda: mlp(loss=by_global),
    "closure": lambda: mlp(loss=by_closure(2.0)),
    "another value there": lambda: mlp(loss=by_closure(3.0)),
    "an integer there": lambda: mlp(loss=by_closure(2)),
    "default": lambda: mlp(loss=by_default(2.0)),
    "another default": lambda: mlp(loss=by_default(3.0)),
    "array": lambda: mlp(loss=by_array([1, 2])),
    "another array": lambda: mlp(loss=by_array([1, 3])),
    "bound method": lambda: mlp(loss=zoo.MainLoss(1.5).call),
    "of another object": lambda: mlp(loss=zoo.MainLoss(2.5).call),
    "own layer": lambda: mlp(Shift()),
    "its attribute": lambda: mlp(Shift(2.0)),
    "own layer of that name": lambda: mlp(other_shift()),
    "mask": lambda: mlp(layers.Reshape((6, 1)), layers.Masking(), layers.Flatten()),
    "its value": lambda: mlp(layers.Reshape((6, 1)), layers.Masking(1.0), layers.Flatten()),
    "policy by names": lambda: mlp(optimizer=optimizers.Muon(exclude_layers=["dense"])),
    "Muon": lambda: mlp(optimizer=optimizers.Muon()),
    "attribute of a function": lambda: mlp(loss=with_attribute(2.0)),
    "another one": lambda: mlp(loss=with_attribute(3.0)),
    "under a name of Keras's": lambda: mlp(loss=as_if_keras(2.0)),
    "with another value": lambda: mlp(loss=as_if_keras(3.0)),
    "enumeration": lambda: mlp(layers.Flatten(data_format="channels_first")),
    "name of an input": lambda: named_input("a"),
    "another name": lambda: named_input("b"),
    "names of inputs": lambda: two_inputs("a", "b"),
    "the other way round": lambda: two_inputs("b", "a"),
    "names of outputs": lambda: two_outputs("a", "b"),
    "other names": lambda: two_outputs("a", "c"),
}


def data_for(name):
    x = [X, X] if "inputs" in name or "round" in name else X
    return x, [Y, Y] if "other names" in name or "outputs" in name else Y


@check
def what_differs_in_one_thing_has_another_key():
    keys = {}
    for name, build in DIFFERENT.items():
        x, y = data_for(name)
        model = build()
        first = lambda data: [part[:2] for part in data] if isinstance(data, list) else data[:2]  # noqa: E731
        model._symbolic_build(data_batch=(first(x), first(y)))
        trace_key = trace_keys.trace_key(model, "train")
        assert trace_key is not None, name
        assert trace_key.key not in keys, (name, keys[trace_key.key])
        keys[trace_key.key] = name


@check
def what_differs_around_a_model_has_another_key():
    global FACTOR
    keys = {key(mlp(loss=by_global)), key(mlp(loss=by_global))}
    assert len(keys) == 1
    FACTOR = 3.0
    keys.add(key(mlp(loss=by_global)))
    keras.config.set_epsilon(1e-5)
    keys.add(key(mlp(loss=by_global)))
    model = mlp(loss=by_global)
    keras.config.set_dtype_policy("mixed_bfloat16")
    keys.add(key(model))
    FACTOR = 2.0
    keras.config.set_epsilon(1e-7)
    keras.config.set_dtype_policy("float32")
    assert len(keys) == 4
    assert key(mlp(loss=by_global)) in keys


SAME = {
    "names": lambda: mlp(layers.Dense(4, "relu", name="named")),
    "learning rate": lambda: mlp(optimizer=optimizers.Adam(0.5)),
    "learning rate set late": set_late("learning_rate", 0.3, lambda model: model.optimizer),
    "name of the optimizer": lambda: mlp(optimizer=optimizers.Adam(name="other")),
    "history": lambda: trained_before(mlp()),
    "a copy": lambda: copy.deepcopy(mlp()),
    "after a pickle": lambda: pickle.loads(pickle.dumps(mlp())),
    "seeds": lambda: mlp(
        layers.Dense(4, "relu", kernel_initializer=keras.initializers.GlorotUniform())
    ),
}


def trained_before(model):
    model.fit(X, Y, batch_size=8, verbose=0)
    return model


@check
def what_makes_no_difference_is_not_in_the_key():
    expected = key(mlp())
    for name, build in SAME.items():
        assert key(build()) == expected, name
    for factor in (2.0, 3.0):
        assert key(mlp(loss=by_closure(factor))) == key(mlp(loss=by_closure(factor)))
    assert key(mlp(layers.Dropout(0.1))) == key(mlp(layers.Dropout(0.1)))


@check
def arrays_that_come_by_name_are_told_by_it():
    data = {"a": X, "b": X * 2}
    results = set()
    for on in (False, True, True):
        with keras_reduce.installed(reuse=on):
            for name in ("a", "b"):
                keras.utils.set_random_seed(5)
                answer = named_input(name).predict(data, verbose=0)
                results.add((name, answer.tobytes()))
    assert len(results) == 2
    numbered = [keras.Sequential([keras.Input((6,)), layers.Dense(4)]) for _ in range(2)]
    keys = {trace_keys.trace_key(m, "predict", by_name=True).key for m in numbered}
    assert len(keys) == 2


@check
def how_a_model_was_compiled_is_nothing_to_prediction():
    keys = {key(build(), "predict") for build in (mlp, lambda: mlp(optimizer="sgd", loss="mae"))}
    assert len(keys) == 1
    assert key(mlp(layers.Dense(4, "elu")), "predict") not in keys


class Reads(layers.Layer):
    """A layer whose trace depends on values that no cache key covers."""

    function = None

    def call(self, inputs):
        return self.function(self, inputs)


def reading(function):
    layer = Reads()
    layer.function = function
    return layer


def remembers(layer, inputs):
    layer.seen = getattr(layer, "seen", 0)
    return inputs


def matching(layer, inputs):
    match layer:
        case layers.Layer(name=name):
            return inputs * len(name)


RECORDS = np.zeros(2, [("p", "f8"), ("q", "f8")])
LONG = [1.0] * 1_000_000


def summarized(layer, inputs):
    tf.summary.scalar("sum", tf.reduce_sum(inputs))
    return inputs


TENSOR, SET = tf.constant(2.0), {object()}


def by_import(layer, inputs):
    import random

    return inputs * random.random()


UNCLEAR = {
    "its name": lambda layer, inputs: inputs * len(layer.name),
    "what NumPy draws": lambda layer, inputs: inputs * np.random.default_rng().random(),
    "a module": by_import,
    "a file": lambda layer, inputs: inputs * len(open(__file__).read()),  # noqa: SIM115, PTH123
    "where it is in memory": lambda layer, inputs: inputs * (id(layer) % 2),
    "an attribute by name": remembers,
    "another program's state": lambda layer, inputs: inputs * threading.active_count(),
    "a tensor": lambda layer, inputs: inputs * TENSOR,
    "an object in a set": lambda layer, inputs: inputs * len(SET),
    "its place in the model": lambda layer, inputs: inputs * len(layer.path),
    "a value that it has now": lambda layer, inputs: inputs * eagerly(layer),
    "a writer of summaries": summarized,
    "an enumeration": lambda layer, inputs: inputs * Level.LOW.value,
    "its config": lambda layer, inputs: inputs * len(layer.get_config()),
    "its name, by way of another": lambda layer, inputs: inputs * len(attrgetter("name")(layer)),
    "what it calls itself": lambda layer, inputs: inputs * len(f"{layer}"),
    "the same in an old way": lambda layer, inputs: inputs * len("%s" % layer),  # noqa: UP031
    "an imported function": lambda layer, inputs: inputs * load(__file__),
    "the time": lambda layer, inputs: inputs * int(np.datetime64("now", "s").astype(int)),
    "a pattern": matching,
    "how it was compiled": lambda layer, inputs: inputs * (2.0 if layer.compiled else 1.0),
    "what prints": lambda layer, inputs: print("traced") or inputs,
    "records": lambda layer, inputs: inputs * RECORDS["p"][0],
    "a list without end": lambda layer, inputs: inputs * LONG[0],
}


def eagerly(layer):
    with tf.init_scope():
        return float(VARIABLE.numpy())


class Level(enum.Enum):
    LOW = 1


@check
def what_no_key_can_tell_is_traced_anew():
    for name, function in UNCLEAR.items():
        model = keras.Sequential([reading(function)])
        assert trace_keys.trace_key(model, "predict") is None, name
    assert key(mlp(reading(lambda layer, inputs: inputs * 2.0)), "predict") is not None
    with keras.RematScope(mode="full"):
        assert trace_keys.trace_key(mlp(), "predict") is None


class Counts(layers.Layer):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def call(self, inputs):
        self.calls += 1
        return inputs * self.calls


class Draws(layers.Layer):
    def call(self, inputs):
        return inputs + tf.random.normal((6,))


class DrawsFromAll(layers.Layer):
    def call(self, inputs):
        return inputs + keras.random.normal((6,))


class Holds(layers.Layer):
    def __init__(self):
        super().__init__()
        self.other = VARIABLE

    def call(self, inputs):
        return inputs * ops.convert_to_tensor(self.other)


class Prints(layers.Layer):
    def call(self, inputs):
        printed = tf.numpy_function(lambda array: array, [inputs], tf.float32)
        return tf.ensure_shape(printed, inputs.shape)


VARIABLE = keras.Variable(2.0)


def same_with_and_without(build, work):
    """Tell whether models behave the same without shared traces and, twice, with them."""
    results = []
    for on in (False, True, True):
        if not on:
            with keras_reduce.installed(reuse=False):
                keras.utils.set_random_seed(5)
                results.append(work(build()))
        else:
            keras.utils.set_random_seed(5)
            results.append(work(build()))
    return results[0] == results[1] == results[2]


def fitted(model):
    history = model.fit(X, Y, epochs=2, batch_size=8, verbose=0).history
    return bits([history, *model.get_weights(), np.random.random(), random.random()])  # noqa: NPY002


class CountingLoss(losses.Loss):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def call(self, y_true, y_pred):
        self.calls += 1
        return ops.mean(ops.square(y_true - y_pred) * self.calls, axis=-1)


class BuiltInTraining(keras.Model):
    """A model with a layer that is called, and so built, in training only."""

    def __init__(self):
        super().__init__()
        self.one, self.two = layers.Dense(1), layers.Dense(1)

    def call(self, inputs, training=False):
        return self.one(inputs) + self.two(inputs) if training else self.one(inputs)


class DrawsSeeds(layers.Layer):
    def call(self, inputs):
        return inputs + keras.initializers.RandomUniform()((6,))


class HoldsInitializer(layers.Layer):
    def __init__(self):
        super().__init__()
        self.noise = keras.initializers.RandomUniform()

    def call(self, inputs):
        return inputs + self.noise((6,))


CALLS = []


class Appends(layers.Layer):
    def call(self, inputs):
        CALLS.append(1)
        return inputs * float(len(CALLS) % 7)


def built_in_training():
    model = BuiltInTraining()
    model.compile("adam", "mse")
    return model


PECULIAR = {
    "a layer that counts": lambda: mlp(Counts()),
    "a loss that counts": lambda: mlp(loss=CountingLoss()),
    "a layer built in training": built_in_training,
    "seeds drawn while tracing": lambda: mlp(DrawsSeeds()),
    "a seed drawn before": lambda: mlp(HoldsInitializer()),
    "two models with a seed each": lambda: mlp(HoldsInitializer(), HoldsInitializer()),
}


@check
def peculiar_models_learn_what_they_would_learn():
    for name, build in PECULIAR.items():
        assert same_with_and_without(build, fitted), name
    # Each model has its own noise.
    answers = {
        mlp(HoldsInitializer(), layers.Dense(1, kernel_initializer="ones"))
        .predict(X * 0, verbose=0)
        .tobytes()
        for _ in range(3)
    }
    assert len(answers) == 3
    answers = {zoo.mlp(DrawsSeeds()).layers[0](X * 0).numpy().tobytes() for _ in range(3)}
    assert len(answers) == 3


@check
def code_runs_as_often_as_without():
    counts = []
    for on in (False, True):
        with keras_reduce.installed(reuse=on):
            CALLS.clear()
            mlp(Appends()).fit(X, Y, batch_size=8, verbose=0)
            counts.append(len(CALLS))
    assert counts[0] == counts[1], counts


@check
def what_a_graph_shows_to_be_of_one_model_is_traced_anew():
    for layer in (Counts, Draws, DrawsFromAll, Prints):
        for _ in range(2):
            traced_anew()
            mlp(layer()).predict(X, batch_size=8, verbose=0)
            assert traced_anew() == {"predict"}, layer
    # A global variable is part of each model that uses it, and the same for all.
    answers = []
    for value in (2.0, 3.0):
        VARIABLE.assign(value)
        keras.utils.set_random_seed(0)
        answers.append(zoo.mlp(Holds()).predict(X, verbose=0))
    with keras_reduce.installed(reuse=False):
        keras.utils.set_random_seed(0)
        assert np.array_equal(zoo.mlp(Holds()).predict(X, verbose=0), answers[1])
    assert not np.array_equal(*answers)


# --- within one model ----------------------------------------------------------------------------


@check
def a_step_that_was_traced_stays_as_it_was():
    """Require Keras's behaviour: changes without a new `compile` apply to new shapes only."""

    def changed(model):
        model.fit(X, Y, batch_size=8, verbose=0)
        model.layers[0].activation = keras.activations.tanh
        model.fit(X, Y, batch_size=8, verbose=0)
        return [model.predict(X[:n], verbose=0) for n in (8, 5)]

    life(mlp())  # creates traces that can be shared
    results = []
    for on in (True, False):
        with keras_reduce.installed(reuse=on):
            keras.utils.set_random_seed(3)
            results.append(changed(mlp()))
    assert all(map(np.array_equal, *results))


@check
def gradients_go_through_a_function_that_was_borrowed():
    def gradient(model):
        model.predict(X, batch_size=8, verbose=0)
        with tf.GradientTape() as tape:
            answer = tf.reduce_sum(model.predict_function([(tf.constant(X[:8]),)]))
        kernel = model.layers[0].kernel.value
        return np.asarray(tape.gradient(answer, kernel)), model.predict(X, batch_size=8, verbose=0)

    keras.utils.set_random_seed(0)
    expected = gradient(mlp())
    borrowed.clear()
    keras.utils.set_random_seed(0)
    actual = gradient(mlp())
    assert borrowed
    assert all(map(np.array_equal, expected, actual))


@check
def who_asks_for_a_graph_gets_one_of_this_model():
    mlp().predict(X, batch_size=8, verbose=0)
    borrowed.clear()
    model = mlp()
    expected = model.predict(X, batch_size=8, verbose=0)
    assert borrowed
    function = model.predict_function.get_concrete_function([(tf.TensorSpec((8, 6)),)])
    assert np.array_equal(function([(tf.constant(X[:8]),)]), expected[:8])
    assert function.graph.variables
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        loaded = tf.saved_model.load(folder)  # the exported model has the variables
        answer = loaded.serve(tf.constant(X))
    assert np.allclose(answer, expected, atol=1e-6)


@check
def other_ways_to_train_are_left_alone():
    def ways(model):
        results = [model.train_on_batch(X, Y), model.test_on_batch(X, Y), model.predict_on_batch(X)]
        data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
        results.append(model.fit(data, verbose=0, shuffle=False).history["loss"])
        tf.config.run_functions_eagerly(True)
        results.append(model.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history["loss"])
        tf.config.run_functions_eagerly(False)
        return bits([*results, *model.get_weights()])

    results = set()
    for on in (False, True, True):
        with keras_reduce.installed(reuse=on):
            keras.utils.set_random_seed(5)
            results.add(ways(mlp()))
    assert len(results) == 1


@check
def what_is_evaluated_first_is_trained_as_it_is_then():
    """Require that evaluation creates no slots, since layers may be frozen before training."""

    def evaluated(model):
        results = [model.evaluate(X, Y, batch_size=8, verbose=0)]
        assert not model.optimizer.built
        model.layers[0].trainable = False
        results.append(model.fit(X, Y, batch_size=8, verbose=0).history)
        return bits([*results, *map(np.asarray, model.optimizer.variables)])

    results = set()
    for on in (False, True, True):
        with keras_reduce.installed(reuse=on):
            keras.utils.set_random_seed(5)
            results.add(evaluated(mlp()))
    assert len(results) == 1


@check
def what_xla_has_compiled():
    results = set()
    for on in (False, True):
        with keras_reduce.installed(reuse=on):
            for _ in range(1 + on):
                traced_anew()
                keras.utils.set_random_seed(5)
                results.add(life(mlp(layers.Dropout(0.2), layers.Dense(4), jit_compile=True)))
    assert len(results) == 1
    assert not traced_anew()


@check
def weights_of_samples_and_classes():
    def weighted(model):
        results = [model.fit(X, Y, sample_weight=np.linspace(0, 1, 24), verbose=0).history]
        results.append(model.fit(X, Y, class_weight={0: 1.0, 1: 2.0, -1: 3.0}, verbose=0).history)
        return bits([*results, *model.get_weights()])

    results = set()
    for on in (False, True, True):
        keras.utils.set_random_seed(5)
        if on:
            results.add(weighted(mlp()))
        else:
            with keras_reduce.installed(reuse=False):
                results.add(weighted(mlp()))
    assert len(results) == 1


# --- pipelines of data ---------------------------------------------------------------------------


def batches(x, y=None, **options):
    """Return the batches of Keras's pipeline in two epochs, and its element spec."""
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    tf.random.set_seed(options.pop("seed", 4))
    dataset = ArrayDataAdapter(x, y, **options).get_tf_dataset()
    epochs = [[tf.nest.map_structure(np.asarray, batch) for batch in dataset] for _ in range(2)]
    return bits([repr(dataset.element_spec), epochs])


ARRAYS = {
    "features": (X, None),
    "targets": (X, Y),
    "double precision": (X.astype("float64"), Y[:, 0].astype("float64")),
    "integers": (zoo.TOKENS, zoo.LABELS[:16]),
    "booleans": (X > 0, Y),
    "half precision": (X.astype("float16"), Y),
    "by name": ({"a": X, "b": X[::-1]}, {"c": Y}),
    "lists": ([X, X * 2], [Y, Y]),
    "text": (zoo.TEXT, np.arange(16.0)),
    "tensors": (tf.constant(X), tf.constant(Y)),
    "not in a row": (X[:, ::2], Y[::-1]),
    "one row": (X[:1], Y[:1]),
}


@check
def pipelines_feed_the_same_batches():
    for name, (x, y) in ARRAYS.items():
        for options in (
            {"batch_size": 7},
            {"batch_size": 8, "shuffle": True},
            {"batch_size": 5, "shuffle": "batch"} if name != "one row" else {"batch_size": 1},
            {"batch_size": 100, "shuffle": True, "seed": 9},
        ):
            with keras_reduce.installed(reuse=False):
                expected = batches(x, y, **options)
            for _ in range(3):
                assert batches(x, y, **options) == expected, (name, options)
            # After sharing was turned off and on again, the cache starts empty.
            assert len(pipelines.pipelines) == (name not in ("text", "tensors")), (name, options)
    # The same pipeline with other arrays.
    assert batches(X, Y, batch_size=7) != batches(X + 1, Y, batch_size=7)


@check
def a_pipeline_is_traced_where_it_has_been_seen_before():
    pipelines.pipelines.clear()
    for expected in (0, 1, 1):
        batches(X[:11], Y[:11], batch_size=3)
        assert len(pipelines.pipelines) == expected
    for seed in (1, 2):
        batches(X[:11], Y[:11], batch_size=3, seed=seed)
    assert len(pipelines.pipelines) == 1


@check
def no_more_pipelines_are_kept_than_is_allowed():
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    def dataset(rows):
        return ArrayDataAdapter(X[:rows], batch_size=2).get_tf_dataset()

    for _ in range(3):
        kept = dataset(9)
    assert len(pipelines.pipelines)
    # Private: reaching the real limit would take minutes.
    most, pipelines._MOST = pipelines._MOST, 3
    try:
        for rows in range(2, 8):
            dataset(rows)
        assert len(pipelines.pipelines) == 0
    finally:
        pipelines._MOST = most
    gc.collect()
    for _ in range(2):  # Existing pipelines still work.
        assert np.array_equal(np.concatenate([tf.nest.flatten(batch)[0] for batch in kept]), X[:9])
    with keras_reduce.installed(reuse=False):
        assert not hasattr(dataset(9), "_keras_reduce_function")


# --- the cache -----------------------------------------------------------------------------------


@check
def nothing_is_kept_of_the_model_that_was_traced():
    def used():
        keras.utils.clear_session()
        model = mlp(layers.Dense(7))
        life(model)
        return weakref.ref(model), weakref.ref(model.layers[0].kernel.value)

    model, variable = used()
    gc.collect()
    assert len(cache.pool)
    assert model() is None
    assert variable() is None


@check
def a_session_that_is_cleared_takes_the_traces_along():
    life(mlp())
    assert len(cache.pool)
    keras.utils.clear_session()
    assert not len(cache.pool)
    life(mlp())
    assert len(cache.pool)
    keras.utils.clear_session()
    assert not len(cache.pool)


@check
def it_can_be_turned_off():
    life(mlp())
    traced_anew()
    with keras_reduce.installed(reuse=False):
        assert not len(cache.pool)
        for _ in range(2):
            borrowed.clear()
            life(mlp())
            assert not borrowed
            assert not len(cache.pool)
    life(mlp())
    life(mlp())
    assert borrowed


@check
def no_more_is_kept_than_is_allowed():
    # Private: the limits of a new pool are reached soon.
    pool = cache._Pool()
    trace = cache.Trace(None, [], cache._MOST_BYTES // 10)
    for number in range(12):
        pool.put(number, trace)
    assert len(pool) == 10
    assert pool.get(1) is None
    assert pool.get(2) is trace
    pool.put("large", trace._replace(size=cache._MOST_BYTES + 1))
    assert len(pool) == 10
    pool.put("new", trace)  # 3 is the least recently used
    assert pool.get(3) is None
    assert pool.get(2) is trace
    pool.clear()
    for number in range(cache._MOST_TRACES + 5):
        pool.put(number, trace._replace(size=1))
    assert len(pool) == cache._MOST_TRACES


@check
def threads_may_train_at_once():
    def build():
        first, second = (keras.initializers.GlorotUniform(seed) for seed in (1, 2))
        hidden = layers.Dense(4, "relu", kernel_initializer=first)
        last = layers.Dense(1, kernel_initializer=second)
        model = keras.Sequential([keras.Input((6,)), hidden, last])
        model.compile("adam", "mse")
        return model

    def train(number):
        model = build()
        history = model.fit(X, Y, epochs=2, batch_size=8, shuffle=False, verbose=0).history
        return bits([history, model.predict(X, batch_size=7, verbose=0)])

    with keras_reduce.installed(reuse=False):
        expected = train(0)
    with parallel_config("threading"):
        results = Parallel(4)(delayed(train)(number) for number in range(12))
    assert set(results) == {expected}


@check
def what_workers_get_they_run_with_traces_of_before():
    def answer(model):
        from keras_reduce.trace_cache import cache

        borrowed = []
        # Private: no public name tells the use of shared traces.
        init = cache._Borrowed.__init__
        cache._Borrowed.__init__ = lambda self, *a: (init(self, *a), borrowed.append(self))[0]
        try:
            return model.predict(X, batch_size=8, verbose=0), len(borrowed)
        finally:
            cache._Borrowed.__init__ = init

    model = mlp()
    expected = model.predict(X, batch_size=8, verbose=0)
    results = Parallel(2, batch_size=1)(delayed(answer)(model) for _ in range(10))
    assert all(np.array_equal(given, expected) for given, _ in results)
    assert sum(1 for _, number in results if number) >= 8, [number for _, number in results]
    with contextlib.ExitStack() as stack:
        stack.enter_context(keras_reduce.installed(reuse=False))
        stack.enter_context(parallel_config("loky"))
        results = Parallel(2, batch_size=1)(delayed(answer)(model) for _ in range(6))
    assert [number for _, number in results] == [0] * 6


if __name__ == "__main__":
    main(*sys.argv[1:])
