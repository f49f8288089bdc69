"""Memory and values of variables on the current backend: shared memory, and independent copies."""

import contextlib
import copy
import pickle
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from unittest import mock

import joblib
import keras
import numpy as np
from keras import layers

import keras_reduce
from checks import check, main, raises
from keras_reduce.errors import KerasReduceError, ReduceError
from keras_reduce.families import keras3

BACKEND = keras.config.backend()
FOLDER = Path(tempfile.mkdtemp(prefix="aliasing"))
X = np.random.default_rng(0).normal(size=(64, 256)).astype("float32")
Y = X[:, :1].copy()


def build(**options):
    network = keras.Sequential([keras.Input((256,)), layers.Dense(256, "relu"), layers.Dense(1)])
    network.compile("adam", "mse", **options)
    return network


def train(network):
    network.fit(X, Y, epochs=2, batch_size=16, shuffle=False, verbose=0)
    return network


def values(network):
    optimizer = [np.array(keras.ops.convert_to_numpy(v)) for v in network.optimizer.variables]
    return [weights.tobytes() for weights in (*network.get_weights(), *optimizer)]


def with_and_without_compiling(function):
    def run():
        for options in {"run_eagerly": True}, {}:
            function(train(build(**options)))

    run.__name__ = function.__name__
    check(run)
    return function


@with_and_without_compiling
def a_mapped_file_stays_as_it_is(network):
    path = FOLDER / "model.joblib"
    keras_reduce.dump(network, path)
    before, expected = path.read_bytes(), values(network)
    for load in (
        lambda: keras_reduce.load(path, mmap_mode="r"),
        lambda: keras_reduce.load(path, mmap_mode="c"),
        lambda: joblib.load(path, mmap_mode="r"),
        lambda: joblib.load(path, mmap_mode="r+"),
    ):
        loaded = load()
        assert values(loaded) == expected
        assert values(train(loaded)) != expected
        loaded.layers[0].kernel.assign(np.zeros((256, 256), "float32"))
        assert path.read_bytes() == before


@with_and_without_compiling
def two_loads_do_not_see_one_another(network):
    path = FOLDER / "model.joblib"
    keras_reduce.dump(network, path)
    expected = values(network)
    for mode in (None, "r", "c"):
        one, other = (keras_reduce.load(path, mmap_mode=mode) for _ in range(2))
        trained = values(train(one))
        assert trained != expected
        assert values(other) == expected
        assert values(train(other)) == trained
    buffers = []
    text = pickle.dumps(network, protocol=5, buffer_callback=buffers.append)
    held = [bytes(buffer.raw()) for buffer in buffers]
    one, other = (pickle.loads(text, buffers=buffers) for _ in range(2))
    train(one)
    assert values(other) == expected
    assert [bytes(buffer.raw()) for buffer in buffers] == held


@with_and_without_compiling
def what_has_been_read_stays_as_it_was(network):
    buffers, expected = [], values(network)
    text = pickle.dumps(network, protocol=5, buffer_callback=buffers.append)
    held = [bytes(buffer.raw()) for buffer in buffers]
    train(network)
    assert values(network) != expected
    assert [bytes(buffer.raw()) for buffer in buffers] == held
    assert values(pickle.loads(text, buffers=buffers)) == expected


@with_and_without_compiling
def a_copy_is_a_copy(network):
    expected = values(network)
    copied = copy.deepcopy(network)
    assert values(copied) == expected
    trained = values(train(copied))
    assert values(network) == expected
    assert values(train(network)) == trained


@with_and_without_compiling
def a_callback_finds_what_training_has_come_to(network):
    pickles = []

    class Pickling(keras.callbacks.Callback):
        def __init__(self, held):
            super().__init__()
            self.held = held

        def on_train_batch_end(self, batch, logs=None):
            if batch in (1, 2):
                pickles.append(pickle.dumps(self.held()))

    # Once through the model of the callback, once through another reference.
    twin = pickle.loads(pickle.dumps(network))
    callback = Pickling(lambda: callback.model)
    network.fit(X, Y, batch_size=16, shuffle=False, verbose=0, callbacks=[callback])
    twin.fit(X, Y, batch_size=16, shuffle=False, verbose=0, callbacks=[Pickling(lambda: twin)])
    assert values(twin) == values(network)
    states = [values(pickle.loads(text)) for text in pickles]
    assert states[:2] == states[2:]
    assert len({tuple(state) for state in (*states, values(network))}) == 3
    assert values(network)[0] != states[0][0]


