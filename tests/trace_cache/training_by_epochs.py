"""Whole epochs in one call of a graph, and seeds that keep graphs: the same results to the bit."""

from __future__ import annotations

import gc
import pickle
import random
import re
import resource
import signal
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, optimizers
from tensorflow.python import pywrap_tfe

import keras_reduce
from checks import bits, check, main
from keras_reduce.trace_cache import whole_epochs

keras_reduce.install()
rng = np.random.default_rng(0)
X = rng.normal(size=(50, 6))
Y = np.stack([X.sum(axis=1), X[:, 0]], axis=1)
LABELS = (X.sum(axis=1) > 0).astype("int32")

# How many batches each call of a loop went through.
steps = []
# Private: no public name tells how a model was trained.
_run = whole_epochs._Loop.run


def _noting(self, order):
    steps.append(self.batches.number)
    _run(self, order)


# Private: no public name tells how a model was trained.
whole_epochs._Loop.run = _noting


def dense(optimizer="adam", **options):
    stack = [layers.Dense(8, "gelu"), layers.BatchNormalization(), layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input((6,)), *stack, layers.Dense(2)])
    model.compile(optimizer, "mse", **{"metrics": ["mae"], **options})
    return model


def plain(**options):
    """Return a model whose steps are traced in half of the time."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4, "gelu"), layers.Dense(2)])
    model.compile("sgd", "mse", **options)
    return model


def classifier():
    model = keras.Sequential([layers.Dense(4, "relu"), layers.Dense(1, "sigmoid")])
    model.compile("rmsprop", "binary_crossentropy", weighted_metrics=["accuracy"])
    return model


def two_heads():
    inputs = {name: keras.Input((3,), name=name) for name in ("left", "right")}
    joined = layers.Concatenate()(list(inputs.values()))
    heads = {name: layers.Dense(1, name=name)(joined) for name in ("first", "second")}
    model = keras.Model(inputs, heads)
    model.compile("sgd", {"first": "mse", "second": "mae"})
    return model


def sequences():
    model = keras.Sequential([layers.LSTM(4, dropout=0.2), layers.Dense(2)])
    model.compile(optimizers.Nadam(clipnorm=0.5), "huber")
    return model


def averaged():
    return optimizers.AdamW(1e-2, clipvalue=0.5, use_ema=True, ema_overwrite_frequency=3)


def scheduled():
    return optimizers.SGD(optimizers.schedules.CosineDecay(0.05, 20), momentum=0.9, nesterov=True)


PAIRS = {"left": X[:, :3], "right": X[:, 3:]}
HEADS = {"first": Y[:, :1], "second": Y[:, 1:]}
# Name: model, inputs, targets, arguments of fit.
LESSONS = {
    "a last batch that is not full": (dense, X, Y, {"batch_size": 16}),
    "full batches": (dense, X, Y, {"batch_size": 10}),
    "one batch": (plain, X, Y, {"batch_size": 64}),
    "in order": (plain, X, Y, {"shuffle": False}),
    "moving averages": (lambda: dense(averaged()), X, Y, {}),
    "a schedule": (lambda: dense(scheduled()), X, Y, {"batch_size": 7}),
    "accumulated gradients": (
        lambda: dense(optimizers.Adam(gradient_accumulation_steps=3)),
        X,
        Y,
        {"batch_size": 8},
    ),
    "a part for validation": (dense, X, Y, {"validation_split": 0.3, "batch_size": 8}),
    "data for validation": (
        plain,
        X,
        Y,
        {"validation_data": (X[:9], Y[:9]), "validation_freq": 2, "validation_batch_size": 4},
    ),
    "weights of classes": (classifier, X, LABELS, {"class_weight": {0: 2.0, 1: 0.5}}),
    "weights of samples": (classifier, X, LABELS, {"sample_weight": np.linspace(0, 1, 50)}),
    "validation with weights": (
        classifier,
        X,
        LABELS,
        {"validation_data": (X[:9], LABELS[:9], np.linspace(1, 2, 9))},
    ),
    "inputs and targets by name": (two_heads, PAIRS, HEADS, {"batch_size": 16}),
    "sequences": (sequences, X.reshape(50, 3, 2), Y, {"batch_size": 16}),
    "whole numbers": (plain, (X * 9).astype("int64"), Y.astype("float16"), {}),
}


def lesson(build, x, y, options):
    """Train, evaluate and predict; return all results and variables."""
    model = build()
    history = model.fit(x, y, epochs=4, verbose=0, **options).history
    results = [history, model.evaluate(x, y, batch_size=16, verbose=0, return_dict=True)]
    results += [model.evaluate(x, y, verbose=0), model.predict(x, batch_size=16, verbose=0)]
    again = model.fit(x, y, epochs=3, initial_epoch=1, batch_size=10, verbose=0).history
    return [*results, again, model.history.epoch, variables_of(model)]


def variables_of(model):
    return [np.asarray(variable) for variable in (*model.variables, *model.optimizer.variables)]


def results_of(action, *arguments, seed=3):
    """Return results of an action: without shared traces, then twice with them."""
    results = []
    for is_on in (False, True, True):
        with keras_reduce.installed(reuse=is_on):
            steps.clear()
            keras.utils.set_random_seed(seed)
            results.append(bits(action(*arguments)))
            assert is_on or not steps
    return results


@check
def models_learn_the_same_by_whole_epochs():
    for name, arguments in LESSONS.items():
        assert len(set(results_of(lesson, *arguments))) == 1, name
        assert steps, name


@check
def epochs_are_shuffled_without_a_seed():
    def orders():
        seen = []
        tf.random.set_seed(None)
        for _ in range(2):
            model = dense(optimizers.SGD(0.01), metrics=[])
            model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
            model.fit(X, Y, batch_size=1, epochs=1, verbose=0)
            seen.append(bits(model.get_weights()))
        return seen

    first, second = orders()
    assert steps
    assert first != second


class Batches(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((batch, dict(logs)))


class Epochs(keras.callbacks.Callback):
    """Callback that changes the model at the start of an epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.layers[0].activation = keras.activations.tanh


