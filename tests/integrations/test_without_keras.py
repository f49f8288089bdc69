"""Programs without Keras are not changed by `install`: see ``integrations/without_keras.py``."""

import json

import pytest

from processes import program, python


@pytest.fixture
def printed(once):
    """What the program prints, without `install` and with it."""

    def run():
        path = program("without_keras.py")
        return [
            python(path, each, fresh=True, timeout=60).splitlines()
            for each in ("plain", "installed")
        ]

    return once(run)


def test_files_and_hashes_and_processes_are_the_same(printed):
    plain, installed = printed
    assert len(plain) == 16
    assert installed[:-1] == plain[:-1]
    assert installed[-4] == "True LokyBackend"
    assert installed[-2] == "[]"


def test_dumps_take_no_more_than_a_call_for_each_class(printed):
    (large, small), (large_installed, small_installed) = (
        json.loads(lines[-1].removeprefix("calls ")) for lines in printed
    )
    # What is done for each dump and each class; nothing is done for each object.
    assert large_installed - large < 250
    assert small_installed - small < 250
    assert large_installed < 1.02 * large
