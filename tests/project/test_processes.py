"""Helpers that run programs for the tests: see `processes` and `forking`."""

from collections import Counter

import pytest

from processes import ROOT, python

PROGRAMS = [path.stem for path in (ROOT / "tests").glob("*/*.py") if path.stem[:5] != "test_"]


def test_each_program_has_a_name_of_its_own():
    assert [name for name, count in Counter(PROGRAMS).items() if count > 1] == []
    of_the_package = {path.stem for path in (ROOT / "keras_reduce").rglob("*") if path.stem}
    assert [name for name in PROGRAMS if name in of_the_package] == []


def test_a_program_that_runs_out_of_time_says_where_it_was():
    code = """
    import time
    def waiting():
        time.sleep(60)
    print("so far", flush=True)
    waiting()
    """
    with pytest.raises(AssertionError, match=r"(?s)so far.* in waiting.*stopped after 1 s"):
        python(code, timeout=1)


def test_a_program_that_fails_shows_its_error():
    with pytest.raises(AssertionError, match=r"(?s)ValueError: wrong.*ended with 1"):
        python("raise ValueError('wrong')")


def test_a_forked_program_is_main_of_an_interpreter_with_keras():
    code = """
    import sys
    assert __name__ == "__main__" and sys.modules["__main__"].__dict__ is globals()
    assert "keras_reduce" not in sys.modules and "forking" not in sys.modules
    print(sys.argv[1:])
    """
    assert python(code, "a", 1) == "['a', '1']\n"
