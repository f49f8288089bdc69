"""Picklers of this package and joblib's: ``core/dispatching.py``, ``core/by_any_pickler.py``."""

import ast
import json
from importlib.util import find_spec

import pytest

from processes import ELSEWHERE, decorated, program, python

# The rows of versions say where dill is installed.
WITH_DILL = ("dill first", "dill last") if find_spec("dill") and find_spec("tblib") else ()
WHO = ("no library", "stranger", *WITH_DILL)


def test_the_standard_table():
    python(
        """
        import pickle, sys
        from keras_reduce.core.dispatch import STANDARD
        assert "dill" not in sys.modules
        assert STANDARD == pickle._Pickler.dispatch
        """,
        fresh=True,
    )


CHECKS = decorated("dispatching.py", "check")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {who: tmp_path_factory.mktemp(who.replace(" ", "_")) for who in WHO}


@pytest.fixture
def dispatching(run_checks, folders):
    """A function that runs the program. "dill first" needs a process that has no Keras yet."""
    return lambda who, **options: run_checks(
        "dispatching.py", who, folders[who], fresh=True, **options
    )


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", CHECKS)
def test_entries_of_others(dispatching, who, name):
    dispatching(who).demand(name)


@pytest.mark.parametrize("who", WHO)
def test_files_are_read_without_others(dispatching, folders, who):
    dispatching(who, needed=CHECKS).finish()
    printed = python(program("dispatching_read.py"), folders[who], fresh=True)
    assert printed.split("\n")[0] == ("needs tblib" if who == "dill last" else "needs nothing")


@pytest.mark.parametrize("who", WHO)
def test_hashes_are_the_same_with_entries_of_others(dispatching, folders, who):
    for each in (who, "no library"):
        dispatching(each, needed=CHECKS).finish()
    actual, expected = (
        json.loads((folders[w] / "hashes").read_text()) for w in (who, "no library")
    )
    assert actual == expected


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("picklers")


WRITTEN = decorated("by_any_pickler.py", "check")


@pytest.mark.parametrize("name", WRITTEN)
def test_written(run_checks, folder, name):
    run_checks("by_any_pickler.py", folder).demand(name)


def _read_checks():
    tree = ast.parse(program("by_any_pickler_read.py").read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [node.name for node in functions if node.decorator_list]


@pytest.mark.parametrize("name", _read_checks())
def test_read_by_another_process(run_checks, folder, name):
    run_checks("by_any_pickler.py", folder, needed=WRITTEN).finish()
    run_checks("by_any_pickler_read.py", folder, **ELSEWHERE).demand(name)
