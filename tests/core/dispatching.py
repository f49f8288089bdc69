"""Dumps and hashes with entries of other libraries in `pickle._Pickler.dispatch`.

Arguments: the source of the entries, one of `WHO` in ``test_picklers.py``, and a folder for
``dispatching_read.py``.
"""

# ruff: noqa: E402  This program is about the order of imports.

import functools
import io
import json
import pickle
import sys
import threading
import types
from pathlib import Path

WHO, FOLDER = sys.argv[1], Path(sys.argv[2])
LOCKS = type(threading.Lock())
HIJACKED = (types.CodeType, types.CellType, types.FunctionType, type, dict, functools.partial)


def hijacked(pickler, obj):
    pickler.save_reduce(__import__, ("a_module_that_no_reader_has",), obj=obj)


def locked(pickler, obj):
    pickler.save_reduce(threading.Lock, (), obj=obj)


if WHO == "no library":
    sys.modules["dill"] = sys.modules["tblib"] = None  # cannot be imported
elif WHO == "stranger":
    pickle._Pickler.dispatch.update(dict.fromkeys(HIJACKED, hijacked) | {LOCKS: locked})
elif WHO == "dill first":
    import dill

import joblib
from joblib.hashing import Hasher
from joblib.numpy_pickle import NumpyPickler

import keras_reduce
from checks import check, main, raises


class Copying(NumpyPickler):
    """A pickler with its own dispatch table, created before `install`."""

    dispatch = NumpyPickler.dispatch.copy()


before = dict(vars(NumpyPickler)), dict(vars(Hasher))
keras_reduce.install()
if WHO == "dill last":
    import dill  # noqa: F401
    import tblib.pickling_support

    tblib.pickling_support.install()

IS_FIRST = WHO in ("stranger", "dill first")


class Local:
    def value(self):
        return 3


def content():
    return {
        "function": lambda x: x + 1,
        "closure": (lambda base: lambda x: x + base)(5),
        "class": Local,
        "instance": Local(),
        "partial": functools.partial(int, base=2),
        "range": range(3),
        "error": keras_reduce.ReduceError("It fails", "here", "a cause", "a cure"),
    }


def joblib_dump(obj):
    buffer = io.BytesIO()
    joblib.dump(obj, buffer)
    return buffer.getvalue()


@check
def files_name_no_other_library():
    parts = content()
    error = {"error": parts.pop("error")}
    dumps = {"dump": keras_reduce.dumps(parts), "joblib": joblib_dump(parts)}
    for name, data in dumps.items():
        for root in (b"dill", b"a_module_that_no_reader_has"):
            assert root not in data, (name, root)
        (FOLDER / name).write_bytes(data)
    (FOLDER / "error").write_bytes(keras_reduce.dumps(error))


@check
def a_subclass_with_a_table_of_its_own():
    buffer = io.BytesIO()
    Copying(buffer).dump(content()["closure"])
    assert b"dill" not in buffer.getvalue()
    assert b"no_reader" not in buffer.getvalue()
    assert pickle.loads(buffer.getvalue())(1) == 6


@check
def errors_come_back():
    error = keras_reduce.loads((FOLDER / "error").read_bytes())["error"]
    assert (error.what, error.where, error.cause) == ("It fails", "here", "a cause")


@check
def locks_and_files_are_refused():
    with Path(__file__).open("rb") as file:
        for obj in (threading.Lock(), file):
            with raises(keras_reduce.ReduceError, "can't be written"):
                keras_reduce.dumps({"part": obj})
            (obstacle,) = keras_reduce.explain({"part": obj}, "obj").obstacles
            assert obstacle.path == "obj['part']"


@check
def functions_are_explained():
    (obstacle,) = keras_reduce.explain(lambda x: x).obstacles
    assert obstacle.transports == ("pickle",)


@check
def an_entry_for_another_type_is_kept_for_joblib():
    # The program may rely on this, as it does without this package.
    if IS_FIRST:
        assert isinstance(pickle.loads(joblib_dump(threading.Lock())), LOCKS)
        assert joblib.hash(threading.Lock())
    else:
        with raises(TypeError, "lock"):
            joblib_dump(threading.Lock())


@check
def hashes():
    parts = content()
    del parts["error"]  # tblib adds the frames of the stack
    (FOLDER / "hashes").write_text(json.dumps({k: joblib.hash(v) for k, v in parts.items()}))


@check
def everything_is_put_back():
    keras_reduce.uninstall()
    assert before == (dict(vars(NumpyPickler)), dict(vars(Hasher)))


main()
