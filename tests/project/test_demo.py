"""The command line, and the demo's own claims."""

import io
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest

import keras_reduce
from keras_reduce.__main__ import main
from keras_reduce.examples import demo
from processes import ROOT, python


def test_demo_agrees_with_a_fresh_process(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "keras_reduce", "demo"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    rows = dict(re.split(" {2,}", line, maxsplit=1) for line in result.stdout.splitlines())
    assert rows["predictions there and here"] == "equal, bit for bit"
    assert rows["weights after one more epoch"] == "equal, bit for bit"
    assert rows["candidates"] == "4, 3 folds each"
    assert re.fullmatch(r"dropout=\S+, units=\d+", rows["best parameters"])
    assert float(rows["R^2 on held-out rows"].split()[0]) > 0.2
    assert re.fullmatch(r"[\d.]+ s, \d+ kB", rows["joblib.dump"])
    assert rows["GridSearchCV on 2 processes"].split()[1] == "s,"
    assert rows["joblib.load in a fresh process"].split()[1] == "s,"
    # Without a terminal a line for each stage, no bar, and no start messages of TensorFlow.
    assert result.stderr.splitlines() == [
        "importing Keras ...",
        "searching ...",
        "dumping ...",
        "loading in a fresh process ...",
    ]


def test_disagreement_is_an_error(monkeypatch, capfd):
    monkeypatch.setattr(demo, "_run", lambda folder, bar: ([("weights", "DIFFERENT")], False))
    assert main(["demo"]) == 1
    assert "disagrees" in capfd.readouterr().err


def test_same_means_every_bit():
    here = [np.array([0.0, np.nan]), np.arange(3)]
    # Private: the comparison of the demo must notice a single bit.
    assert demo._same(here, [array.copy() for array in here])
    assert not demo._same(here, here[:1])
    assert not demo._same(here, [-here[0], here[1]])
    assert not demo._same(here, [here[0], here[1].astype(float)])
    assert not demo._same(here, [here[0], here[1][None]])


def test_what_was_logged_is_shown_when_something_fails(capfd):
    def fail():
        # Private: parts of the demo are tested one by one.
        with demo._stderr_aside():
            os.write(2, b"the framework's last words\n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "the framework's last words\nafterwards\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal(), True), (io.StringIO(), False)])
def test_a_bar_in_a_terminal_and_lines_elsewhere(stream, shown):
    # Private: parts of the demo are tested one by one.
    with demo._Bar(4, stream) as bar:
        bar.stage("searching")
        bar.step()
        time.sleep(0.3)
    assert ("1/4" in stream.getvalue()) is shown
    if shown:
        assert stream.getvalue().endswith("\r\x1b[K")
    else:
        assert stream.getvalue() == "searching ...\n"


def test_demo_without_keras_names_what_to_install(tmp_path):
    (tmp_path / "keras.py").write_text("raise ImportError('No module named keras')")
    python(
        """
        import contextlib, io
        from keras_reduce.__main__ import main
        with contextlib.redirect_stderr(io.StringIO()) as said:
            assert main(["demo"]) == 2
        assert "pip install 'keras_reduce[tensorflow]'" in said.getvalue()
        """,
        path=[tmp_path],
        fresh=True,
    )


def test_without_a_command_help(capsys):
    assert main([]) == 2
    assert "demo" in capsys.readouterr().err


def test_unknown_command(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["dmeo"])
    assert "'demo'" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["inspect"], ["inspect", "--json"], ["cache", "list"]])
def test_a_reader_of_the_output_that_has_ended(tmp_path, command):
    path = tmp_path
    if command[0] == "inspect":
        path = tmp_path / "file"
        keras_reduce.dump([1], path)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "keras_reduce", *command, path],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (0, "")


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"keras_reduce {keras_reduce.__version__}\n"
