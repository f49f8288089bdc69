"""Dumps of one set of versions load with another: see ``core/between_versions.py``.

``nox -s versions`` has each row write its dumps into one folder, and names it as
``KERAS_REDUCE_DUMPS``; what this row must read stands in `rows`.
"""

import os
import re
from pathlib import Path

import pytest

import rows
from processes import program, python, words

PROGRAM = "between_versions.py"
CASES = re.findall(r"^@case\(.*\)\ndef (\w+)", program(PROGRAM).read_text(), re.MULTILINE)
ROW = os.environ.get("KERAS_REDUCE_ROW", "")
DUMPS = os.environ.get("KERAS_REDUCE_DUMPS")

# Always what this row writes itself, in another process.
WRITERS = ["itself", *(rows.ROWS[ROW].reads if DUMPS else ())]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What is read of each writer's dumps."""
    own = tmp_path_factory.mktemp("versions")
    python(program(PROGRAM), "write", own)
    folders = {w: own if w == "itself" else Path(DUMPS) / w for w in WRITERS}
    return {writer: words(PROGRAM, "read", folder) for writer, folder in folders.items()}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("case", CASES)
def test_goes_on_where_it_left_off(found, writer, case):
    assert found[writer].keys() == set(CASES)
    assert found[writer][case] == ""
