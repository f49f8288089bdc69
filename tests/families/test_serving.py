"""Answers on Keras's NumPy and OpenVINO backends: see ``serving.py``."""

import pytest

from processes import decorated


@pytest.mark.parametrize("name", decorated("serving.py", "check"))
def test_answers(run_checks, name):
    run_checks("serving.py", timeout=600).demand(name)
