"""README's code runs, and its commands are those of the gate."""

import re

import pytest

from processes import ROOT, python
from readme import OF_ENGINES, OF_KERAS_2, README, blocks, programs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(scope="module")
def printed(folder):
    """What each program prints, all run in one folder in README's order."""
    outputs = {}
    for name, text in programs().items():
        if name in OF_KERAS_2 | OF_ENGINES:
            continue
        path = folder / name
        path.write_text(text)
        outputs[name] = python(path, cwd=folder)
    return outputs


def test_a_search_is_read_by_another_program(printed):
    assert programs()["train.py"].count("\n") < 20
    (score, units) = re.search(r"R\^2 (\S+) with \{'units': (\d+)\}", printed["train.py"]).groups()
    assert float(score) > 0.3
    assert f"{{'units': {units}}} [" in printed["read.py"]


def test_files_with_code_of_one_program_are_read_by_another(printed, folder):
    python(
        """
        import pickle
        import joblib
        import numpy as np
        with open("model.pickle", "rb") as file:
            model = pickle.load(file)
        assert model.predict(np.ones((1, 3)), verbose=0).tolist() == [[3, 3, 3]]
        assert joblib.load("square.joblib").transform(np.array([[3]])) == [[9]]
        """,
        cwd=folder,
    )


def test_the_classifier_learns(printed):
    scores = [float(score) for score in re.findall(r"\d\.\d+", printed["classify.py"])]
    assert len(scores) == 3
    assert min(scores) > 0.7


def test_what_is_said_to_be_printed_is(printed):
    comments = re.findall(r"^# (.*)$", programs()["stuck.py"].partition("print(")[2], re.MULTILINE)
    assert comments[0].startswith("pipeline.steps[1][1].model_")
    assert printed["stuck.py"].splitlines() == comments


def test_weights_go_out_of_band(printed):
    size, buffers = map(int, re.findall(r"\d+", printed["out_of_band.py"]))
    assert size < 10_000
    assert buffers == 2


def test_training_times_are_shown(printed):
    assert len(re.findall(r"^\d\.\d\d s$", printed["traced_once.py"], re.MULTILINE)) == 3


def test_files_are_read_by_joblib_alone(printed, folder):
    assert printed["files.py"].split() == ["9", "4"]
    python(
        """
        import joblib
        found = joblib.load("model.joblib")
        assert found["square"](3) == 9
        assert found["model"].count_params() == 4
        """,
        cwd=folder,
    )


def test_signed_files_are_loaded_with_their_key(printed):
    assert printed["signed.py"] == "{'scores': [0.7, 0.9]}\n"


def test_what_is_in_a_file_is_shown(printed):
    for fragment in (
        *("'by' = 'a friend'", "Sequential 'sequential", "Dense 'dense': 8 parameters"),
        *("digests: as keras_reduce.dump wrote it", "Code in the file itself", "<lambda>"),
    ):
        assert fragment in printed["look.py"], printed["look.py"]


def test_what_is_not_trusted_is_named(printed):
    assert "it names json.loads" in printed["trusted.py"]
    assert printed["trusted.py"].splitlines()[-1] == "4"


def test_the_hash_is_the_same_in_another_process(printed, folder):
    assert python(folder / "cached.py", cwd=folder) == printed["cached.py"]


def test_limits(printed):
    """What README admits; when this fails, one can go from there."""
    python(
        """
        import copy, pickle
        from types import SimpleNamespace
        import keras, keras_reduce
        keras_reduce.install()

        class Configured(keras.Sequential):
            def __init__(self, *arguments, **more):
                super().__init__(*arguments, **more)
                self.count, self.helper = 0, SimpleNamespace(count=0)

            def get_config(self):
                return super().get_config()

        model = Configured([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        model.count = model.helper.count = 1
        copied = pickle.loads(pickle.dumps(model))
        assert (copied.count, copied.helper.count) == (1, 0)

        held = {"model": model, "kernel": model.layers[0].kernel}
        copied = pickle.loads(pickle.dumps(held))
        assert copied["kernel"] is not copied["model"].layers[0].kernel

        model.layers[0].owner = SimpleNamespace(model=model)
        copied = copy.deepcopy(model)
        assert copied.layers[0].owner.model is not copied
        """
    )


def test_commands():
    run, test = blocks("console")
    assert run.endswith(" -m keras_reduce demo\n")
    assert test.endswith(" -m pytest\n")
    for command in (run, test):
        assert command.count("\n") == 1
        set_up, install, _ = command.split(" && ")
        assert set_up == "python3 -m venv .venv"
        assert install.startswith(".venv/bin/pip install ")
    # The gate takes the command from here, so that the two can't differ.
    gate = (ROOT / ".ci" / "run").read_text()
    (found,) = re.findall(r"grep -x '(.*)' README\.md", gate)
    (line,) = [line for line in README.splitlines() if re.fullmatch(found, line)]
    assert f"{line}\n" == test
