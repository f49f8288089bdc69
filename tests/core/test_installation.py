"""`install`, `uninstall`, `installed`: see ``core/installing.py`` for the checks."""

import pytest

from processes import decorated, python

CHECKS = decorated("installing.py", "check")


@pytest.mark.parametrize("name", CHECKS)
def test_installation(run_checks, name):
    run_checks("installing.py", fresh=True).demand(name)


LOADED = "sorted({'keras', 'tensorflow', 'jax', 'torch', 'numpy', 'sklearn'} & set(sys.modules))"


@pytest.mark.parametrize("options", ["", "legacy_wrappers=True"])
def test_import_and_install_load_no_framework(options):
    printed = python(
        f"import sys, keras_reduce; keras_reduce.install({options}); print({LOADED})", fresh=True
    )
    assert printed.strip() == "[]"


def test_the_probe_for_loaded_frameworks_sees_one():
    printed = python(f"import sys, numpy; print({LOADED})", fresh=True)
    assert printed.strip() == "['numpy']"
