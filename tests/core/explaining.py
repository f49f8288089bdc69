"""Reports of `explain`, compared with real failures of pickling; and the checks of reducers."""

import copy
import functools
import io
import pickle
import queue
import socket
import sqlite3
import sys
import tempfile
import threading
import tracemalloc
import types
import weakref
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import cloudpickle
import joblib
import keras
import numpy as np
from joblib.externals.loky.backend.reduction import dumps as loky_dumps
from keras import layers
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import keras_reduce
from checks import check, compute_eagerly, is_path, main, raises
from keras_reduce import KerasRegressor, ReduceError, explain
from keras_reduce.dry_run import dry_pickler

keras_reduce.install()
compute_eagerly()

LOCK = threading.Lock()
TRANSPORTS = {
    "pickle": pickle.dumps,
    "cloudpickle": cloudpickle.dumps,
    "joblib": lambda obj: joblib.dump(obj, io.BytesIO()),
    "deepcopy": copy.deepcopy,
}


class Thing:
    """An object with the given attributes."""

    def __init__(self, **attributes):
        vars(self).update(attributes)


class Slotted:
    __slots__ = ("slot",)


class Reduced(Thing):
    def __reduce__(self):
        return Reduced.rebuild, ("first", [self.parts, {"deep": self.parts[0]}])

    @classmethod
    def rebuild(cls, *arguments):
        return cls(arguments=arguments)


class Scale(layers.Layer):
    def call(self, inputs):
        return inputs


def small_model():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1), Scale()])
    model.compile("sgd", "mse")
    return model


def feed():
    if keras.config.backend() != "tensorflow":
        return (batch for batch in [np.ones((2, 2))])

    import tensorflow as tf

    return iter(tf.data.Dataset.from_tensor_slices(np.ones((4, 2))).batch(2))


def closure():
    lock = threading.Lock()
    return lambda: lock


def with_global():
    return LOCK


def really_stopped(obj):
    """Return the names of the transports that fail."""
    stopped = set()
    for name, send in TRANSPORTS.items():
        try:
            send(obj)
        except Exception:
            stopped.add(name)
    return stopped


def explained(obj, *paths, name="obj"):
    """Require that the report is true and has these paths; return the obstacles."""
    obstacles = explain(obj, name).obstacles
    told = {transport for obstacle in obstacles for transport in obstacle.transports}
    assert told == really_stopped(obj), (told, really_stopped(obj), obstacles)
    assert {obstacle.path for obstacle in obstacles} == set(paths), obstacles
    assert all(obstacle.why and obstacle.cure for obstacle in obstacles)
    assert all(is_path(obstacle.path) for obstacle in obstacles), obstacles
    return obstacles


def value_at(path, **names):
    return eval(path, names)


# --- obstacles in objects --------------------------------------------------------------------


@check
def nothing():
    for obj in (1, [], {"a": np.ones(3)}, Thing(x=(1, [2])), small_model(), keras.metrics.AUC()):
        explained(obj)
    pipeline = Pipeline([("scale", StandardScaler()), ("keras", KerasRegressor(small_model))])
    pipeline.fit(np.ones((4, 2)), np.ones(4))
    explained(pipeline)
    assert not explain(pipeline)
    assert str(explain(pipeline, "pipeline")) == (
        "Nothing in pipeline is an obstacle: pickle, cloudpickle, joblib.dump and "
        "copy.deepcopy carry it."
    )


@check
def a_lock_deep_in_a_pipeline():
    regressor = KerasRegressor(small_model, callbacks=[Thing(lock=LOCK)])
    pipeline = Pipeline([("scale", StandardScaler()), ("keras", regressor)])
    path = "pipeline.steps[1][1].sk_params['callbacks'][0].lock"
    (obstacle,) = explained(pipeline, path, name="pipeline")
    assert obstacle.type == "_thread.lock"
    assert obstacle.transports == tuple(TRANSPORTS)
    assert "__setstate__" in obstacle.cure
    assert value_at(path, pipeline=pipeline) is LOCK
    assert str(explain(pipeline, "pipeline")).splitlines() == [
        f"{path} (_thread.lock)",
        "  Stops: pickle, cloudpickle, joblib.dump and copy.deepcopy",
        "  Why: cannot pickle '_thread.lock' object",
        f"  What to do: {obstacle.cure}",
    ]


@check
def a_lock_in_what_fit_has_set():
    pipeline = Pipeline([("keras", KerasRegressor(small_model, epochs=1))])
    pipeline.fit(np.ones((4, 2)), np.ones(4))
    pipeline.steps[0][1].model_.note = [1, {"lock": LOCK}]
    path = "obj.steps[0][1].model_.note[1]['lock']"
    explained(pipeline, path)
    assert value_at(path, obj=pipeline) is LOCK


