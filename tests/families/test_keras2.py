"""Keras 2: TensorFlow's own of 2.12, or tf_keras beside Keras 3, whichever is installed."""

import ast
import os
from pathlib import Path

import pytest

import rows
from keras_reduce.families._shared.versions import generation
from pages import needing, programs
from processes import TRANSPORTS, decorated, program, python, shipped

IS_OWN = generation("keras") == 2

CASES = [
    name for name in decorated("keras2_zoo.py", "case") if IS_OWN or not name.startswith("legacy_w")
]
CASES = rows.zoo_of(os.environ.get("KERAS_REDUCE_ROW", ""), CASES)


@pytest.fixture
def arrivals(once, selected, tmp_path_factory):
    """Words of the sender and of the reader for each case and transport."""

    def ship():
        folder = tmp_path_factory.mktemp("keras2")
        cases = [name for name in selected("name") if name in CASES]
        zoo, transports = "keras2_zoo.py", selected("transport")
        return shipped(zoo, folder, cases, transports, PROBES="keras2_probes")

    return once(ship)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", CASES)
def test_arrives_and_continues_bit_for_bit(arrivals, name, transport):
    assert arrivals[name][transport] == ""


def checks():
    """Return the checks that the program has here: some are below an ``if``."""
    tree = ast.parse(program("on_keras2.py").read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    below = {
        ast.unparse(block.test): {each.name for each in block.body if hasattr(each, "name")}
        for block in blocks
    }
    absent = below["families.active().NAME == 'keras3'" if IS_OWN else "IS_2_12"]
    return [name for name in decorated("on_keras2.py", "check") if name not in absent]


@pytest.mark.parametrize("name", checks())
def test_everything_else(run_checks, name):
    run_checks("on_keras2.py", path=[Path(__file__).parents[1]], timeout=900).demand(name)


if IS_OWN:  # tf_keras has no wrappers.

    def test_classic_programs_run_unmodified(tmp_path):
        run = """
        import runpy, sys
        import keras_reduce
        keras_reduce.install()
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")
        """
        path = tmp_path / "estimator.pickle"
        printed = python(run, program("classic_failure.py"), path)
        loaded = python(
            """
            import pickle, sys
            import numpy as np
            estimator = pickle.load(open(sys.argv[1], "rb"))
            assert type(estimator).__module__ == "keras.wrappers.scikit_learn"
            assert estimator.get_params()["build_fn"]().optimizer is not None
            print("predictions", estimator.predict(np.ones((2, 5))).tolist())
            """,
            path,
        )
        (expected,) = [line for line in printed.splitlines() if line.startswith("predictions")]
        assert expected in loaded.splitlines()
        saved = python(run, program("classic_cure.py"), "save", path)
        assert (
            saved.splitlines()[-1]
            == python(run, program("classic_cure.py"), "load", path).splitlines()[-1]
        )

    @pytest.mark.parametrize("name", needing("keras2"))
    def test_programs_of_the_pages(tmp_path, name):
        program = tmp_path / name
        program.write_text(programs()[name])
        python(program, cwd=tmp_path)
        python(
            """
            import pickle
            estimator = pickle.load(open("estimator.pickle", "rb"))
            assert estimator.predict([[1, 2, 3]]).shape == ()
            assert estimator.build_fn().optimizer is not None
            """,
            cwd=tmp_path,
        )
