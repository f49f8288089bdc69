"""Attacks: files that run a command when they are loaded, and that ``trusted=`` refuses.

Each attack must also succeed without ``trusted=``; otherwise its refusal would prove nothing.
"""

from __future__ import annotations

import contextlib
import copy
import copyreg
import functools
import importlib
import io
import json
import operator
import os
import pickle
import sys
import tempfile
import textwrap
from pathlib import Path

import cloudpickle
import joblib
import keras
import numpy as np
import scipy.sparse.linalg
import scipy.stats
from sklearn.base import BaseEstimator
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import keras_reduce
from checks import check, entering, main, raises
from keras_reduce import UntrustedError, dumps, load, loads

FOLDER = Path(tempfile.mkdtemp(prefix="attacks-"))
MARK = FOLDER / "mark"
COMMAND = f"touch {MARK}"
ATTACKS: dict = {}

attack = entering(ATTACKS)


class Calls:
    """An object whose unpickling is a call of a function."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments, *(() if state is None else (state,)))

    def __reduce__(self):
        return self.reduced


TRAP = Calls(os.system, COMMAND)


def by_name(module, name, *arguments, protocol=4):
    """Return a pickle that calls a global by a dotted name, looked up through attributes."""
    file = io.BytesIO()
    file.write(b"\x80" + bytes([protocol]))
    for text in (module, name):
        file.write(b"\x8c" + bytes([len(text)]) + text.encode())
    file.write(b"\x93")
    file.write(pickle.dumps(arguments, protocol)[2:-1])
    file.write(b"R.")
    return file.getvalue()


# --- in any pickle ---------------------------------------------------------------------------


@attack
def calls_of_every_protocol():
    for protocol in range(6):
        yield pickle.dumps({"a": [TRAP]}, protocol)


@attack
def opcodes_of_old():
    yield b"(S'" + COMMAND.encode() + b"'\nios\nsystem\n."  # INST
    yield b"(cos\nsystem\nS'" + COMMAND.encode() + b"'\no."  # OBJ
    yield b"cposix\nsystem\n(S'" + COMMAND.encode() + b"'\ntR."


@attack
def evaluation():
    yield pickle.dumps(Calls(eval, f"__import__('os').system({COMMAND!r})"))
    yield pickle.dumps(Calls(exec, f"import os; os.system({COMMAND!r})"))


class Applied:
    """An object whose unpickling calls the object that another one unpickles to."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return apply, (self.function, *self.arguments)


def apply(function, *arguments):
    return function(*arguments)


@attack
def roundabout_ways():
    system = Calls(getattr, Calls(__import__, "os"), "system")
    yield pickle.dumps(Applied(system, COMMAND))
    yield pickle.dumps(Applied(Calls(functools.partial, os.system, COMMAND)))
    yield pickle.dumps(Calls(list, Calls(map, os.system, [COMMAND])))
    yield pickle.dumps(Applied(operator.methodcaller("system", COMMAND), Calls(__import__, "os")))


@attack
def attributes_of_modules_that_are_known():
    for module in ("joblib.numpy_pickle", "sklearn.base", "numpy", "scipy"):
        for name, attribute in vars(sys.modules[module]).items():
            if getattr(attribute, "system", None) is os.system:
                yield by_name(module, f"{name}.system", COMMAND)


@attack
def numbers_in_place_of_names():
    copyreg.add_extension("os", "system", 240)
    yield b"\x80\x02\x82\xf0X" + len(COMMAND).to_bytes(4, "little") + COMMAND.encode() + b"\x85R."


@attack
def code_by_value():
    def __setstate__(self, state):  # noqa: N807
        os.system(COMMAND)

    evil = type("Evil", (), {"__setstate__": __setstate__, "__module__": "__main__"})
    instance = evil()
    instance.something = 1
    yield cloudpickle.dumps(instance)
    yield dumps(instance)
    if keras_reduce.is_installed():
        yield pickle.dumps(instance)


@attack
def pickles_within_pickles():
    yield pickle.dumps(Calls(pickle.loads, pickle.dumps(TRAP)))
    yield pickle.dumps(np.array([1, TRAP], object))
    for compress in (0, 1):
        file = io.BytesIO()
        joblib.dump({"array": np.array([1, TRAP], object)}, file, compress=compress)
        yield file.getvalue()
        yield dumps({"array": np.array([[TRAP]], object)}, compress)


