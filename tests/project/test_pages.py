"""Programs of README and of the pages run, links lead somewhere, and the API is complete."""

import re

import pytest

import html_links
import keras_reduce
import rows
from pages import NEEDS, ROOT, anchors, blocks, links, needing, pages, programs
from processes import program, python


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def printed(folder):
    """Return the output of each program, all run in one folder in the order of the pages."""
    outputs = {}
    for name, text in programs().items():
        if name not in NEEDS:
            (folder / name).write_text(text)
            outputs[name] = python(folder / name, cwd=folder)
    return outputs


def test_every_program_runs_in_a_row(printed):
    assert set(NEEDS) <= set(programs())
    assert set(NEEDS.values()) <= rows.ROWS.keys()
    assert sorted(printed) == needing("")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_blocks_are_of_languages_that_are_tested_or_of_none(page):
    for block in blocks("python", page):  # What is longer is cut off on a screen of usual width.
        assert [line for line in block.splitlines() if len(line) > 88 and line[0] != "#"] == []
    kinds = set(re.findall(r"^ *```+(\S+)", page.read_text(), re.MULTILINE))
    assert kinds <= {"python", "console", "text", "{toctree}", "{eval-rst}", "{include}"}


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
        "'by' = 'a friend'",
        "Sequential 'sequential",
        "Dense 'dense': 8 parameters",
        "digests: as keras_reduce.dump wrote it",
        "Code in the file itself",
        "<lambda>",
    ):
        assert fragment in printed["look.py"], printed["look.py"]


def test_what_is_not_trusted_is_named(printed):
    assert "it names json.loads" in printed["trusted.py"]
    assert printed["trusted.py"].splitlines()[-1] == "4"


def test_the_hash_is_the_same_in_another_process(printed, folder):
    assert python(folder / "cached.py", cwd=folder) == printed["cached.py"]


def test_limits():
    """Limits that docs/limits.md states; when this fails, a limit may have gone."""
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


def test_programs_for_those_who_migrate(printed):
    assert printed["from_scikeras.py"] == "True\n"
    assert printed["from_keras_wrappers.py"] in ("{'units': 8}\n", "{'units': 16}\n")


def test_examples_of_docstrings(tmp_path):
    """Every object of the API has examples, which run, but for these."""
    names = sorted(set(_shown_in_the_api()) - NEED_A_CLUSTER - {"errors"})
    printed = python(program("docstring_examples.py"), *names, cwd=tmp_path)
    (without,) = re.findall(r"^without examples: (.*)$", printed, re.MULTILINE)
    assert set(without.split()) <= HARD_TO_SHOW


# In the row "clusters": see ``test_dask.py``.
NEED_A_CLUSTER = {"dask.plugin"}
# Errors that need a missing library, a missing module, or a system without processes.
HARD_TO_SHOW = {"CustomObjectError", "FrameworkError", "WorkerError"}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in links(page.read_text()):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), target
        assert not anchor or anchor in anchors(file.read_text()), target


def test_pages_in_a_checkout_link_to_the_files_that_the_built_pages_include():
    for page in pages():
        text = page.read_text()
        included = re.findall(r"^```\{include\} (\S+)$", text, re.MULTILINE)
        assert set(included) <= set(links(text)), page.name


def test_the_check_of_built_pages_sees_what_is_broken(tmp_path, capsys):
    (tmp_path / "a.html").write_text('<h1 id="top">A</h1><a href="b.html#there">b</a>')
    (tmp_path / "b.html").write_text('<h1 id="there">B</h1><a href="a.html#top">a</a><a href="#">')
    assert html_links.main(tmp_path) == 0
    (tmp_path / "c.html").write_text('<a href="a.html#gone">a</a><img src="gone.png">')
    assert html_links.main(tmp_path) == 1
    said = capsys.readouterr().out
    assert "c.html: a.html#gone leads nowhere" in said
    assert "c.html: gone.png leads nowhere" in said
    assert said.endswith("3 pages, 2 broken links\n")


def test_every_page_is_in_the_index():
    docs = ROOT / "docs"
    trees = blocks("{toctree}", docs / "index.md")
    listed = [line for tree in trees for line in tree.splitlines() if line and line[0] != ":"]
    assert sorted(listed) == sorted({page.stem for page in docs.glob("*.md")} - {"index"})


def _shown_in_the_api():
    """Return the names that ``docs/api.md`` describes, without the name of the package."""
    text = (ROOT / "docs" / "api.md").read_text()
    return re.findall(
        r"^\.\. (?:auto\w+|py:module):: (?:keras_reduce\.)?(\S+)$", text, re.MULTILINE
    )


def test_the_api_is_complete():
    engines = {"dask.plugin", "ray.runtime_env", "spark.prepared"}
    assert {each.partition(".")[0] for each in engines} <= set(dir(keras_reduce))
    of_package = set(keras_reduce.__all__) - {"__version__"}
    of_errors = {f"errors.{name}" for name in keras_reduce.errors.__all__ if name not in of_package}
    others = {"inspection.Report", "explanation.Explanation", "parallel.backend.KerasBackend"}
    others |= {f"scikeras.{name}" for name in keras_reduce.scikeras.__all__}
    assert sorted(_shown_in_the_api()) == sorted(of_package | of_errors | engines | others)
