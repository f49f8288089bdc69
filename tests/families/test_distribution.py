"""Models of distributions of Keras on JAX, and of strategies of TensorFlow, on several devices.

See ``families/distributing.py`` and ``families/mirroring.py``.
"""

import pytest

from processes import BACKEND, decorated, program, python

PROGRAMS = {"jax": "distributing.py", "tensorflow": "mirroring.py"}

if BACKEND in PROGRAMS:

    @pytest.fixture(scope="module")
    def folder(tmp_path_factory):
        """A folder with models that another process has trained."""
        folder = tmp_path_factory.mktemp("distribution")
        python(program(PROGRAMS[BACKEND]), "write", folder, timeout=600)
        return folder

    @pytest.mark.parametrize("name", decorated(PROGRAMS[BACKEND], "check"))
    def test_models_are_spread_where_they_are_loaded(run_checks, folder, name):
        run_checks(PROGRAMS[BACKEND], "read", folder, timeout=600).demand(name)