@attack
def other_files():
    path = FOLDER / "other"
    joblib.dump(TRAP, path)
    yield pickle.dumps(Calls(joblib.load, str(path)))
    array = FOLDER / "array.npy"
    np.save(array, np.array([TRAP], object))
    yield pickle.dumps(Calls(_load_array, str(array)))
    yield by_name("numpy", "memmap", str(MARK), "uint8", "w+", 0, (4,))


def _load_array(path):
    return np.load(path, allow_pickle=True)


@attack
def templates_of_distributions():
    """Put code into the state of a SciPy distribution, which executes a template from there."""
    distribution = copy.copy(scipy.stats.norm)
    template = distribution._parse_arg_template
    distribution._parse_arg_template = f"import os; os.system({COMMAND!r})\n{template}"
    state = vars(distribution)
    kind = type(distribution)
    yield pickle.dumps(Calls(copyreg._reconstructor, kind, object, None, state=state))


class Importing(BaseEstimator):
    """A user-defined estimator with a method that unpicklers call."""

    def __setstate__(self, state):
        os.system(COMMAND)


@attack
def classes_that_are_not_listed():
    yield pickle.dumps(Importing())
    yield pickle.dumps(FunctionTransformer(TRAP))


# --- in payloads -----------------------------------------------------------------------------


