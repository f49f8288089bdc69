"""Every kind of object over every transport, checked in processes that lack its code.

Two programs do the work, so that hundreds of checks cost two TensorFlow processes and the workers
that the transports start; each test looks up one word in their output.
"""

import json
import os
import re
from typing import get_args

import pytest

import rows
from keras_reduce import families, reducers
from processes import BACKEND, TRANSPORTS, decorated, shipped

# ``KERAS_BACKEND=jax pytest tests/core/test_zoo.py`` tries all cases; a row of versions, only those
# that may differ with the backend.
CASES = rows.zoo_of(os.environ.get("KERAS_REDUCE_ROW", ""), decorated("zoo.py", "case"))


# For each row of the table of reducers, a case that uses it. Most rows are used in many cases.
USING = {
    "model": "sequential",
    "layer": "lone_layers",
    "optimizer": "lone_optimizers",
    "loss": "lone_losses",
    "metric": "lone_metrics",
    "callback": "callbacks_after_use",
    "variable": "lone_variables",
    "seed_generator": "lone_seed_generators",
    "initializer": "lone_rules",
    "regularizer": "lone_rules",
    "constraint": "lone_rules",
    "schedule": "lone_rules",
    "policy": "lone_rules",
    "tensor": "symbolic_tensors",
    "node": "symbolic_tensors",
    "operation": "symbolic_tensors",
    "function": "keras_function",
    "tf_function": "compiled_functions",
}


@pytest.fixture
def arrivals(once, selected, tmp_path_factory):
    """Words for each case and transport, and the kinds of objects for each case."""

    def ship():
        folder = tmp_path_factory.mktemp("zoo")
        words = shipped("zoo.py", folder, selected("name"), selected("transport"))
        return words, json.loads((folder / "kinds.json").read_text())

    return once(ship)


def test_zoo_is_large_enough_and_complete():
    assert len(CASES) >= (60 if BACKEND == "tensorflow" else 25)


def test_every_row_of_the_table_is_in_the_zoo():
    absent = set() if BACKEND == "tensorflow" else {"tf_function"}
    assert set(USING) >= set(reducers.TABLE)
    cases = {case for kind, case in USING.items() if kind not in absent}
    assert cases <= set(decorated("zoo.py", "case"))


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for kind, name in USING.items() if name in CASES]
)
def test_a_case_uses_a_row_of_the_table(arrivals, name, kind):
    _, kinds = arrivals
    assert kind in kinds[name]


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
