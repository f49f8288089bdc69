"""`dump`, `load`, `dumps`, `loads`: see the programs in this folder."""

import json

import pytest

from processes import Running, decorated, program, python

FILES = decorated("formats_of_files.py", "check")
SIGNATURES = decorated("signatures.py", "check")
MODELS = decorated("saved_estimators.py", "check")


@pytest.mark.parametrize("name", FILES)
def test_files(run_checks, name):
    run_checks("formats_of_files.py").demand(name)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(run_checks, name):
    run_checks("signatures.py").demand(name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("persistence")


@pytest.mark.parametrize("name", MODELS)
def test_models(run_checks, folder, name):
    run_checks("saved_estimators.py", folder).demand(name)


def test_stock_joblib_reads_them_in_another_program(run_checks, folder):
    """Load in a program that calls no `install` and lacks the writer's code."""
    needed = "files_for_another_program"
    run_checks("saved_estimators.py", folder, needed=[needed]).demand(needed)
    python(
        """
        import sys
        import joblib
        import numpy as np
        x = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
        expected = np.load("expected.npy").tobytes()
        for name, mode in (("plain", None), ("plain", "r"), ("zlib", None), ("lzma", None)):
            pipeline = joblib.load(name, mmap_mode=mode)
            assert pipeline.predict(x).tobytes() == expected, (name, mode)
            assert type(pipeline[-1].model_.layers[0]).__name__ == "Doubling"
        import keras_reduce
        assert not keras_reduce.is_installed()
        for mode in (None, "r", "c"):
            assert keras_reduce.load("plain", mmap_mode=mode).predict(x).tobytes() == expected
        """,
        cwd=folder,
    )


def test_reading_what_has_no_model_loads_no_framework(tmp_path):
    printed = python(
        """
        import sys
        import keras_reduce
        assert "numpy" not in sys.modules and "joblib" not in sys.modules
        keras_reduce.dump({"a": 1}, sys.argv[1])
        assert keras_reduce.load(sys.argv[1]) == {"a": 1}
        print(sorted({"keras", "tensorflow", "sklearn"} & set(sys.modules)))
        """,
        tmp_path / "a",
        fresh=True,
    )
    assert printed.strip() == "[]"


def test_processes_share_a_mapped_model(tmp_path):
    """Require that mapped weights take no private memory of the processes."""
    path = tmp_path / "model"
    python(program("mapped_model.py"), "write", path)
    readers = [Running(program("mapped_model.py"), "read", path) for _ in range(2)]
    try:
        for reader in readers:
            assert reader.read_until(lambda reader=reader: "\n" in reader.stdout)
            *growths, weights = map(int, reader.stdout.split()[1:])
            assert weights > 64 << 20
            assert max(growths) < weights / 10, (growths, weights)
    finally:
        for reader in readers:
            reader.close()


def test_damaged_files_are_refused():
    """Try 300 mutations; ``python tests/files/mutations.py 20000`` tries more."""
    printed = python(program("mutations.py"), 300)
    (line,) = [line for line in printed.splitlines() if line.startswith("TABLE ")]
    outcomes = json.loads(line.removeprefix("TABLE "))
    assert outcomes["wrong"] == []
    assert sum(outcomes["table"].values()) == 300
    assert not [name for name in outcomes["table"] if name.startswith("default") and "gap" in name]
