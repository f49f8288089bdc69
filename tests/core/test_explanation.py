"""`explain`, in Python and on the command line: see ``core/explaining.py``."""

import pytest

from processes import decorated, python

CHECKS = decorated("explaining.py", "check")
MODULE = """
import threading
class Job:
    def __init__(self):
        self.rows, self.guards = [1, 2], [threading.Lock()]
job = Job()
"""


@pytest.mark.parametrize("name", CHECKS)
def test_explanation(run_checks, name):
    run_checks("explaining.py").demand(name)


def test_without_installation_or_keras():
    python(
        """
        import sys, threading
        import keras_reduce
        assert "joblib" not in sys.modules
        report = keras_reduce.explain({"lock": [threading.Lock()], "function": lambda: 0})
        assert [each.path for each in report.obstacles] == ["obj['function']", "obj['lock'][0]"]
        assert report.obstacles[0].transports == ("pickle", "joblib")
        assert repr(report) == str(report)
        assert str(report).startswith("keras_reduce.install() is not in effect here")
        with keras_reduce.installed():
            report = keras_reduce.explain(lambda: 0)
            assert report.obstacles[0].transports == ("pickle",)
            assert str(report).startswith("obj (function)")
        assert not {"keras", "tensorflow"} & set(sys.modules)
        """,
        fresh=True,
    )


def command(tmp_path, target):
    """Run the command in its own process; return its exit code and its output."""
    program = """
        import contextlib, io, sys
        from keras_reduce.__main__ import main
        with contextlib.redirect_stderr(sys.stdout):
            code = main(["explain", sys.argv[1]])
        print("code", code)
        """
    (tmp_path / "job_module.py").write_text(MODULE)
    printed = python(program, target, cwd=tmp_path)
    text, _, code = printed.rpartition("code ")
    return int(code), text


def test_command_explains(tmp_path):
    code, text = command(tmp_path, "job_module:job")
    assert code == 1
    assert text.startswith("job.guards[0] (_thread.lock)\n  Stops: pickle, ")
    code, text = command(tmp_path, "job_module:job.rows")
    assert code == 0
    assert text.startswith("Nothing in job.rows is an obstacle: ")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("job_module", "module:name"),
        (":job", "module:name"),
        ("nowhere_to_be_found:job", "No module named 'nowhere_to_be_found'"),
        ("job_module:jobs", "has no attribute 'jobs'"),
    ],
)
def test_command_says_what_is_wrong_with_a_target(tmp_path, target, words):
    code, text = command(tmp_path, target)
    assert code == 2
    assert text.startswith("python -m keras_reduce: ")
    assert words in text
    assert "What to do: " in text
