"""Every kind of object over every transport, checked in processes that lack its code.

Two programs do the work, so that hundreds of checks cost two TensorFlow processes and the workers
that the transports start; each test looks up one word of theirs.
"""

import json

import pytest

from processes import PROGRAMS, decorated, python

FILES = ("pickle", "cloudpickle", "joblib", "joblib compressed", "joblib mmap")
TRANSPORTS = (*FILES, "deepcopy", "clone", "loky", "multiprocessing")


CASES = decorated("zoo.py", "case")


@pytest.fixture(scope="session")
def arrivals(tmp_path_factory):
    """Words for each case and transport, as the sender and the reader wrote them down."""
    folder = tmp_path_factory.mktemp("zoo")
    python(PROGRAMS / "zoo.py", folder, timeout=1500)
    # From elsewhere: the reader's folder must not make the zoo importable by chance.
    python(PROGRAMS / "shipping.py", folder, cwd=folder, timeout=1500)
    written = json.loads((folder / "written.json").read_text())
    found = json.loads((folder / "read.json").read_text())
    for name, words in found.items():
        for transport, word in words.items():
            written[name][transport] = written[name][transport] or word
    return written


def test_zoo_is_large_enough_and_complete(arrivals):
    assert len(arrivals) >= 40
    assert list(arrivals) == CASES
    assert all(set(words) == set(TRANSPORTS) for words in arrivals.values())


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", CASES)
def test_arrives_and_continues_bit_for_bit(arrivals, name, transport):
    assert arrivals[name][transport] == ""