def payload(change, *, kind=None):
    """Return a pickle of a layer or model whose config and custom objects `change` has changed."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")])
    with keras_reduce.installed():
        rebuild, arguments, *_ = (kind or model.layers[0]).__reduce__()
    document, custom = json.loads(arguments[0]), arguments[3]
    custom = change(document) or custom
    arrays = arguments[1] if document["header"]["weights"] else ()
    return pickle.dumps(Calls(rebuild, json.dumps(document), arrays, None, custom, ()))


def malice(name):
    """Write a module that leaves the mark when it is imported; return its name."""
    (FOLDER / f"{name}.py").write_text(
        f"import os\nos.system({COMMAND!r})\ndef system(x): return x\n"
    )
    return name


@attack
def lambdas_in_configs():
    layer = keras.layers.Lambda(eval(f"lambda x: (__import__('os').system({COMMAND!r}), x)[1]"))
    config = keras.saving.serialize_keras_object(layer)

    def change(document):
        model = keras.Sequential([keras.Input((2,))])
        document["config"] = keras.saving.serialize_keras_object(model)
        document["config"]["config"]["layers"].append(config)
        document["config"]["config"]["build_input_shape"] = [None, 2]
        document["header"]["weights"] = []

    model = keras.Sequential([keras.Input((2,))])
    yield payload(change, kind=model)


@attack
def modules_named_by_references():
    module = malice("evil_reference")
    yield payload(lambda document: ((("key", module, "system", -1, None),), ()))


@attack
def modules_named_by_functions():
    module = malice("evil_function")

    def change(document):
        plain = {"module": module, "name": "system"}
        document["config"] = {"class_name": "function", "assembly": ["tf_function", plain, []]}
        document["header"]["weights"] = []

    yield payload(change)


@keras.saving.register_keras_serializable("Malicious")
class Registered(keras.layers.Layer):
    @classmethod
    def from_config(cls, config):
        os.system(COMMAND)
        return cls()


@attack
def what_the_program_has_registered():
    def change(document):
        document["config"] = keras.saving.serialize_keras_object(Registered())
        document["header"]["weights"] = []

    yield payload(change)


@attack
def payloads_in_payloads():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with keras_reduce.installed():
        rebuild, arguments, *_ = model.__reduce__()
    yield pickle.dumps(Calls(rebuild, *arguments[:4], (*arguments[4], TRAP)))


# --- all attacks -----------------------------------------------------------------------------


def fires(data):
    """Tell whether an attack succeeds when its file is loaded without ``trusted=``."""
    MARK.unlink(missing_ok=True)
    for read in (
        lambda: pickle.loads(data),
        lambda: joblib.load(io.BytesIO(data)),
        lambda: loads(data, verify=False),
    ):
        with contextlib.suppress(Exception):  # Errors after the attack don't matter.
            read()
    has_fired = MARK.exists()
    MARK.unlink(missing_ok=True)
    return has_fired


@check
def each_works_and_is_refused():
    sys.path.insert(0, str(FOLDER))
    wrong = []
    for name, make in ATTACKS.items():
        files = list(make())
        assert files, name
        for number, data in enumerate(files):
            for module in [name for name in sys.modules if name.startswith("evil_")]:
                del sys.modules[module]
            label = f"{name}[{number}]"
            path = FOLDER / "file"
            path.write_bytes(data)
            for read in (
                lambda data=data: loads(data, verify=False, trusted=[]),
                lambda path=path: load(path, verify=False, trusted=["harmless."]),
                lambda path=path: load(path, "r", verify=False, trusted=["harmless."]),
            ):
                try:
                    read()
                    wrong.append(f"{label} is loaded")
                except UntrustedError:
                    pass
                except Exception as error:
                    wrong.append(f"{label} ends otherwise: {error!r}")
                if MARK.exists():
                    wrong.append(f"{label} has worked")
                    MARK.unlink()
            if not fires(data):
                wrong.append(f"{label} does not work without trusted=")
    assert not wrong, "\n".join(wrong)


@check
def inspecting_them_runs_nothing_and_shows_what_they_would_do():
    wrong = []
    for name, make in ATTACKS.items():
        for number, data in enumerate(make()):
            path = FOLDER / "file"
            path.write_bytes(data)
            before = set(sys.modules)
            report = keras_reduce.inspect(path)
            label = f"{name}[{number}]"
            if MARK.exists() or any(each.startswith("evil_") for each in set(sys.modules) - before):
                wrong.append(f"{label} has worked")
                MARK.unlink(missing_ok=True)
            suspicious = [each for each in report.names if each.kind == "foreign" or each.warning]
            remarks = [text for _, model in report.models for text in model.remarks]
            if not (suspicious or report.code or report.odd or remarks):
                wrong.append(f"{label} looks harmless:\n{report}")
            assert report.to_json()
            assert report.to_html()
    assert not wrong, "\n".join(wrong)


# --- other malicious files -------------------------------------------------------------------


def refused(data, *fragments, trusted=()):
    with raises(UntrustedError, *fragments) as demand:
        loads(data, verify=False, trusted=trusted)
    return str(demand.error)


@check
def the_message_has_all_that_is_needed_and_can_be_pasted():
    with raises(UntrustedError) as demand:
        loads(pickle.dumps([json.loads, textwrap.dedent, json.dumps]), verify=False, trusted=[])
    assert "trusted=['json.dumps', 'json.loads', 'textwrap.dedent']" in str(demand.error)
    assert loads(
        pickle.dumps([json.loads, json.dumps]), verify=False, trusted=["json.loads", json.dumps]
    ) == [json.loads, json.dumps]


@check
def prefixes_stand_for_what_is_defined_there():
    data = pickle.dumps([json.JSONDecoder, json.loads])
    for trusted in (["json."], ["json.*"], ["json.loads", "json.decoder."]):
        assert loads(data, verify=False, trusted=trusted) == [json.JSONDecoder, json.loads]
    # Names that a module imports are not defined there.
    refused(by_name("json", "codecs.open", "x"), "json.codecs.open", trusted=["json."])
    refused(by_name("tempfile", "_os.system", "x"), trusted=["tempfile."])
    for trusted in ("json.", [""], ["."], [5]):
        with raises((TypeError, ValueError)):
            loads(data, verify=False, trusted=trusted)


@check
def what_is_named_may_not_be_called_for_that():
    """Load names of Keras classes and functions as attributes, and refuse to call them."""
    for name in ("keras.layers.Dense", "numpy.mean", "sklearn.metrics.mean_squared_error"):
        module, _, name = name.rpartition(".")
        value = getattr(importlib.import_module(module), name)
        kept = loads(pickle.dumps(value), verify=False, trusted=[])
        assert kept is value
        refused(by_name(module, name, [1.0]), name)


@check
def calls_of_operations_that_are_none():
    """Refuse to rebuild a symbolic tensor by calling something other than a Keras operation."""
    tensor = keras.layers.Dense(1)(keras.Input((2,)))
    with keras_reduce.installed():
        rebuild, arguments, *_ = tensor._keras_history.operation._inbound_nodes[-1].__reduce__()
    assert json.loads(arguments[0])["config"]["assembly"][0] == "node"
    given = (str(MARK), "uint8", "w+", 0, (4,))
    data = pickle.dumps(Calls(rebuild, *arguments[:4], (np.memmap, given, {})))
    for trusted in ([], None):
        with raises(keras_reduce.PayloadError, "is not of an operation"):
            loads(data, verify=False, trusted=trusted)
        assert not MARK.exists()


@check
def classes_can_not_be_changed():
    before = dict(vars(StandardScaler))
    text = b"\x80\x04\x8c\x15sklearn.preprocessing\x8c\x0eStandardScaler\x93"
    change = b"}\x8c\x03fit\x8c\x03bads"
    for data in (text + change + b"b.", text + b"N" + change + b"\x86b."):
        with raises(keras_reduce.PayloadError):
            loads(data, verify=False, trusted=[])
    assert dict(vars(StandardScaler)) == before


@check
def what_is_dangerous_in_a_config_can_not_be_listed():
    for change, said in (
        (lambda d: d["config"].update(class_name="Lambda"), "Lambda"),
        (lambda d: d["config"].update(class_name="TFSMLayer"), "TFSMLayer"),
        (lambda d: d["config"]["config"].update(vocabulary="/etc/passwd"), "path of a file"),
        (lambda d: d["config"]["config"].update(activation={"class_name": "__lambda__"}), "lambda"),
        (lambda d: d["config"].update(registered_name="Package>Name"), "Package>Name"),
    ):
        refused(payload(change), said, "no list can trust", trusted=["keras.", "Package>Name"])


@check
def functions_of_keras_that_do_more_than_compute():
    def function(module, name):
        return lambda d: d["config"]["config"].update(
            activation={
                "module": module,
                "class_name": "function",
                "config": name,
                "registered_name": name,
            }
        )

    for module, name in (("keras.utils", "get_file"), ("keras.models", "load_model")):
        with raises(keras_reduce.PayloadError):
            loads(payload(function(module, name)), verify=False, trusted=[])
    for name in ("utils.get_file", "saving.load_model", "callbacks.ModelCheckpoint"):
        module, _, name = f"keras.{name}".rpartition(".")
        refused(by_name(module, name, "x"), name)


@check
def sizes_that_are_lies():
    huge = 10**12
    bomb = ()
    for _ in range(60):
        bomb = (bomb, bomb)
    for data in (
        by_name("numpy._core.multiarray", "_reconstruct", np.ndarray, (huge,), b"b"),
        by_name("builtins", "bytearray", huge),
        pickle.dumps({1: 2})[:-3] + pickle.dumps(bomb)[2:-1] + b"Ks.",
        by_name("builtins", "frozenset", [bomb]),
        b"(" + pickle.dumps(bomb, 0)[:-1] + b"I1\nd.",
        b"\x80\x05\x96" + huge.to_bytes(8, "little") + b".",
        b"\x80\x05\x8e" + huge.to_bytes(8, "little") + b".",
        b"\x80\x05\x8d" + huge.to_bytes(8, "little") + b".",
    ):
        with raises(keras_reduce.PayloadError):
            loads(data, verify=False, trusted=[])


@check
def constructors_that_do_work():
    """Refuse constructor calls: a pickler creates objects without them, and sets the state."""
    matrix = scipy.sparse.csr_matrix(np.eye(4))
    for call in (
        Calls(scipy.sparse.csc_matrix, matrix),
        Calls(scipy.sparse.csr_matrix, (10**9, 10**9)),
        Calls(StandardScaler, True),
        Calls(scipy.sparse.linalg.LinearOperator, 1.0, (3, 3)),
    ):
        refused(pickle.dumps(call), "no pickler", "don't load it")
    operator = scipy.sparse.linalg.LinearOperator
    data = by_name("copyreg", "__newobj__", operator, 1.0, (3, 3))
    refused(data, "copyreg.__newobj__ is called in a way that no pickler writes")
    # A listed class may be called.
    scaler = loads(pickle.dumps(Calls(StandardScaler)), verify=False, trusted=[StandardScaler])
    assert isinstance(scaler, StandardScaler)


@check
def items_of_what_is_no_container():
    matrix = pickle.dumps(scipy.sparse.csr_matrix(np.eye(4)), 2)[:-1]
    for code in (b"K\x01K\x02\x86K\x05s.", b"K\x01a.", b"(K\x01e.", b"(K\x01K\x01u."):
        refused(matrix + code, "items are added to a scipy.sparse")


@check
def sparse_matrices_with_indices_outside_of_them():
    for name, value in (("indices", 200_000_000), ("indptr", 500_000_000)):
        for kind in (scipy.sparse.csr_matrix, scipy.sparse.csc_matrix, scipy.sparse.csr_array):
            matrix = kind(np.eye(4))
            assert (loads(pickle.dumps(matrix), verify=False, trusted=[]) != matrix).nnz == 0
            getattr(matrix, name)[:] = value
            refused(pickle.dumps(matrix), "indices outside of it")


@check
def estimators_that_connect():
    callback = getattr(importlib.import_module("sklearn"), "callback", None)
    names = ["sklearn.callback._scoring_monitor.ScoringMonitor"]
    for name in names if callback else []:
        module, _, name = name.rpartition(".")
        refused(by_name(module, name), "sklearn.callback")


@check
def code_by_value_without_any():
    module = "keras_reduce.custom_objects"
    refused(by_name(module, "rebuild_by_value"), "no list can trust")


@check
def generators_that_would_go_on_outside_of_their_numbers():
    generator = np.random.RandomState(0)
    state = generator.__getstate__()
    state["state"]["pos"] = 20_000_000
    rebuild, arguments, *_ = generator.__reduce__()
    lie = pickle.dumps(Calls(rebuild, *arguments, state=state))
    refused(lie, "the state of a RandomState is not one that NumPy writes")


@check
def states_that_numpy_would_believe():
    """Refuse states that crash NumPy or make it read memory outside of an array."""
    f8, raw = np.dtype("f8"), b"12345678"

    def built(obj, state):
        rebuild, arguments = obj.__reduce__()[:2]
        return Calls(rebuild, *arguments, state=state)

    def of_a_dtype(code, state):
        return Calls(np.dtype, code, False, True, state=state)

    plain = (3, "<", None, None, None, -1, -1, 0)
    lies = [
        of_a_dtype("f8", (3, "<", None, -1, -1, 0)),
        of_a_dtype("f8", (*plain[:3], ("a",), None, *plain[5:])),
        of_a_dtype("f8", (*plain[:5], 1 << 30, -1, 0)),
        of_a_dtype("f8", (*plain[:7], 1)),
        of_a_dtype("V8", (3, "|", None, ("a",), {"a": (f8, 4)}, 8, 1, 0)),
        of_a_dtype("V8", (3, "|", None, ("a",), {"a": (f8, -4)}, 8, 1, 0)),
        of_a_dtype("V8", (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)),
        of_a_dtype("V8", (3, "|", (f8, (9,)), None, None, 8, 1, 0)),
        of_a_dtype("V8", (3, "|", None, ("a", "b"), {"a": (f8, 0)}, 8, 1, 0)),
        built(np.zeros(1), (1, (1 << 30,), f8, False, raw)),
        built(np.zeros(1), (1, (-1,), f8, False, raw)),
        built(np.zeros(1), (1, (1,), np.dtype("O"), False, raw)),
        built(np.zeros(1), (1, (2,), np.dtype("O"), False, [None])),
        built(np.zeros(1), (1, (1,), f8, False)),
        built(np.ma.zeros(1), (1, (1,), f8, False, raw, b"", None)[:6]),
    ]
    for number, lie in enumerate(lies):
        with raises(keras_reduce.PayloadError, "not one that NumPy writes") as demand:
            loads(pickle.dumps(lie), verify=False, trusted=[])
        assert demand.error, number


if __name__ == "__main__":
    main()
