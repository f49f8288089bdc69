"""Common part of the programs that ship objects of other libraries, natively and by this package.

``python PROGRAM write FOLDER`` builds and pickles the objects; ``python PROGRAM read FOLDER``
compares the files with the expected results, in a process that never called `install`. Names of
groups after the folder select these groups.
"""

from __future__ import annotations

import copy
import json
import pickle
import sys
import traceback
from pathlib import Path

import cloudpickle

import keras_reduce
from checks import bits, raises

# Functions by name; each has one row in the table in ``docs/libraries.md``.
CARRIED, REFUSED = {}, {}


def carried(function):
    """Register a generator of names, objects, and functions that return results of an object."""
    CARRIED[function.__name__] = function
    return function


def refused(function):
    """Register a generator of objects that must be refused when they are pickled."""
    REFUSED[function.__name__] = function
    return function


def write(folder, *wanted):
    words, natives, expected = {}, {}, {}
    for group in wanted or CARRIED | REFUSED:
        words[group], natives[group] = {}, {}
        try:
            write_group(folder, group, words[group], natives[group], expected)
        except Exception:
            words[group]["objects"] = traceback.format_exc()
    (folder / "expected.json").write_text(json.dumps(expected))
    return {"words": words, "natives": natives}


def write_group(folder, group, words, natives, expected):
    for name, obj, use in (CARRIED | REFUSED)[group]():
        print(
            group, name, file=sys.stderr, flush=True
        )  # so that stderr shows where a program hangs
        key = f"{group}-{name}"
        try:
            native = natively(obj)
            with keras_reduce.installed():
                if group in REFUSED:
                    refuse(obj)
                else:
                    (folder / f"{key}.use").write_bytes(cloudpickle.dumps(use))
                    expected[key] = ship(obj, use, folder / key)
            is_known = isinstance(native, str)
            natives[name] = native if is_known else same(native, use, expected.get(key))
            is_lost = group in REFUSED and natives[name] == ""
            words[name] = "native pickling carries it" if is_lost else ""
        except Exception:
            words[name] = traceback.format_exc()


def natively(obj):
    """Return a list with the copy by native pickling, or the name of the error."""
    try:
        return [pickle.loads(cloudpickle.dumps(obj))]
    except Exception as error:
        return type(error).__name__


def same(native, use, expected):
    try:
        return "" if bits(use(native[0])) == expected else "differs"
    except Exception as error:
        return type(error).__name__


def ship(obj, use, path):
    """Pickle `obj` in two ways and copy it; return the expected results."""
    path.with_suffix(".pickle").write_bytes(cloudpickle.dumps(obj))
    keras_reduce.dump([obj], path.with_suffix(".joblib"))
    copied = copy.deepcopy(obj)
    expected = bits(use(obj))
    assert bits(use(copied)) == expected, "the copy differs"
    return expected


def refuse(obj):
    for dump in (cloudpickle.dumps, keras_reduce.dumps, copy.deepcopy):
        with raises(keras_reduce.ReduceError, "What to do"):
            dump(obj)


def read(folder, *_):
    expected = json.loads((folder / "expected.json").read_text())
    words = {}
    for key, said in expected.items():
        try:
            use = pickle.loads((folder / f"{key}.use").read_bytes())
            copies = [pickle.loads((folder / f"{key}.pickle").read_bytes())]
            copies += keras_reduce.load(folder / f"{key}.joblib")
            words[key] = "" if [bits(use(obj)) for obj in copies] == 2 * [said] else "differs"
        except Exception:
            words[key] = traceback.format_exc()
    return words


def main():
    role, folder, *wanted = sys.argv[1:]
    report = {"write": write, "read": read}[role](Path(folder), *wanted)
    Path(folder, f"{role}.json").write_text(json.dumps(report))
