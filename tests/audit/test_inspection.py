"""`inspect`: see ``audit/inspecting.py`` and ``hiding.py``; and its command."""

import json
import os
import pickle
import pty
import re
import subprocess
import sys
import types

import cloudpickle
import pytest

import keras_reduce
from keras_reduce import KerasRegressor
from keras_reduce.custom_objects import rebuild_by_value
from processes import ROOT, decorated, python

GOLDEN = ROOT / "tests" / "golden" / "protocol-1" / "keras3"


PROGRAMS = ("inspecting.py", "hiding.py")


@pytest.mark.parametrize(
    ("program", "name"),
    [(program, name) for program in PROGRAMS for name in decorated(program, "check")],
)
def test_inspection(run_checks, program, name):
    run_checks(program, timeout=900).demand(name)


def test_needs_no_keras():
    printed = python(
        """
        import sys
        import keras_reduce
        assert "numpy" not in sys.modules
        report = keras_reduce.inspect(sys.argv[1])
        print(report)
        assert not {"keras", "tensorflow", "jax", "torch", "sklearn"} & set(sys.modules)
        """,
        GOLDEN / "code_by_value.joblib",
        fresh=True,
    )
    assert "Keras model Sequential" in printed
    assert "Code in the file itself" in printed


def reported(path, obj):
    path.write_bytes(cloudpickle.dumps(obj))
    return keras_reduce.inspect(path)


def test_a_function_by_value_takes_one_line(tmp_path):
    report = reported(tmp_path / "file", {"square": lambda x: x**2, "rows": 3})
    tree = report.to_dict()["content"][0].splitlines()
    # cloudpickle since 3.1 leaves out the file.
    assert re.fullmatch(
        r"  'square' = function '.*<lambda>' \(line \d+( of 'test_inspection.py')?\), by value",
        tree[1],
    )
    assert tree[2:] == ["  'rows' = 3"]
    assert report.code == ["test_a_function_by_value_takes_one_line.<locals>.<lambda>"]
    keras_reduce.dump(KerasRegressor(build_fn=lambda units: units), tmp_path / "file")
    text = str(keras_reduce.inspect(tmp_path / "file"))
    assert re.search(r"build_fn = '\S+ by value, \d+ bytes\n", text)


def test_long_names_of_functions_are_cut_off(tmp_path):
    function = eval(compile("lambda: 1", "folder/" + "f" * 100 + "\nsecond line", "eval"))
    function.__code__ = function.__code__.replace(co_qualname="q" * 100, co_name="first\nsecond")
    tree = reported(tmp_path / "file", function).to_dict()["content"][0]
    assert tree.startswith(f"function {'q' * 60!r}… (line 1")
    assert "\n" not in tree
    assert len(tree) < 200


class Called:
    """An object that unpickling creates by a call."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("position", ["code", "name", "globals", "referents"])
def test_calls_in_the_arguments_of_a_function_stay_visible(tmp_path, position):
    hidden = Called(os.getcwd)
    constructor, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](command.__code__)
    arguments = list(arguments)
    arguments[7] = ((hidden if position == "code" else 1, ()),)  # The constants.
    code = Called(constructor, *arguments)
    values = {"__name__": {"a": hidden} if position == "globals" else "name"}
    name = hidden if position == "name" else None
    function = Called(cloudpickle.cloudpickle._make_function, code, values, name, None, None)
    if position == "referents":
        function = Called(rebuild_by_value, b"N.", "name", "", (hidden,))
    tree = reported(tmp_path / "file", function).to_dict()["content"][0]
    assert "posix.getcwd" in tree
    assert "by value" in tree.splitlines()[0]


def command(*arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "keras_reduce", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **more,
    )


def test_a_nested_function_by_value_is_not_taken_for_a_global():
    report = keras_reduce.inspect(GOLDEN / "loss_over_its_model.pickle")
    assert report.code == ["loss_over_its_model.<locals>.loss"]
    assert [name for name in report.names if name.path.startswith("builtins.objects:")] == []


def test_command(tmp_path):
    path, page = GOLDEN / "functional.pickle", tmp_path / "page.html"
    outcome = command("inspect", path)
    assert outcome.returncode == 0, outcome.stderr
    assert "Would import, from other packages\n    golden_code_keras3.Scale" in outcome.stdout
    outcome = command("inspect", path, "--json", "--html", page)
    assert json.loads(outcome.stdout)["models"][0]["cls"] == "Functional"
    assert "<svg" in page.read_text()
    assert command("inspect", path, "--html", page).stdout == ""


def test_command_says_what_is_wrong(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps([1, 2]) + b"more")
    outcome = command("inspect", path)
    assert outcome.returncode == 1
    assert "Reading ended before 4 bytes that are no pickle" in outcome.stdout
    path.write_bytes(b"")
    for wrong in (path, tmp_path / "nowhere"):
        outcome = command("inspect", wrong)
        assert outcome.returncode == 1
        assert str(wrong) in outcome.stderr
        assert "What to do" in outcome.stderr
        assert "Traceback" not in outcome.stderr
    outcome = command("inspect", GOLDEN / "layer.pickle", "--html", tmp_path / "no" / "where")
    assert outcome.returncode == 1
    assert "can't be written" in outcome.stderr


def test_explanations_have_the_same_dress(tmp_path):
    (tmp_path / "program.py").write_text("import threading\njob = {'<b>': threading.Lock()}\n")
    page = tmp_path / "page.html"
    outcome = command("explain", "program:job", "--json", "--html", page, cwd=tmp_path)
    assert outcome.returncode == 1
    (obstacle,) = json.loads(outcome.stdout)["obstacles"]
    assert obstacle["path"] == "job['<b>']"
    assert "job[&#x27;&lt;b&gt;&#x27;]" in page.read_text()


def test_terminals_get_a_tree_with_colours():
    parent, child = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "keras_reduce", "inspect", str(GOLDEN / "layer.pickle")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "100"},
        stdout=child,
        timeout=120,
        check=True,
    )
    os.close(child)
    shown = b""
    try:
        while data := os.read(parent, 1 << 16):
            shown += data
    except OSError:  # its reading end is closed
        pass
    os.close(parent)
    text = shown.decode()
    assert "\x1b[1m" in text
    assert "├── " in text
    assert "Dense" in text
