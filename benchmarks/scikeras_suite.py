"""Run SciKeras's own test suite with its wrappers, and with those of `keras_reduce.scikeras`.

The suite is in SciKeras's repository only, not in its packages: pass a folder with a checkout of
the tag of the installed SciKeras. Nothing is written there. Both runs are on the versions installed
beside this script.

    python benchmarks/scikeras_suite.py CHECKOUT
    python benchmarks/scikeras_suite.py CHECKOUT --wrappers keras_reduce
    python benchmarks/scikeras_suite.py CHECKOUT --wrappers keras_reduce --any-text

Without ``--wrappers``, both run, and results/scikeras_suite.json gets the outcomes. The checks of
scikit-learn in the suite differ with the tags of an estimator: for `keras_reduce` there
are more. So outcomes of the tests that both have are counted apart.

With ``--any-text``, a test that expects an error accepts any text of the message. Tests that do
not pass with `keras_reduce.scikeras` are listed with their reasons in scikeras_differences.toml:
the run fails if there are others, or if one of these passes. No part of the gate: a run takes
minutes.
"""

from __future__ import annotations

import argparse
import collections
import fnmatch
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

from machine import versions

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "scikeras_suite.json"
BOTH = ("scikeras", "keras_reduce")
# The package in whose place `keras_reduce.scikeras` is.
IN_PLACE = """import importlib, sys
import keras_reduce
keras_reduce.install()
for name in ("wrappers", "utils", "utils.transformers"):
    sys.modules[f"scikeras.{name}"] = importlib.import_module(f"keras_reduce.scikeras.{name}")
"""
# A plugin of pytest, for both runs. The tests import a name that Keras has dropped.
PLUGIN = """import pytest
from keras.src.backend.common import variables
if not hasattr(variables, "KerasVariable"):
    variables.KerasVariable = variables.Variable
"""
ANY_TEXT = """
_raises = pytest.raises
def raises(*kinds, match=None, **options):
    return _raises(*kinds, **options)
pytest.raises = raises
"""


def compare(results: dict[str, str]) -> list[str]:
    """Return the tests whose outcome is not as scikeras_differences.toml has it.

    Parameters
    ----------
    results : dict of str to str
        The outcome of each test.
    """
    content = tomllib.loads((Path(__file__).parent / "scikeras_differences.toml").read_text())
    failed = {name for name, outcome in results.items() if outcome in ("failure", "error")}
    unexpected = []
    explained = set()
    for difference in content["difference"]:
        for pattern in difference["tests"]:
            names = {name for name in results if fnmatch.fnmatchcase(name, pattern)}
            explained |= names
            passing = () if difference.get("may_pass") else sorted(names - failed)
            unexpected += [f"passes, but is listed: {name}" for name in passing]
            unexpected += [] if names else [f"listed, but not run: {pattern}"]
    return [*unexpected, *(f"not listed: {name}" for name in sorted(failed - explained))]


def run(checkout: Path, wrappers: str, *, any_text: bool, select: str) -> ET.Element:
    """Run the suite and return pytest's report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(checkout / "tests", folder / "tests")
        paths = [str(ROOT)]
        if wrappers == "keras_reduce":
            package = folder / "in_place" / "scikeras"
            package.mkdir(parents=True)
            (package / "__init__.py").write_text(IN_PLACE)
            paths.insert(0, str(folder / "in_place"))
        (folder / "adjusted.py").write_text(PLUGIN + (ANY_TEXT if any_text else ""))
        report = folder / "report.xml"
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "tests",
                "-v",
                "--tb=line",
                "--continue-on-collection-errors",
                "-p",
                "no:cacheprovider",
                "-p",
                "adjusted",
                "-k",
                select or "test",
                f"--junitxml={report}",
            ],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([*paths, str(folder)]),
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
            stdout=sys.stderr,
            check=False,
        )
        return ET.parse(report).getroot()


def outcomes(root: ET.Element) -> dict[str, tuple[str, list[str]]]:
    """Return the outcome of each test, and the first lines of its message, from pytest's report."""
    results = {}
    for case in root.iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        message = next((c.get("message", "") for c in case if c.tag in ("failure", "error")), "")
        name = f"{case.get('classname')}.{case.get('name')}".removeprefix(".")
        name = name.removeprefix("tests.")
        results[name] = (kinds[0] if kinds else "passed", message.splitlines()[:2])
    return results


def count(results: dict[str, str]) -> dict[str, int]:
    """Return the number of tests with each outcome."""
    return dict(sorted(collections.Counter(results.values()).items()))


def report(results: dict[str, dict[str, str]]) -> dict[str, object]:
    """Return the result of both runs: numbers, and each test that does not pass with both.

    Parameters
    ----------
    results : dict of dict
        The outcome of each test, for both wrappers.
    """
    theirs, ours = (results[name] for name in BOTH)
    names = {*theirs, *ours}
    shared = theirs.keys() & ours.keys()
    return {
        "versions": versions(),
        "all tests": {name: count(results[name]) for name in BOTH},
        "tests that both have": {
            name: count({test: results[name][test] for test in shared}) for name in BOTH
        },
        "not passed": {
            name: {which: results[which].get(name, "not there") for which in BOTH}
            for name in sorted(names)
            if {theirs.get(name), ours.get(name)} & {"failure", "error"}
        },
    }


def main() -> None:
    """Print the number of tests by outcome, and the names of those that do not pass."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--wrappers", choices=BOTH, help="default: both, and the result is written")
    parser.add_argument("--any-text", action="store_true")
    parser.add_argument("--select", default="", help="expression for pytest -k")
    options = parser.parse_args()
    results: dict[str, dict[str, str]] = {}
    for wrappers in (options.wrappers,) if options.wrappers else BOTH:
        root = run(options.checkout, wrappers, any_text=options.any_text, select=options.select)
        details = outcomes(root)
        for name, (outcome, message) in details.items():
            if outcome in ("failure", "error"):
                print(outcome, name, *message, sep="\n    ")
        results[wrappers] = {name: outcome for name, (outcome, _) in details.items()}
        print(wrappers, count(results[wrappers]))
    if options.any_text or options.select:
        return
    if not options.wrappers:
        RESULT.write_text(json.dumps(report(results), indent=1) + "\n")
    if "keras_reduce" in results:
        unexpected = compare(results["keras_reduce"])
        print(*unexpected, sep="\n")
        sys.exit(bool(unexpected))


if __name__ == "__main__":
    main()
