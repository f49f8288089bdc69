"""Models of Keras's distributions on JAX: see ``families/distributing.py``."""

import pytest

from processes import BACKEND, decorated, program, python

if BACKEND == "jax":

    @pytest.fixture(scope="module")
    def folder(tmp_path_factory):
        """A folder with models that another process has trained."""
        folder = tmp_path_factory.mktemp("distributing")
        python(program("distributing.py"), "write", folder, timeout=600)
        return folder

    @pytest.mark.parametrize("name", decorated("distributing.py", "check"))
    def test_models_are_sharded_where_they_are_loaded(run_checks, folder, name):
        run_checks("distributing.py", "read", folder, timeout=600).demand(name)
