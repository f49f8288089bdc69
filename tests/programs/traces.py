"""Traces that models share: the same results to the bit, and no sharing between what differs."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import pickle
import tempfile
import threading
import weakref

import keras
import numpy as np
import tensorflow as tf
from joblib import Parallel, delayed, parallel_config
from keras import layers, losses, ops, optimizers

import keras_reduce
import zoo
from checks import check, main
from keras_reduce.families.keras3 import pipelines, trace_keys, traces

keras_reduce.install()
X, Y = zoo.X, zoo.Y

# --- what is traced, and what is borrowed ------------------------------------------------------

traced, borrowed = [], []


def _noting(method, seen):
    @functools.wraps(method)
    def noting(self, *arguments):
        method(self, *arguments)
        seen.append(self._role if method.__name__ == "add" else "")

    return noting


traces._Cache.add = _noting(traces._Cache.add, traced)
traces._Borrowed.__init__ = _noting(traces._Borrowed.__init__, borrowed)


def traced_anew():
    """Return for which steps graphs have been made since this was asked last."""
    found = set(traced)
    traced.clear()
    return found


ALL = {"train", "test", "predict"}


def mlp(*hidden, **options):
    model = zoo.mlp(*(hidden or (layers.Dense(4, activation="relu"),)))
    model.compile(**{"optimizer": "adam", "loss": "mse", **options})
    return model


def life(model, x=X, y=Y):
    """Return all that a model does in a short life, bit for bit."""
    found = [model.fit(x, y, epochs=2, batch_size=8, verbose=0, validation_split=0.25).history]
    found.append(model.predict(x, batch_size=7, verbose=0))
    found.append(model.fit(x, y, batch_size=8, verbose=0).history)
    found += [np.asarray(variable) for variable in model.variables]
    found += [np.asarray(variable) for variable in model.optimizer.variables]
    return pickle.dumps(found)


# --- the zoo -----------------------------------------------------------------------------------


def compiled(model, x=X, y=Y, *, optimizer="adam", loss="mse", eager=False, epochs=0, **options):
    """Stand in for `zoo.trained`: compile only, and not to run eagerly."""
    model.compile(optimizer=optimizer, loss=loss, **options)
    return model, x, y


zoo.trained = compiled

# What is traced anew for each model of a case, and why.
TRACED_ANEW = {
    "own_train_step": {"train", "test"},  # a step of the user's may do anything
    "layer_that_saves_itself": ALL,  # its class opens files
    "normalization_adapted": ALL,  # what it has seen is in the graph
    "attributes_at_every_level": ALL,  # a step that counts
}
SKIPPED = {
    "recurrent_stateful",  # takes batches of one size
    "functional_list_of_outputs",  # results bear numbered names; see below
    "callbacks_after_use",  # runs eagerly
}


@check
def models_of_the_zoo_share_traces_and_learn_the_same():
    wrong, tried = [], 0
    for name in zoo.CASES.keys() - SKIPPED:
        for position, x, y in trainable(name):
            tried += 1
            with keras_reduce.installed(reuse=False):
                expected = life(model_of(name, position), x, y)
            traced_anew()
            first = life(model_of(name, position), x, y)
            assert traced_anew() == ALL, name
            again = life(model_of(name, position), x, y)
            if not first == again == expected:
                wrong.append(f"{name} {position}: another result")
            if (anew := traced_anew()) != TRACED_ANEW.get(name, set()):
                wrong.append(f"{name} {position}: traced anew are {sorted(anew)}")
    assert not wrong, "\n".join(wrong)
    assert tried >= 50


def trainable(name):
    """Return the positions of models in a case that can be trained, with the data."""
    try:
        found, x, y = zoo.CASES[name]()
    except AttributeError:
        return []  # It wants the history of a model that has not been trained here.
    models = [found, *(found.values() if isinstance(found, dict) else ())]
    is_compiled = lambda model: isinstance(model, keras.Model) and model.compiled  # noqa: E731
    return [
        (i, x, y)
        for i, model in enumerate(models)
        if y is not None and is_compiled(model) and not model.run_eagerly
    ]


def model_of(name, position):
    keras.utils.set_random_seed(1)
    found, _, _ = zoo.CASES[name]()
    return [found, *(found.values() if isinstance(found, dict) else ())][position]


# --- what makes a difference, and what does not --------------------------------------------------


def key(model, role="train", x=X, y=Y):
    """Return the key of a model whose parts have been built."""
    model._symbolic_build(data_batch=(x[:2], y[:2]))
    found = trace_keys.trace_key(model, role)
    return found and found.key


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
    "names of inputs": lambda: two_inputs("a", "b"),
    "the other way round": lambda: two_inputs("b", "a"),
    "names of outputs": lambda: two_outputs("a", "b"),
    "other names": lambda: two_outputs("a", "c"),
}


def data_for(name):
    x = [X, X] if "input" in name or "round" in name else X
    return x, [Y, Y] if "other names" in name or "outputs" in name else Y


@check
def what_differs_in_one_thing_has_another_key():
    keys = {}
    for name, build in DIFFERENT.items():
        x, y = data_for(name)
        model = build()
        first = lambda data: [part[:2] for part in data] if isinstance(data, list) else data[:2]  # noqa: E731
        model._symbolic_build(data_batch=(first(x), first(y)))
        found = trace_keys.trace_key(model, "train")
        assert found is not None, name
        assert found.key not in keys, (name, keys[found.key])
        keys[found.key] = name


@check
def what_differs_around_a_model_has_another_key():
    global FACTOR
    keys = {key(mlp(loss=by_global)), key(mlp(loss=by_global))}
    assert len(keys) == 1
    FACTOR = 3.0
    keys.add(key(mlp(loss=by_global)))
    keras.config.set_epsilon(1e-5)
    keys.add(key(mlp(loss=by_global)))
    FACTOR = 2.0
    keras.config.set_epsilon(1e-7)
    assert len(keys) == 3
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
def how_a_model_was_compiled_is_nothing_to_prediction():
    keys = {key(build(), "predict") for build in (mlp, lambda: mlp(optimizer="sgd", loss="mae"))}
    assert len(keys) == 1
    assert key(mlp(layers.Dense(4, "elu")), "predict") not in keys


class Reads(layers.Layer):
    """A layer of which no key can tell what a trace of it will be."""

    function = staticmethod(lambda layer, inputs: inputs)

    def call(self, inputs):
        return self.function(self, inputs)


def reading(function):
    return type("Reads", (Reads,), {"function": staticmethod(function)})()


def remembers(layer, inputs):
    layer.seen = getattr(layer, "seen", 0)
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
}


@check
def what_no_key_can_tell_is_traced_anew():
    for name, function in UNCLEAR.items():
        assert key(mlp(reading(function)), "predict") is None, name
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


class Holds(layers.Layer):
    def __init__(self):
        super().__init__()
        self.other = VARIABLE

    def call(self, inputs):
        return inputs * ops.convert_to_tensor(self.other)


class Prints(layers.Layer):
    def call(self, inputs):
        found = tf.numpy_function(lambda array: array, [inputs], tf.float32)
        return tf.ensure_shape(found, inputs.shape)


VARIABLE = keras.Variable(2.0)


@check
def what_a_graph_shows_to_be_of_one_model_is_traced_anew():
    for layer in (Counts, Draws, Prints):
        for _ in range(2):
            traced_anew()
            mlp(layer()).predict(X, batch_size=8, verbose=0)
            assert traced_anew() == {"predict"}, layer
    # A variable of the program's is in each model that uses it, and the same for all.
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
    """As with Keras alone: what is changed without a new `compile` is traced with new shapes."""

    def changed(model):
        model.fit(X, Y, batch_size=8, verbose=0)
        model.layers[0].activation = keras.activations.tanh
        model.fit(X, Y, batch_size=8, verbose=0)
        return [model.predict(X[:n], verbose=0) for n in (8, 5)]

    life(mlp())  # what can be borrowed
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
    found = gradient(mlp())
    assert borrowed
    assert all(map(np.array_equal, expected, found))


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
        loaded = tf.saved_model.load(folder)  # which has the variables
        answer = loaded.serve(tf.constant(X))
    assert np.allclose(answer, expected, atol=1e-6)


@check
def other_ways_to_train_are_left_alone():
    def ways(model):
        found = [model.train_on_batch(X, Y), model.test_on_batch(X, Y), model.predict_on_batch(X)]
        data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
        found.append(model.fit(data, verbose=0, shuffle=False).history["loss"])
        tf.config.run_functions_eagerly(True)
        found.append(model.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history["loss"])
        tf.config.run_functions_eagerly(False)
        return pickle.dumps([*found, *model.get_weights()])

    results = set()
    for on in (False, True, True):
        with keras_reduce.installed(reuse=on):
            keras.utils.set_random_seed(5)
            results.add(ways(mlp()))
    assert len(results) == 1


@check
def what_is_evaluated_first_is_trained_as_it_is_then():
    """Evaluation makes no slots, since layers may be frozen before the training."""

    def evaluated(model):
        found = [model.evaluate(X, Y, batch_size=8, verbose=0)]
        assert not model.optimizer.built
        model.layers[0].trainable = False
        found.append(model.fit(X, Y, batch_size=8, verbose=0).history)
        return pickle.dumps([*found, *map(np.asarray, model.optimizer.variables)])

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
def kernels_are_cleared_now_and_then_but_not_from_under_another_thread():
    from tensorflow.python.eager import context

    cleared = []
    clear = context.context().clear_kernel_cache
    context.context().clear_kernel_cache = lambda: (cleared.append(1), clear())
    traces._threads = {threading.get_ident()}
    try:
        for expected in (True, False):
            traces._variables_since = traces._MANY_VARIABLES
            life(mlp())
            life(mlp())
            assert bool(cleared) == expected
            cleared.clear()
            thread = threading.Thread(target=lambda: mlp().predict(X, verbose=0))
            thread.start()
            thread.join()
    finally:
        del context.context().clear_kernel_cache
        traces._threads.clear()


@check
def weights_of_samples_and_classes():
    def weighted(model):
        found = [model.fit(X, Y, sample_weight=np.linspace(0, 1, 24), verbose=0).history]
        found.append(model.fit(X, Y, class_weight={0: 1.0, 1: 2.0, -1: 3.0}, verbose=0).history)
        return pickle.dumps([*found, *model.get_weights()])

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
    """Return what Keras's pipeline makes of arrays in two epochs, and how it describes itself."""
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    tf.random.set_seed(options.pop("seed", 4))
    dataset = ArrayDataAdapter(x, y, **options).get_tf_dataset()
    epochs = [[tf.nest.map_structure(np.asarray, batch) for batch in dataset] for _ in range(2)]
    return pickle.dumps([repr(dataset.element_spec), epochs])


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
            for _ in range(4):
                assert batches(x, y, **options) == expected, (name, options)
            # Turned off and on again, they have begun anew.
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
    most, pipelines._MOST = pipelines._MOST, 3
    try:
        for rows in range(2, 8):
            dataset(rows)
        assert len(pipelines.pipelines) == 0
    finally:
        pipelines._MOST = most
    gc.collect()
    for _ in range(2):  # It goes on for those that have it.
        assert np.array_equal(np.concatenate([tf.nest.flatten(batch)[0] for batch in kept]), X[:9])
    with keras_reduce.installed(reuse=False):
        assert not hasattr(dataset(9), "_keras_reduce_function")