class Notes(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append((epoch, dict(logs), self.params, variables_of(self.model)))
        copied = pickle.loads(pickle.dumps(self.model))
        self.seen.append(variables_of(copied))


ON_BATCHES = {"on_train_batch_begin": lambda batch, logs: None}
ON_EPOCHS = {"on_epoch_end": lambda epoch, logs: None}
# Name: function that makes a callback, and whether models are trained by whole epochs with it.
CALLBACKS = {
    "one that sees batches": (Batches, False),
    "one that changes the model": (Epochs, False),
    "one of Keras that sees batches": (keras.callbacks.TerminateOnNaN, False),
    "a function for batches": (lambda: keras.callbacks.LambdaCallback(**ON_BATCHES), False),
    "a function for epochs": (lambda: keras.callbacks.LambdaCallback(**ON_EPOCHS), True),
    "one that sees epochs": (Notes, True),
    "early stopping": (
        lambda: keras.callbacks.EarlyStopping("loss", patience=0, restore_best_weights=True),
        True,
    ),
    "a plateau": (lambda: keras.callbacks.ReduceLROnPlateau("loss", min_delta=9.0), True),
    "learning rates": (
        lambda: keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
        True,
    ),
}


@check
def callbacks_see_what_they_saw():
    def trained(create):
        model, callback = plain(), create()
        options = {"validation_split": 0.2, "batch_size": 8, "verbose": 0}
        history = model.fit(X, Y, epochs=4, callbacks=[callback], **options).history
        # What the program draws next is as if Keras had trained the model, too.
        drawn = [random.random(), tf.random.uniform([2]).numpy()]
        drawn.append(np.random.random())  # noqa: NPY002 - the generator that a seed sets
        return [history, getattr(callback, "seen", None), variables_of(model), drawn]

    for name, (create, is_whole) in CALLBACKS.items():
        assert len(set(results_of(trained, create))) == 1, name
        assert bool(steps) == is_whole, name


@check
def other_data_and_settings_are_left_to_keras():
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    ways = {
        "a bar": ({}, lambda model: model.fit(X, Y, verbose=2)),
        "a dataset": ({}, lambda model: model.fit(data, verbose=0)),
        "tensors": ({}, lambda model: model.fit(tf.constant(X), tf.constant(Y), verbose=0)),
        "some steps": ({}, lambda model: model.fit(X, Y, steps_per_epoch=2, verbose=0)),
        "batches in another order": ({}, lambda model: model.fit(X, Y, shuffle="batch", verbose=0)),
        "validation by a dataset": (
            {},
            lambda model: model.fit(X, Y, validation_data=data, verbose=0),
        ),
        "several steps a call": (
            {"steps_per_execution": 2},
            lambda model: model.fit(X, Y, verbose=0),
        ),
        "eager steps": ({"run_eagerly": True}, lambda model: model.fit(X, Y, verbose=0)),
        "a strategy": ({}, _within_a_strategy),
    }
    for name, (options, fit) in ways.items():

        def trained(options=options, fit=fit):
            model = plain(**options)
            return [fit(model).history, variables_of(model)]

        assert len(set(results_of(trained))) == 1, name
        assert not steps, name


def _within_a_strategy(model):
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        distributed = plain()
    distributed.set_weights(model.get_weights())
    history = distributed.fit(X, Y, verbose=0)
    model.set_weights(distributed.get_weights())
    return history


@check
def what_keras_refuses_it_still_refuses():
    def refused():
        messages = []
        for arguments in (
            (X, Y[:9]),
            (X[:, :5], Y),
            (X, Y, -3),
            (X.astype(str), Y),
            (X[:0], Y[:0]),
        ):
            try:
                plain().fit(*arguments, verbose=0)
            except Exception as error:
                message = re.sub(r"dense_\d+", "dense", str(error).partition("Arguments")[0])
                messages.append([type(error).__name__, message])
            else:
                messages.append("accepted")
        return messages

    assert len(set(results_of(refused))) == 1


class InterruptedByTestError(Exception):
    pass


@check
def a_signal_interrupts_an_epoch():
    def interrupt(*_):
        raise InterruptedByTestError

    many = np.repeat(X, 100, axis=0), np.repeat(Y, 100, axis=0)
    model = plain()
    model.fit(*many, batch_size=1, epochs=1, verbose=0)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        model.fit(*many, batch_size=1, epochs=10**6, verbose=0)
    except InterruptedByTestError:
        assert 0 < model.optimizer.iterations.numpy() < 10**6 * len(many[0])
    else:
        raise AssertionError("not interrupted")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@check
def a_change_has_no_effect_before_the_model_is_compiled_again():
    def changed():
        model = plain()
        results = [model.fit(X, Y, batch_size=10, epochs=2, verbose=0).history]
        model.layers[0].activation = keras.activations.tanh
        # The trace for full batches does for these; one for other batches is made only now.
        for size, rows in ((10, 50), (10, 40), (16, 50), (25, 50), (10, 50)):
            data = X[:rows], Y[:rows]
            results.append(model.fit(*data, batch_size=size, verbose=0).history)
        model.compile("adam", "mse")
        results.append(model.fit(X, Y, batch_size=10, verbose=0).history)
        return [*results, variables_of(model)]

    assert len(set(results_of(changed))) == 1
    assert steps


# --- seeds ---------------------------------------------------------------------------------------


def draw_in_a_function():
    return tf.function(lambda: tf.random.uniform([3], seed=7))


def draw_within_a_loop():
    @tf.function
    def total():
        result = tf.zeros([])
        for _ in tf.range(3):
            result += tf.random.normal([], seed=7)
        return result

    return total


IMAGE = tf.reshape(tf.range(75.0), [1, 5, 5, 3])
# What draws from a stream that a kernel keeps: each call goes on where the last one stopped.
STREAMS = {
    "an operation with a seed": lambda: tf.random.normal([3], seed=7),
    "one without": lambda: tf.random.uniform([3]),
    "a raw operation": lambda: tf.raw_ops.RandomUniformInt(
        shape=[3], minval=0, maxval=99, seed=1, seed2=2
    ),
    "an order": lambda: tf.random.shuffle(tf.range(9), seed=7),
    "a crop": lambda: tf.image.random_crop(IMAGE, [1, 2, 2, 3], seed=7),
    "a pooling": lambda: tf.nn.fractional_max_pool(IMAGE, [1.0, 1.4, 1.4, 1.0], True, seed=7)[0],
    "candidates": lambda: tf.random.uniform_candidate_sampler(
        tf.constant([[1]], tf.int64), 1, 3, True, 9, seed=7
    )[0],
}
# The same, of functions that are made for each program: while they exist, kernels are cleared.
FUNCTIONS = {"a function": draw_in_a_function, "a loop in a function": draw_within_a_loop}


def memory():
    """Return the bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@check
def variables_leave_no_kernels_behind():
    def make(number):
        for _ in range(number):
            layers.Dense(3).build((None, 2))

    with keras_reduce.installed(reuse=True):
        make(100)
        before = memory()
        make(1000)  # 2000 variables, for which TensorFlow alone keeps 70 MB
        assert memory() - before < 20 << 20


# Before the next check: TensorFlow keeps the bodies of its loops.
@check
def a_seed_keeps_graphs_where_nothing_was_drawn():
    gc.collect()  # for functions that draw
    cleared = []
    clear = pywrap_tfe.TFE_ContextClearCaches
    pywrap_tfe.TFE_ContextClearCaches = lambda handle: (cleared.append(1), clear(handle))
    try:
        with keras_reduce.installed(reuse=True):
            keras.utils.set_random_seed(1)
            cleared.clear()  # Other checks may have drawn.
            for _ in range(3):
                keras.utils.set_random_seed(1)
                dense().fit(X, Y, verbose=0)
            assert len(cleared) == 0
            tf.random.normal([2], seed=3)
            keras.utils.set_random_seed(1)
            assert len(cleared) == 1
            keras.utils.set_random_seed(1)
            assert len(cleared) == 1
        with keras_reduce.installed(reuse=False):
            keras.utils.set_random_seed(1)
        assert len(cleared) == 2
    finally:
        pywrap_tfe.TFE_ContextClearCaches = clear


@check
def a_seed_starts_each_stream_again():
    for name in (*STREAMS, *FUNCTIONS):
        draw = STREAMS.get(name) or FUNCTIONS[name]()

        def drawn(draw=draw):
            results = []
            for _ in range(3):
                keras.utils.set_random_seed(11)
                results += [draw().numpy(), draw().numpy()]
            return results

        assert len(set(results_of(drawn))) == 1, name


if __name__ == "__main__":
    main()
