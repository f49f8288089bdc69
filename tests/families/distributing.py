"""Models of Keras's distributions on JAX: written sharded and read whole, and the reverse.

One process writes (``write``), another reads (``read``); each has four devices on the CPU.
"""

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import checks
import keras_reduce
from checks import check

DEVICES = "--xla_force_host_platform_device_count"
# Read when JAX computes for the first time.
os.environ["XLA_FLAGS"] = f"{DEVICES}={2 if sys.argv[1] == 'join' else 4}"

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import distribution, layers  # noqa: E402

from keras_reduce.families.keras3 import private  # noqa: E402

X = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
Y = X[:, :1].copy()


class Block(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.dense = layers.Dense(8, name="dense")

    def call(self, inputs):
        return self.dense(inputs)


class Subclassed(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.block, self.last = Block(name="block"), layers.Dense(1, name="last")

    def call(self, inputs):
        return self.last(self.block(inputs))


def sequential():
    hidden = [layers.Dense(16, "relu", name="hidden"), layers.Dropout(0.3, seed=1)]
    return keras.Sequential([keras.Input((8,)), *hidden, layers.Dense(1)], name="sequential")


def functional():
    inputs = keras.Input((8,))
    inner = keras.Sequential([layers.Dense(16, name="hidden")], name="inner")
    return keras.Model(inputs, layers.Dense(1)(inner(inputs)))


def subclassed():
    return Subclassed(name="outer")


MAKERS = {"sequential": sequential, "functional": functional, "subclassed": subclassed}
# Patterns for whole paths: in a file, the layers of a model are objects of their own.
SHARDED = ("sequential/hidden/kernel", "inner/hidden/kernel", "outer/block/dense/kernel")


def distributions():
    """Return distributions by name: one that replicates weights, one that shards kernels."""
    mesh = distribution.DeviceMesh((2, 2), ("batch", "model"))
    layouts = distribution.LayoutMap(mesh)
    for path in SHARDED:
        layouts[path] = (None, "model")
    return {
        "data": distribution.DataParallel(),
        "model": distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch"),
    }


def trained(make):
    keras.utils.set_random_seed(0)
    model = make()
    model.compile("adam", "mse")
    train(model)
    return model


def train(model):
    return model.fit(X, Y, epochs=2, batch_size=16, shuffle=False, verbose=0).history


def values(model):
    """Return the values of a model and its optimizer."""
    return [np.asarray(each.value) for each in (*model.variables, *model.optimizer.variables)]


def shardings(model):
    """Return how variables and slots are spread over devices, by path."""
    variables = (*model.variables, *model.optimizer.variables)
    return {each.path: str(each.value.sharding) for each in variables}


def outcome(model):
    """Return predictions, and history and values after further training."""
    predicted = model.predict(X, verbose=0)
    return [predicted, train(model), *values(model)]


def write(folder):
    """Write models that were trained sharded and whole, and what becomes of them here."""
    for kind, spread in distributions().items():
        for name, make in MAKERS.items():
            with spread.scope():
                model = trained(make)
                content, before, shards = pickle.dumps(model), values(model), shardings(model)
                after = outcome(model)
            whole = trained(make)
            both = (content, pickle.dumps(whole))
            noted = (before, shards, after, values(whole), outcome(whole))
            Path(folder, f"{kind}_{name}").write_bytes(pickle.dumps((both, noted)))


def written():
    """Yield each model with its distribution and the notes of `write`."""
    for kind, spread in distributions().items():
        for name in MAKERS:
            (sharded, whole), noted = pickle.loads(Path(sys.argv[2], f"{kind}_{name}").read_bytes())
            yield kind, spread, sharded, whole, noted


def assert_close(some, others):
    for one, other in zip(some, others, strict=True):
        if isinstance(one, np.ndarray):
            assert np.allclose(one, other, atol=1e-5)


@check
def sharded_and_loaded_sharded():
    for kind, spread, sharded, _, (before, shards, after, *_) in written():
        with spread.scope():
            model = pickle.loads(sharded)
            assert checks.bits(values(model)) == checks.bits(before)
            assert shardings(model) == shards
            kernels = [path for path in shards if "'model'" in shards[path].split("spec=")[1]]
            assert len(kernels) == (3 if kind == "model" else 0), shards
            assert checks.bits(outcome(model)) == checks.bits(after)


@check
def sharded_and_loaded_whole():
    for _, _, sharded, _, (before, _, after, *_) in written():
        model = pickle.loads(sharded)
        assert checks.bits(values(model)) == checks.bits(before)
        assert all("SingleDevice" in each for each in shardings(model).values())
        assert_close(outcome(model), after)


@check
def whole_and_loaded_sharded():
    for _, spread, _, whole, (_, shards, _, before, after) in written():
        with spread.scope():
            model = pickle.loads(whole)
            assert checks.bits(values(model)) == checks.bits(before)
            assert list(shardings(model).values()) == list(shards.values())
            assert_close(outcome(model), after)


@check
def mapped_files_are_sharded():
    for number, (_, spread, sharded, _, (_, shards, after, *_)) in enumerate(written()):
        path = Path(sys.argv[2], f"{number}.joblib")
        keras_reduce.dump(pickle.loads(sharded), path)
        content = path.read_bytes()
        with spread.scope():
            model = keras_reduce.load(path, mmap_mode="r")
            assert shardings(model) == shards
            assert checks.bits(outcome(model)) == checks.bits(after)
        assert path.read_bytes() == content


@check
def layouts_that_a_layer_asks_for_stay():
    class Asking(layers.Layer):
        def build(self, shape):
            mesh = distribution.distribution().device_mesh
            layout = distribution.TensorLayout((None, "model"), mesh)
            ones = np.ones((shape[-1], 4), "float32")
            self.kernel = keras.Variable(ones, layout=layout, name="kernel")

        def call(self, inputs):
            return inputs @ self.kernel

        def get_config(self):
            return super().get_config()

    with distributions()["model"].scope():
        model = keras.Sequential([keras.Input((8,)), Asking()], name="asking")
        model.compile("adam", "mse")
        train(model)
        assert "P(None, 'model')" in shardings(model)["asking/asking/kernel"]
        assert shardings(pickle.loads(pickle.dumps(model))) == shardings(model)


@check
def a_distribution_is_carried():
    model = trained(sequential)
    model.note = distributions()["model"]
    again = pickle.loads(pickle.dumps(model)).note
    assert again._layout_map[SHARDED[0]].axes == (None, "model")
    with again.scope():
        loaded = pickle.loads(pickle.dumps(model))
    assert "P(None, 'model')" in shardings(loaded)["sequential/hidden/kernel"]


@check
def layouts_are_done_without_if_their_name_has_gone():
    hidden = mock.patch.dict(private.LAYOUTS.names, {"keras:Variable()._gone": "to test this"})
    with hidden, checks.logged("keras_reduce") as said:
        for _, spread, sharded, _, (before, *_) in written():
            with spread.scope():
                assert checks.bits(values(pickle.loads(sharded))) == checks.bits(before)
    (said,) = said
    assert "Variable()._gone can't be found" in said


@check
def shards_in_several_processes_are_refused():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    command = [sys.executable, __file__, "join", address]
    processes = [
        subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for rank in range(2)
    ]
    try:
        for process in processes:
            printed, _ = process.communicate(timeout=100)
            assert process.returncode == 0, printed.decode()
    finally:
        for process in processes:
            process.kill()


def join(address, rank):
    """Train a model whose shards are in two processes."""
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, 2, int(rank))
    from jax.experimental import multihost_utils

    mesh = distribution.DeviceMesh((1, 4), ("batch", "model"))
    layouts = distribution.LayoutMap(mesh)
    layouts["hidden/kernel"] = (None, "model")
    spread = distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False
    )
    keras.utils.set_random_seed(0)  # All processes must initialize alike.
    whole = functional_without_parts()
    with spread.scope():
        model = pickle.loads(pickle.dumps(whole))
        train(model)
        # Replicated variables can be read.
        pickle.dumps(model.layers[-1])
        with checks.raises(keras_reduce.ReduceError, "in several processes", "process_allgather"):
            pickle.dumps(model)
    gathered = [
        multihost_utils.process_allgather(each.value, tiled=True) for each in model.variables
    ]
    for variable, value in zip(whole.variables, gathered, strict=True):
        variable.assign(value)
    again = pickle.loads(pickle.dumps(whole))
    assert checks.bits(again.get_weights()) == checks.bits(list(map(np.asarray, gathered)))


def functional_without_parts():
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(1)(layers.Dense(16, name="hidden")(inputs)))
    model.compile("adam", "mse")
    return model


if __name__ == "__main__":
    keras_reduce.install()
    mode, *arguments = sys.argv[1:]
    if mode == "read":
        checks.main(*arguments[1:])
    else:
        {"write": write, "join": join}[mode](*arguments)
