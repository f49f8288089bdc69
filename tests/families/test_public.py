"""Every public class of Keras ships, or a list says why not: see ``families/public_classes.py``."""

import pytest


@pytest.fixture
def found(write_and_read):
    """What the writer and the reader found, each in a process of its own."""
    return write_and_read("public_classes.py")


def test_every_public_class_is_covered(found):
    assert found["write"]["coverage"] == {}


def test_every_instance_is_written(found):
    assert _failures(found["write"]["words"]) == {}


def test_every_instance_comes_back_and_goes_on_bit_for_bit(found):
    assert found["read"]["words"].keys() == found["write"]["words"].keys()
    assert _failures(found["read"]["words"]) == {}


def _failures(words):
    return {name: word for name, word in words.items() if word}
