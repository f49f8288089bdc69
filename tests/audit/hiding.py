"""Files that try to hide a call from `inspect`, or to make it take very long.

They are assembled by hand, as no pickler would write them. Where a name or an array hides a call,
the check first shows that a loader makes the call.
"""

from __future__ import annotations

import contextlib
import io
import json
import lzma
import pickle
import re
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import joblib
import numpy as np
import scipy.sparse._base  # noqa: F401, as loading would import it
import sklearn.base  # noqa: F401

from checks import check, main, raises
from keras_reduce import PayloadError, inspect, inspection
from keras_reduce.audit import opcodes
from keras_reduce.files.trailer import Trailer
from process_memory import growth_below

# --- opcodes ---------------------------------------------------------------------------------


def text(value):
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def blob(data):
    return b"B" + struct.pack("<I", len(data)) + data


def number(value):
    data = value.to_bytes((value.bit_length() + 8) // 8, "little")
    return b"\x8b" + struct.pack("<i", len(data)) + data


def put(key):
    return b"r" + struct.pack("<I", key)


def get(key):
    return b"j" + struct.pack("<I", key)


def name(module, attribute):
    return text(module) + text(attribute) + b"\x93"


def tupled(*items):
    return b"(" + b"".join(items) + b"t"


def call(function, *arguments):
    return function + tupled(*arguments) + b"R"


def items(*pairs):
    return b"}(" + b"".join(text(key) + value for key, value in pairs) + b"u"


def whole(*parts):
    return b"\x80\x04" + b"".join(parts) + b"."


def inspected(data):
    path = Path(FOLDER, "file")
    path.write_bytes(data)
    return inspect(path)


def names(report):
    return {each.path: each for each in report.names}


# The hidden call: it leaves a mark.
MARK = Path(tempfile.mkdtemp(prefix="hiding-"), "mark")
TOUCH = ("pathlib", "Path.touch"), call(name("pathlib", "Path"), text(str(MARK)))
HIDDEN = "pathlib.Path.touch"
RUN = call(name(*TOUCH[0]), TOUCH[1])


def assert_runs(load, data):
    MARK.unlink(missing_ok=True)
    with contextlib.suppress(Exception):
        load(io.BytesIO(data))
    assert MARK.exists(), "the attack does not work"


# --- called functions ------------------------------------------------------------------------


@check
def names_that_lead_out_of_a_package_are_warned_of():
    touch = [text("touch"), text(str(MARK))]
    evaluate = text(f"__import__('pathlib').Path({str(MARK)!r}).touch()")
    arguments = b"](" + b"".join(touch) + b"e"
    popen = name("numpy", "f2py.subprocess.Popen")
    for way, data in {
        "sklearn.base.np.f2py.subprocess.Popen": whole(
            call(name("sklearn.base", "np.f2py.subprocess.Popen"), arguments)
        ),
        "scipy.sparse._base.__builtins__.get": whole(
            call(call(name("scipy.sparse._base", "__builtins__.get"), text("eval")), evaluate)
        ),
        "keras_reduce.reducers.rebuild_model.__globals__.get": whole(
            call(
                call(name("keras_reduce.reducers", "rebuild_model.__builtins__.get"), text("eval")),
                evaluate,
            )
        ),
        "numpy.f2py.subprocess.Popen": whole(
            call(name("copyreg", "_reconstructor"), popen, popen, arguments)
        ),
    }.items():
        MARK.unlink(missing_ok=True)
        process = pickle.loads(data)
        if isinstance(process, subprocess.Popen):
            process.wait()
        assert MARK.exists(), way
        warned = [each for each in inspected(data).names if each.warning]
        assert [each.kind for each in warned] == ["foreign"], way


@check
def names_of_python_2_are_what_they_become():
    report = inspected(b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.")
    assert names(report)["builtins.eval"].warning


@check
def what_is_computed_is_told():
    module = call(name("a", "b"), text("x"))
    for data, said in {
        whole(
            call(call(name("numpy", "dtype"), text("f8")), b"N")
        ): "the function of a call is computed",
        whole(module, text("x"), b"\x93"): "the name of a global is computed",
        whole(name("numpy", "dtype"), text("f8"), b"R"): "the arguments of a call are computed",
        # Found by a fuzzer.
        whole(name("_codecs", "encode"), name("a", "b"), b"R"): "the arguments of a call are",
        whole(name("_codecs", "encode"), b"](NeR"): "its arguments as a list",
        whole(name("a", "C"), b")\x81K\x01bK\x02b"): "the state of an object is set twice",
    }.items():
        assert any(said in each for each in inspected(data).odd), said


@check
def nothing_dangerous_is_left_out_for_length():
    many = b"".join(name(f"aaa{number:03}", "x") + b"0" for number in range(300))
    report = inspected(whole(many, RUN, b"0", call(name("os", "system"), text("x"))))
    for shown in (str(report), report.to_html()):
        assert "os.system: can run any code" in shown
        assert "and 102 more" in shown


# --- joblib's arrays -------------------------------------------------------------------------


def array(state, wrapper=None):
    """Return the opcodes that joblib reads as an array; the bytes of the array come next."""
    return (wrapper or name("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81") + state + b"b"


def state(*pairs, key=None, shape=b"K\x00\x85"):
    """Return the state of joblib's wrapper of an array without elements."""
    said = {
        "subclass": name("numpy", "ndarray"),
        "shape": shape,
        "order": text("C"),
        "dtype": dtype("f8"),
        "allow_mmap": b"\x89",
    }
    rest = [(each, value) for each, value in said.items() if each != key]
    return items(*rest, *pairs)


def dtype(code, *parts):
    dtype_call = call(name("numpy", "dtype"), text(code), b"\x89", b"\x88")
    return dtype_call + (tupled(*parts) + b"b" if parts else b"")


def padded(data):
    """Pad opcodes to a multiple of eight bytes."""
    return data + b"\x94" * (-len(data) % 8)


# Opcodes after an array, with the hidden call.
AFTER = padded(b"0" + RUN)
MANY, NONE, ONE = number(len(AFTER) // 8) + b"\x85", b"K\x00\x85", b"K\x01\x85"
# An item that, read as opcodes, swallows all that follows as one argument.
SWALLOWS = b"\x94\x94\x94B" + struct.pack("<I", len(AFTER))
OBJECTS = dtype("O8", b"K\x03", text("|"), b"N", b"N", b"N", number(8), b"K\x01", number(63))


def framed():
    """Return an array within a frame; joblib looks for its bytes behind the frame."""
    rest = padded(b"0" + RUN + b".")
    inside = array(state(shape=number(len(rest) // 8) + b"\x85")) + rest
    frame = b"\x80\x04\x95" + struct.pack("<Q", len(inside)) + inside
    return frame + b"\x94" * (len(rest) - 1) + b"."


@check
def arrays_are_passed_over_as_joblib_does_or_not_at_all():
    """Require that `inspect` skips the same bytes as joblib, or ends."""
    wrapper = name("joblib.numpy_pickle", "NumpyArrayWrapper")
    shape = call(name("_codecs", "encode"), text("funcr"), text("rot13"))
    lies = {
        "a key twice": (state(("shape", NONE), shape=MANY), AFTER),
        "a key that is computed": (state(shape=MANY)[:-1] + shape + NONE + b"u", AFTER),
        "a dtype by name": (state(("dtype", dtype("float64")), key="dtype", shape=ONE), SWALLOWS),
        "a dtype by letter": (state(("dtype", dtype("d")), key="dtype", shape=ONE), SWALLOWS),
        "a dtype of fields": (state(("dtype", dtype("i4,i4")), key="dtype", shape=ONE), SWALLOWS),
    }
    files = {way: whole(array(said), *data) for way, (said, *data) in lies.items()}
    for way in ("a dtype by name", "a dtype by letter", "a dtype of fields"):
        files[way] = files[way][:-1] + AFTER + b"."
    for way, wrapper_code in {
        "another path": name("joblib", "numpy_pickle.NumpyArrayWrapper") + b")\x81",
        "its own method": call(name("joblib.numpy_pickle", "NumpyArrayWrapper.__new__"), wrapper),
        "a reconstructor": call(
            name("copyreg", "_reconstructor"), wrapper, name("builtins", "object"), b"N"
        ),
    }.items():
        files[way] = whole(array(state(shape=ONE), wrapper_code), SWALLOWS, AFTER)
    files["a frame that goes on"] = framed()
    # joblib reads the items of an array of objects with an unpickler that ignores wrappers.
    inner = whole(array(state(shape=MANY)), AFTER)
    outer = array(state(("dtype", OBJECTS), key="dtype", shape=ONE))
    files["an array in one of objects"] = whole(outer, inner)
    for way, data in files.items():
        assert_runs(joblib.load, data)
        report = inspected(data)
        assert HIDDEN in names(report) or report.ended, way
    honest = whole(array(state()), AFTER)
    assert_runs(joblib.load, honest)
    report = inspected(honest)
    assert HIDDEN in names(report)
    assert report.as_joblib
    assert "as joblib.load reads it" in str(report)


@check
def sizes_of_items_are_those_that_numpy_takes():
    """Require that a dtype with a fixed size keeps it, even if its state has another one."""
    wrong = (b"K\x03", text("<"), b"N", b"N", b"N", number(len(AFTER) + 8), b"K\x01", b"K\x00")
    said = state(("dtype", dtype("f8", *wrong)), key="dtype", shape=ONE)
    data = whole(array(said), b"\0" * 8, AFTER)
    assert_runs(joblib.load, data)
    assert HIDDEN in names(inspected(data))
    # Flags don't decide either whether there are objects in an array.
    for code, flags in (("f8", 63), ("O8", 0), ("V8", 1)):
        odd = (b"K\x03", text("|"), b"N", b"N", b"N", number(8), b"K\x01", number(flags))
        assert inspected(whole(array(state(("dtype", dtype(code, *odd)), key="dtype")))).ended


@check
def every_protocol_of_joblib_is_read():
    for protocol in range(6):
        file = io.BytesIO()
        joblib.dump({"a": np.arange(9.0), "b": np.array([{}], object)}, file, protocol=protocol)
        report = inspected(file.getvalue())
        assert not report.ended, protocol
        assert not report.odd, protocol
        assert "'a' = ndarray float64 (9,)" in str(report)


@check
def wrappers_of_old_releases_are_not_followed():
    for old in ("NDArrayWrapper", "ZNDArrayWrapper"):
        assert inspected(whole(name("joblib.numpy_pickle", old), b")\x81}b")).ended


# --- nested code and models ------------------------------------------------------------------


SYSTEM = whole(call(name("os", "system"), text("x")))


def by_value(data):
    return call(name("keras_reduce.custom_objects", "rebuild_by_value"), data, text("f"))


@check
def code_is_looked_into_wherever_it_is():
    inner, function = blob(SYSTEM), name("keras_reduce.custom_objects", "rebuild_by_value")
    old = call(name("_codecs", "encode"), text(SYSTEM.decode("latin1")), text("latin1"))
    for way, data in {
        "as it should be": whole(by_value(inner)),
        "as old protocols write bytes": whole(by_value(old)),
        "thrown away": whole(by_value(inner), b"0N"),
        "in code": whole(by_value(blob(whole(by_value(inner))))),
        "arguments in a list": whole(function, b"(", inner, text("f"), b"lR"),
        "in a state that is lost": whole(name("a", "C"), b")\x81", by_value(inner), b"bNb"),
        "set in a list": whole(b"]K\x00", by_value(inner), b"s"),
        "by another path": whole(
            call(name("keras_reduce", "custom_objects.rebuild_by_value"), inner, text("f"))
        ),
    }.items():
        report = inspected(data)
        assert "os.system" in names(report), way
        assert report.code == ["f"], way
    broken = inspected(whole(by_value(blob(b"\x80\x04I0x10\n0" + SYSTEM[2:]))))
    assert any("code in it can't be read" in each for each in broken.odd)
    computed = inspected(whole(by_value(call(name("_codecs", "encode"), text("x"), text("hex")))))
    assert any("code in it is computed" in each for each in computed.odd)


def payload(config, *rest, weights=()):
    header = {"protocol": 1, "family": "keras3", "versions": {}, "weights": list(weights)}
    document = json.dumps({"header": header, "config": config})
    return call(name("keras_reduce.reducers", "rebuild_model"), text(document), *rest)


@check
def what_configs_import_is_told_wherever_they_are():
    evil = {"class_name": "function", "module": "os", "config": "system"}
    inner, plain = payload({"a": evil}), payload({})
    references = tupled(tupled(text("k"), text("os"), text("system"), number(0) + b"0I-1\n"))
    for way, data in {
        "as it should be": whole(inner),
        "thrown away": whole(inner, b"0N"),
        "among arrays": whole(payload({}, inner)),
        "a part": whole(payload({}, b")", b"N", b"N", tupled(inner))),
        "a part in a part": whole(payload({}, b")", b"N", b"N", tupled(tupled(inner)))),
        "parts in a list": whole(payload({}, b")", b"N", b"N", b"](" + inner + b"e")),
        "in place of an installation": whole(payload({}, b")", b"N", b"N", b")", inner)),
        "added to a model": whole(plain, inner, b"a"),
        "a weight that is none": whole(payload({"a": evil}, weights=[None])),
        "a user-defined class": whole(payload({}, b")", b"N", tupled(references))),
        "under the key of another": whole(
            payload(
                {"class_name": "system", "module": "os", "registered_name": "k"},
                b")",
                b"N",
                tupled(tupled(tupled(text("k"), text("mine"), text("X"), b"K\x00"))),
            )
        ),
    }.items():
        assert "os.system" in names(inspected(data)), way
    twice = tupled(
        *(tupled(text("k"), text(each), text("X"), b"I-1\n") for each in ("first", "second"))
    )
    assert {"first.X", "second.X"} <= names(
        inspected(whole(payload({}, b")", b"N", tupled(twice))))
    ).keys()
    builtin = {"class_name": "function", "module": "builtins", "config": "eval"}
    assert "builtins.eval" in names(inspected(whole(payload({"a": builtin}))))
    computed = call(name("_codecs", "encode"), text("{}"), text("rot13"))
    ((_, model),) = inspected(whole(payload({}, b")", computed))).models
    assert "how it was compiled is computed" in model.remarks


@check
def only_keras_own_method_makes_its_models():
    method = call(name("foo", "bar"), name("keras.src.models", "M"), text("_unpickle_model"))
    report = inspected(whole(call(method, b"N")))
    assert not report.models
    assert any("is computed" in each for each in report.odd)


# --- limits of time and memory ---------------------------------------------------------------


def archive(config):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("config.json", config)
        written.writestr("metadata.json", "{}")
    getter = call(name("builtins", "getattr"), name("keras.M", "M"), text("_unpickle_model"))
    return call(getter, blob(file.getvalue()))


def fields_in_fields():
    parts = dtype("V8") + put(0)
    for level in range(7):
        pairs = [(f"f{each}", tupled(get(level), b"K\x00")) for each in range(12)]
        said = (b"K\x03", text("<"), b"N", b"N", items(*pairs), b"K\x08", b"K\x08", b"K\x00")
        parts += b"0" + dtype("V8", *said) + put(level + 1)
    return call(name("numpy", "scalar"), parts, blob(b"x" * 8))


@check
def small_files_cost_little():
    pair = b")" + b"2\x86" * 3000
    many = 5000
    layers = json.dumps({"header": {"weights": []}, "config": {"config": {"layers": [{}] * 500}}})
    shared = name("keras_reduce.reducers", "rebuild_model") + put(0) + b"0" + text(layers) + put(1)
    content = whole(b"N0" * 100_000, b"N")
    trailer = Trailer(len(content), ((0, len(content)),) * 500, b"\0" * 16, b"\0" * 16)
    for what, data in {
        "a persistent id": whole(pair, b"Q"),
        "a name of code": whole(
            call(name("keras_reduce.custom_objects", "rebuild_by_value"), blob(b"N."), pair)
        ),
        "fields": whole(fields_in_fields()),
        "arguments of many": whole(
            tupled(b"N" * many),
            put(0),
            b"0",
            name("a", "b"),
            put(1),
            b"0](",
            *[get(1) + get(0) + b"R"] * many,
            b"e",
        ),
        "a long key above many": whole(
            name("a", "C"), b")\x81}", text("k" * 100_000), b"](", b"]" * many, b"esb"
        ),
        "a shape": whole(
            call(name("numpy._core.multiarray", "_reconstruct"), b"N"),
            b"(K\x01",
            number(1 << 16_000),
            put(0),
            b"0(",
            get(0) * many,
            b"t",
            dtype("f8"),
            b"\x89",
            blob(b"x"),
            b"tb",
        ),
        "a text of many models": whole(
            shared, b"0](", *[get(0) + tupled(get(1)) + b"R"] * 500, b"e"
        ),
        "an archive": whole(archive('{"config":{"layers":[' + "1," * 300_000 + "1]}}")),
        "extents": lzma.compress(content + trailer.pack()),
    }.items():
        begun = time.process_time()
        with growth_below(300 << 20):
            report = inspected(data)
        assert len(str(report)) < 1 << 20, what
        # Ten times the usual time; without a limit it would be minutes or more.
        assert time.process_time() - begun < 20, what


@check
def reading_ends_where_it_would_cost_too_much():
    # Private: reaching the real limits would take minutes.
    before = opcodes._MOST, inspection._MOST
    opcodes._MOST = inspection._MOST = 1000
    try:
        assert "more than 1,000 opcodes" in inspected(whole(b"N0" * 1000, b"N")).ended
        with raises(PayloadError, "too large to decompress"):
            inspected(lzma.compress(whole(b"N0" * 1000, b"N")))
        assert not inspected(lzma.compress(whole(b"N0" * 99, b"N"))).ended
    finally:
        opcodes._MOST, inspection._MOST = before


@check
def objects_of_classes_that_are_in_the_file_are_read():
    """Try all copies of cloudpickle that may have written the class."""
    for copy in ("", "joblib.externals.", "ray.", "pyspark."):
        cls = call(name(f"{copy}cloudpickle.cloudpickle", "_make_skeleton_class"), text("Mine"))
        report = inspected(whole(cls, b")\x81", items(("note", text("a note"))), b"b"))
        assert not report.ended
        assert not report.odd
        assert report.code == ["Mine"]
        assert "note = 'a note'" in str(report)


@check
def numbers_of_any_size_are_told():
    huge = 10**5000
    shape = tupled(number(huge))
    for data in (
        whole(
            call(name("numpy._core.multiarray", "_reconstruct"), b"N"),
            tupled(b"K\x01", shape, dtype("f8"), b"\x89", blob(b"x")),
            b"b",
        ),
        whole(payload({}, weights=[["a", [10**200, 10**200], "float32"]])),
        whole(payload({}, weights=[["a", [10**4000], "float32"]])),
        whole(payload({"class_name": "\ud800", "config": {"layers": [{"class_name": "\x1b"}]}})),
        whole(call(name("a", "b"), number(huge))),
    ):
        report = inspected(data)
        assert str(report)
        page = report.to_html().encode()
        assert not re.search(b"[\x00-\x08\x0b-\x1f]", page)
        assert json.loads(report.to_json())
    for extents in (((10, 5), (3, 2)), (((1 << 64) - 1, 1),)):
        content = whole(b"N" * 9, b"0" * 8)
        report = inspected(content + Trailer(len(content), extents, b"\0" * 16, b"\0" * 16).pack())
        assert report.digests == "wrong"


@check
def names_that_are_not_ascii_are_read():
    for protocol in (2, 3):
        data = b"\x80" + bytes([protocol]) + "c__main__\nKäse\n.".encode()
        report = inspected(data)
        assert not report.ended
        assert "__main__.Käse" in names(report)


if __name__ == "__main__":
    sys.setrecursionlimit(1000)
    with tempfile.TemporaryDirectory() as FOLDER:
        main()
