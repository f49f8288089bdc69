"""Public classes of Keras ship, or a list has the reason: see ``families/public_classes.py``."""

import pytest


@pytest.fixture
def outcomes(write_and_read):
    """Results of the writer and of the reader, each in its own process."""
    return write_and_read("public_classes.py")


def test_every_public_class_is_covered(outcomes):
    assert outcomes["write"]["coverage"] == {}


def test_every_instance_is_written(outcomes):
    assert _failures(outcomes["write"]["words"]) == {}


def test_every_instance_comes_back_and_goes_on_bit_for_bit(outcomes):
    assert outcomes["read"]["words"].keys() == outcomes["write"]["words"].keys()
    assert _failures(outcomes["read"]["words"]) == {}


def _failures(words):
    return {name: word for name, word in words.items() if word}
