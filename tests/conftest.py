"""Distribution over processes, programs of checks, and what a row of versions demands.

In a row (see `rows`), a test that is skipped has failed, unless the row says so.
"""

import json
import os
import shutil
import tempfile
import zlib
from importlib.util import find_spec
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

import forking
import rows
from keras_reduce.core import keras_backend
from keras_reduce.families._shared.versions import generation
from processes import ELSEWHERE, SELECTED, Checks, decorated, prepare, program, python

# A check of scikit-learn's is skipped without it. SciPy reads it when it is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

ROW = os.environ.get("KERAS_REDUCE_ROW", "")
ALLOWED = rows.MAY_BE_SKIPPED.get(ROW, {})

# What is not there is not tested; a row that lists it must have it.
absent = [] if 2 in map(generation, ("keras", "tf_keras")) else ["keras2"]
ENGINES = {"dask": "dask_ml", "ray": "ray", "spark": "joblibspark"}
LIBRARIES = {
    "libraries": "keras_hub",
    "libraries_keras2": "tensorflow_decision_forests",
    "with_other_packages": "imblearn",
}
COMPANY = {"skops": "skops", "mlflow": "mlflow", "servers": "gunicorn", "pools": "mpi4py"}
OTHERS = ENGINES | LIBRARIES | COMPANY
absent += [name for name, module in OTHERS.items() if not find_spec(module)]
# Other backends have more to be tested than answers.
absent += [] if keras_backend.expected() in keras_backend.INFERENCE_ONLY else ["serving"]
collect_ignore = [rows.path_of(name) for name in absent]


# --- over processes ---------------------------------------------------------------------------


def pytest_configure(config):
    """Say where the servers of test programs are; they end when the folder is gone."""
    if forking.FOLDER not in os.environ:  # Otherwise this is a worker of pytest-xdist.
        # The path of a socket must be short, and TMPDIR may be long.
        short = "/tmp" if os.access("/tmp", os.W_OK) else None
        folder = tempfile.mkdtemp(prefix="keras-reduce-", dir=short)
        Path(folder, forking.OWNER).write_text(str(os.getpid()))
        os.environ[forking.FOLDER] = folder
        config.add_cleanup(lambda: os.environ.pop(forking.FOLDER))
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        if not config.option.collectonly:
            prepare()  # It imports while pytest collects.


def pytest_xdist_auto_num_workers(config):
    """Return 0, no further process, for tests that are chosen by name; else a worker per core."""
    is_few = config.option.keyword or any("::" in each for each in config.args)
    return 0 if is_few and not ROW else min(len(os.sched_getaffinity(0)), 8)


# Modules whose tests need not stay in one process; each of these parts does. A test belongs to the
# part of what its name has in brackets, up to a hyphen.
PARTS = {"test_keras2.py": 2}
# The modules that take longest come first, so that all workers end at about the same time.
LONGEST = ("test_traces.py", "test_zoo.py", "test_keras2.py", "test_later_changes.py")


def part_of(nodeid):
    """Return the part of the tests that the test of this name belongs to.

    In each part, a program of checks runs once, with the checks that belong to the part.
    """
    file, _, test = nodeid.partition("::")
    subject = test.partition("[")[2].partition("-")[0].rstrip("]")
    return f"{file}-{zlib.crc32(subject.encode()) % PARTS.get(Path(file).name, 1)}"


class Scheduling(LoadScopeScheduling):
    """Send the tests of a part to the same worker of pytest-xdist."""

    # Marks of groups, which the plugin offers, do nothing in pytest-xdist 3.8 with pytest 9.2.
    def _split_scope(self, nodeid):
        return part_of(nodeid)


def pytest_xdist_make_scheduler(config, log):
    """Return the scheduler that distributes tests over workers."""
    return Scheduling(config, log)


def pytest_collection_modifyitems(items):
    """Order the tests."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


def _parameters(item):
    return item.callspec.params if hasattr(item, "callspec") else {}


def _part(item):
    return part_of(item.nodeid)


_RUNS = pytest.StashKey()


@pytest.fixture
def run_checks(request):
    """A function that runs a program of checks once for all tests that want it.

    Parameters are those of `processes.Checks`, but for the selected checks: these are what the
    selected tests of the same function have for a parameter called ``name``. A test without one
    says with ``needed`` which checks it needs; else all are run.
    """
    item = request.node
    runs = request.session.stash.setdefault(_RUNS, {})

    def run(program, *arguments, needed=None, **options):
        selected = needed
        if needed is None and "name" in _parameters(item):
            needed, selected = [_parameters(item)["name"]], _selected_with(item, program)
        started = runs.setdefault((_part(item), program, repr((arguments, options))), [])
        for checks in started:
            if checks.has(needed):
                return checks
        started.append(Checks(program, *arguments, selected=selected, **options))
        return started[-1]

    return run


def _selected_with(item, program):
    """Return the names of the checks that tests as `item` are selected for; None if all are."""

    def key(each):
        others = {name: value for name, value in _parameters(each).items() if name != "name"}
        return each.module, each.originalname, _part(each), others

    names = [each.callspec.params["name"] for each in item.session.items if key(each) == key(item)]
    checks = decorated(program, "check")
    return None if checks and set(checks) <= set(names) else names


@pytest.fixture
def selected(request):
    """A function that returns the values of a parameter in the selected tests of this module.

    Or of the part of it that the test belongs to.
    """

    def values(parameter):
        parameters = dict.fromkeys(
            _parameters(each).get(parameter)
            for each in request.session.items
            if (each.module, _part(each)) == (request.module, _part(request.node))
        )
        return [value for value in parameters if value is not None]

    return values


_RESULTS = pytest.StashKey()


@pytest.fixture
def once(request):
    """A function that calls another one once for all tests of a module, or of its part."""
    results = request.session.stash.setdefault(_RESULTS, {})

    def call(function, *arguments):
        key = _part(request.node), function.__qualname__, arguments
        if key not in results:
            try:
                results[key] = function(*arguments), None
            except Exception as error:
                results[key] = None, error
        result, error = results[key]
        if error is not None:
            raise error
        return result

    return call


@pytest.fixture
def write_and_read(once, selected, tmp_path_factory):
    """A function that runs a program twice, to write and to read; returns what each has found.

    The reader has sets in another order, and none of the writer's modules beside it.
    """

    def run(name):
        folder = tmp_path_factory.mktemp(Path(name).stem)
        options = {"timeout": 600, SELECTED: json.dumps(selected("name"))}
        prepare(**ELSEWHERE)
        python(program(name), "write", folder, **options)
        python(program(name), "read", folder, **options, **ELSEWHERE)
        return {
            role: json.loads((folder / f"{role}.json").read_text()) for role in ("write", "read")
        }

    return lambda name: once(run, name)


def pytest_sessionfinish(session):
    """End the programs that still run."""
    for started in session.stash.get(_RUNS, {}).values():
        for checks in started:
            checks.close()


# --- rows of versions -------------------------------------------------------------------------


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
    # With pytest-xdist, its workers collect, and the first process has nothing.
    if not ROW or session.config.option.keyword or session.config.option.markexpr:
        return
    if session.config.getoption("numprocesses", None):
        return
    paths = {item.path for item in session.items}
    empty = [name for name in session.config.args if name.endswith(".py")]
    empty = [name for name in empty if (session.config.invocation_params.dir / name) not in paths]
    if empty:
        raise pytest.UsageError(f"the row {ROW!r} has no test in {', '.join(empty)}")
