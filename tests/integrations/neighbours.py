"""Containers, dtypes, datasets and notebooks that programs use beside Keras and joblib.

Objects go to workers of the backend "keras", or through files, and must compute there as here.
"""

import collections
import gc
import importlib
import io
import itertools
import os
import pickle
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

import cloudpickle
import joblib
import keras
import ml_dtypes
import numpy as np
import optree
from joblib import Parallel, delayed, parallel_config
from keras import layers

import checks
import keras_reduce
from checks import bits, check

keras_reduce.install()
X = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
Y = X[:, :1].copy()
FOLDER = Path(tempfile.mkdtemp(prefix="neighbours"))
MODULES = FOLDER / "modules"
MODULES.mkdir()
sys.path.insert(0, str(MODULES))  # Before there are workers, which get the same path.
Pair = collections.namedtuple("Pair", "first second")


def trained(*parts):
    model = keras.Sequential([keras.Input((8,)), *parts, layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(X, Y, shuffle=False, verbose=0)
    return model


def outcome(model, data=None):
    """Return the bits of predictions, and of history and weights after further training."""
    given = (X, Y) if data is None else (data,)
    history = model.fit(*given, epochs=2, shuffle=False, verbose=0).history
    return bits([model.predict(X, verbose=0), history, *model.get_weights()])


def in_workers(function, *arguments, count=2):
    """Return the result of a function in other processes, which must be alike in all calls."""
    with parallel_config("keras", n_jobs=2):
        results = Parallel()(
            delayed(lambda *given: (os.getpid(), function(*given)))(*arguments)
            for _ in range(count)
        )
    assert all(pid != os.getpid() for pid, _ in results)
    assert len({str(result) for _, result in results}) == 1
    return results[0][1]


def copied(model):
    return pickle.loads(pickle.dumps(model))


@check
def containers_of_optree():
    model = trained()
    model.note = {
        "structure": optree.tree_structure({"b": [1, 2], "a": Pair(3, None)}),
        "partial": optree.functools.partial(max, 1),
        "deque": collections.deque([1, 2], maxlen=3),
    }

    def seen(model):
        note = model.note
        return [str(note["structure"]), note["partial"](3), note["deque"]]

    assert in_workers(seen, model) == seen(model)
    assert in_workers(outcome, model) == outcome(copied(model))


@check
def arrays_of_ml_dtypes():
    model = trained()
    for dtype in ("bfloat16", "float8_e4m3fn", "int4"):
        model.note = np.arange(8).repeat(1000).astype(getattr(ml_dtypes, dtype))
        loads = [copied(model).note]
        for dump, load in ((keras_reduce.dump, keras_reduce.load), (joblib.dump, joblib.load)):
            path = FOLDER / f"{dtype} {len(loads)}"
            dump(model, path)
            loads.append(load(path, mmap_mode="r").note)
            assert isinstance(loads[-1], np.memmap)
        assert all(bits(np.asarray(each)) == bits(model.note) for each in loads)
        result = in_workers(lambda model: bits(np.asarray(model.note)), model)
        assert result == bits(model.note)
    # NumPy copies such an array into a pickle; a weight of such a dtype is out of band.
    many = np.ones(100_000, ml_dtypes.bfloat16)
    weight = keras.Variable(many, dtype="bfloat16")
    assert len(pickle.dumps(many, 5, buffer_callback=[].append)) > many.nbytes
    assert len(pickle.dumps(weight, 5, buffer_callback=[].append)) < 5000


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, number):
        rows = slice(8 * number, 8 * number + 8)
        return X[rows], Y[rows]


@check
def datasets_of_keras():
    model = trained()
    data = Batches(workers=2, max_queue_size=3)
    expected = outcome(copied(model), data)
    # The dataset has been used: its threads are not part of it.
    assert in_workers(outcome, model, data) == expected


@check
def a_generator_that_is_abandoned():
    model = trained()
    expected = outcome(copied(model))

    def wait(model, number):
        time.sleep(0.02)
        return model

    for end in ("collected", "closed", "left open"):
        with parallel_config("keras", n_jobs=2):
            results = Parallel(return_as="generator_unordered")(
                delayed(wait)(model, number) for number in range(12)
            )
        assert outcome(next(results)) == expected
        if end == "closed":
            results.close()
        if end != "left open":
            del results
            gc.collect()
            assert in_workers(outcome, model) == expected
    # One that is left open keeps its workers; its results still arrive.
    assert [bits(each.get_weights()) for each in itertools.islice(results, 11)] == [
        bits(model.get_weights())
    ] * 11


MODULE = """
import keras

class Scale(keras.layers.Layer):
    def call(self, inputs):
        return {factor} * inputs

def factor():
    return {factor}
"""


def module_with(name, factor):
    """Write a module that multiplies with a factor; return its name."""
    path = MODULES / f"{name}.py"
    path.write_text(MODULE.format(factor=factor))
    # Seconds count for reloading.
    changed = time.time() + factor
    os.utime(path, (changed, changed))
    importlib.invalidate_caches()
    return name


@check
def modules_that_are_registered_by_value():
    module = importlib.import_module(module_with("registered", 2))
    cloudpickle.register_pickle_by_value(module)
    try:
        model = trained(module.Scale())
        # A worker has no such module.
        (MODULES / "registered.py").unlink()
        assert in_workers(outcome, model) == outcome(copied(model))
        assert in_workers(module.factor) == 2
    finally:
        cloudpickle.unregister_pickle_by_value(module)


@check
def modules_that_a_notebook_reloads():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance(history_manager=None)
    shell.history_manager.enabled = False

    def run(code):
        with redirect_stdout(io.StringIO()):
            shell.run_cell(code).raise_error()

    name = module_with("reloaded", 2)
    run("%load_ext autoreload\n%autoreload 2")
    run(f"import {name}")
    module = sys.modules[name]
    model = trained(module.Scale())
    content = pickle.dumps(model)
    assert in_workers(module.factor) == 2
    module_with("reloaded", 3)
    run("pass")
    assert module.factor() == 3
    # A model of before the change, and a file of then, have the present code.
    again = pickle.loads(pickle.dumps(model))
    assert type(again.layers[0]) is module.Scale is type(pickle.loads(content).layers[0])
    assert bits(again.layers[0](X).numpy()) == bits(3 * X)
    # A worker keeps the module that it has imported, as with loky, unless code travels by value.
    assert in_workers(module.factor) == 2
    cloudpickle.register_pickle_by_value(module)
    try:
        assert in_workers(module.factor) == 3
        assert in_workers(lambda model: bits(model.layers[0](X).numpy()), again) == bits(3 * X)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


@check
def a_feature_space_that_is_adapted():
    import tensorflow as tf

    frame = {"size": np.arange(6.0), "animal": np.array(list("abcabc"))}
    space = keras.utils.FeatureSpace(
        {"size": "float_normalized", "animal": "string_categorical"}, output_mode="concat"
    )
    space.adapt(tf.data.Dataset.from_tensor_slices(frame))
    with checks.logged("keras_reduce") as messages:
        assert bits(np.asarray(copied(space)(frame))) == bits(np.asarray(space(frame)))
    assert not messages, messages
    encoded = in_workers(lambda space: bits(np.asarray(space(frame))), space)
    assert encoded == bits(np.asarray(space(frame)))


if __name__ == "__main__":
    checks.main(*sys.argv[1:])
