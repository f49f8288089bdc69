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
from processes import BACKEND, TRANSPORTS, decorated, shipped

# ``KERAS_BACKEND=jax pytest tests/test_zoo.py`` tries all; its row what depends on the backend.
CASES = rows.zoo_of(os.environ.get("KERAS_REDUCE_ROW", ""), decorated("zoo.py", "case"))


@pytest.fixture(scope="session")
def arrivals(tmp_path_factory):
    """Words for each case and transport, as the sender and the reader wrote them down."""
    folder = tmp_path_factory.mktemp("zoo")
    words = shipped("zoo.py", folder, *CASES)
    return words, set(json.loads((folder / "kinds.json").read_text()))


def test_zoo_is_large_enough_and_complete(arrivals):
    words, _ = arrivals
    assert len(words) >= (60 if BACKEND == "tensorflow" else 25)
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