@with_and_without_compiling
def another_thread_gets_what_there_is_or_is_told(network):
    """Require that a dump during training is complete or fails, and never disturbs the training."""
    outcomes, done = [], threading.Event()
    twin = pickle.loads(pickle.dumps(network))

    def look():
        while not done.is_set():
            try:
                outcomes.append(pickle.dumps(network))
            except Exception as error:
                outcomes.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(5):
        train(network)
    done.set()
    thread.join()
    for _ in range(5):
        train(twin)
    assert values(network) == values(twin)
    refusals = [outcome for outcome in outcomes if not isinstance(outcome, bytes)]
    for error in refusals:
        assert BACKEND == "jax", error
        assert isinstance(error, ReduceError), error
        assert "while its model is being trained" in str(error), error
    whole = [outcome for outcome in outcomes if isinstance(outcome, bytes)]
    assert outcomes
    assert all(len(values(pickle.loads(text))) == len(values(network)) for text in whole[-3:])


@check(needs="jax")
def a_dump_that_is_overtaken_by_another_fit_leaves_it_alone():
    """Hold a dump between its question whether the model is being trained and what follows."""
    network = train(build())
    asked, goes_on, callers = threading.Event(), threading.Event(), []

    def is_at_work(model):
        asked.set()
        goes_on.wait(60)
        return False

    def sync(model):
        callers.append(threading.current_thread())
        original(model)

    def dump():
        with contextlib.suppress(ReduceError):
            pickle.dumps(network)

    thread = threading.Thread(target=dump)

    def ask(batch, logs=None):
        if not thread.ident:
            thread.start()
            assert asked.wait(60)

    def go_on(batch, logs=None):
        goes_on.set()
        thread.join(60)

    # Private: the moment between the question and the answer can't be met otherwise.
    original, question = keras.Model.jax_state_sync, keras3._is_at_work
    keras.Model.jax_state_sync, keras3._is_at_work = sync, is_at_work
    try:
        for on_batch in (ask, go_on):
            callback = keras.callbacks.LambdaCallback(on_train_batch_end=on_batch)
            network.fit(X, Y, batch_size=16, verbose=0, callbacks=[callback])
    finally:
        keras.Model.jax_state_sync, keras3._is_at_work = original, question
    assert not thread.is_alive()
    assert thread not in callers


@check
def every_dtype_travels():
    dtypes = ["float16", "float32", "bfloat16", "float8_e4m3fn", "float8_e5m2", "bool"]
    dtypes += ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float64"]
    for dtype in dtypes:
        for shape in (), (3,), (2, 3), (0,):
            # TensorFlow's initializers don't support 8-bit floats.
            ones = keras.ops.cast(keras.ops.ones(shape, "float32"), dtype)
            variable = keras.Variable(ones, dtype=dtype, trainable=False)
            for protocol in (2, 5):
                copied = pickle.loads(pickle.dumps(variable, protocol=protocol))
                assert (copied.dtype, tuple(copied.shape)) == (dtype, shape), dtype
                assert copied.value.dtype == variable.value.dtype, dtype
                one, two = (
                    np.array(keras.ops.convert_to_numpy(keras.ops.cast(v, "float32")))
                    for v in (variable, copied)
                )
                assert np.array_equal(one, two), dtype


@check
def odd_values_keep_their_bits():
    bits = np.array([0x7F81, 0xFFC1, 0x8000, 0x0001, 0x7F80], "uint16")  # NaNs, -0, tiny, infinite
    import ml_dtypes

    variable = keras.Variable(np.zeros(5), dtype="bfloat16")
    from keras_reduce.core import array_backends

    array_backends.write(variable, bits, "bfloat16", BACKEND)
    assert array_backends.read(variable, BACKEND).tolist() == bits.tolist()
    again = pickle.loads(pickle.dumps(variable))
    assert array_backends.read(again, BACKEND).tolist() == bits.tolist()
    assert ml_dtypes.bfloat16 is not None
    single = np.array([0x7FA00001, 0xFFC00001, 0x80000000, 1], "uint32").view("float32")
    variable = keras.Variable(np.zeros(4), dtype="float32")
    array_backends.write(variable, single, "float32", BACKEND)
    array = array_backends.read(pickle.loads(pickle.dumps(variable)), BACKEND)
    assert array.tobytes() == single.tobytes()


