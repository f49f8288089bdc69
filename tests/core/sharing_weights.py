"""Copies of weights, work that is done once, and the view of other threads."""

import contextlib
import copy
import functools
import gc
import importlib
import io
import json
import mmap
import pickle
import sys
import tempfile
import threading
import types
from pathlib import Path

import cloudpickle
import joblib
import keras
import numpy as np
from keras import layers

import keras_reduce
from checks import check, main, raises
from keras_reduce import ReduceError, reducers
from keras_reduce.core import array_backends, weights
from keras_reduce.core.dispatch import STANDARD
from process_memory import growth_below

# The package exports functions of the same names.
alike, reading, writing = (
    importlib.import_module(f"keras_reduce.families.keras3.{name}")
    for name in ("layer_cache_key", "reading", "writing")
)
keras_reduce.install()

X, Y = np.ones((8, 32), "float32"), np.ones((8, 1), "float32")


def trained(width=64, **how):
    model = keras.Sequential(
        [
            keras.Input((32,)),
            layers.Dense(width, "relu"),
            layers.BatchNormalization(),
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mse", **(how or {"run_eagerly": True}))
    model.fit(X, Y, verbose=0)
    return model


def variables(model):
    return [*model.variables, *model.optimizer.variables]


def held(variable):
    return np.asarray(memoryview(variable.value.read_value()))


def address(array):
    return array.__array_interface__["data"][0]


def addresses(model):
    return {address(held(variable)) for variable in variables(model)}


def aligned(size):
    block = np.zeros(size + 64, "uint8")
    start = -address(block) % 64
    return block[start : start + size]


def out_of_band(model):
    buffers = []
    return pickle.dumps(model, protocol=5, buffer_callback=buffers.append), buffers


# --- memory ---------------------------------------------------------------------------------


@check
def no_weight_is_copied_on_the_way_out():
    model = trained()
    text, buffers = out_of_band(model)
    shipped = {address(np.frombuffer(buffer, "uint8")) for buffer in buffers}
    assert addresses(model) <= shipped
    assert len(text) < 20_000


@check
def no_weight_is_copied_on_the_way_back():
    model = trained()
    text, buffers = out_of_band(model)
    returned = pickle.loads(text, buffers=buffers)
    assert addresses(returned) == addresses(model)


@check
def a_deep_copy_shares_until_one_of_the_two_trains():
    model = trained()
    copied = copy.deepcopy(model)
    assert addresses(copied) == addresses(model)
    weights = model.get_weights()
    copied.fit(X, Y, verbose=0)
    assert all(map(np.array_equal, weights, model.get_weights()))
    assert not any(map(np.array_equal, weights, copied.get_weights()))


@check
def what_was_written_stays_as_it_was():
    model = trained()
    text, buffers = out_of_band(model)
    before = [bytes(buffer) for buffer in buffers]
    returned = pickle.loads(text, buffers=buffers)
    for part in (returned, model):
        part.fit(X, Y, verbose=0)
        assert [bytes(buffer) for buffer in buffers] == before
    assert all(map(np.array_equal, returned.get_weights(), model.get_weights()))


@check
def tensorflow_never_writes_into_memory_that_is_not_its_own():
    # If it writes, the process crashes: the pages are read-only.
    for jit_compile in (False, True):
        model = trained(jit_compile=jit_compile)
        text, buffers = out_of_band(model)
        mapped = []
        with tempfile.TemporaryFile() as file:
            for buffer in buffers:
                start = -file.tell() % mmap.ALLOCATIONGRANULARITY + file.tell()
                file.seek(start)
                file.write(buffer)
                file.flush()
                size = len(bytes(buffer))
                pages = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ, offset=start)
                mapped.append(memoryview(pages))
        returned = pickle.loads(text, buffers=mapped)
        assert addresses(returned) <= {address(np.frombuffer(m, "uint8")) for m in mapped}
        returned.fit(X, Y, epochs=2, verbose=0)
        model.fit(X, Y, epochs=2, verbose=0)
        assert all(map(np.array_equal, returned.get_weights(), model.get_weights()))


@check
def arrays_may_lie_anywhere():
    # TensorFlow aborts the process at an array that is not aligned for it.
    layer = layers.Dense(16)
    layer.build((None, 32))
    rebuild, arguments = layer.__reduce__()[:2]
    expected = layer(X).numpy()
    for shift in range(0, 68, 4):
        block = np.zeros(32 * 16 * 4 + 256, "uint8")
        start = -address(block) % 64 + shift
        kernel = block[start : start + 32 * 16 * 4].view("float32").reshape(32, 16)
        kernel[:] = arguments[1][0]
        returned = rebuild(arguments[0], (kernel, arguments[1][1]))
        assert np.array_equal(returned(X).numpy(), expected)
        assert (address(held(returned.kernel)) == address(kernel)) == (shift % 64 == 0)
    returned = rebuild(arguments[0], (np.asfortranarray(arguments[1][0]), arguments[1][1]))
    assert np.array_equal(returned(X).numpy(), expected)


@check
def values_of_any_type():
    for name in ("float64", "float32", "float16", "bfloat16", "int8", "uint8", "int64", "bool"):
        for shape in ((), (0,), (3, 5)):
            original = keras.Variable(np.ones(shape), dtype=name)
            array = array_backends.read(original, "tensorflow")
            block = aligned(array.nbytes).view(array.dtype).reshape(shape)
            block[...] = array
            for given in (array, block):
                variable = keras.Variable(np.zeros(shape), dtype=name)
                array_backends.write(variable, given, name, "tensorflow")
                assert variable.dtype == name
                assert variable.numpy().tobytes() == original.numpy().tobytes()
                assert variable.value.shape == shape


@check
def a_map_that_writes_to_its_file_is_copied():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights")
        path.write_bytes(bytes(4096))
        for mode, shares in (("r", True), ("c", True), ("r+", False)):
            array = np.memmap(path, "float32", mode, shape=(32, 32))[:16]
            variable = keras.Variable(np.ones((16, 32)), dtype="float32")
            array_backends.write(variable, array, "float32", "tensorflow")
            assert (address(held(variable)) == address(array)) == shares, mode
            assert not held(variable).any()


@check
def memory_is_taken_once_only():
    model = keras.Sequential(
        [keras.Input((2048,)), *(layers.Dense(2048) for _ in range(4)), layers.Dense(1)]
    )
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    size = sum(held(variable).nbytes for variable in variables(model))
    room = 64 << 20
    assert size > 3 * room
    pickle.loads(pickle.dumps(trained()))  # Imports and traces happen at the first call.
    # An older protocol copies each array to bytes first, and keeps them.
    with growth_below(2 * size + room):
        pickle.dumps(model, protocol=4)
    with growth_below(size + room):
        content = pickle.dumps(model, protocol=5)
    # One copy are the bytes; pickle creates arrays from them, which the model takes over.
    with growth_below(2 * size + room):
        returned = pickle.loads(content)
    del returned, content
    with growth_below(room):
        text, buffers = out_of_band(model)
    with growth_below(room):
        returned = pickle.loads(text, buffers=buffers)
    with growth_below(room):
        copied = copy.deepcopy(model)
    assert addresses(copied) == addresses(model) == addresses(returned)


# --- work -----------------------------------------------------------------------------------

runs = []


class Noted(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        runs.append(shape)
        return keras.ops.ones(shape, dtype)

    def get_config(self):
        return {}


@check
def no_initializer_runs():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, kernel_initializer=Noted())])
    assert runs
    runs.clear()
    copied = pickle.loads(pickle.dumps(model))
    assert not runs
    assert np.array_equal(copied.get_weights()[0], np.ones((3, 2)))


