"""A program without Keras: what it writes, hashes and starts, with `install` and without.

``python without_keras.py installed`` prints the same as ``python without_keras.py plain``, but for
the line that begins with "calls".
"""

from __future__ import annotations

import collections
import hashlib
import io
import json
import pickle
import sys
from pathlib import Path

import joblib
import numpy as np
import scipy.sparse
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

import keras_reduce

X, Y = load_iris(return_X_y=True)
ARRAY = np.arange(600.0).reshape(20, 30)
PIPELINE = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
TEXTS = np.array([["a", None], ["b", None]], dtype=object)
OBJECTS = {
    "array": ARRAY,
    "arrays and views": [ARRAY, ARRAY[:3], ARRAY.T, ARRAY[::2], np.float32(3)],
    "an array twice": {"one": ARRAY, "two": ARRAY},
    "values as objects": TEXTS,
    "structured": np.zeros(3, [("a", "i4"), ("b", "f8")]),
    "sparse": scipy.sparse.csr_matrix(ARRAY),
    "pipeline": PIPELINE,
    "tree": DecisionTreeClassifier(random_state=0).fit(X, Y),
    "columns": ColumnTransformer([("a", OneHotEncoder(), [0]), ("b", "drop", [1])]),
    "containers": {"a": [(1, 2.5, None)] * 3, "b": {1, 2}, "c": collections.OrderedDict(a=1)},
    "functions and classes": [len, np.mean, np.sin, StandardScaler, collections.deque([1], 3)],
    "random states": [np.random.RandomState(0), np.random.default_rng(0)],
}


def dumped(obj, **options):
    file = io.BytesIO()
    joblib.dump(obj, file, **options)
    return file.getvalue()


def count_of_calls(function, *arguments):
    """Return the number of calls that `function` makes, of functions in Python and in C."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        function(*arguments)
    finally:
        sys.setprofile(None)
    return count


if __name__ == "__main__":
    if sys.argv[1] == "installed":
        keras_reduce.install()
    for name, obj in OBJECTS.items():
        digests = [hashlib.md5(dumped(obj, compress=level)).hexdigest() for level in (0, 3)]
        digests += [hashlib.md5(pickle.dumps(obj)).hexdigest(), joblib.hash(obj)]
        print(name, *digests)
    results = joblib.Parallel(2)(joblib.delayed(abs)(-number) for number in range(200))
    print(results == list(range(200)), joblib.parallel.get_active_backend()[0].__class__.__name__)
    lists = Path("/proc/self/task").glob("*/children")
    print("children", sum(len(each.read_text().split()) for each in lists))
    print(sorted(name for name in ("keras", "tensorflow") if name in sys.modules))
    large = {"numbers": list(range(3000)), "pipelines": [PIPELINE] * 3, "array": ARRAY}
    counts = {
        function.__name__: [count_of_calls(function, each) for each in (large, PIPELINE)]
        for function in (dumped, joblib.hash)
    }
    print("calls", json.dumps(counts))
