"""Objects that picklers must carry whole, or refuse: written for ``by_any_pickler_read.py``.

"The first dump" comes first: nothing else in this process has used the reducers before it.
"""

import copy
import importlib.util
import io
import json
import pickle
import sys
import threading
import types
from pathlib import Path

import cloudpickle
import joblib
import keras
import numpy as np
import tensorflow as tf

import keras_reduce
from by_any_pickler_read import trained
from checks import check, compute_eagerly, main, raises

compute_eagerly()
FOLDER = Path(sys.argv[1])
keras_reduce.install()

# --- the first dump --------------------------------------------------------------------------

shared = keras.layers.Dense(2, name="shared")


def build():
    model = keras.Sequential([keras.Input((3,)), shared, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


sharing = {"estimator": keras_reduce.KerasRegressor(build), "layer": shared}
(FOLDER / "first.pickle").write_bytes(pickle.dumps(sharing))
(FOLDER / "second.pickle").write_bytes(pickle.dumps(sharing))

# --- the rest --------------------------------------------------------------------------------

EXPECTED = {}


def network(*layers):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), *(layers or [keras.layers.Dense(4)])])
    model.compile("adam", "mse")
    model.fit(np.ones((2, 3)), np.ones((2, 4)), verbose=0)
    return model


def write(name, content, expected=None):
    """Write `content` by each pickler that carries code by value."""
    keras_reduce.dump(content, FOLDER / f"{name}.dump")
    joblib.dump(content, FOLDER / f"{name}.joblib")
    joblib.dump(content, FOLDER / f"{name}.compressed", compress=3)
    joblib.dump(content, FOLDER / f"{name}.older", protocol=2)
    EXPECTED[name] = expected


@check
def arrays_of_objects():
    model, numbers = network(), np.arange(5000.0)
    grid = np.empty((2, 2), object, order="F")
    grid[0, 0], grid[0, 1], grid[1, 0], grid[1, 1] = model, [1, 2], numbers, lambda x: x + 1
    records = np.zeros(2, [("object", object), ("number", "i4")])
    records[0], records[1] = (model, 1), (grid, 2)
    scalar, cycle = np.empty((), object), np.empty(1, object)
    scalar[()], cycle[0] = model, cycle
    texts = np.array(["a", None, 1.5], object)
    content = {
        "grid": grid,
        "model": model,
        "list": grid[0, 1],
        "numbers": numbers,
        "records": records,
        "scalar": scalar,
        "cycle": cycle,
        "texts": [texts, texts],
        "matrix": np.matrix([[model]], object),
    }
    write("arrays", content, trained(copy.deepcopy(model)))
    size = model.count_params() * 4 * 4 + numbers.nbytes
    for name in ("dump", "joblib"):
        assert (FOLDER / f"arrays.{name}").stat().st_size < size + 40_000
    # Arrays without a Keras object stay as joblib writes them.
    assert b"NumpyArrayWrapper" in keras_reduce.dumps(texts)
    with keras_reduce.installed(functions_by_value=False):
        with raises(pickle.PicklingError):
            joblib.dump(grid, io.BytesIO())
        joblib.dump([scalar, model], FOLDER / "by_reference.joblib")


class NoSuper(keras.callbacks.Callback):
    def __init__(self, function):
        self.function = function


@check
def a_callback_without_its_base_constructor():
    callback = NoSuper(lambda: 7)
    assert copy.deepcopy(callback).function() == 7
    assert cloudpickle.loads(cloudpickle.dumps(callback)).function() == 7
    (FOLDER / "callback.pickle").write_bytes(pickle.dumps(callback))
    model = network()
    model.fit(np.ones((2, 3)), np.ones((2, 4)), verbose=0, callbacks=[callback])
    assert pickle.loads(pickle.dumps(callback)).model.name == model.name


def claiming(module, name=None):
    """Return a layer of ``__main__`` whose ``__module__`` is set to `module`."""

    class Claiming(keras.layers.Dense):
        def call(self, inputs):
            return 3 * super().call(inputs)

    Claiming.__module__ = module
    Claiming.__name__ = Claiming.__qualname__ = name or "Claiming"
    return Claiming(4)


def run(text, **names):
    exec(text, names)
    return names