@check
def every_variable_is_made_and_filled_once():
    model = trained()
    content = pickle.dumps(model)
    initialized, filled = [], []

    def noting(target, function):
        def noted(variable, *arguments):
            target.append(id(variable))
            return function(variable, *arguments)

        return noted

    places = [
        (array_backends, "write", filled),
        (keras.Variable, "_initialize", initialized),
    ]
    if keras.backend.backend() == "tensorflow":
        # Private: this makes variables of TensorFlow directly.
        places.append((reading, "_begin_with", initialized))
    originals = [getattr(owner, name) for owner, name, _ in places]
    for (owner, name, target), original in zip(places, originals, strict=True):
        setattr(owner, name, noting(target, original))
    try:
        with keras_reduce.installed(reuse=False):  # Without clones.
            copied = pickle.loads(content)
    finally:
        for (owner, name, _), original in zip(places, originals, strict=True):
            setattr(owner, name, original)
    everything = [*variables(copied), *(v for metric in copied.metrics for v in metric.variables)]
    assert sorted(initialized) == sorted(filled) == sorted(map(id, everything))


class Holder:
    """An object whose attributes Keras does not track."""


class Untracked(layers.Layer):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.holder = Holder()
        self.holder.scale = keras.Variable(keras.initializers.Constant(3), shape=(3,))

    def build(self, shape):
        self.table = self.add_weight(shape=(3,), initializer="ones")
        self.holder.inverse = 1 / self.table.numpy()

    def call(self, inputs):
        return inputs * self.holder.scale * self.holder.inverse

    def get_config(self):
        return super().get_config()


