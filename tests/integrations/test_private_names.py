"""Private names of joblib and its engines: see ``integrations/without_private_names.py``."""

import ast
import re
from importlib.util import find_spec

import pytest

import private_names_page
from keras_reduce.integrations.patch_table import CHANGES
from keras_reduce.integrations.private import MANIFESTS
from keras_reduce.parallel.private import BACKEND
from processes import ROOT, UNIMPORTABLE, python, words

MODULES = {change.feature: change.module for change in CHANGES}
# Manifests of the installed libraries.
PRESENT = {"workers": BACKEND} | {
    feature: manifest
    for feature, manifest in MANIFESTS.items()
    if find_spec(MODULES.get(feature, "joblib").partition(".")[0])
}
NAMES = [(feature, name) for feature, manifest in PRESENT.items() for name in manifest.names]


@pytest.fixture(scope="module")
def outcomes():
    return words("without_private_names.py", path=[UNIMPORTABLE])


@pytest.mark.parametrize("feature", PRESENT)
def test_all_are_there_in_the_versions_that_are_tested(feature):
    assert PRESENT[feature].missing() == []


@pytest.mark.parametrize(("feature", "name"), NAMES)
def test_without_one_its_feature_is_off_which_is_said_once(outcomes, feature, name):
    assert outcomes[f"{feature} {name}"] == ""


def test_each_has_a_reason_that_says_what_it_is_used_for():
    rows = re.findall(r"^\| `.*` \| (.*) \|$", private_names_page.page(), re.MULTILINE)
    assert len(rows) > len(LISTED)
    assert [reason for reason in rows if not reason.startswith("to ")] == []


@pytest.mark.parametrize("module", sorted({MODULES.get(f, "joblib") for f in PRESENT}))
def test_all_is_changed_also_while_a_package_is_being_imported(module):
    code = """
        import importlib, logging, sys
        import keras_reduce
        keras_reduce.install()
        handler = logging.Handler()
        handler.emit = lambda record: sys.exit(record.getMessage())
        logging.getLogger("keras_reduce").addHandler(handler)
        importlib.import_module(sys.argv[1].partition(".")[0])
        importlib.import_module(sys.argv[1])
        """
    # skops imports scikit-learn.
    path = [] if module.startswith("skops.") else [UNIMPORTABLE]
    python(code, module, path=path, fresh=True)


PRIVATE = (
    "distributed.",
    "joblib._",
    "joblib.executor",
    "joblib.externals",
    "joblibspark.",
    "skops.io._",
)
LISTED = [name for manifest in (BACKEND, *MANIFESTS.values()) for name in manifest.names]
ROOMS = ("parallel", "integrations")


def private_imports(path):
    """Yield the names that a module imports from private modules of joblib and its engines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PRIVATE):
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_every_private_import_is_listed(room):
    imported = {
        pair
        for path in (ROOT / "keras_reduce" / room).glob("*.py")
        for pair in private_imports(path)
    }
    assert imported
    for module, name in imported:
        beginnings = tuple(
            f"{module}{mark}{name}{end}" for mark in ":." for end in (":", ".", "()")
        )
        is_listed = any(f"{each}.".startswith(beginnings) for each in LISTED)
        assert is_listed, f"{module}:{name}"


def test_every_change_has_a_manifest():
    assert {change.feature for change in CHANGES} <= set(MANIFESTS)


def test_the_page_in_the_docs_is_what_the_lists_say():
    assert (ROOT / "docs" / "private-names.md").read_text() == private_names_page.page()