@check
def functions_that_only_plain_pickle_refuses():
    (obstacle,) = explained(Thing(functions=[len, lambda x: x]), "obj.functions[1]")
    assert obstacle.transports == ("pickle",)
    assert " at 0x" not in obstacle.why
    assert "cloudpickle" in obstacle.cure

    class Local:
        pass

    (obstacle,) = explained(Thing(part=Local()), "obj.part.__class__")
    assert obstacle.transports == ("pickle",)
    with keras_reduce.installed(functions_by_value=False):
        (obstacle,) = explained(Thing(functions=[lambda x: x]), "obj.functions[0]")
        assert obstacle.transports == ("pickle", "joblib")


@check
def things_that_belong_to_their_process():
    with Path(__file__).open("rb") as file, socket.socket() as endpoint:
        for value, kind, cure in (
            (threading.RLock(), "_thread.RLock", "__setstate__"),
            (threading.Condition(), "threading.Condition", "__setstate__"),
            (threading.Thread(), "threading.Thread", "start one"),
            (threading.local(), "_thread._local", "__setstate__"),
            ((i for i in range(2)), "generator", "a function that makes it"),
            (file, "_io.BufferedReader", "path"),
            (endpoint, "socket.socket", "connect"),
            (sqlite3.connect(":memory:"), "sqlite3.Connection", "connect"),
            (weakref.ref(small_model), "weakref.ReferenceType", "the object itself"),
            (sys, "module", "import it"),
        ):
            check_one(value, kind, cure)


@check(needs="tensorflow")
def things_of_tensorflow_that_belong_to_their_process():
    import tensorflow as tf

    for value, kind, cure in (
        (tf.Graph(), "tensorflow.python.framework.ops.Graph", "leave their process"),
        (feed(), "tensorflow.python.data.ops.iterator_ops.OwnedIterator", "fit()"),
        (feed()._dataset, "tensorflow.python.data.ops.batch_op._BatchDataset", "fit()"),
    ):
        check_one(value, kind, cure)


def check_one(value, kind, cure):
    (obstacle,) = explained(Thing(a=value), "obj.a")
    assert obstacle.type == kind, obstacle
    assert "cannot pickle" in obstacle.why, obstacle
    assert cure in obstacle.cure, obstacle


@check
def attributes_and_items_of_all_sorts():
    slotted = Slotted()
    slotted.slot = (LOCK,)
    parts = [[LOCK]]
    named = types.SimpleNamespace
    for obj, path in (
        (slotted, "obj.slot[0]"),
        (Reduced(parts=parts), "obj.parts[0][0]"),
        (functools.partial(print, LOCK), "obj.args[0]"),
        (functools.partial(print, end=LOCK), "obj.keywords['end']"),
        (named(a={(1, "b"): LOCK}), "obj.a[(1, 'b')]"),
        (np.array([[None, LOCK]]), "obj[0, 1]"),
        (named(a=LOCK).__getattribute__, "obj.__self__.a"),
        (Thing(a=LOCK).__init__, "obj.__self__.a"),
        (queue.Queue(), "obj.mutex"),
    ):
        (obstacle,) = explained(obj, path)
        assert obstacle.type == "_thread.lock"
        assert isinstance(value_at(path, obj=obj), type(LOCK))
    explained({frozenset([LOCK])}, "obj.<item>.<item>")
    explained({LOCK: 1}, "obj.<key <_thread.lock>>")


@check
def code_that_travels_by_value():
    transformer = FunctionTransformer(closure())
    obstacles = explained(transformer, "obj.func", "obj.func.<closure 'lock'>")
    assert [each.transports for each in obstacles] == [("pickle",), ("cloudpickle", "joblib")]
    explained(Thing(a=with_global), "obj.a.<global 'LOCK'>")

    def default(lock=LOCK):
        return lock

    obstacles = explained([default], "obj[0]", "obj[0].__defaults__[0]")
    assert obstacles[1].transports == ("cloudpickle", "joblib")
    explained(KerasRegressor(closure()), "obj.build_fn.<closure 'lock'>")
    regressor = KerasRegressor(small_model, validation_data=closure())
    explained(regressor, "obj.sk_params['validation_data'].<closure 'lock'>")


@check
def all_obstacles_at_once():
    both = Thing(first=[LOCK], second=(i for i in []), third=[LOCK])
    explained(both, "obj.first[0]", "obj.second")
    lines = str(explain(both)).splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "obj.second (generator)",
        "",
        "obj.first[0] (_thread.lock)",
    ]


