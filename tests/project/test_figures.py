"""Figures in README and on the pages are those of the last runs, in ``benchmarks/results``."""

import json
import tomllib
from fnmatch import fnmatchcase
from statistics import median

import pytest

from pages import README, ROOT

RESULTS = ROOT / "benchmarks" / "results"
# Titles of columns and rows in docs/benchmarks.md, and their names in results.json.
WAYS = {
    "dumps": "dumps",
    "loads": "loads",
    "dumps, out of band": "dumps_out",
    "loads, out of band": "loads_out",
    "deepcopy": "deepcopy",
    "hash": "hash",
    "file dump": "file_dump",
    "file load": "file_load",
    "mapped load": "file_map",
}
MODELS = {
    "MLP, 2 layers of 10": "mlp-2x10",
    "MLP, 20 layers of 64": "mlp-20x64",
    "MLP, 4 layers of 2048, with Adam's slots": "mlp-4x2048",
    "MobileNetV2": "mobilenetv2",
    "ResNet50, with Adam's slots": "resnet50",
    "transformer encoder, 12 layers, with Adam's slots": "transformer",
    "LSTM, 2 layers, with Adam's slots": "lstm",
}
# Rows of tables: the page, how the row begins, and where its figures are in workers.json.
SEARCH, NEAR, AGAIN = "GridSearchCV, KerasRegressor", "one architecture, n_jobs=", 1
WORKERS = [
    ("parallel", "two fresh workers ready", "two workers ready", AGAIN, "ready", ".2f"),
    ("parallel", "private memory of such", "two workers ready", AGAIN, "dirty per worker", ".0f"),
    ("parallel", "16 predictions", "16 predictions, 84 MB", 0, "wall", ".1f"),
    ("parallel", "… CPU time of the program", "16 predictions, 84 MB", 0, "program cpu", ".2f"),
    ("parallel", "`GridSearchCV` of small", SEARCH, 0, "wall", ".1f"),
    ("parallel", "… again, with the same", SEARCH, AGAIN, "wall", ".1f"),
    ("parallel", "`permutation_importance`", "permutation_importance", 0, "wall", ".1f"),
    ("parallel", "… again |", "permutation_importance", AGAIN, "wall", ".1f"),
    ("parallel", "500 fits", "500 fits", 0, "wall", ".0f"),
    ("parallel", "500 fits", "500 fits", 0, "largest worker", ".0f"),
    ("traced-once", "`n_jobs=1`", f"{NEAR}1", 0, "all cpu", ".1f"),
    ("traced-once", "`n_jobs=2`", f"{NEAR}2", AGAIN, "all cpu", ".1f"),
]


def text(name):
    return (ROOT / "docs" / f"{name}.md").read_text()


def workers(case, contender, turn, figure):
    """Return the median of a figure in the first or the second round of a case."""
    results = json.loads((RESULTS / "workers.json").read_text())["results"]
    return median(rounds[turn][figure] for rounds in results[case][contender])


