"""Run test suites of joblib, scikit-learn and cloudpickle with this package and without it.

The outcomes must be the same, but for the tests in peers_differences.toml, each with a reason. In
joblib's tests of parallel calls, the backend "keras" is in the place of "loky". cloudpickle's
suite is in its repository only: pass a folder with a checkout of it.

    python benchmarks/peers_suites.py
    python benchmarks/peers_suites.py --suites cloudpickle --cloudpickle CHECKOUT

No part of the gate: all suites take some twenty minutes.
"""

from __future__ import annotations

import argparse
import collections
import os
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DIFFERENCES = Path(__file__).parent / "peers_differences.toml"
# Plugins of pytest.
INSTALLED = """
import keras, keras_reduce
keras_reduce.install()
"""
# joblib's table of backends has the same names as without this package, since tests are made of
# them. scikit-learn, which workers have imported, brings libraries with threads.
IN_PLACE_OF_LOKY = """
import sklearn.ensemble
import keras, keras_reduce
from joblib import parallel
from keras_reduce.parallel.backend import KerasBackend
keras_reduce.install(backend=None)
parallel.BACKENDS.pop("keras", None)
parallel.BACKENDS["loky"] = KerasBackend
"""


class Suite(NamedTuple):
    """Tests of a package: names of modules, or files below a checkout, and a plugin of pytest."""

    tests: tuple[str, ...]
    plugin: str = INSTALLED


SUITES = {
    "joblib": Suite(
        ("joblib.test.test_numpy_pickle", "joblib.test.test_hashing", "joblib.test.test_memory")
    ),
    "joblib_parallel": Suite(("joblib.test.test_parallel",), IN_PLACE_OF_LOKY),
    "scikit_learn": Suite(
        (
            "sklearn.ensemble.tests.test_bagging",
            "sklearn.inspection.tests.test_permutation_importance",
            "sklearn.model_selection.tests.test_search",
        )
    ),
    "cloudpickle": Suite(("tests/cloudpickle_test.py",)),
}


def differences(suite: str) -> dict[str, str]:
    """Return the tests of a suite that may end otherwise with this package, with the reasons.

    Parameters
    ----------
    suite : str
        A name in `SUITES`.

    Returns
    -------
    dict of str to str
        The reason for each test function, by its name without parameters.
    """
    content = tomllib.loads(DIFFERENCES.read_text())
    rows = content.get(suite, [])
    return {name: row["reason"] for row in rows for name in row["tests"]}


def outcomes(suite: Suite, checkout: Path | None, plugin: str) -> dict[str, str]:
    """Run a suite with a plugin of pytest; return the outcome of each test."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plugin_of_suites.py").write_text(plugin)
        report = folder / "report.xml"
        options = ("-q", "--tb=short", "--continue-on-collection-errors", f"--junitxml={report}")
        plugins = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "plugin_of_suites")
        tests = suite.tests if checkout else ("--pyargs", *suite.tests)
        search = [str(folder), str(ROOT), *([str(checkout)] if checkout else [])]
        subprocess.run(
            [sys.executable, "-m", "pytest", *options, *plugins, *tests],
            cwd=checkout or folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(search),
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
            stdout=sys.stderr,
            check=False,
        )
        return {
            f"{case.get('classname')}::{case.get('name')}": _outcome(case)
            for case in ET.parse(report).getroot().iter("testcase")
        }


def _outcome(case: ET.Element) -> str:
    kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
    return kinds[0] if kinds else "passed"


def function_of(test: str) -> str:
    """Return the name of a test function, without its module, class and parameters."""
    return test.partition("[")[0].rpartition("::")[2]


def main() -> None:
    """Print the difference of each suite; fail if a test is in it that is not listed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suites", nargs="+", choices=SUITES, help="default: all that there are")
    parser.add_argument("--cloudpickle", type=Path, help="a checkout of cloudpickle")
    arguments = parser.parse_args()
    default = [name for name in SUITES if name != "cloudpickle" or arguments.cloudpickle]
    unexpected = []
    for name in arguments.suites or default:
        checkout = arguments.cloudpickle if name == "cloudpickle" else None
        suite = SUITES[name]
        without = outcomes(suite, checkout, "")
        within = outcomes(suite, checkout, suite.plugin)
        print(f"{name}: {dict(collections.Counter(without.values()))} without this package,")
        print(f"    {dict(collections.Counter(within.values()))} with it")
        reasons = differences(name)
        others = set()
        for test in sorted(without.keys() | within.keys()):
            if (before := without.get(test)) != (after := within.get(test)):
                function = function_of(test)
                others.add(function)
                print(f"    {test}: {before}, {after}; {reasons.get(function, 'not listed')}")
        unexpected += [f"{name}: {test} is not listed" for test in sorted(others - reasons.keys())]
        unexpected += [f"{name}: {test} is the same" for test in sorted(reasons.keys() - others)]
    print(*unexpected, sep="\n")
    sys.exit(bool(unexpected))


if __name__ == "__main__":
    main()