@check
def classes_that_claim_a_module():
    bare = run(
        "class Bare(keras.layers.Dense):\n"
        "    def call(self, inputs):\n"
        "        return act(super(Bare, self).call(inputs))\n"
        "def act(x):\n"
        "    return 3 * x\n",
        keras=keras,
    )
    layers = {
        "json": claiming("json"),
        "nowhere": claiming("a_module_that_is_not_there"),
        "keras": claiming("keras.layers"),
        "same_name": claiming("keras.src.layers.core.dense", "Dense"),
        "none": claiming(None),
        "bare": bare["Bare"](4),
        "activation": keras.layers.Dense(4, activation=bare["act"]),
    }
    for name, layer in layers.items():
        model = network(layer)
        write(f"claims_{name}", {"model": model}, trained(copy.deepcopy(model)))
        assert trained(pickle.loads(pickle.dumps(model))) == EXPECTED[f"claims_{name}"]


class Stating(keras.callbacks.Callback):
    """An object whose ``__getstate__`` decides what a pickler carries."""

    def __getstate__(self):
        return {"mine": 1}


Stating.__module__ = "keras.callbacks"


@check
def a_state_of_a_class_that_claims_a_module():
    assert vars(cloudpickle.loads(cloudpickle.dumps(Stating()))) == {"mine": 1}


@check
def modules_that_no_other_process_can_import():
    module = types.ModuleType("made_by_the_program")
    sys.modules[module.__name__] = module
    exec(
        "import keras\n"
        "class Layer(keras.layers.Dense):\n"
        "    def call(self, inputs):\n"
        "        return times(super().call(inputs))\n"
        "class Plain: pass\n"
        "def times(x):\n"
        "    return 3 * x\n",
        vars(module),
    )
    (FOLDER / "under_another_name.py").write_text("def call(x):\n    return 2 * x\n")
    file = FOLDER / "under_another_name.py"
    spec = importlib.util.spec_from_file_location("made_from_a_file", file)
    other = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    model = network(module.Layer(4, activation=module.times), keras.layers.Lambda(other.call))
    (FOLDER / "module.pickle").write_bytes(pickle.dumps(model))
    content = {"model": model, "plain": module.Plain(), "function": lambda x: module.times(x)}
    write("modules", content, trained(copy.deepcopy(model)))
    assert pickle.loads(pickle.dumps(model)).layers[0].__class__ is module.Layer
    assert not cloudpickle.list_registry_pickle_by_value()


STRATEGY = tf.distribute.OneDeviceStrategy("CPU:0")
LOCK = threading.Lock()


class Global(keras.callbacks.Callback):
    """An object whose code refers to a global that no pickler accepts."""

    def __init__(self, function=None):
        super().__init__()
        self.function = function

    def on_epoch_end(self, epoch, logs=None):
        return LOCK, STRATEGY


@check
def a_strategy_as_an_attribute():
    model, estimator = network(), keras_reduce.KerasRegressor(build)
    for obj, name in ((model, "sequential"), (estimator, "kerasregressor")):
        obj.strategy = STRATEGY
        for dump in (cloudpickle.dumps, keras_reduce.dumps):
            with raises(keras_reduce.ReduceError, "OneDeviceStrategy", f"at {name}.strategy\n"):
                dump(obj)
        with raises(keras_reduce.ReduceError, f"{name}.strategy\n", "a strategy can't leave"):
            joblib.dump(obj, io.BytesIO())
        (obstacle,) = keras_reduce.explain(obj, "it").obstacles
        assert obstacle.path == "it.strategy"
        with raises(keras_reduce.ReduceError, ".strategy\n"):
            pickle.dumps(obj)


@check
def a_copy_shares_code_that_no_pickler_takes():
    function = lambda: LOCK  # noqa: E731
    callback = copy.deepcopy(Global(function))
    assert type(callback) is Global
    assert callback.function is function
    assert not [
        obstacle
        for obstacle in keras_reduce.explain(Global(function)).obstacles
        if "deepcopy" in obstacle.transports
    ]
    # But not if it refers to an object that is copied.
    model = network()
    for function in (lambda: (LOCK, shared), lambda: (LOCK, model)):
        model.note = function
        with raises(keras_reduce.ReduceError, "can't be pickled"):
            copy.deepcopy(model)
    model.note = lambda: shared
    assert copy.deepcopy([model, shared])[0].note() is not shared


main()
(FOLDER / "expected.json").write_text(json.dumps(EXPECTED))
