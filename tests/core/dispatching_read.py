"""Load the files of ``dispatching.py``, without the libraries that made entries there."""

# ruff: noqa: E402  This program is about the order of imports.

import sys
from pathlib import Path

FOLDER = Path(sys.argv[1])
sys.modules["dill"] = sys.modules["tblib"] = None  # cannot be imported

import joblib

import keras_reduce


def check(content):
    assert content["function"](1) == 2
    assert content["closure"](1) == 6
    assert content["class"]().value() == 3
    assert content["instance"].value() == 3
    assert type(content["instance"]) is content["class"]
    assert content["partial"]("11") == 3
    assert content["range"] == range(3)


check(keras_reduce.load(FOLDER / "dump"))
check(joblib.load(FOLDER / "dump"))
check(joblib.load(FOLDER / "joblib"))
try:
    error = keras_reduce.load(FOLDER / "error")["error"]
except keras_reduce.CustomObjectError as refused:
    # tblib has registered itself in copyreg's table, which is meant for that.
    print("needs tblib" if "tblib" in str(refused) else refused)
else:
    print("needs nothing" if error.what == "It fails" else error)
