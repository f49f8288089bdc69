"""Dumps of one set of versions load with another: see ``core/between_versions.py``.

``nox -s versions`` lets each row write its dumps into one folder, whose path is in
``KERAS_REDUCE_DUMPS``. `rows` lists the dumps that a row must read.
"""

import os
import re
from pathlib import Path

import pytest

import rows
from keras_reduce.core import keras_backend
from processes import BACKEND, program, python, words

PROGRAM = "between_versions.py"
CASES = re.findall(r"^@case\(.*\)\ndef (\w+)", program(PROGRAM).read_text(), re.MULTILINE)
ROW = os.environ.get("KERAS_REDUCE_ROW", "")
DUMPS = os.environ.get("KERAS_REDUCE_DUMPS")

# "itself": dumps that this row has written, in another process.
ITSELF = () if BACKEND in keras_backend.INFERENCE_ONLY else ("itself",)
WRITERS = [*ITSELF, *(rows.ROWS[ROW].reads if DUMPS else ())]


@pytest.fixture(scope="module")
def words_of_readers(tmp_path_factory):
    """Words of the reader for the dumps of each writer."""
    dumps = tmp_path_factory.mktemp("versions")
    if ITSELF:
        python(program(PROGRAM), "write", dumps)
    folders = {w: dumps if w == "itself" else Path(DUMPS) / w for w in WRITERS}
    return {writer: words(PROGRAM, "read", folder) for writer, folder in folders.items()}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("case", CASES)
def test_goes_on_where_it_left_off(words_of_readers, writer, case):
    assert words_of_readers[writer].keys() == set(CASES)
    assert words_of_readers[writer][case] == ""