@check(needs="jax")
def what_finds_no_room_is_refused():
    """Refuse float64 and int64 values that were written with ``jax_enable_x64``."""
    import jax

    jax.config.update("jax_enable_x64", True)
    try:
        texts = [pickle.dumps(keras.Variable([1.0 + 2.0**-40], dtype="float64"))]
        texts.append(pickle.dumps(keras.Variable([2**40], dtype="int64", trainable=False)))
        plain = pickle.dumps(keras.Variable([0.5], dtype="float64"))
        assert float(pickle.loads(texts[0]).value[0]) == 1.0 + 2.0**-40
    finally:
        jax.config.update("jax_enable_x64", False)
    for text in texts:
        with raises(KerasReduceError, "JAX uses 32 bits", "jax_enable_x64"):
            pickle.loads(text)
    assert float(pickle.loads(plain).value[0]) == 0.5


@check(needs="jax")
def a_training_that_failed_leaves_what_can_be_written():
    class Stopping(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    network = build()
    with contextlib.suppress(KeyboardInterrupt):
        network.fit(X, Y, batch_size=16, verbose=0, callbacks=[Stopping()])
    assert values(pickle.loads(pickle.dumps(network))) == values(network)


@check(needs="torch")
def modules_know_their_parameters():
    import torch

    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner, self.stack = layers.Dense(3), [layers.Dense(2)]
            self.free = torch.nn.Parameter(torch.arange(2.0))
            self.register_buffer("steps", torch.tensor(3))

        def call(self, inputs):
            return self.stack[0](self.inner(inputs)) + self.free

    network = Outer()
    network(X)
    network.eval()
    again = pickle.loads(pickle.dumps(network))
    assert isinstance(again.free, torch.nn.Parameter)
    assert int(again.steps) == 3
    for one in (network, again):
        assert {name for name, _ in one.named_parameters()} >= {"free"}
    first, second = network.state_dict(), again.state_dict()
    # In an object without a constructor call, a buffer comes back as a plain attribute.
    assert set(first) - {"steps"} == set(second) - {"steps"}
    assert all(torch.equal(first[name], second[name]) for name in set(first) & set(second))
    # eval() reaches registered modules, but not those in a list.
    switched = [[m.training for m in (n, n.inner, n.stack[0])] for n in (network, again)]
    assert switched == [[False, False, True]] * 2
    by_name = dict(again.named_parameters())
    for variable in again.inner.variables:
        assert any(variable.value is parameter for parameter in by_name.values())
    assert all(parameter.is_leaf for parameter in by_name.values())


@check(needs="torch")
def modules_of_torch_travel_in_layers():
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.norm = torch.nn.Linear(256, 4), torch.nn.BatchNorm1d(4)

        def forward(self, inputs):
            return self.norm(self.linear(inputs))

    inner = layers.TorchModuleWrapper(Net(), output_shape=(None, 4))
    network = keras.Sequential([keras.Input((256,)), inner, layers.Dense(1)])
    network.compile("adam", "mse")
    train(network)
    again = pickle.loads(pickle.dumps(network))
    assert values(again) == values(network)
    module, original = again.layers[0].module, network.layers[0].module
    assert torch.equal(module.norm.running_mean, original.norm.running_mean)
    assert module.linear.weight.data_ptr() != original.linear.weight.data_ptr()
    kinds = [type(variable.value) for variable in again.layers[0].variables]
    assert all(kind is torch.nn.Parameter for kind in kinds)
    assert again.layers[0].variables[0].value is module.linear.weight
    assert values(train(again)) == values(train(network))
    assert torch.equal(module.norm.running_mean, original.norm.running_mean)


def wrapped(*modules):
    """Return a trained model of layers around modules of Torch, for 8 inputs."""
    keras.utils.set_random_seed(0)
    inner = [layers.TorchModuleWrapper(each, output_shape=(None, 8)) for each in modules]
    network = keras.Sequential([keras.Input((8,)), *inner, layers.Dense(1)])
    network.compile("adam", "mse")
    return advanced(network) and network


def advanced(network):
    """Train a model of 8 inputs; return its predictions and values."""
    network.fit(X[:, :8], Y, epochs=2, batch_size=16, shuffle=False, verbose=0)
    return [network.predict(X[:, :8], verbose=0).tobytes(), *values(network)]


def elsewhere(content):
    """Return the outcome of `advanced` with a pickled model in another process."""
    path, result = FOLDER / "network", FOLDER / "result"
    path.write_bytes(content)
    code = (
        f"import pickle, sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        f"import aliasing; from pathlib import Path\n"
        f"result = aliasing.advanced(pickle.loads(Path({str(path)!r}).read_bytes()))\n"
        f"Path({str(result)!r}).write_bytes(pickle.dumps(result))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return pickle.loads(result.read_bytes())


@check(needs="torch")
def modules_of_torch_that_are_unlike_others():
    import torch
    from torch import nn
    from torch.nn.utils import parametrizations

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old = nn.utils.weight_norm(nn.Linear(8, 8))
    lazy, shared, frozen = nn.LazyLinear(8), nn.Linear(8, 8), nn.Linear(8, 8)
    lazy(torch.zeros(1, 8))
    frozen.weight.requires_grad_(requires_grad=False)
    parametrized = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(8, 8)),
        parametrizations.spectral_norm(nn.Linear(8, 8)),
        parametrizations.orthogonal(nn.Linear(8, 8)),
        nn.utils.parametrize.register_parametrization(nn.Linear(8, 8), "bias", nn.Tanh()),
    )
    network = wrapped(parametrized, old, lazy, shared, nn.Sequential(frozen, shared), shared)
    content = pickle.dumps(network)
    copies = [pickle.loads(content), keras_reduce.loads(keras_reduce.dumps(network))]
    outcomes = [elsewhere(content), *map(advanced, [network, *copies])]
    assert all(outcome == outcomes[0] for outcome in outcomes)
    for copied in copies:
        parts = [layer.module for layer in copied.layers[:-1]]
        assert parts[3] is parts[4][1] is parts[5]
        assert [type(each).__name__ for each in parts[0]] == ["ParametrizedLinear"] * 4
        nn.utils.parametrize.remove_parametrizations(parts[0][0], "weight")
        assert type(parts[0][0]) is nn.Linear
        assert not parts[4][0].weight.requires_grad
    again = pickle.loads(pickle.dumps(wrapped(parametrizations.weight_norm(nn.Linear(8, 8)))))
    assert advanced(copy.deepcopy(again)) == advanced(pickle.loads(pickle.dumps(again)))
    with raises(ValueError, "LazyModule"):  # By Keras.
        layers.TorchModuleWrapper(nn.LazyLinear(8))


