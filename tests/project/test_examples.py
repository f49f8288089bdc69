"""The programs in ``examples`` run in a plain folder and print what they claim."""

import re
from importlib.util import find_spec

from processes import ROOT, python

EXAMPLES = ROOT / "examples"
TESTED = {
    "model_zoo.py",
    "nested_cross_validation.py",
    "search_on_dask.py",
    "served_model.py",  # in ``test_servers.py``
    "signed_handover.py",
    "tuned_pipeline.py",
}


def run(name, folder):
    """Run an example in a folder and return the lines that it prints."""
    return python(EXAMPLES / name, cwd=folder).splitlines()


def test_each_example_is_tested():
    assert {path.name for path in EXAMPLES.glob("*.py")} == TESTED


def test_a_tuned_pipeline_is_served(tmp_path):
    tuned, served, error, same = run("tuned_pipeline.py", tmp_path)
    assert re.search(r"tuned: .*units': (8|32)", tuned)
    assert served == "served: 111 predictions from pipeline.joblib"
    assert 30 < float(error.rpartition(" ")[2]) < 60
    assert same == "same as before the file: True"
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline.joblib"]


def test_nested_cross_validation(tmp_path):
    *folds, mean = run("nested_cross_validation.py", tmp_path)
    assert len(folds) == 3
    assert all(re.search(r"accuracy 0\.\d+|1\.0+ with .*units': (4|16)", line) for line in folds)
    assert float(mean.rpartition(" ")[2]) > 0.85


def test_a_zoo_is_inspected(tmp_path):
    title, *models, foreign, loaded = run("model_zoo.py", tmp_path)
    assert "digests right" in title
    assert len(models) == 3
    assert any("Functional 'convolutional', 170 parameters" in line for line in models)
    assert foreign == "names of other packages: none"
    assert loaded == "loaded: dense, convolutional, recurrent"
    page = (tmp_path / "zoo.html").read_text()
    assert page.startswith("<!doctype html>")
    assert all(name in page for name in ("dense", "convolutional", "recurrent", "<svg"))


def test_a_signed_handover(tmp_path):
    received, changed, unsigned = run("signed_handover.py", tmp_path)
    assert received == "received from the sender; same answers: True"
    assert changed == "one bit changed: The signature is wrong"
    assert unsigned == "written without the key: The file is not signed"


if find_spec("distributed"):  # See the row `clusters`.

    def test_a_search_on_dask(tmp_path):
        workers, search, predictions = run("search_on_dask.py", tmp_path)
        assert workers == "2 workers"
        assert re.search(r"6 fits, best: .*units': (4|16)}, R\^2 0\.\d", search)
        assert predictions.startswith("442 predictions")
