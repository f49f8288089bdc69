"""Models in MLflow: see ``integrations/mlflow_models.py``."""

import pytest

from processes import decorated


@pytest.mark.parametrize("name", decorated("mlflow_models.py", "check"))
def test_models(run_checks, name):
    run_checks("mlflow_models.py", fresh=True, timeout=400).demand(name)