# --- the pool ------------------------------------------------------------------------------------


@check
def nothing_is_kept_of_the_model_that_was_traced():
    def used():
        keras.utils.clear_session()
        model = mlp(layers.Dense(7))
        life(model)
        return weakref.ref(model), weakref.ref(model.layers[0].kernel.value)

    model, variable = used()
    gc.collect()
    assert len(traces.pool)
    assert model() is None
    assert variable() is None


@check
def a_session_that_is_cleared_takes_the_traces_along():
    life(mlp())
    assert len(traces.pool)
    keras.utils.clear_session()
    assert not len(traces.pool)
    life(mlp())
    assert len(traces.pool)
    keras.utils.clear_session()
    assert not len(traces.pool)


@check
def it_can_be_turned_off():
    life(mlp())
    traced_anew()
    with keras_reduce.installed(reuse=False):
        assert not len(traces.pool)
        for _ in range(2):
            borrowed.clear()
            life(mlp())
            assert not borrowed
            assert not len(traces.pool)
    life(mlp())
    life(mlp())
    assert borrowed


@check
def no_more_is_kept_than_is_allowed():
    pool = traces._Pool()
    trace = traces.Trace(None, [], traces._MOST_BYTES // 10)
    for number in range(12):
        pool.put(number, trace)
    assert len(pool) == 10
    assert pool.get(1) is None
    assert pool.get(2) is trace
    pool.put("large", trace._replace(size=traces._MOST_BYTES + 1))
    assert len(pool) == 10
    pool.put("new", trace)  # 3 was used longest ago
    assert pool.get(3) is None
    assert pool.get(2) is trace
    pool.clear()
    for number in range(traces._MOST_TRACES + 5):
        pool.put(number, trace._replace(size=1))
    assert len(pool) == traces._MOST_TRACES


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
        return pickle.dumps([history, model.predict(X, batch_size=7, verbose=0)])

    with keras_reduce.installed(reuse=False):
        expected = train(0)
    with parallel_config("threading"):
        found = Parallel(4)(delayed(train)(number) for number in range(12))
    assert set(found) == {expected}


@check
def what_workers_get_they_run_with_traces_of_before():
    def answer(model):
        from keras_reduce.families.keras3 import traces

        borrowed = []
        init = traces._Borrowed.__init__
        traces._Borrowed.__init__ = lambda self, *a: (init(self, *a), borrowed.append(self))[0]
        try:
            return model.predict(X, batch_size=8, verbose=0), len(borrowed)
        finally:
            traces._Borrowed.__init__ = init

    model = mlp()
    expected = model.predict(X, batch_size=8, verbose=0)
    found = Parallel(2, batch_size=1)(delayed(answer)(model) for _ in range(10))
    assert all(np.array_equal(given, expected) for given, _ in found)
    assert sum(1 for _, number in found if number) >= 8, [number for _, number in found]
    with contextlib.ExitStack() as stack:
        stack.enter_context(keras_reduce.installed(reuse=False))
        stack.enter_context(parallel_config("loky"))
        found = Parallel(2, batch_size=1)(delayed(answer)(model) for _ in range(6))
    assert [number for _, number in found] == [0] * 6


if __name__ == "__main__":
    main()