@functools.cache
def extractor():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, kernel_initializer="ones")])
    model.layers[0].bias.assign([5, 6])
    return model


class Perceptual(keras.losses.Loss):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        extractor()

    def call(self, y_true, y_pred):
        return extractor()(y_true) - extractor()(y_pred)

    def get_config(self):
        return super().get_config()


@check
def variables_of_which_nothing_is_carried_begin_as_they_do():
    model = keras.Sequential([keras.Input((3,)), Untracked()])
    copied = pickle.loads(pickle.dumps(model))
    assert np.array_equal(copied(X[:, :3]), model(X[:, :3]))
    assert np.array_equal(copied(X[:, :3]), np.full((8, 3), 3))
    content = pickle.dumps(Perceptual())
    extractor.cache_clear()
    pickle.loads(content)
    kernel, bias = extractor().get_weights()
    assert kernel.tolist() == [[1, 1], [1, 1]]
    assert bias.tolist() == [5, 6]


@check
def a_sequential_model_is_built_once():
    model = keras.Sequential([keras.Input((3,))])
    for units in (4, 5, 6):
        model.add(layers.Dense(units))
    copied = pickle.loads(pickle.dumps(model))
    assert [len(layer._inbound_nodes) for layer in copied.layers] == [1, 1, 1]


# --- threads --------------------------------------------------------------------------------


def points():
    return [getattr(owner, name) for owner, name, _ in (*reading._points(), *writing._points())]


@check
def nothing_stays_in_keras():
    before = points()
    content = pickle.dumps(trained())
    pickle.loads(content)
    assert points() == before
    with raises(ReduceError):
        pickle.dumps(keras.Sequential([Unwilling()]))
    assert points() == before


class Unwilling(layers.Layer):
    def get_config(self):
        raise RuntimeError("no")


@check
def other_threads_build_their_models_as_ever():
    def build():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((5,)), layers.Dense(4, kernel_initializer=Noted()), layers.Dense(3)]
        )
        return [weight.tobytes() for weight in model.get_weights()], model.get_config()["layers"]

    def names_aside(config):
        return json.dumps(
            [{**layer["config"], "name": ""} for layer in config], default=str, sort_keys=True
        )

    weights, config = build()
    content = pickle.dumps(trained())
    done, trips = threading.Event(), []

    def travel():
        while not done.is_set():
            trips.append(pickle.loads(pickle.dumps(pickle.loads(content))))
            del trips[:-2]

    thread = threading.Thread(target=travel)
    thread.start()
    try:
        for _ in range(60):
            actual, actual_config = build()
            assert actual == weights
            assert names_aside(actual_config) == names_aside(config)
    finally:
        done.set()
        thread.join()
    assert trips


