"""Files of skops: see ``integrations/skops_files.py`` and ``integrations/skops_zoo.py``."""

import pytest

from processes import decorated

# Each has code that can't be imported: a lambda, a closure, or a class within a function.
REFUSED = {
    "layer_without_get_config",
    "layer_of_a_closure",
    "two_classes_of_one_name",
    "lambda_layers",
    "lambda_loss_and_metric",
    "activation_initializer_regularizer_constraint_of_main",
    "losses_over_their_own_model",
    "lone_metrics",
    "lone_rules",
    "compiled_functions",
    "callbacks_after_use",
    "wrapper_with_lambda",
    "wrapper_with_keras_objects",
    "every_kind_in_a_closure",
    "wrapper_in_column_transformer",
}


@pytest.mark.parametrize("name", decorated("skops_files.py", "check"))
def test_files(run_checks, name):
    run_checks("skops_files.py").demand(name)


@pytest.fixture
def outcomes(write_and_read, once):
    """Words of both programs for each case."""
    return once(write_and_read, "skops_zoo.py")


@pytest.mark.parametrize("name", decorated("zoo.py", "case"))
def test_the_zoo_arrives_and_continues_bit_for_bit(outcomes, name):
    if name in REFUSED:
        assert outcomes["write"][name].startswith("skops can't carry this code: ")
    else:
        assert outcomes["write"][name] == ""
        assert outcomes["read"][name] == ""
