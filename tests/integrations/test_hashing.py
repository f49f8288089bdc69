"""`joblib.hash` of one object is the same in all processes: see ``integrations/hashes.py``."""

import pytest

from processes import ELSEWHERE, words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hashing")


@pytest.fixture(scope="module")
def processes(folder):
    """Words of two processes with different orders of sets and of dictionaries of strings."""
    return [words("hashes.py", folder, **environment) for environment in ({}, ELSEWHERE)]


def test_the_same_now_and_later(processes):
    for hashes in processes:
        assert hashes["first"] == hashes["again"]


def test_the_same_after_a_round_trip(processes):
    first, second = processes
    assert len(first["travelled"]) > 10
    for hashes in (first["travelled"], second["travelled"]):
        assert hashes == {name: first["first"][name] for name in hashes}


def test_the_same_in_another_process(processes):
    first, second = processes
    assert first["first"] == second["first"]


def test_objects_have_hashes_of_their_own(processes):
    hashes = processes[0]["first"]
    assert len(set(hashes.values())) == len(hashes)


@pytest.mark.parametrize("kind", ["differences", "code"])
def test_what_differs_hashes_differently(processes, kind):
    assert processes[0][kind]
    assert [name for name, differs in processes[0][kind].items() if not differs] == []


def test_a_pipeline_finds_its_cache_in_a_second_process(processes, folder):
    assert (folder / "count.txt").read_text() == "fitted\n"
    first, second = processes
    assert first["predicted"] == second["predicted"]
