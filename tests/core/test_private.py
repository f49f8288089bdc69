"""Versions of Keras that lack something, or are untested: see ``core/names_that_have_gone.py``."""

import ast
import tomllib

import pytest

from keras_reduce.families.keras3 import private
from processes import ROOT, decorated, python

CHECKS = decorated("names_that_have_gone.py", "check")
PACKAGE = ROOT / "keras_reduce"


@pytest.mark.parametrize("name", CHECKS)
def test_private(run_checks, name):
    run_checks("names_that_have_gone.py").demand(name)


def test_with_a_keras_that_lacks_a_name_only_pickling_fails():
    python(
        """
        import pickle
        import keras
        import numpy as np
        from keras.src.saving.keras_saveable import KerasSaveable
        from keras.src.utils import python_utils
        import keras_reduce

        before = dict(vars(KerasSaveable))
        del python_utils.func_dump
        keras_reduce.install()
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(np.ones((4, 1)), np.ones((4, 1)), verbose=0)
        for write in (pickle.dumps, keras_reduce.dumps):
            try:
                write({"model": model})
            except keras_reduce.FrameworkError as error:
                assert "keras.src.utils.python_utils.func_dump can't be found" in str(error)
            else:
                raise AssertionError("carried")
        assert keras_reduce.loads(keras_reduce.dumps([1, "a"])) == [1, "a"]
        keras_reduce.uninstall()
        assert dict(vars(KerasSaveable)) == before
        """
    )


def private_imports(path):
    """Yield the names that a module imports from private modules of Keras and TensorFlow.

    Each comes with the attributes that are read from it, if it is a module itself.
    """
    nodes = list(ast.walk(ast.parse(path.read_text())))
    attributes = [
        (node.value.id, node.attr)
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    ]
    for node in nodes:
        module = getattr(node, "module", None) or ""
        if isinstance(node, ast.ImportFrom) and module.startswith(
            ("keras.src", "tensorflow.python", "tensorflow.core")
        ):
            for alias in node.names:
                here = alias.asname or alias.name
                yield module, alias.name, {attr for name, attr in attributes if name == here}


MODULES = [*PACKAGE.glob("families/keras3/*.py"), *PACKAGE.glob("trace_cache/[!_]*.py")]


@pytest.mark.parametrize("path", sorted(MODULES), ids=lambda path: path.name)
def test_every_private_import_is_listed(path):
    with_backends = (name for names in private.NEEDED_WITH.values() for name in names)
    listed = (
        *private.NEEDED,
        *with_backends,
        *(name for manifest in private.OPTIONAL for name in manifest.names),
    )
    modules = {name.partition(":")[0] for name in listed}
    for module, name, attributes in private_imports(path):
        if f"{module}.{name}" in modules:
            used = {f"{module}.{name}:{attribute}" for attribute in attributes}
            beginnings = {each.partition(":")[0] + ":" + first(each) for each in listed}
            assert used <= beginnings, used - beginnings
        else:
            is_listed = f"{module}:{name}" in listed
            assert is_listed or any(each.startswith(f"{module}:{name}.") for each in listed), name


def first(name):
    """Return the first attribute of a listed name."""
    return name.partition(":")[2].partition(".")[0].removesuffix("()")


def test_the_oldest_tested_version_is_the_declared_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (bound,) = [
        requirement.partition(">=")[2]
        for requirement in project["optional-dependencies"]["tensorflow"]
        if requirement.startswith("keras>=")
    ]
    assert private.TESTED[0] == bound


def test_pages_name_the_tested_versions():
    limits = (ROOT / "docs" / "limits.md").read_text()
    oldest, newest = private.TESTED
    assert f"dumps of Keras {oldest}, the oldest that is supported, load with {newest}" in limits
    assert f"A version newer than the newest that was tested, {newest}," in limits
    assert f"Supported are {oldest} to {newest}," in (ROOT / "README.md").read_text()
