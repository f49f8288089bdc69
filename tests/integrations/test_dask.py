"""Clusters of Dask: see ``integrations/dask_cluster.py``; and the benchmark of all engines."""

import json

import pytest

from pages import needing, programs
from processes import ROOT, decorated, program, python


@pytest.mark.parametrize("name", decorated("dask_cluster.py", "check"))
def test_dask(run_checks, name):
    run_checks("dask_cluster.py", timeout=600, fresh=True).demand(name)


@pytest.mark.parametrize("name", needing("clusters"))
def test_programs_of_the_pages(tmp_path, name):
    (tmp_path / name).write_text(programs()[name])
    assert python(tmp_path / name, cwd=tmp_path).splitlines()[-1] in (
        "{'units': 4}",
        "{'units': 8}",
    )


def test_example_of_the_docstring(tmp_path):
    path = program("docstring_examples.py")
    assert "without examples: \n" in python(path, "dask.plugin", cwd=tmp_path, fresh=True)


def test_benchmark(tmp_path):
    """Run the benchmark of clusters; its times are not tested."""
    choice = ["--engines", "Dask", "--repeat", "1", "--out", tmp_path]
    python(ROOT / "benchmarks" / "clusters.py", *choice, cwd=tmp_path)
    results = json.loads((tmp_path / "clusters.json").read_text())["results"]["Dask"]
    assert list(results) == ["native", "ours"]
    for [figures] in results.values():
        assert figures["seconds"] > 0
        assert figures["MB over loopback"] > 400
    assert "| Dask | ours | 1 |" in (tmp_path / "clusters.md").read_text()