@check
def an_array_of_functions():
    # joblib without this package would leave it to plain pickle.
    (obstacle,) = explained(Thing(a=np.array([None, lambda: 0])), "obj.a[1]")
    assert obstacle.transports == ("pickle",)


# --- Keras objects ---------------------------------------------------------------------------


@check
def attributes_of_a_model():
    model = small_model()
    model.feed = feed()
    model.guard = LOCK
    explained(model, "model.feed", "model.guard", name="model")


@check
def an_attribute_of_a_layer():
    model = small_model()
    model.layers[1].lock = LOCK
    explained(model, "model.layers[1].lock", name="model")


@check
def attributes_of_a_subclassed_model():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.scale, self.more = Scale(), [layers.Dense(2), Scale()]

        def call(self, inputs):
            return inputs

    model = Own()
    model.scale.lock, model.more[1].lock = LOCK, threading.Lock()
    explained(model, "obj.scale.lock", "obj.more[1].lock")


@check
def code_of_a_model():
    def loss(y, prediction, guard=LOCK):
        return keras.ops.mean(y - prediction)

    model = small_model()
    model.compile("sgd", loss)
    (obstacle,) = explained(model, "obj.loss.__defaults__[0]")
    assert obstacle.transports == ("pickle", "cloudpickle", "joblib")
    assert copy.deepcopy(model).loss is loss


@check
def code_that_holds_its_own_model():
    model = small_model()
    model.compile("sgd", lambda y, prediction: len(model.layers) + 0 * prediction)
    assert not explain(model).obstacles
    optimizer = model.optimizer
    model.compile(optimizer, lambda y, prediction: optimizer.iterations + 0 * prediction)
    report = explain(model)
    assert "refers to the object that it belongs to" in str(report)


# --- side effects that must not happen -------------------------------------------------------


@check
def cycles_and_depth_are_no_trouble():
    loop = Thing(lock=LOCK)
    loop.itself = [loop]
    explained(loop, "obj.lock")
    deep = [LOCK]
    for _ in range(100_000):
        deep = [deep]
    (obstacle,) = dry_pickler.obstacles(deep, "obj", "pickle")
    assert obstacle.path == f"obj{'[0]' * 100_001}"
    while deep is not LOCK:  # deeper than the limit of recursion
        deep = deep[0]


@check
def nothing_is_changed_or_copied():
    array = np.ones(3_000_000)
    obj = Thing(a=array, b=[array[::2]], c=b"x" * 10_000_000, d=LOCK, e=small_model())
    obj.lines = Path(__file__).open()  # noqa: SIM115
    obj.lines.readline()
    before, place = {**vars(obj)}, obj.lines.tell()
    explain(obj)
    tracemalloc.start()
    explain(obj)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    assert vars(obj) == before
    assert obj.lines.tell() == place
    obj.lines.close()


# --- for reducers ----------------------------------------------------------------------------


def is_keras(obj):
    return isinstance(obj, layers.Layer)


class Careful(Thing):
    """An object that checks its attributes in ``__reduce__``, as reducers of Keras objects do."""

    def __reduce__(self):
        dry_pickler.check(self, vars(self), name="careful", skip=is_keras)
        return Careful, (), vars(self)


@check
def attributes_are_checked():
    class Stubborn(layers.Layer):
        def __reduce__(self):
            raise AssertionError("asked")

    fine = {"a": [1.0], "b": {"c": [np.ones(2)]}, "d": lambda: 0, "e": Stubborn(), "f": [Scale]}
    assert dry_pickler.check(None, fine, name="x", skip=is_keras) is None
    obj = Careful(**fine, note=[1, 2, {"lock": LOCK}])
    with raises(ReduceError, "at careful.note[2]['lock']", "cannot pickle", "__setstate__"):
        cloudpickle.dumps(obj)
    with raises(ReduceError, "at careful.note[2]['lock']"):
        copy.deepcopy(obj)


@check
def a_copy_may_hold_what_a_pickle_may_not():
    obj = Careful(reference=weakref.ref(small_model))
    assert copy.deepcopy([obj])[0].reference is obj.reference
    with raises(ReduceError, "careful.reference"):
        pickle.dumps(obj)
    (obstacle,) = explained([obj], "obj[0].reference")
    assert obstacle.transports == ("pickle", "cloudpickle", "joblib")


@check
def all_that_checks_find_is_explained():
    explained([Careful(a=LOCK, b=[feed()])], "obj[0].a", "obj[0].b[0]")


class Failing(Thing):
    """An object that asks for its path from the root, and then fails."""

    def __reduce__(self):
        paths.append(dry_pickler.root_path(self))
        raise ReduceError("It fails", where=f"Failing {self.part!r}.inner[2]", cure="do not")


