"""Run SciKeras's own test suite with its wrappers, or with those of `keras_reduce.scikeras`.

The suite is in SciKeras's repository only, not in its packages: pass a folder with a checkout of
it. Nothing is written there. Both runs are on the versions installed beside this script; for the
first, SciKeras must be installed.

    python benchmarks/scikeras_suite.py CHECKOUT --wrappers scikeras
    python benchmarks/scikeras_suite.py CHECKOUT --wrappers keras_reduce
    python benchmarks/scikeras_suite.py CHECKOUT --wrappers keras_reduce --any-text

With ``--any-text``, a test that expects an error accepts any text of the message. No part of the
gate: a run takes minutes.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Modules that take the place of SciKeras's, by path.
REPLACED = {
    "scikeras/__init__.py": "import keras_reduce\nkeras_reduce.install()\n",
    "scikeras/wrappers.py": "keras_reduce.scikeras.wrappers",
    "scikeras/utils/__init__.py": "keras_reduce.scikeras.utils",
    "scikeras/utils/transformers.py": "keras_reduce.scikeras.utils.transformers",
}
ALIAS = """import importlib, sys
sys.modules[__name__] = importlib.import_module({name!r})
"""
ANY_TEXT = """import pytest
_raises = pytest.raises
def raises(*kinds, match=None, **options):
    return _raises(*kinds, **options)
pytest.raises = raises
"""


def run(checkout: Path, wrappers: str, *, any_text: bool, select: str) -> ET.Element:
    """Run the suite and return pytest's report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(checkout / "tests", folder / "tests")
        paths = [str(ROOT)]
        if wrappers == "keras_reduce":
            for path, content in REPLACED.items():
                file = folder / "in_place" / path
                file.parent.mkdir(parents=True, exist_ok=True)
                is_name = content.startswith("keras_reduce.")
                file.write_text(ALIAS.format(name=content) if is_name else content)
            paths.insert(0, str(folder / "in_place"))
        (folder / "any_text.py").write_text(ANY_TEXT if any_text else "")
        report = folder / "report.xml"
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "tests",
                "-q",
                "--tb=line",
                "-p",
                "no:cacheprovider",
                "-p",
                "any_text",
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
        name = f"{case.get('classname')}.{case.get('name')}"
        outcomes[name] = (kinds[0] if kinds else "passed", message.splitlines()[:2])
    for name, (outcome, message) in outcomes.items():
        if outcome in ("failure", "error"):
            print(outcome, name, *message, sep="\n    ")
    print(dict(collections.Counter(outcome for outcome, _ in outcomes.values())))
    if options.out:
        options.out.write_text(json.dumps(outcomes, indent=1))


if __name__ == "__main__":
    main()
