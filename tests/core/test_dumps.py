"""Functions and classes of ``__main__`` inside `joblib.dump`, loaded by another program."""

import pytest

from processes import program, python


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dumps")
    python(program("plain_dumps.py"), folder)
    return folder


@pytest.mark.parametrize("name", ["plain", "compressed"])
def test_another_program_loads_them(folder, name):
    python(
        """
        import sys
        import joblib
        import numpy as np
        content = joblib.load(sys.argv[1])
        expected = np.load(sys.argv[2])
        assert content["pipeline"].transform(np.ones((2, 2))).tobytes() == expected.tobytes()
        assert content["recursion"](5) == 5
        assert content["twice"][0] is content["twice"][1]
        assert content["pipeline"].steps[0][1].func is content["twice"][0]
        assert type(content["pipeline"].steps[2][1]) is content["class"]
        assert content["builtin"] is len
        assert content["reference"] is np.mean
        # One pickle for all of it: the lambda's global is the very object beside it.
        variables = content["pipeline"].steps[1][1].func.__globals__
        assert variables["shared"] is content["shared"]
        assert "tensorflow" not in sys.modules and "keras" not in sys.modules
        """,
        folder / f"{name}.joblib",
        folder / "expected.npy",
        fresh=True,
    )


def test_by_reference_on_request(folder):
    python(
        """
        import sys
        import joblib
        try:
            joblib.load(sys.argv[1])
        except AttributeError as error:
            assert "times_factor" in str(error)
        else:
            raise AssertionError("loaded a function that is not here")
        """,
        folder / "reference.joblib",
    )


def test_plain_pickle_of_a_wrapper_with_a_lambda(folder):
    python(
        """
        import pickle, sys
        from pathlib import Path
        wrapper = pickle.loads(Path(sys.argv[1]).read_bytes())
        assert wrapper.get_params()["build_fn"](4) == 7.0
        assert wrapper.get_params()["epochs"] == 3
        """,
        folder / "wrapper.pickle",
    )
