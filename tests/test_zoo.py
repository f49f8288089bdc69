"""Every kind of object over every transport, checked in processes that lack its code.

Two programs do the work, so that hundreds of checks cost two TensorFlow processes and the workers
that the transports start; each test looks up one word of theirs.
"""

import json
import os
import re
from typing import get_args

import pytest

import rows
from keras_reduce import families, reducers
from processes import BACKEND, PROGRAMS, decorated, python

FILES = ("pickle", "cloudpickle", "joblib", "joblib compressed", "joblib mmap")
TRANSPORTS = (*FILES, "deepcopy", "clone", "loky", "multiprocessing")


CASES = decorated("zoo.py", "case")
IS_PART = os.environ.get("KERAS_REDUCE_ROW") in ("jax", "torch")
if IS_PART:
    # What depends on the backend; ``KERAS_BACKEND=jax pytest tests/test_zoo.py`` tries all.
    CASES = [name for name in CASES if name in rows.ZOO_OF_OTHER_BACKENDS]


@pytest.fixture(scope="session")
def arrivals(tmp_path_factory):
    """Words for each case and transport, as the sender and the reader wrote them down."""
    folder = tmp_path_factory.mktemp("zoo")
    words = shipped("zoo.py", folder, *CASES)
    return words, set(json.loads((folder / "kinds.json").read_text()))


def shipped(zoo, folder, *cases, **environment):
    """Run a zoo, or some cases of it, and its reader; return the words by case and transport."""
    python(PROGRAMS / zoo, folder, *cases, timeout=1500, **environment)
    # From elsewhere: the reader's folder must not make the zoo importable by chance.
    python(PROGRAMS / "shipping.py", folder, cwd=folder, timeout=1500, **environment)
    written = json.loads((folder / "written.json").read_text())
    found = json.loads((folder / "read.json").read_text())
    for name, words in found.items():
        for transport, word in words.items():
            written[name][transport] = written[name][transport] or word
    return written


def test_zoo_is_large_enough_and_complete(arrivals):
    words, _ = arrivals
    assert len(words) >= (30 if IS_PART else 60)
    assert list(words) == CASES
    assert all(set(by_transport) == set(TRANSPORTS) for by_transport in words.values())


def test_every_row_of_the_table_is_in_the_zoo(arrivals):
    _, kinds = arrivals
    absent = set() if BACKEND == "tensorflow" else {"tf_function"}
    assert kinds == set(reducers.TABLE) - absent


@pytest.mark.parametrize("kind", reducers.TABLE)
def test_every_row_of_the_table_keeps_the_contract(kind):
    reducer = reducers.TABLE[kind]
    assert reducer is getattr(reducers, f"reduce_{kind}")
    assert getattr(reducers, f"rebuild_{kind}").__module__ == "keras_reduce.reducers"
    said = " ".join(reducer.__doc__.split())
    assert re.search(r" Carried: .+ Not carried: .+", said)
    assert set(get_args(families.Kind)) == set(reducers.TABLE)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", CASES)
def test_arrives_and_continues_bit_for_bit(arrivals, name, transport):
    words, _ = arrivals
    assert words[name][transport] == ""
