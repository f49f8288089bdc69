"""Installed versions are those of the row that runs, and rows name existing tests; see `rows`."""

import importlib.metadata
import os
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

import rows
from processes import ROOT, python

ROW = os.environ.get("KERAS_REDUCE_ROW", "")
HERE = ROOT / "tests"


def is_met(text):
    requirement = Requirement(text.removeprefix("!"))
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return text.startswith("!")
    return not text.startswith("!") and requirement.specifier.contains(version, prereleases=True)


def test_versions_are_those_of_the_row():
    expected = rows.ROWS[ROW].expects if ROW else ()
    assert [text for text in expected if not is_met(text)] == []


def test_the_check_of_versions_sees_what_is_wrong():
    assert is_met("pytest>=8")
    assert not is_met("pytest<8")
    assert not is_met("!pytest")
    assert is_met("!no-such-distribution")
    assert not is_met("no-such-distribution>=1")


@pytest.mark.parametrize("name", rows.ROWS)
def test_files_of_a_row_are_there(name):
    for test in rows.ROWS[name].tests:
        assert (HERE / rows.path_of(test.partition("::")[0])).is_file()
    assert set(rows.ROWS[name].reads) <= rows.ROWS.keys()


def test_allowed_skips_are_of_tests_that_are_there():
    for row, names in rows.MAY_BE_SKIPPED.items():
        assert row in rows.ROWS
        for name in names:
            file, _, test = name.partition("::")
            path = HERE / rows.path_of(file.removeprefix("test_").removesuffix(".py"))
            assert f"def {test.partition('[')[0]}" in path.read_text()


def test_backend_is_that_of_the_row():
    backend = rows.ROWS[ROW].backend if ROW else None
    if backend:
        printed = python("import keras; print(keras.backend.backend())")
        assert printed.split()[-1] == backend


SUITE = """
import pytest

def test_runs():
    pass

def test_skips():
    pytest.skip("for no reason")

@pytest.mark.xfail(strict=False)
def test_fails():
    assert False
"""


@pytest.mark.parametrize(
    ("row", "text", "code", "said"),
    [
        ("", SUITE, 0, "1 passed, 1 skipped, 1 xfailed"),
        ("oldest", SUITE, 1, "2 failed, 1 passed"),
        ("oldest", "import pytest\npytest.importorskip('nothing_of_this_name')", 4, "1 error"),
        ("oldest", "", 4, "has no test in"),
        ("", "", 5, "no tests ran"),
    ],
)
def test_a_row_that_skips_fails(tmp_path, row, text, code, said):
    (tmp_path / "conftest.py").write_text((HERE / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(text)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_it.py"],
        env={**os.environ, "KERAS_REDUCE_ROW": row, "PYTHONPATH": str(HERE), "PYTEST_ADDOPTS": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code, result.stdout + result.stderr
    assert said in result.stdout + result.stderr
