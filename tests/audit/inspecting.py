"""Reports of `inspect`, compared with the objects that the files hold."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import runpy
import sys
import tempfile
import xml.etree.ElementTree
from pathlib import Path

import cloudpickle
import joblib
import keras
import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import importable
import keras_reduce
from checks import check, compute_eagerly, main, raises
from keras_reduce import KerasRegressor, PayloadError, dump, inspect
from keras_reduce.core.report_tree import Branch, as_html, as_text
from process_memory import growth_below

compute_eagerly()
GOLDEN = Path(__file__).parents[1] / "golden"
ZOO = runpy.run_path(str(Path(importable.__file__).with_name("zoo.py")), run_name="zoo")["CASES"]
MODELS = (
    "sequential",
    "sequential_uncompiled",
    "functional_two_inputs_two_outputs",
    "functional_shared_layer",
    "functional_in_functional",
    "residual_and_multiple_merges",
    "subclassed_model_with_containers",
    "layer_of_main",
    "layer_of_a_module",
    "convolutions",
    "recurrent",
    "transformer",
    "wrapped_layers",
    "normalization_adapted",
    "mixed_float16",
    "frozen_layers",
    "lambda_layers",
)


def write_dump(compress, **more):
    return lambda obj, path: dump(obj, path, compress, **more)


def write_joblib(compress):
    return lambda obj, path: joblib.dump(obj, path, compress)


FORMATS = {
    **{
        f"pickle {number}": lambda obj, path, number=number: path.write_bytes(
            pickle.dumps(obj, number)
        )
        for number in range(2, 6)
    },
    "cloudpickle": lambda obj, path: path.write_bytes(cloudpickle.dumps(obj)),
    **{
        f"joblib {method}": write_joblib((method, 3) if method else 0)
        for method in ("", "zlib", "gzip", "bz2", "xz", "lzma")
    },
    "dump": write_dump(0),
    "dump zlib": write_dump(1),
    "signed": write_dump(0, key=b"k" * 16),
}


def inspected(obj, write):
    path = Path(FOLDER, "file")
    with keras_reduce.installed():
        write(obj, path)
    return inspect(path)


def of_the_zoo(name):
    keras.utils.set_random_seed(3)
    return ZOO[name]()[0]


@check
def models_are_described_as_keras_does():
    for name in MODELS:
        model = of_the_zoo(name)
        report = inspected(model, FORMATS["dump"])
        assert report.digests == "right"
        assert not report.ended
        path, summary = report.models[0]
        assert (path, summary.kind, summary.cls) == ("content", "model", type(model).__name__), name
        assert summary.parameters == model.count_params(), name
        assert summary.versions["keras"] == keras.__version__
        if type(model) in (keras.Sequential, keras.Model) or not summary.custom:
            layers = [layer for layer in model.layers if hasattr(layer, "name")]
            # Operations are listed as well.
            counted = {layer.name: layer.parameters for layer in summary.layers}
            expected = {layer.name: layer.count_params() for layer in layers}
            assert {key: counted.get(key) for key in expected} == expected, name
        if model.compiled:
            assert summary.optimizer.startswith(type(model.optimizer).__name__), name
            assert summary.loss


@check
def custom_code_is_told_by_its_origin():
    by_value = inspected(of_the_zoo("layer_of_main"), FORMATS["dump"])
    assert set(by_value.models[0][1].custom.values()) == {"by value"}
    assert by_value.code == ["MainLayer"]
    assert "by value" in [layer.origin for layer in by_value.models[0][1].layers]
    # Names inside of code by value are listed, too.
    assert "keras.src.layers.layer.Layer" in [name.path for name in by_value.names]
    by_reference = inspected(of_the_zoo("layer_of_a_module"), FORMATS["dump"])
    assert set(by_reference.models[0][1].custom.values()) == {"by reference"}
    assert by_reference.code == []
    assert "importable.ImportableScale" in [
        n.path for n in by_reference.names if n.kind == "foreign"
    ]
    lambdas = inspected(of_the_zoo("lambda_layers"), FORMATS["dump"])
    assert any("Lambda" in text for text in lambdas.models[0][1].remarks)


@check
def every_format_tells_the_same():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 4)).astype("float32")
    wrapper = KerasRegressor(importable.build, epochs=1, random_state=0)
    grid = {"kerasregressor__units": [3, 4]}
    search = GridSearchCV(make_pipeline(StandardScaler(), wrapper), grid, cv=2).fit(x, x.sum(1))
    held = {"search": search, "ridge": Ridge(0.5).fit(x, x[:, 0]), "objects": np.array([{}, "a"])}
    expected = None
    for name, write in FORMATS.items():
        report = inspected(held, write)
        assert not report.ended, name
        assert report.digests == ("right" if name in ("dump", "dump zlib", "signed") else "none")
        assert report.signed == (name == "signed")
        (_, model) = next(each for each in report.models if each[1].kind == "model")
        assert model.parameters == search.best_estimator_[-1].model_.count_params(), name
        text = as_text(report.content[0])
        for fragment in (
            "sklearn.model_selection._search.GridSearchCV",
            "StandardScaler",
            "alpha = 0.5",
            "build_fn = importable.build",
            "'epochs' = 1",
            "ndarray float64 (4,)",
            "best_estimator_ = sklearn.pipeline.Pipeline",
            "Keras model Sequential",
        ):
            assert fragment in text, (name, text, fragment)
        foreign = [each.path for each in report.names if each.kind == "foreign"]
        assert foreign == ["importable.build"], (name, foreign)
        models = [(path, each.cls, each.layers) for path, each in report.models]
        expected = expected or models
        assert models == expected, name


@check
def what_keras_pickles_by_itself_is_read_too():
    model = of_the_zoo("sequential")
    path = Path(FOLDER, "native")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):  # Keras supports no older ones
        path.write_bytes(pickle.dumps(model, protocol))
        ((_, summary),) = inspect(path).models
        names = [[each.name for each in layers][-3:] for layers in (summary.layers, model.layers)]
        assert names[0] == names[1]
        assert summary.versions == {"keras": keras.__version__}
        assert summary.optimizer.startswith("Adam")
        assert summary.bytes > 0


@check
def files_of_all_releases_are_read():
    files = [path for path in GOLDEN.glob("protocol-1/*/*") if path.suffix != ".json"]
    assert len(files) > 70
    for path in files:
        report = inspect(path)
        assert not report.ended, path
        assert report.models, path
        assert {model.family for _, model in report.models} == {path.parent.name}, path
        assert all(model.protocol == 1 for _, model in report.models)
        assert not any("can't be read" in text for _, m in report.models for text in m.remarks)


# --- files of any content --------------------------------------------------------------------


@check
def several_pickles_in_a_file_and_what_follows_them():
    path = Path(FOLDER, "several")
    path.write_bytes(pickle.dumps({"a": 1}) + pickle.dumps([2], 0))
    report = inspect(path)
    assert [as_text(each) for each in report.content] == ["dict of 1\n  'a' = 1", "list (2)"]
    assert report.protocols == [4]
    path.write_bytes(pickle.dumps(1) + b"something else")
    assert inspect(path).ended.startswith("before 14 bytes that are no pickle (")


@check
def damage_is_told():
    whole = io.BytesIO()
    joblib.dump([np.array([{}, 1]), ["text"] * 9, np.arange(99.0)], whole)
    path, whole_one = Path(FOLDER, "damaged"), ("right", True)
    for data in (whole.getvalue(), keras_reduce.dumps({"a": np.arange(9.0)}, key=b"k" * 16)):
        for length in range(0, len(data) - 1, 7):
            path.write_bytes(data[:length])
            try:
                report = inspect(path)
                # Without its signature or its digests it is complete, but no longer the same file.
                is_ours = b"keras_reduce" in data
                ended = report.ended or (is_ours and (report.digests, report.signed) != whole_one)
            except PayloadError as error:
                ended = str(error)
            assert ended, length
    path.write_bytes(pickle.dumps([Ridge(), "a", "b"])[:-20])
    report = inspect(path)
    assert as_text(report.content[0]).startswith("incomplete pickle of ")
    assert [name.path for name in report.names] == ["sklearn.linear_model._ridge.Ridge"]
    path.write_bytes(keras_reduce.dumps({"text": "before"}).replace(b"before", b"behind"))
    assert inspect(path).digests == "wrong"
    for data in (b"", b"\0" * 99, b"no pickle", b"."):
        path.write_bytes(data)
        with raises(PayloadError, "There is no pickle in the file", str(path)):
            inspect(path)
    with raises(FileNotFoundError):
        inspect(Path(FOLDER, "nowhere"))


@check
def lies_about_sizes_cost_nothing():
    path = Path(FOLDER, "lies")
    huge = (1 << 40).to_bytes(8, "little")
    wrapper = io.BytesIO()
    joblib.dump(np.arange(9.0), wrapper)
    described = wrapper.getvalue().replace(b"K\x09\x85", b"\x8a\x05\xff\xff\xff\xff\x0f\x85")
    assert described != wrapper.getvalue()
    deep = b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b"."
    doubled = b"\x80\x04)" + b"2\x86" * 5_000 + b"."
    calls = b"\x80\x04)" + b")R" * 20_000 + b"."
    itself = b"\x80\x04}\x94h\x00h\x00s."
    for data in (
        *(b"\x80\x05" + code + huge + b"." for code in (b"\x96", b"\x8e", b"\x8d")),
        described,
        deep,
        doubled,
        calls,
        itself,
    ):
        path.write_bytes(data)
        with growth_below(300 << 20), contextlib.suppress(PayloadError):
            assert len(str(inspect(path))) < 100_000


@check
def arrays_are_passed_over():
    path = Path(FOLDER, "large")
    dump({"a": np.zeros(50_000_000), "b": 1}, path)
    with growth_below(50 << 20):
        assert "'a' = ndarray float64 (50000000,)" in as_text(inspect(path).content[0])


@check
def dtypes_and_kinds_of_arrays_are_named():
    arrays = {
        "float16": np.zeros(2, "f2"),
        "int64": np.zeros((2, 3), "i8"),
        "bool": np.zeros(1, bool),
        "U3": np.array(["abc"]),
        "object": np.array([None, "a"], object),
        "complex128": np.zeros(1, complex),
        "V12": np.zeros(2, [("a", "f4"), ("b", "i8")]),
    }
    for write in (FORMATS["dump"], FORMATS["joblib "], FORMATS["pickle 2"], FORMATS["pickle 5"]):
        text = as_text(inspected(arrays, write).content[0])
        for name, array in arrays.items():
            assert f"{name!r} = ndarray {name} {array.shape}" in text, (name, text)


# --- output formats --------------------------------------------------------------------------


@check
def pages_are_well_formed_and_run_nothing():
    evil = "<script>alert(1)</script>"
    model = of_the_zoo("functional_two_inputs_two_outputs")
    report = inspected({evil: model, "\x1b[31m\n": evil}, FORMATS["dump"])
    page = report.to_html()
    assert "<script" not in page
    assert report._repr_html_() == page
    head, _, body = page.partition("<body>")
    assert "default-src 'none'" in head
    (body,) = [body.partition("</body>")[0]]
    tree = xml.etree.ElementTree.fromstring(f"<body>{body}</body>")
    boxes = [each for each in tree.iter() if each.tag.endswith("rect")]
    assert len(boxes) == len(model.layers)
    assert [each for each in tree.iter() if each.tag.endswith("line")]
    assert "\x1b" not in str(report)
    data = json.loads(report.to_json())
    assert data["models"][0]["parameters"] == model.count_params()
    deep = root = Branch("root")
    for number in range(20_000):
        deep = deep.add(str(number))
    assert as_html(root).count("<li>") == as_html(root).count("</li>")
    assert as_text(root).count("\n") == 20_000


if __name__ == "__main__":
    sys.setrecursionlimit(1000)
    with tempfile.TemporaryDirectory() as FOLDER:
        main()
