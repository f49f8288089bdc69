"""In a row of versions (see `rows`), a test that is skipped has failed, unless the row says so."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

import rows
from keras_reduce.families._versions import generation

# A check of scikit-learn's is skipped without it. SciPy reads it when it is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

ROW = os.environ.get("KERAS_REDUCE_ROW", "")
ALLOWED = rows.MAY_BE_SKIPPED.get(ROW, {})

# What is not there is not tested; a row that lists it must have it.
collect_ignore = [] if 2 in map(generation, ("keras", "tf_keras")) else ["test_keras2.py"]
ENGINES = {"dask": "dask_ml", "ray": "ray", "spark": "joblibspark"}
LIBRARIES = {"libraries": "keras_hub", "libraries_keras2": "tensorflow_decision_forests"}
collect_ignore += [
    f"test_{name}.py" for name, module in (ENGINES | LIBRARIES).items() if not find_spec(module)
]


def judged(report):
    """Make a failure of a skip that nothing allows."""
    name = f"{Path(report.nodeid.partition('::')[0]).name}::{report.nodeid.partition('::')[2]}"
    if ROW and report.skipped and not any(map(name.startswith, ALLOWED)):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, which the row {ROW!r} does not allow ({reason})"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return judged((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return judged((yield))


def pytest_collection_finish(session):
    """Demand at least one test of each file that the row lists."""
    if not ROW or session.config.option.keyword or session.config.option.markexpr:
        return
    found = {item.path for item in session.items}
    empty = [name for name in session.config.args if name.endswith(".py")]
    empty = [name for name in empty if (session.config.invocation_params.dir / name) not in found]
    if empty:
        raise pytest.UsageError(f"the row {ROW!r} has no test in {', '.join(empty)}")