@check
def each_variable_is_seen_whole_while_another_thread_writes():
    model = keras.Sequential(
        [keras.Input((512,)), *(layers.Dense(512, kernel_initializer="zeros") for _ in range(2))]
    )
    done = threading.Event()

    def write():
        number = 0.0
        while not done.is_set():
            number += 1
            for variable in model.variables:
                variable.assign(keras.ops.full(variable.shape, number))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(100):
            for weight in pickle.loads(pickle.dumps(model)).get_weights():
                assert (weight == weight.flat[0]).all()
    finally:
        done.set()
        thread.join()


@check
def a_model_in_training_can_be_written_at_any_time():
    arrived = 0
    for _ in range(2):
        model = keras.Sequential(
            [keras.Input((32,)), *(layers.Dense(64, "relu") for _ in range(4)), layers.Dense(1)]
        )
        model.compile("adam", "mse", metrics=["mae"])
        fit = threading.Thread(target=lambda m=model: m.fit(X, Y, epochs=20, verbose=0))
        fit.start()
        while fit.is_alive():
            copied = pickle.loads(pickle.dumps(model))
            arrived += 1
        fit.join()
        assert copied.predict(X, verbose=0).shape == (8, 1)
    assert arrived > 4


class Fickle:
    """An object that can be pickled `patience` times."""

    def __init__(self):
        self.patience = 0

    def __reduce__(self):
        self.patience -= 1
        if self.patience < 0:
            raise RuntimeError("no more")
        return Fickle, ()


