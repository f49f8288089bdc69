"""Containers, datasets and notebooks beside Keras: see ``integrations/neighbours.py``."""

import pytest

from processes import BACKEND, decorated

if BACKEND == "tensorflow":

    @pytest.mark.parametrize("name", decorated("neighbours.py", "check"))
    def test_what_programs_use_beside_keras(run_checks, name):
        run_checks("neighbours.py", timeout=300).demand(name)
