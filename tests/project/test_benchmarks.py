"""The benchmarks run and write their results; times are not tested."""

import json
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

from processes import ROOT, python

RUN = ROOT / "benchmarks" / "run.py"
WORKERS = ROOT / "benchmarks" / "workers.py"
SCALE = ROOT / "benchmarks" / "scale.py"


def test_smallest_run(tmp_path):
    choice = ["--models", "mlp-2x10", "--contenders", "keras_reduce", "floor", "--repeat", "1"]
    ways = ["--ways", "dumps", "loads_out", "deepcopy", "joblib_map"]
    printed = python(RUN, *choice, *ways, "--out", tmp_path, cwd=tmp_path)

    document = json.loads((tmp_path / "results.json").read_text())
    assert document["models"]["mlp-2x10"]["weights"] > 0
    contenders = document["results"]["mlp-2x10"]
    assert list(contenders) == ["keras_reduce", "floor"]
    for contender in contenders.values():
        assert set(contender) == {"dumps", "loads_out", "deepcopy", "joblib_map"}
        for figures in contender.values():
            assert figures["check"] == "right"
            assert len(figures["seconds"]) == 1
            assert figures["memory"]["peak"] >= 0
        assert contender["dumps"]["bytes"] > document["models"]["mlp-2x10"]["weights"]

    report = (tmp_path / "results.md").read_text()
    assert "by the authors of one of the contenders" in report
    assert "| MLP 2x10 |" in report.partition("### copy.deepcopy\n")[2]
    written = {path.name for path in tmp_path.iterdir()}
    if find_spec("matplotlib"):
        assert written == {"results.json", "results.md", "time.png", "memory.png"}
        assert (tmp_path / "time.png").read_bytes().startswith(b"\x89PNG")
    else:
        assert "No plots" in printed


def test_what_fails_is_shown_with_its_reason(tmp_path):
    """Require that a run goes on after a contender that is not available or too slow."""
    (tmp_path / "tensorflow.py").write_text("raise ImportError('no TensorFlow here')")
    choice = ["--models", "mlp-2x10", "--contenders", "native", "--ways", "dumps"]
    python(RUN, *choice, "--out", tmp_path, path=[tmp_path], KERAS_BACKEND="tensorflow")
    report = (tmp_path / "results.md").read_text()
    assert "| MLP 2x10 | fails [1] |" in report
    assert "[1] ImportError: no TensorFlow here" in report

    python(RUN, *choice, "--out", tmp_path, "--timeout", "0.1")
    assert "[1] stopped after 0.1 s" in (tmp_path / "results.md").read_text()


def test_redraw_needs_no_new_run(tmp_path):
    way = {"seconds": [0.001], "bytes": 10, "check": "right"}
    slow = {**way, "seconds": [0.005, 0.004]}
    document = {
        "versions": {"keras": "3"},
        "machine": {},
        "repeat": 1,
        "minutes": {"time": 1.0},
        "contenders": {"native": "a", "keras_reduce": "b", "floor": "c"},
        "ways": {"dumps": "pickle.dumps"},
        "models": {"mlp-20x64": {"title": "M", "weights": 10, "variables": 1}},
        "results": {
            "mlp-20x64": {
                "native": {"dumps": slow},
                "keras_reduce": {"dumps": way},
                "floor": {"error": "KeyError: gone"},
            }
        },
    }
    (tmp_path / "results.json").write_text(json.dumps(document))
    python(RUN, "--redraw", "--out", tmp_path)
    report = (tmp_path / "results.md").read_text()
    assert "| M | 4.0 / 4.5 (1.0x) | 1.0 / 1.0 (4.0x) | fails [1] |" in report
    assert "| M | 4x | at least 10x | - | **no** |" in report
    assert json.loads((tmp_path / "results.json").read_text()) == document


def test_workers(tmp_path):
    case = "two workers ready"
    python(WORKERS, "--cases", case, "--repeat", "1", "--out", tmp_path, cwd=tmp_path)
    document = json.loads((tmp_path / "workers.json").read_text())
    assert document["failed"] == []
    for runs in document["results"][case].values():
        [[first, second]] = runs
        assert set(first) == set(second)
        assert 0 < first["ready"] <= first["computed"]
        assert 0 < first["dirty per worker"] < first["pss per worker"]
    report = (tmp_path / "workers.md").read_text()
    assert report.count(f"| {case} |") == 2  # goals
    assert "| ours | second |" in report


def test_scale(tmp_path):
    python(SCALE, "compressed", "--size", "0.001", "--out", tmp_path, "--folder", tmp_path)
    document = json.loads((tmp_path / "scale.json").read_text())
    figures = document["compressed"]["figures"]
    assert figures["read"]["equal"] is True
    assert 0 < figures["write"]["megabytes"] < figures["write"]["weights"]
    printed = python(SCALE, "--out", tmp_path)
    assert "| `dump(compress=1)`, 0.001 GB |" in printed


def test_differences_from_suites_of_peers_are_named():
    """Each is a test of the installed version, with a reason; and the suites have other tests."""
    text = (ROOT / "benchmarks" / "peers_differences.toml").read_text()
    modules = {
        "joblib": ("test_numpy_pickle", "test_hashing", "test_memory"),
        "joblib_parallel": ("test_parallel",),
    }
    rows = tomllib.loads(text)
    assert rows.keys() == modules.keys()
    for suite, names in modules.items():
        sources = [Path(find_spec(f"joblib.test.{name}").origin).read_text() for name in names]
        tests = set(re.findall(r"^def (test_\w+)\(", "\n".join(sources), re.MULTILINE))
        listed = [test for row in rows[suite] for test in row["tests"]]
        assert len(set(listed)) == len(listed) < len(tests) / 10
        assert set(listed) <= tests
        assert all(row["reason"] for row in rows[suite])
