"""Models in MLflow: see ``integrations/mlflow_models.py``."""

import pytest

from pages import needing, programs
from processes import decorated, python


@pytest.mark.parametrize("name", decorated("mlflow_models.py", "check"))
def test_models(run_checks, name):
    run_checks("mlflow_models.py", fresh=True, timeout=400).demand(name)


@pytest.mark.parametrize("name", needing("company"))
def test_programs_of_the_pages(tmp_path, name):
    (tmp_path / name).write_text(programs()[name])
    python(tmp_path / name, cwd=tmp_path, fresh=True)
