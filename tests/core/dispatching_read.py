"""Read what ``dispatching.py`` wrote, without the libraries that made entries there."""

# ruff: noqa: E402  What is imported first is what this is about.

import sys
from pathlib import Path

FOLDER = Path(sys.argv[1])
sys.modules["dill"] = sys.modules["tblib"] = None  # cannot be imported

import joblib

import keras_reduce


def check(found):
    assert found["function"](1) == 2
    assert found["closure"](1) == 6
    assert found["class"]().value() == 3
    assert found["instance"].value() == 3
    assert type(found["instance"]) is found["class"]
    assert found["partial"]("11") == 3
    assert found["range"] == range(3)


check(keras_reduce.load(FOLDER / "dump"))
check(joblib.load(FOLDER / "dump"))
check(joblib.load(FOLDER / "joblib"))
try:
    error = keras_reduce.load(FOLDER / "error")["error"]
except keras_reduce.CustomObjectError as refused:
    # tblib has entered itself in copyreg's table, which is there for that.
    print("needs tblib" if "tblib" in str(refused) else refused)
else:
    print("needs nothing" if error.what == "It fails" else error)
