"""Clones of models that were loaded before: see ``families/cloning.py``."""

import pytest

from processes import BACKEND, decorated

if BACKEND == "tensorflow":
    CASES = [f"zoo_{name}" for name in decorated("zoo.py", "case")]
    CHECKS = [name for name in decorated("cloning.py", "check") if name != "case"]

    @pytest.mark.parametrize("name", [*CHECKS, *CASES])
    def test_clones_are_as_rebuilt_models(run_checks, name):
        run_checks("cloning.py", timeout=900).demand(name)
