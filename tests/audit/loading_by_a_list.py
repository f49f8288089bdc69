"""Files that load with ``trusted=``: with names from the allowlists, or from the user's list."""

from __future__ import annotations

import pickle
import re
import runpy
import tempfile
import warnings
from pathlib import Path

import joblib
import keras
import numpy as np
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import all_estimators

import importable
from checks import bits, check, compute_eagerly, main, raises
from keras_reduce import KerasRegressor, UntrustedError, dump, dumps, installed, load, loads
from transports import compare, outcome

compute_eagerly()
ZOO = runpy.run_path(str(Path(importable.__file__).with_name("zoo.py")), run_name="zoo")["CASES"]

# Cases of Keras's own classes, one for each format of a payload.
BUILT_IN = (
    "sequential",
    "sequential_unbuilt",
    "functional_two_inputs_two_outputs",
    "functional_shared_layer",
    "functional_with_operations",
    "functional_in_functional",
    "convolutions",
    "recurrent",
    "transformer",
    "wrapped_layers",
    "normalization_adapted",
    "text_vectorization",
    "string_and_integer_lookup",
    "mixed_float16",
    "frozen_layers",
    "regularizers_and_constraints",
    "lora",
    "quantized_int8",
    "every_optimizer",
    "lone_optimizers",
    "models_in_a_container",
    "lone_variables",
    "lone_seed_generators",
    "symbolic_tensors",
    "keras_function",
    "feature_space",
)
LISTED = {
    "layer_of_a_module": {"importable.ImportableScale", "importable.importable_loss"},
    "wrapper_of_keras": {"importable.build_for_keras"},
    "wrapper_of_scikeras": {
        "importable.build_for_keras",
        "scikeras.wrappers.KerasRegressor",
        "scikeras.utils.transformers.RegressorTargetEncoder",
    },
}
BY_VALUE = {
    "layer_of_main": "MainLayer",
    "lambda_layers": "<lambda>",
    "wrapper": "build_regressor",
    "own_train_step": "OwnTrainStep",
}


def of_the_zoo(name):
    keras.utils.set_random_seed(3)
    obj, x, y = ZOO[name]()
    return dumps(obj), x, y


def assert_same(data, x, y, trusted, name):
    expected = outcome(loads(data), x, y)
    word = compare(expected, outcome(loads(data, trusted=trusted), x, y))
    assert not word, f"{name}: {word}"


@check
def models_of_keras_own_parts_load_and_train_on():
    for name in BUILT_IN:
        assert_same(*of_the_zoo(name), [], name)


def names_in(error):
    """Return the names of the list that an error message offers for pasting."""
    (listed,) = re.findall(r"trusted=\[(.*?)\]", str(error))
    return re.findall(r"'(.*?)'", listed)


@check
def what_is_named_in_the_message_loads_once_it_is_listed():
    for name, expected in LISTED.items():
        data, x, y = of_the_zoo(name)
        with raises(UntrustedError) as demand:
            loads(data, trusted=[])
        assert set(names_in(demand.error)) == expected, demand.error
        assert_same(data, x, y, names_in(demand.error), name)


@check
def code_by_value_is_named_and_can_not_be_listed():
    for name, said in BY_VALUE.items():
        data, _, _ = of_the_zoo(name)
        with raises(UntrustedError, said, "no list can trust", "code that is in the file itself"):
            loads(data, trusted=["zoo.", "__main__.", "keras.", "importable."])


@check
def searches_load_from_every_kind_of_file():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 4)).astype("float32")
    wrapper = KerasRegressor(importable.build, epochs=1, random_state=0)
    grid = {"kerasregressor__units": [3, 4]}
    search = GridSearchCV(make_pipeline(StandardScaler(), wrapper), grid, cv=2).fit(x, x.sum(1))
    expected = bits(search.predict(x))
    path = Path(FOLDER, "search")
    for compress in (0, 1, "gzip", ("xz", 1)):
        dump(search, path, compress, key=b"k" * 16)
        with raises(UntrustedError, "trusted=['importable.build']"):
            load(path, trusted=[])
        for mode in (None, "r", "c"):
            for more in ({}, {"verify": False}, {"key": b"k" * 16}):
                search_copy = load(path, mode, trusted=[importable.build], **more)
                assert bits(search_copy.predict(x)) == expected
                assert bits(search_copy.cv_results_["mean_test_score"]) == bits(
                    search.cv_results_["mean_test_score"]
                )
    with installed():
        joblib.dump(search, path)
    assert bits(load(path, verify=False, trusted=["importable."]).predict(x)) == expected


def arrays():
    """Yield arrays and scalars, one for each way in which NumPy pickles them."""
    plain = ("f2", "f4", "i8", "?", "c8", "O", "S5", "U3", "V4", ">f8", "M8[D]", "m8[25s]")
    padded = np.dtype({"names": ["x"], "formats": ["f4"], "offsets": [4], "itemsize": 16})
    records = (
        [("a", "f4"), ("b", "i8", (2,))],
        np.dtype([("a", "f4"), ("b", ">i8")], align=True),
        [("a", "O"), ("b", "i4")],
        [(("title", "a"), "f4")],
        [("a", [("b", "f4"), ("c", "U2")])],
        np.dtype("f4", metadata={"a": 1}),
        padded,
    )
    yield from (np.zeros(2, dtype) for dtype in (*plain, *records))
    yield from (np.zeros((2, 3), order="F"), np.zeros(0), np.array(5), np.matrix([[1, 2]]))
    yield from (np.ma.masked_array([1, 2.0], [0, 1]), np.float32(3), np.str_("a"))
    yield from (np.datetime64("2020-01-01"), np.dtype("i4"), np.dtype([("a", "f4")]))
    if hasattr(np, "dtypes") and hasattr(np.dtypes, "StringDType"):
        yield np.array(["a", "longer than what is kept in place"], np.dtypes.StringDType())


@check
def values_of_numpy_load():
    for value in arrays():
        for protocol in range(6):
            data = pickle.dumps(value, protocol)
            loaded, expected = loads(data, verify=False, trusted=[]), pickle.loads(data)
            assert repr(loaded) == repr(expected), (loaded, expected)
            assert getattr(loaded, "dtype", None) == getattr(expected, "dtype", None)
        assert repr(loads(dumps([value]), trusted=[])) == repr([value])
    for generator in (np.random.RandomState(3), np.random.default_rng(3)):
        loaded = loads(pickle.dumps(generator), verify=False, trusted=[])
        assert bits(loaded.normal(size=9)) == bits(generator.normal(size=9))


@check
def estimators_of_scikit_learn_load():
    """Try all estimators that fit two clusters of points with default arguments."""
    x, y = make_blobs(40, 3, centers=2, random_state=0)
    x = np.abs(x)
    loaded = 0
    for name, cls in all_estimators():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fitted = cls().fit(x, y)
                data = dumps(fitted)
                copied = loads(data, trusted=[])
        except UntrustedError:
            raise
        except Exception:  # it needs other data or arguments
            continue
        assert type(copied) is cls, name
        if hasattr(fitted, "predict"):
            assert bits(copied.predict(x)) == bits(fitted.predict(x)), name
        loaded += 1
    assert loaded > 100


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as FOLDER:
        main()
