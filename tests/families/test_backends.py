"""What differs between Keras's backends: memory, workers, files that one writes and another reads.

All of it is run on one backend, that of ``KERAS_BACKEND``, and files between all that can be had in
the environment: with JAX comes Keras's backend of NumPy, which answers but does not train. From one
environment to another, pass a folder: ``families/crossing.py`` says how.
"""

import importlib.util
import json

import pytest

from processes import BACKEND, decorated, program, python, words

UNSET = {"KERAS_BACKEND": ""}  # As Keras has it, which takes an empty name for none.


CHECKS = [
    *decorated("aliasing.py", "check"),
    *decorated("aliasing.py", "with_and_without_compiling"),
]


@pytest.mark.parametrize("name", CHECKS)
def test_memory_and_values(run_checks, name):
    run_checks("aliasing.py", timeout=600).demand(name)


if BACKEND != "tensorflow":  # Which workers would have anyway.

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
        found = words("choosing.py", how, BACKEND, KERAS_HOME=str(tmp_path), **UNSET)
        assert found
        assert not any(found.values()), found


def test_a_worker_that_has_another_backend_says_so():
    found = words("disagreeing.py")
    assert list(found) == decorated("disagreeing.py", "check")
    assert not any(found.values()), "\n".join(found.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What this backend has written."""
    folder = tmp_path_factory.mktemp("crossing")
    python(program("crossing.py"), "write", folder, timeout=900)
    return folder


def present():
    """Return the backends that can be had here."""
    found = [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]
    return [*found, "numpy"] if "jax" in found else found  # From which that takes some functions.


def assert_reads(folder, backend):
    other = {} if backend == BACKEND else {"KERAS_BACKEND": backend}
    found = words("crossing.py", "read", folder, timeout=900, **other)
    assert set(json.loads((folder / "writer.json").read_text())["models"]) <= set(found)
    wrong = {name: word for name, word in found.items() if word}
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
    """What programs take that have chosen nothing, or something, by content and choice."""
    folder = tmp_path_factory.mktemp("taken")
    code = "import pickle\nfrom pathlib import Path\nimport keras, keras_reduce\n"
    code += "keras_reduce.install()\n"
    for name, content in CONTENTS.items():
        code += f"Path({name!r}).write_bytes(pickle.dumps([{content}]))\n"
    python(code, cwd=folder)
    found = {}

    def load(framework, choices, **environment):
        cases = {}
        for name in CONTENTS:
            for choice, variables in choices.items():
                # A home for each: Keras leaves its settings there.
                home = folder / f"{name} {choice}"
                home.mkdir()
                if choice == "settings":
                    (home / "keras.json").write_text(json.dumps({"backend": present()[-1]}))
                variables = {"KERAS_HOME": str(home), **variables}
                cases[name, choice] = str(folder / name), variables
        arguments = (framework, json.dumps(list(cases.values())))
        printed = python(program("loading.py"), *arguments, fresh=True, **environment)
        lines = [line.split()[1] for line in printed.splitlines() if line[:6] == "FOUND "]
        found.update(zip(cases, lines, strict=True))

    sets = {f"sets {name}": {"KERAS_BACKEND": name} for name in present()}
    load(framework_of(default()), {"nothing": {}, "settings": {}, **sets}, **UNSET)
    for name in present():
        load(framework_of(name), {f"is given {name}": {}}, KERAS_BACKEND=name)
    return found


def default():
    """Return what Keras takes if it is told nothing; here it is there."""
    return "tensorflow" if "tensorflow" in present() else BACKEND


def framework_of(backend):
    """Return what a backend imports."""
    return "jax" if backend == "numpy" else backend


@pytest.mark.parametrize("content", CONTENTS)
def test_a_program_that_has_chosen_nothing_takes_what_the_file_was_written_with(content, taken):
    assert taken[content, "nothing"] == default()
    # Its own choice wins, however it makes it; and so does what Keras is told in its settings.
    for other in present():
        assert taken[content, f"sets {other}"] == other
        assert taken[content, f"is given {other}"] == other
    assert taken[content, "settings"] == present()[-1]


def test_what_is_missing_is_named(tmp_path):
    """The reader asks for a backend that is not there."""
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
