"""Differences between Keras's backends: memory, workers, files from one backend to another.

Everything runs on one backend, that of ``KERAS_BACKEND``; files also go between all backends that
are installed. With JAX comes Keras's NumPy backend, which predicts but does not train. For files
from one environment to another, run ``families/crossing.py`` with a shared folder.
"""

import importlib.util
import json

import pytest

from processes import BACKEND, decorated, program, python, words

UNSET = {"KERAS_BACKEND": ""}  # For Keras, an empty name is the same as none.


CHECKS = [
    *decorated("aliasing.py", "check"),
    *decorated("aliasing.py", "with_and_without_compiling"),
]


@pytest.mark.parametrize("name", CHECKS)
def test_memory_and_values(run_checks, name):
    run_checks("aliasing.py", timeout=600).demand(name)


if BACKEND != "tensorflow":  # TensorFlow is the default of workers anyway.

    @pytest.mark.parametrize(
        "how",
        [
            "by_environment",
            "by_environment_after_all_has_started",
            "by_settings",
            "by_reloading",
        ],
    )
    def test_workers_compute_with_what_the_program_has_chosen(how, tmp_path):
        outcomes = words("choosing.py", how, BACKEND, KERAS_HOME=str(tmp_path), **UNSET)
        assert outcomes
        assert not any(outcomes.values()), outcomes


def test_a_worker_that_has_another_backend_says_so():
    outcomes = words("disagreeing.py")
    assert list(outcomes) == decorated("disagreeing.py", "check")
    assert not any(outcomes.values()), "\n".join(outcomes.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with files that this backend has written."""
    folder = tmp_path_factory.mktemp("crossing")
    python(program("crossing.py"), "write", folder, timeout=900)
    return folder


def present():
    """Return the backends that are installed here."""
    frameworks = [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]
    return (
        [*frameworks, "numpy"] if "jax" in frameworks else frameworks
    )  # Keras's NumPy backend uses some functions of JAX.


def assert_reads(folder, backend):
    other = {} if backend == BACKEND else {"KERAS_BACKEND": backend}
    outcomes = words("crossing.py", "read", folder, timeout=900, **other)
    assert set(json.loads((folder / "writer.json").read_text())["models"]) <= set(outcomes)
    wrong = {name: word for name, word in outcomes.items() if word}
    assert not wrong, "\n".join(f"{name}: {word}" for name, word in wrong.items())


PAIRS = [(BACKEND, BACKEND)]
for other in set(present()) - {BACKEND}:
    PAIRS += [(BACKEND, other), (other, BACKEND)]


@pytest.mark.parametrize(("writer", "reader"), sorted(PAIRS))
def test_what_one_backend_writes_another_reads(folder, writer, reader, tmp_path):
    if writer != BACKEND:
        folder = tmp_path
        python(program("crossing.py"), "write", folder, KERAS_BACKEND=writer, timeout=900)
    assert_reads(folder, reader)


CONTENTS = {
    "model": "keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])",
    "code": "keras_reduce.KerasRegressor(lambda: keras.Sequential([keras.layers.Dense(1)]))",
}


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """Backends of programs that load a file, by its content and by the program's choice."""
    folder = tmp_path_factory.mktemp("taken")
    code = "import pickle\nfrom pathlib import Path\nimport keras, keras_reduce\n"
    code += "keras_reduce.install()\n"
    for name, content in CONTENTS.items():
        code += f"Path({name!r}).write_bytes(pickle.dumps([{content}]))\n"
    python(code, cwd=folder)
    outcomes = {}

    def load(framework, choices, **environment):
        cases = {}
        for name in CONTENTS:
            for choice, variables in choices.items():
                # Each gets its own home folder: Keras writes its settings there.
                home = folder / f"{name} {choice}"
                home.mkdir()
                if choice == "settings":
                    (home / "keras.json").write_text(json.dumps({"backend": present()[-1]}))
                variables = {"KERAS_HOME": str(home), **variables}
                cases[name, choice] = str(folder / name), variables
        arguments = (framework, json.dumps(list(cases.values())))
        printed = python(program("loading.py"), *arguments, fresh=True, **environment)
        lines = [line.split()[1] for line in printed.splitlines() if line[:6] == "FOUND "]
        outcomes.update(zip(cases, lines, strict=True))

    sets = {f"sets {name}": {"KERAS_BACKEND": name} for name in present()}
    load(framework_of(default()), {"nothing": {}, "settings": {}, **sets}, **UNSET)
    for name in present():
        load(framework_of(name), {f"is given {name}": {}}, KERAS_BACKEND=name)
    return outcomes


def default():
    """Return Keras's default backend, or the current backend if that is not installed."""
    return "tensorflow" if "tensorflow" in present() else BACKEND


def framework_of(backend):
    """Return the framework that a backend imports."""
    return "jax" if backend == "numpy" else backend


@pytest.mark.parametrize("content", CONTENTS)
def test_a_program_that_has_chosen_nothing_takes_what_the_file_was_written_with(content, taken):
    assert taken[content, "nothing"] == default()
    # Any choice of the program wins over the file, and so do Keras's settings.
    for other in present():
        assert taken[content, f"sets {other}"] == other
        assert taken[content, f"is given {other}"] == other
    assert taken[content, "settings"] == present()[-1]


def test_what_is_missing_is_named(tmp_path):
    """Set a backend in the reader that is not installed."""
    absent = next(
        (name for name in ("torch", "jax", "tensorflow") if name not in present()), "openvino"
    )
    file = tmp_path / "model.pickle"
    python(
        """
        import pickle, sys
        from pathlib import Path
        import keras, keras_reduce
        keras_reduce.install()
        Path(sys.argv[1]).write_bytes(pickle.dumps(keras.layers.Dense(1)))
        """,
        file,
    )
    said = python(
        """
        import pickle, sys
        from pathlib import Path
        from keras_reduce.errors import FrameworkError
        try:
            pickle.loads(Path(sys.argv[1]).read_bytes())
        except FrameworkError as error:
            print(error)
        """,
        file,
        KERAS_BACKEND=absent,
    )
    assert f"pip install keras {absent}" in said
    assert f"set KERAS_BACKEND={BACKEND}" in said


def test_sparse_rows_reach_an_estimator_of_each_backend():
    python(
        """
        import keras, keras_reduce
        import numpy as np
        from scipy import sparse

        keras_reduce.install()
        rows = sparse.random(40, 30, 0.1, "csr", dtype="float32", random_state=0)
        targets = np.asarray(rows.sum(1)).ravel()

        def build():
            model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(1)])
            model.compile("sgd", "mse")
            return model

        estimator = keras_reduce.KerasRegressor(build, batch_size=8).fit(rows, targets)
        assert np.allclose(estimator.predict(rows), estimator.predict(rows.toarray()), atol=1e-5)
        """
    )