def test_ways_to_ship_a_model(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from findings import OURS, Findings

    run = Findings(json.loads((RESULTS / "results.json").read_text()))
    compared = 0
    for line in text("benchmarks").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "model":
            titles = cells
        elif cells[0] in MODELS:
            for title, cell in zip(titles, cells, strict=True):
                if title in WAYS:
                    ratio = run.ratio(MODELS[cells[0]], OURS, WAYS[title])
                    assert cell in (f"{ratio:.1f}x", f"{ratio:.0f}x"), (cells[0], title)
                    compared += 1
    assert compared == len(MODELS) * len(WAYS)

    dumps, loads = (run.ratio("resnet50", OURS, way) for way in ("dumps", "loads"))
    out, back = (run.ratio("mlp-4x2048", OURS, way) for way in ("dumps_out", "loads_out"))
    readme = README.read_text()
    assert f"ResNet50 with Adam: {dumps:.1f} and {loads:.1f} times as fast" in readme
    assert f"201 MB: written {int(out)} times, read {int(back)} times as fast" in readme


@pytest.mark.parametrize(("page", "start", "case", "turn", "figure", "form"), WORKERS)
def test_workers(page, start, case, turn, figure, form):
    contenders = {
        "parallel": ("loky", "ours"),
        "traced-once": (
            "keras.wrappers",
            "scikeras",
            "ours, reuse=False",
            "ours",
            "ours, random_state=0",
        ),
    }
    (row,) = [line for line in text(page).splitlines() if line.startswith(f"| {start}")]
    for contender in contenders[page]:
        value = workers(case, contender, turn, figure)
        # As many digits as the column has.
        assert f" {value:{form}}" in row or f" {value:.1f}" in row, (contender, value)


def test_readme_on_workers():
    readme = README.read_text()
    ready = [workers("two workers ready", name, AGAIN, "ready") for name in ("ours", "loky")]
    memory = [
        workers("two workers ready", name, AGAIN, "dirty per worker") for name in ("ours", "loky")
    ]
    assert "2 workers in {:.2f} s, not {:.1f} s".format(*ready) in readme
    assert "{:.0f} MB each, not {:.0f} MB".format(*memory) in readme
    search = [workers(f"{NEAR}1", name, 0, "all cpu") for name in ("ours", "keras.wrappers")]
    assert "a search over 8 candidates: {:.1f} s of CPU, not {:.1f} s".format(*search) in readme


def test_prose_on_traces():
    prose = text("traced-once")
    for contender, form in (("ours", "{:.1f} s of CPU"), ("ours, reuse=False", "{:.1f} s with")):
        assert form.format(workers(SEARCH, contender, AGAIN, "all cpu")) in prose
    ours, without = (
        workers("a task with 84 MB", name, 0, "ms beyond predict")
        for name in ("ours", "ours, reuse=False")
    )
    assert f"costs {ours:.0f} ms beyond its prediction ({without:.0f} ms with" in prose


def test_clusters():
    results = json.loads((RESULTS / "clusters.json").read_text())["results"]
    ratios = {}
    for engine, figures in results.items():
        native, ours = (
            median(each["seconds"] for each in figures[name]) for name in ("native", "ours")
        )
        ratios[engine] = f"{native / ours:.1f}"
    said = "{Dask}x as fast on Dask, {Ray}x on Ray, {Spark}x on Spark"
    assert said.format(**ratios) in text("clusters")
    assert "{Dask}, {Ray} and {Spark} times as fast".format(**ratios) in README.read_text()


def test_serving():
    results = json.loads((RESULTS / "serving.json").read_text())["results"].values()

    def ends(backend, figure, ratio):
        ratios = [ratio(each["tensorflow"][figure], each[backend][figure]) for each in results]
        return min(ratios), max(ratios)

    page = text("backends")
    numpy, openvino = (ends(name, "seconds", lambda a, b: a / b) for name in ("numpy", "openvino"))
    assert "{:.1f} to {:.1f} times as soon on NumPy".format(*numpy) in page
    assert "{:.1f} to {:.1f} times on OpenVINO".format(*openvino) in page
    numpy, openvino = (
        ends(name, "memory", lambda a, b: 100 * b / a) for name in ("numpy", "openvino")
    )
    assert "NumPy takes {:.0f} to {:.0f} % of TensorFlow".format(*numpy) in page
    assert "OpenVINO {:.0f} to {:.0f} %.".format(*openvino) in page


def test_scale(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from scale import CASES, tables

    document = json.loads((RESULTS / "scale.json").read_text())
    lines = text("benchmarks").splitlines()
    assert [row for row in tables(document) if row not in lines] == []
    assert set(document) <= set(CASES)


def equal(figures):
    """Yield each verdict on equality in figures of any depth."""
    for name, value in figures.items():
        if name == "equal":
            yield value
        elif isinstance(value, dict):
            yield from equal(value)


def test_no_copy_differs_at_scale():
    document = json.loads((RESULTS / "scale.json").read_text())
    verdicts = list(equal(document))
    assert len(verdicts) > 30
    assert all(verdicts)


def test_suite_of_scikeras():
    result = json.loads((RESULTS / "scikeras_suite.json").read_text())
    shared, everything = result["tests that both have"], result["all tests"]
    theirs, ours = (shared[name]["passed"] for name in ("scikeras", "keras_reduce"))
    assert ours > theirs
    assert sum(shared["scikeras"].values()) == sum(shared["keras_reduce"].values())
    said = (
        f"of the {sum(shared['scikeras'].values())} tests that both have, {ours} pass with "
        f"`keras_reduce.scikeras` and {theirs} with SciKeras itself"
    )
    assert said in text("migrating")
    passed = [everything[name]["passed"] for name in ("keras_reduce", "scikeras")]
    assert "of all tests, {} and {}".format(*passed) in text("migrating")


def test_each_failure_in_the_suite_of_scikeras_has_a_reason():
    result = json.loads((RESULTS / "scikeras_suite.json").read_text())
    content = tomllib.loads((ROOT / "benchmarks" / "scikeras_differences.toml").read_text())
    patterns = [each for part in content["difference"] for each in part["tests"]]
    failed = [
        name
        for name, outcome in result["not passed"].items()
        if outcome["keras_reduce"] in ("failure", "error")
    ]
    assert failed
    assert [name for name in failed if not any(fnmatchcase(name, each) for each in patterns)] == []
