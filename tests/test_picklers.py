"""Picklers of this package and joblib's: ``programs/dispatching.py``, ``programs/picklers.py``."""

import ast
import json
from importlib.util import find_spec

import pytest

from processes import PROGRAMS, decorated, python, words

# The rows of versions say where dill is installed.
WITH_DILL = ("dill first", "dill last") if find_spec("dill") and find_spec("tblib") else ()
WHO = ("nobody", "stranger", *WITH_DILL)


def test_the_standard_table():
    python(
        """
        import pickle, sys
        from keras_reduce.dispatch import STANDARD
        assert "dill" not in sys.modules
        assert STANDARD == pickle._Pickler.dispatch
        """
    )


@pytest.fixture(scope="module")
def dispatched(tmp_path_factory):
    folders = {who: tmp_path_factory.mktemp(who.replace(" ", "_")) for who in WHO}
    found = {who: words("dispatching.py", who, folder) for who, folder in folders.items()}
    return folders, found


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", decorated("dispatching.py", "check"))
def test_entries_of_others(dispatched, who, name):
    outcome = dispatched[1][who]
    assert not outcome[name], outcome[name]


@pytest.mark.parametrize("who", WHO)
def test_files_are_read_without_others(dispatched, who):
    printed = python(PROGRAMS / "dispatching_read.py", dispatched[0][who])
    assert printed.split("\n")[0] == ("needs tblib" if who == "dill last" else "needs nothing")


@pytest.mark.parametrize("who", WHO)
def test_hashes_are_the_same_with_entries_of_others(dispatched, who):
    folders, _ = dispatched
    found, expected = (json.loads((folders[w] / "hashes").read_text()) for w in (who, "nobody"))
    assert found == expected


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("picklers")


@pytest.fixture(scope="module")
def written(folder):
    return words("picklers.py", folder)


@pytest.fixture(scope="module")
def read(folder, written):
    return words("picklers_read.py", folder)


@pytest.mark.parametrize("name", decorated("picklers.py", "check"))
def test_written(written, name):
    assert not written[name], written[name]


def _read_checks():
    tree = ast.parse((PROGRAMS / "picklers_read.py").read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [node.name for node in functions if node.decorator_list]


@pytest.mark.parametrize("name", _read_checks())
def test_read_by_another_process(read, name):
    assert not read[name], read[name]
