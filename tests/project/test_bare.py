"""Behaviour without Keras and without any of its backends, whose imports are blocked here."""

import os
import subprocess
import sys

import pytest

from processes import ROOT, python

GOLDEN = ROOT / "tests" / "golden"

# The finder comes before all others and blocks installed frameworks.
WITHOUT = """
import sys

class Absent:
    names = {"keras", "tf_keras", "tensorflow", "jax", "torch", "scikeras"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def without(code, *arguments, **more):
    return python(WITHOUT + code, *arguments, fresh=True, **more)


def test_the_probe_finds_no_framework():
    without(
        """
for name in Absent.names:
    try:
        __import__(name)
    except ImportError:
        continue
    raise AssertionError(name)
"""
    )


def test_what_is_missing_for_an_engine_is_named():
    without(
        """
import keras_reduce
Absent.names |= {"distributed"}
try:
    keras_reduce.dask.plugin()
except keras_reduce.FrameworkError as error:
    assert "pip install 'keras_reduce[dask]'" in str(error)
else:
    raise AssertionError
"""
    )


def test_install_and_uninstall():
    without(
        """
import copyreg
import joblib, numpy, sklearn.linear_model
from joblib.numpy_pickle import NumpyPickler
before = dict(vars(NumpyPickler)), dict(copyreg.dispatch_table), list(sys.meta_path)
import keras_reduce
keras_reduce.install(legacy_wrappers=True)
assert keras_reduce.is_installed()
keras_reduce.install(functions_by_value=False)
try:
    import keras
except ModuleNotFoundError as error:
    assert error.name == "keras"
else:
    raise AssertionError
keras_reduce.uninstall()
assert not keras_reduce.is_installed()
assert before == (dict(vars(NumpyPickler)), dict(copyreg.dispatch_table), list(sys.meta_path))
with keras_reduce.installed():
    pass
for name in keras_reduce.__all__:
    getattr(keras_reduce, name)
"""
    )


def test_scikit_learn_and_joblib_do_as_ever(tmp_path):
    without(
        """
import pickle
import joblib, numpy as np
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
import keras_reduce

x = np.random.default_rng(0).normal(size=(40, 3))
y = x.sum(1)

def search(**more):
    return GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, **more).fit(x, y)

expected = search().cv_results_["mean_test_score"]
hashed = joblib.hash([x, search().best_estimator_.coef_])
with keras_reduce.installed():
    for backend in ("loky", "threading", None):
        with joblib.parallel_config(backend) if backend else joblib.parallel_config():
            fitted = search(n_jobs=2)
        assert np.array_equal(fitted.cv_results_["mean_test_score"], expected), backend
    assert joblib.hash([x, fitted.best_estimator_.coef_]) == hashed
    path = sys.argv[1] + "/search.joblib"
    joblib.dump({"search": fitted, "square": lambda value: value**2}, path)
    assert pickle.loads(pickle.dumps(clone(fitted))).get_params()["cv"] is None
loaded = joblib.load(path)
assert loaded["square"](3) == 9
assert np.array_equal(loaded["search"].predict(x), fitted.predict(x))
""",
        tmp_path,
    )


def test_what_is_not_of_keras_is_dumped_and_loaded(tmp_path):
    without(
        """
import numpy as np
import keras_reduce
from keras_reduce import dump, dumps, load, loads
content = {"array": np.arange(5.0), "words": ["a", {1: 2}], "function": lambda value: value + 1}
dump(content, sys.argv[1])
for loaded in (loads(dumps(content)), load(sys.argv[1])):
    assert loaded["array"].tolist() == [0, 1, 2, 3, 4]
    assert (loaded["words"], loaded["function"](1)) == (["a", {1: 2}], 2)
assert load(sys.argv[1], mmap_mode="r")["array"].sum() == 10
report = keras_reduce.explain(content)
assert "keras" not in sys.modules
""",
        tmp_path / "content",
    )


FILES = ("pickle", "joblib", "joblib.z", "dump")


@pytest.mark.parametrize("container", FILES)
def test_a_model_is_refused_with_what_to_install(container):
    """Try all golden files with a Keras object of any kind."""
    without(
        """
import pickle, pathlib
import joblib
import keras_reduce
container = sys.argv[1]
read = {"pickle": lambda path: pickle.loads(path.read_bytes()), "dump": keras_reduce.load}
paths = [
    path
    for path in pathlib.Path(sys.argv[2]).glob(f"protocol-*/keras3/*.{container}")
    if path.name.partition(".")[0] not in {"tf_function", "estimator"}
]
assert paths
for path in paths:
    try:
        read.get(container, joblib.load)(path)
    except keras_reduce.FrameworkError as error:
        said = str(error)
        assert "No module named 'keras'" in said, said
        assert "pip install" in said, said
        assert isinstance(error, ImportError)
    else:
        raise AssertionError(path)
""",
        container,
        GOLDEN,
        path=[GOLDEN],
    )


def test_an_estimator_says_what_it_needs():
    without(
        """
import keras_reduce
import numpy as np

def build():
    import keras
    return keras.Sequential([keras.layers.Dense(1)])

estimator = keras_reduce.KerasRegressor(build)
loaded = keras_reduce.loads(keras_reduce.dumps(estimator))
assert loaded.get_params()["build_fn"].__name__ == "build"
try:
    estimator.fit(np.ones((3, 2)), np.ones(3))
except ImportError as error:
    assert "keras" in str(error)
else:
    raise AssertionError
"""
    )


def test_the_demo_says_what_it_needs(tmp_path):
    code = WITHOUT + "from keras_reduce.__main__ import main\nsys.exit(main(['demo']))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "pip install" in result.stderr