paths = []


@check
def the_path_from_the_root_of_a_dump():
    failing = Failing(part="x")
    pipeline = Pipeline(
        [("a", StandardScaler()), ("b", FunctionTransformer(kw_args={"k": failing}))]
    )
    pickled = {
        "cloudpickle": lambda: cloudpickle.dumps(pipeline),
        "joblib": lambda: joblib.dump(pipeline, io.BytesIO()),
        "deepcopy": lambda: copy.deepcopy(pipeline),
        "joblib.hash": lambda: joblib.hash(pipeline),
        "multiprocessing": lambda: ForkingPickler.dumps(pipeline),
        "loky": lambda: loky_dumps(pipeline),
        "a function": lambda: cloudpickle.dumps([lambda: pipeline]),
        "a function in joblib": lambda: joblib.dump([lambda: pipeline], io.BytesIO()),
        "C": lambda: pickle.dumps(pipeline),
    }
    path_by_name = {}
    for name, dump in pickled.items():
        paths.clear()
        with raises(Exception, "It fails"):
            dump()
        path_by_name[name] = paths[0]
    path = "pipeline.steps[1][1].kw_args['k']"
    through_function = f"list[0].<closure 'pipeline'>{path.removeprefix('pipeline')}"
    assert path_by_name == {
        "cloudpickle": path,
        "joblib": path,
        "deepcopy": path,
        "joblib.hash": path,
        "multiprocessing": path,
        "loky": path,
        "a function": through_function,
        "a function in joblib": through_function,
        "C": "",  # The C pickler does not tell its root.
    }
    (obstacle,) = explained(pipeline, f"obj{path.removeprefix('pipeline')}.inner[2]")
    assert (obstacle.why, obstacle.cure) == ("It fails", "do not")
    assert dry_pickler.root_path(failing) == ""


@check
def the_path_of_a_model_inside_another():
    class Refusing(layers.Layer):
        def __reduce__(self):
            paths.append(dry_pickler.root_path(self, "mine"))
            return super().__reduce__()

    model = keras.Sequential([keras.Input((2,)), Refusing()])
    paths.clear()
    cloudpickle.dumps({"models": [model]})
    assert paths == ["mine['models'][0].layers[0]"]


@check
def a_dump_that_fails_leaves_nothing_in_its_file():
    model = small_model()
    model.rows = (number for number in range(3))
    scaler = StandardScaler().fit(np.ones((9, 9)))
    pipeline = Pipeline([("scale", scaler), ("keras", Thing(model=model))])
    with tempfile.TemporaryDirectory() as folder:
        for compress in (0, 3, ("gzip", 3)):
            path = Path(folder, f"dump{compress}")
            with raises(ReduceError, "generator", "pipeline.steps[1][1].model.rows", "a list"):
                joblib.dump(pipeline, path, compress=compress)
            assert path.stat().st_size < 40  # The output of a compressor without input.
            with raises(EOFError):
                joblib.load(path)
        path = Path(folder, "open")
        with path.open("wb") as file:
            file.write(b"before")
            with raises(ReduceError):
                joblib.dump(pipeline, file)
        assert path.read_bytes() == b"before"
        path.write_bytes(b"0123456789")
        with path.open("r+b") as file:
            file.seek(4)
            with raises(ReduceError):
                joblib.dump(pipeline, file)
        assert path.read_bytes() == b"0123456789"


@check
def errors_of_others_are_told_where_they_come_from():
    held = {"big": np.ones(9), "things": [Thing(guard=LOCK)]}
    try:
        joblib.dump(held, io.BytesIO())
    except TypeError as error:
        (note,) = error.__notes__
        assert "dict['things'][0].guard" in note
        assert "__getstate__" in note
    else:
        raise AssertionError


@check
def errors_of_the_pickler_in_c_know_the_path_from_the_model():
    model = small_model()
    model.rows = (number for number in range(3))
    pipeline = Pipeline([("scale", StandardScaler()), ("keras", Thing(model=model))])
    with raises(ReduceError, " - at Sequential.rows", "keras_reduce.explain"):
        pickle.dumps(pipeline)
    with raises(ReduceError, "pipeline.steps[1][1].model.rows") as caught:
        cloudpickle.dumps(pipeline)
    assert "keras_reduce.explain" not in str(caught.error)
    layer = layers.Lambda(lambda x: x if LOCK else -x)
    with raises(ReduceError, "<lambda>", "must be pickled by value", "lock"):
        pickle.dumps(layer)


if __name__ == "__main__":
    main()