@contextlib.contextmanager
def another_thread():
    """Run an idle thread for a block: some precautions are taken only if there is one."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class Full:
    """A file on a disk without room."""

    def write(self, data):
        raise OSError(28, "full")


def moved(part, value):
    """Set all weights of `part` to a value, and require that a copy has this value."""
    part.set_weights([np.full(weight.shape, value) for weight in part.get_weights()])
    for way in (pickle.dumps, cloudpickle.dumps, keras_reduce.dumps):
        back = keras_reduce.loads if way is keras_reduce.dumps else pickle.loads
        arrived = back(way(part)).get_weights()
        assert all((weight == value).all() for weight in arrived), (way, arrived)


@check
def a_full_disk_leaves_no_old_weights():
    with another_thread():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        for value in (1.0, 2.0):
            with raises(OSError, "full"):
                pickle.dump(model, Full(), protocol=5)
            moved(model, value)
            moved(model.layers[0], -value)


@check
def a_reduce_value_that_somebody_keeps_leaves_no_old_weights():
    with another_thread():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        kept = []
        for value in (1.0, 2.0, 3.0):
            for part in (model.layers[0], model):
                kept.append(part.__reduce_ex__(4))
                rebuild, arguments, *_ = kept[-1]
                for weight in rebuild(*arguments).get_weights():
                    assert (weight == weight.flat[0]).all() or value == 1
            moved(model, value)
            moved(model.layers[0], -value)


class Meddler:
    """An object that changes the weights of a model when it is pickled."""

    def __init__(self, model):
        self.model = model

    def __reduce__(self):
        self.model.set_weights([weight + 1 for weight in self.model.get_weights()])
        return Fickle, ()


@check
def all_parts_are_of_the_same_moment():
    for way, back in (
        (pickle.dumps, pickle.loads),
        (cloudpickle.dumps, pickle.loads),
        (keras_reduce.dumps, keras_reduce.loads),
    ):
        model = keras.Sequential([keras.Input((3,)), *(layers.Dense(3) for _ in range(4))])
        model.layers[1].meddler = Meddler(model)
        before = model.get_weights()
        arrived = back(way(model)).get_weights()
        assert not np.array_equal(model.get_weights()[0], before[0]), way
        assert all(map(np.array_equal, arrived, before)), way


@check
def snapshots_end_with_the_dump():
    with another_thread():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                pickle.dumps(model)
                copy.deepcopy(model)
                keras_reduce.dumps(model)
            assert not [each for each in weights.Snapshot._references() if each() is not None]
        finally:
            gc.enable()


@check
def what_failed_leaves_no_old_weights():
    with another_thread():
        failures()
    failures()


def failures():
    class PythonPickler(pickle._Pickler):
        dispatch = STANDARD  # without the entries that dill adds to that of the base class

    def by_python(model):
        PythonPickler(io.BytesIO(), 5).dump(model)

    def by_joblib(model):
        joblib.dump(model, io.BytesIO())

    ways = (
        pickle.dumps,
        cloudpickle.dumps,
        copy.deepcopy,
        keras_reduce.dumps,
        by_python,
        by_joblib,
    )
    for way in ways:
        for patience in range(4):
            model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
            model.fickle = fickle = Fickle()
            fickle.patience = patience
            try:
                way(model)
            except Exception as error:
                kept = error  # With its traceback, and all objects that this keeps alive.
                assert "no more" in repr((kept, kept.__cause__))
            for part in (model.layers[0], model):
                fickle.patience = 9
                part.set_weights([np.full(w.shape, patience + 2.0) for w in part.get_weights()])
                returned = pickle.loads(pickle.dumps(part))
                assert all((w == patience + 2.0).all() for w in returned.get_weights())


# --- layers that share a cache key ----------------------------------------------------------

SHAPE = (None, 8, 6)
KINDS = {
    "dense": lambda: layers.Dense(4, "relu"),
    "regularized": lambda: layers.Dense(4, kernel_regularizer="l2", bias_constraint="non_neg"),
    "seeded": lambda: layers.Dense(4, kernel_initializer=keras.initializers.HeNormal(seed=3)),
    "half": lambda: layers.Dense(4, dtype="mixed_float16"),
    "frozen": lambda: layers.Dense(4, trainable=False),
    "convolution": lambda: layers.Conv1D(4, 3, padding="causal"),
    "normalization": lambda: layers.BatchNormalization(),
    "layer normalization": lambda: layers.LayerNormalization(),
    "activation": lambda: layers.Activation("gelu"),
    "relu": lambda: layers.ReLU(max_value=6),
    "pooling": lambda: layers.MaxPooling1D(),
    "reshape": lambda: layers.Reshape((6, 8)),
    "embedding": lambda: layers.Embedding(10, 4),
    "input": lambda: layers.InputLayer(batch_shape=(None, 3)),
    "dropout": lambda: layers.Dropout(0.5),
    "seeded dropout": lambda: layers.Dropout(0.5, seed=3),
    "attention": lambda: layers.MultiHeadAttention(2, 3, dropout=0.1),
    "attention of one's own": lambda: layers.MultiHeadAttention(2, 3),
}


def built(kind):
    layer = KINDS[kind]()
    if not layer.built:
        layer.build(*[SHAPE] * (2 if isinstance(layer, layers.MultiHeadAttention) else 1))
    return layer


def plainly(layer):
    """Return the JSON of a layer, written without the cache."""
    # Private: only this cache shows whether a cached form was used.
    reducers._forms.clear()
    text = layer.__reduce__()[1][0]
    assert all(reducers._forms.values())
    return text


@check
def a_layer_like_another_is_written_as_if_it_were_the_first():
    for kind in KINDS:
        first, second = built(kind), built(kind)
        key = alike.layer_cache_key(first).key
        assert key == alike.layer_cache_key(second).key, kind
        expected = plainly(second)
        plainly(first)
        assert second.__reduce__()[1][0] == expected, kind
        second_hash = joblib.hash(second)
        # Private: only this cache shows whether a cached form was used.
        reducers._forms.clear()
        assert joblib.hash(second) == second_hash, kind
        returned = pickle.loads(pickle.dumps(second))
        assert returned.name == second.name
        assert returned.autocast == second.autocast
        assert all(map(np.array_equal, returned.get_weights(), second.get_weights()))


@check
def different_layers_are_not_alike():
    keys = [alike.layer_cache_key(built(kind)).key for kind in KINDS]
    assert len(set(keys)) == len(KINDS)


@check
def every_attribute_counts():
    for kind in KINDS:
        layer = built(kind)
        key = alike.layer_cache_key(layer).key
        for name, value in list(vars(layer).items()):
            if name in alike.WITHOUT_CONSEQUENCE:
                continue
            for other in ("another", None, 0, 7.5, ["x"], object(), built("dense")):
                same = type(other) is type(value) and other == value
                vars(layer)[name] = other
                cache_key = alike.layer_cache_key(layer)
                assert same or cache_key is None or cache_key.key != key, (
                    kind,
                    name,
                    other,
                )
            vars(layer)[name] = value
        assert alike.layer_cache_key(layer).key == key


@check
def what_is_inside_an_attribute_counts():
    def changed(change, kind="regularized"):
        layer = built(kind)
        key = alike.layer_cache_key(layer).key
        change(layer)
        cache_key = alike.layer_cache_key(layer)
        return cache_key is None or cache_key.key != key

    assert changed(lambda layer: setattr(layer.kernel_regularizer, "l2", 0.5))
    assert changed(lambda layer: setattr(layer.kernel, "trainable", False))
    assert changed(lambda layer: setattr(layer.kernel, "regularizer", keras.regularizers.L1(1)))
    assert changed(lambda layer: setattr(layer.kernel, "overwrite_with_gradient", True))
    assert changed(lambda layer: setattr(layer.kernel, "constraint", layer.bias_constraint))
    assert changed(lambda layer: setattr(layer, "trainable", False))
    assert changed(lambda layer: setattr(layer, "tag", 1))
    assert changed(lambda layer: setattr(layer, "call", types.MethodType(lambda s, x: x, layer)))
    assert changed(lambda layer: layer.enable_lora(2), "dense")
    assert changed(lambda layer: layer.quantize("int8"), "dense")
    assert changed(lambda layer: setattr(layer, "activation", lambda x: x))
    assert changed(lambda layer: setattr(layer, "dtype_policy", "float16"))
    assert changed(lambda layer: setattr(layer.kernel_initializer, "_init_seed", 4), "seeded")
    assert not changed(lambda layer: layer.set_weights([w + 1 for w in layer.get_weights()]))
    assert not changed(lambda layer: setattr(layer.kernel_initializer, "seed", 4), "dense")


@check
def what_is_inside_a_part_counts():
    def changed(change):
        layer = built("attention")
        key = alike.layer_cache_key(layer).key
        change(layer)
        cache_key = alike.layer_cache_key(layer)
        return cache_key is None or cache_key.key != key

    assert changed(lambda layer: setattr(layer._query_dense, "tag", 1))
    assert changed(lambda layer: setattr(layer._query_dense, "trainable", False))
    assert changed(lambda layer: setattr(layer._query_dense, "built", False))
    assert changed(lambda layer: setattr(layer._query_dense.kernel, "trainable", False))
    assert changed(lambda layer: setattr(layer._dropout_layer, "rate", 0.2))
    assert changed(lambda layer: setattr(layer._dropout_layer.seed_generator, "tag", 1))
    assert changed(lambda layer: setattr(layer, "_value_dense", layer._key_dense))
    assert changed(lambda layer: layer._query_dense.enable_lora(2))
    assert changed(lambda layer: vars(layer._softmax).update(parent=layer))
    assert changed(lambda layer: layer._layers.append(layer))
    assert changed(lambda layer: layer._layers.append(layers.Dense(2)))
    assert changed(lambda layer: layer._layers.append(keras.Sequential([built("dense")])))


@check
def layers_not_built_or_not_of_keras_are_like_no_other():
    class Own(layers.Dense):
        pass

    custom = Own(3)
    custom.build(SHAPE)
    around = built("attention")
    around._layers.append(custom)
    for layer in (layers.Dense(3), custom, around, trained()):
        assert alike.layer_cache_key(layer) is None, layer


@check
def layers_whose_parts_travel_apart_have_no_form():
    for inner in (layers.LSTM(2), layers.GRU(3, dropout=0.1, stateful=True)):
        layer = layers.Bidirectional(inner)
        layer.build((2, *SHAPE[1:]))
        for each in (layer, layer.forward_layer):
            # Private: only this cache shows whether a cached form was used.
            reducers._forms.clear()
            pickle.dumps(each)
            for _ in range(2):
                assert reducers._cached_payload(each) is None
            returned = pickle.loads(pickle.dumps(each))
            assert all(map(np.array_equal, returned.get_weights(), each.get_weights()))


@check
def zeros_of_either_sign_are_not_alike():
    for value in (0.0, -0.0):
        layer = built("dense")
        layer.bias_initializer = keras.initializers.Constant(value)
        layer.tag = value
        copied = pickle.loads(pickle.dumps(layer))
        assert str(copied.tag) == str(copied.bias_initializer.value) == str(value)


@check
def names_may_look_like_anything():
    for name in ('"', "\\", "\0name", "\0paths", "ü", "{}", "\\1"):
        for _ in range(2):
            layer = layers.Dense(3, name=name)
            layer.build(SHAPE)
            copied = pickle.loads(pickle.dumps(layer))
            assert copied.name == name
            assert [v.path for v in copied.variables] == [v.path for v in layer.variables]


@check
def what_changes_while_it_is_written_is_no_form_for_others():
    # Private: only this cache shows whether a cached form was used.
    reducers._forms.clear()
    look = reducers._dissect_unchecked

    def and_meanwhile(obj, family):
        form = look(obj, family)
        obj.trainable = False
        return form

    reducers._dissect_unchecked = and_meanwhile
    try:
        built("dense").__reduce__()
    finally:
        reducers._dissect_unchecked = look
    frozen = built("dense")
    frozen.trainable = False
    assert not pickle.loads(pickle.dumps(frozen)).trainable


@check
def what_never_comes_to_rest_is_refused():
    class Waiting(layers.Layer):
        def build(self, shape):
            def write():
                with raises(ReduceError, "another thread", "not from within build()") as demand:
                    pickle.dumps(self)
                refusals.append(demand.error)

            thread = threading.Thread(target=write)
            thread.start()
            thread.join()

    refusals = []
    # Private: the real waiting time would take seconds.
    patience, reducers._PATIENCE = reducers._PATIENCE, 0.2
    try:
        Waiting().build((None, 3))
    finally:
        reducers._PATIENCE = patience
    assert refusals


@check
def attributes_may_come_and_go_meanwhile():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Dropout(0.5)])
    done = threading.Event()

    def scribble():
        number = 0
        while not done.is_set():
            number = (number + 1) % 50
            for part in (model, *model.layers):
                setattr(part, f"note{number}", number)
                vars(part).pop(f"note{(number + 25) % 50}", None)

    thread = threading.Thread(target=scribble)
    interval = sys.getswitchinterval()
    thread.start()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(100):
            pickle.loads(pickle.dumps(model))
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()


@check
def forms_are_bounded():
    # Private: only this cache shows whether a cached form was used.
    reducers._forms.clear()
    most, reducers._MOST_FORMS = reducers._MOST_FORMS, 3
    try:
        for units in range(1, 9):
            layer = layers.Dense(units)
            layer.build(SHAPE)
            layer.__reduce__()
            assert len(reducers._forms) <= 3
    finally:
        reducers._MOST_FORMS = most


if __name__ == "__main__":
    main()
