"""Run SciKeras's own test suite with its wrappers, or with those of `keras_reduce.scikeras`.

The suite is in SciKeras's repository only, not in its packages: pass a folder with a checkout of
it. Nothing is written there. Both runs are on the versions installed beside this script; for the
first, SciKeras must be installed.

    python benchmarks/scikeras_suite.py CHECKOUT --wrappers scikeras
    python benchmarks/scikeras_suite.py CHECKOUT --wrappers keras_reduce
    python benchmarks/scikeras_suite.py CHECKOUT --wrappers keras_reduce --any-text

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

ROOT = Path(__file__).parents[1]
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


def compare(outcomes: dict[str, str]) -> list[str]:
    """Return the tests whose outcome is not as scikeras_differences.toml has it.

    Parameters
    ----------
    outcomes : dict of str to str
        The outcome of each test.
    """
    content = tomllib.loads((Path(__file__).parent / "scikeras_differences.toml").read_text())
    failed = {name for name, outcome in outcomes.items() if outcome in ("failure", "error")}
    unexpected = []
    explained = set()
    for difference in content["difference"]:
        for pattern in difference["tests"]:
            names = {name for name in outcomes if fnmatch.fnmatchcase(name, pattern)}
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


def main() -> None:
    """Print the number of tests by outcome, and the names of those that do not pass."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--wrappers", choices=("keras_reduce", "scikeras"), default="keras_reduce")
    parser.add_argument("--any-text", action="store_true")
    parser.add_argument("--select", default="", help="expression for pytest -k")
    parser.add_argument("--out", type=Path, help="file for the outcomes, as JSON")
    options = parser.parse_args()
    root = run(options.checkout, options.wrappers, any_text=options.any_text, select=options.select)
    outcomes = {}
    for case in root.iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        message = next((c.get("message", "") for c in case if c.tag in ("failure", "error")), "")
        name = f"{case.get('classname')}.{case.get('name')}".removeprefix(".")
        name = name.removeprefix("tests.")
        outcomes[name] = (kinds[0] if kinds else "passed", message.splitlines()[:2])
    for name, (outcome, message) in outcomes.items():
        if outcome in ("failure", "error"):
            print(outcome, name, *message, sep="\n    ")
    print(dict(collections.Counter(outcome for outcome, _ in outcomes.values())))
    if options.out:
        options.out.write_text(json.dumps(outcomes, indent=1))
    if options.wrappers == "keras_reduce" and not (options.any_text or options.select):
        unexpected = compare({name: outcome for name, (outcome, _) in outcomes.items()})
        print(*unexpected, sep="\n")
        sys.exit(bool(unexpected))


if __name__ == "__main__":
    main()
