"""Files of `keras_reduce.dump` with Keras objects, in a program that never calls `install`."""

import hashlib
import pickle
import sys
import threading
from pathlib import Path

import joblib
import keras
import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import keras_reduce
from checks import check, compute_eagerly, main, raises
from keras_reduce import KerasRegressor, dump, dumps, load, loads
from keras_reduce.core import payload
from keras_reduce.errors import PayloadError, ReduceError

compute_eagerly()
FOLDER = Path(sys.argv[1])
X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
Y = X.sum(1)


class Doubling(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def build(units=8):
    model = keras.Sequential(
        [keras.Input((6,)), Doubling(), keras.layers.Dense(units, "relu"), keras.layers.Dense(1)]
    )
    model.compile("adam", "mse")
    return model


def fitted():
    keras.utils.set_random_seed(0)
    pipeline = make_pipeline(
        StandardScaler(),
        FunctionTransformer(lambda values: values * 0.5),
        KerasRegressor(build, units=5, epochs=2),
    )
    return pipeline.fit(X, Y)


def values(model):
    return [np.asarray(v).tobytes() for v in (*model.weights, *model.optimizer.variables)]


def trained(model):
    """Return the values after one more epoch without randomness."""
    model.fit(X, Y, epochs=1, batch_size=8, shuffle=False, verbose=0)
    return values(model)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


PIPELINE = fitted()
np.save(FOLDER / "expected.npy", PIPELINE.predict(X))


@check
def files_for_another_program():
    for name, compress in {"plain": 0, "zlib": 1, "lzma": ("lzma", 1)}.items():
        dump(PIPELINE, FOLDER / name, compress)
    assert not keras_reduce.is_installed()


@check
def a_pipeline_comes_back_bit_for_bit_and_goes_on():
    files_for_another_program()
    expected = PIPELINE.predict(X).tobytes()
    fresh = [
        load(FOLDER / "plain"),
        load(FOLDER / "zlib"),
        load(FOLDER / "lzma"),
        load(FOLDER / "plain", mmap_mode="r"),
        load(FOLDER / "plain", mmap_mode="c"),
        load(FOLDER / "plain", mmap_mode="r", verify=True),
        loads(dumps(PIPELINE)),
        loads(dumps(PIPELINE, "gzip")),
        joblib.load(FOLDER / "plain"),
    ]
    before = {name: digest(FOLDER / name) for name in ("plain", "zlib", "lzma")}
    for copied in fresh:
        assert copied.predict(X).tobytes() == expected
    reference = trained(loads(dumps(PIPELINE))[-1].model_)
    assert reference != values(PIPELINE[-1].model_)
    for copied in fresh:
        assert trained(copied[-1].model_) == reference
    # Neither prediction nor training has written into a mapped file.
    assert before == {name: digest(FOLDER / name) for name in before}


def address(variable):
    return np.asarray(memoryview(variable.value.read_value())).__array_interface__["data"][0]


@check
def training_copies_only_what_it_changes():
    model = build(32)
    model.layers[1].trainable = False
    model.compile("adam", "mse")
    dump(model, FOLDER / "frozen")
    before = digest(FOLDER / "frozen")
    mapped = load(FOLDER / "frozen", mmap_mode="r")
    frozen, trainable = mapped.non_trainable_variables, mapped.trainable_variables
    addresses = [list(map(address, some)) for some in (frozen, trainable)]
    expected = trained(model)
    assert trained(mapped) == expected
    assert list(map(address, frozen)) == addresses[0]
    assert not set(map(address, trainable)) & set(addresses[1])
    assert digest(FOLDER / "frozen") == before


@check
def identity_is_kept():
    model = build()
    loaded = loads(dumps({"model": model, "layer": model.layers[1], "models": [model, model]}))
    assert loaded["models"][0] is loaded["models"][1] is loaded["model"]
    assert loaded["layer"] is loaded["model"].layers[1]


@check
def threads_dump_at_once_without_an_installation():
    barrier, failures = threading.Barrier(2), []
    models = [build(3), build(4)]
    expected = [values(model) for model in models]

    def work(number):
        try:
            barrier.wait()
            for turn in range(15):
                # One thread begins and ends a dump while the other is within one.
                loaded = loads(dumps(models[number], turn % 2))
                assert values(loaded) == expected[number]
                dump(models[number], FOLDER / f"thread{number}")
            assert values(load(FOLDER / f"thread{number}")) == expected[number]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures, failures
    assert not keras_reduce.is_installed()
    assert keras.layers.Dense(1).__reduce__()[0].__module__ != "keras_reduce.reducers"


@check
def what_cannot_be_carried_is_named():
    model = build()
    model.rows = (i for i in ())
    path = FOLDER / "refused"
    with raises(ReduceError, "pipeline.steps[0][1].kw_args['m'].rows", "generator", "a list"):
        dump(make_pipeline(FunctionTransformer(kw_args={"m": model})), path)
    with raises(ReduceError, "list[0].steps[0][1].kw_args['k']", "_thread.lock", "__setstate__"):
        dump([make_pipeline(FunctionTransformer(kw_args={"k": threading.Lock()}))], path)
    assert not path.exists()


@check
def a_newer_protocol_is_refused_by_its_name():
    original = payload.PROTOCOL
    payload.PROTOCOL = 99
    try:
        data = dumps(build())
    finally:
        payload.PROTOCOL = original
    for verify in (None, False):
        with raises(PayloadError, "protocol number 99", "pip install"):
            loads(data, verify=verify)


@check
def an_installation_changes_nothing():
    plain = loads(dumps(PIPELINE))
    with keras_reduce.installed():
        assert loads(dumps(PIPELINE)).predict(X).tobytes() == plain.predict(X).tobytes()
        assert keras_reduce.is_installed()
    assert isinstance(pickle.loads(pickle.dumps(plain.predict(X))), np.ndarray)


if __name__ == "__main__":
    main()
