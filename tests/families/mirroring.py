"""Models of strategies of TensorFlow: written mirrored and read whole, and the reverse.

One process writes (``write``), another reads (``read``); each has two devices on the CPU.
"""

import functools
import logging
import os
import pickle
import socket
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import checks
import keras_reduce
from checks import check

X = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
Y = X[:, :1].copy()
# One of each: the collective operations of two of them may meet.
STRATEGIES = {
    "mirrored": functools.cache(lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])),
    "one device": functools.cache(lambda: tf.distribute.OneDeviceStrategy("CPU:1")),
}


def trained(*, synchronized=True):
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(8, "relu"), layers.BatchNormalization(synchronized=synchronized)]
    model = keras.Sequential([keras.Input((8,)), *hidden, layers.Dropout(0.3, seed=1)])
    model.add(layers.Dense(1))
    model.compile("adam", "mse")
    train(model)
    return model


def train(model):
    return model.fit(X, Y, epochs=2, batch_size=16, shuffle=False, verbose=0).history


def values(model):
    """Return the values of a model and its optimizer."""
    return [np.asarray(each.value) for each in (*model.variables, *model.optimizer.variables)]


def outcome(model):
    """Return predictions, and history and values after further training."""
    predicted = model.predict(X, batch_size=16, verbose=0)
    return checks.bits([predicted, train(model), *values(model)])


def kinds(model):
    variables = (*model.variables, *model.optimizer.variables)
    return {type(each.value).__name__ for each in variables}


def write(folder):
    """Write models that were trained in scopes and outside, and what becomes of them here."""
    for name, make in STRATEGIES.items():
        with make().scope():
            model = trained()
        written = pickle.dumps(model), checks.bits(values(model)), kinds(model), outcome(model)
        Path(folder, name).write_bytes(pickle.dumps(written))
    model = trained()
    written = pickle.dumps(model), checks.bits(values(model)), kinds(model), outcome(model)
    Path(folder, "whole").write_bytes(pickle.dumps(written))


def read(name):
    return pickle.loads(Path(sys.argv[2], name).read_bytes())


@check
def written_and_read_in_a_scope():
    for name, make in STRATEGIES.items():
        content, before, there, after = read(name)
        with make().scope():
            model = pickle.loads(content)
        assert checks.bits(values(model)) == before
        assert kinds(model) == there
        assert ("MirroredVariable" in there) == (name == "mirrored")
        assert outcome(model) == after


@check
def written_in_a_scope_and_read_outside():
    _, _, usual, _ = read("whole")
    for name in STRATEGIES:
        content, before, _, after = read(name)
        model = pickle.loads(content)
        assert checks.bits(values(model)) == before
        assert kinds(model) == usual
        # Two devices compute with halves of the batches, and so draw otherwise for a dropout.
        assert name == "mirrored" or outcome(model) == after


@check
def written_outside_and_read_in_a_scope():
    content, before, _, after = read("whole")
    for name, make in STRATEGIES.items():
        with make().scope():
            model = pickle.loads(content)
        assert checks.bits(values(model)) == before
        assert kinds(model) == read(name)[2]
        assert name == "mirrored" or outcome(model) == after


@check
def replicas_that_differ_are_reported():
    with STRATEGIES["mirrored"]().scope():
        model = trained(synchronized=False)
    with checks.logged("keras_reduce") as messages:
        content = pickle.dumps(model)
        pickle.dumps(model)
    assert len(messages) == 2, messages
    assert all("moving_" in each and "synchronized=True" in each for each in messages)
    assert checks.bits(values(pickle.loads(content))) == checks.bits(values(model))
    with checks.logged("keras_reduce") as messages, STRATEGIES["mirrored"]().scope():
        pickle.dumps(trained())
    assert not messages


@check
def parameter_servers_hold_models_that_keras_cannot_train():
    def free_port():
        with socket.socket() as free:
            free.bind(("localhost", 0))
            return free.getsockname()[1]

    jobs = {"worker": [f"localhost:{free_port()}"], "ps": [f"localhost:{free_port()}"]}
    cluster = tf.train.ClusterSpec(jobs)
    servers = [tf.distribute.Server(cluster, job_name=job, task_index=0) for job in jobs]
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, rpc_layer="grpc")
    strategy = tf.distribute.ParameterServerStrategy(resolver)
    with strategy.scope():
        model = keras.Sequential([keras.Input((8,)), layers.Dense(1)])
        model.compile("adam", "mse")
    assert {type(each.value).__name__ for each in model.variables} == {"CachingVariable"}
    with checks.raises(ValueError, "create_per_worker_dataset"):
        train(model)
    again = pickle.loads(pickle.dumps(model))
    assert checks.bits(again.get_weights()) == checks.bits(model.get_weights())
    train(again)
    assert servers


if __name__ == "__main__":
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    device = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(device, logical)
    keras_reduce.install()
    if sys.argv[1] == "write":
        write(sys.argv[2])
    else:
        checks.main(*sys.argv[3:])
        sys.stdout.flush()
        # Servers of TensorFlow can't be stopped.
        os._exit(0)
