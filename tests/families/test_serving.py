"""Answers on Keras's NumPy and OpenVINO backends: ``serving.py`` and ``layers_elsewhere.py``."""

import pytest

from processes import decorated


@pytest.mark.parametrize("name", decorated("serving.py", "check"))
def test_answers(run_checks, name):
    run_checks("serving.py", timeout=600).demand(name)


@pytest.mark.parametrize("name", decorated("layers_elsewhere.py", "check"))
def test_layers(run_checks, name):
    run_checks("layers_elsewhere.py", timeout=600).demand(name)