@check(needs="torch")
def parametrized_modules_are_refused_if_torch_has_changed():
    from torch import nn

    from keras_reduce.families.keras3.private import PARAMETRIZED

    network = wrapped(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)))
    content = pickle.dumps(network)
    with mock.patch.dict(PARAMETRIZED.names, {"torch.nn.utils.parametrize:_gone": ""}):
        with raises(KerasReduceError, "parametrize._gone", "version of Torch"):
            pickle.loads(content)
        with raises(ReduceError, "parametrized modules"):
            pickle.dumps(wrapped(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))))


@check(needs="jax")
def functions_of_jax_in_layers():
    """Refuse a layer that Keras can't make again. Others need TensorFlow in Keras 3.15."""
    layer = layers.JaxLayer(
        lambda params, inputs: inputs @ params, params=np.ones((8, 4), "float32")
    )
    network = keras.Sequential([keras.Input((8,)), layer])
    with raises(ReduceError, "without an init_fn", "beside params") as told:
        pickle.dumps(network)
    assert layer.name in told.error.where


@check
def optimizers_are_written_by_their_public_names():
    text = pickle.dumps(keras.optimizers.AdamW(0.1))
    assert b"keras.src.backend" not in text
    assert type(pickle.loads(text)) is type(keras.optimizers.AdamW(0.1))


@check
def no_other_framework_is_loaded():
    others = {"tensorflow", "jax", "torch"} - {BACKEND}
    assert not others & set(sys.modules), others & set(sys.modules)


if __name__ == "__main__":
    keras_reduce.install()
    keras.utils.set_random_seed(0)
    main()
