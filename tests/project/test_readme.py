"""README is short, works on an index page, and its commands are those of the gate."""

import re

from pages import README, ROOT, anchors, blocks, links
from processes import TRANSPORTS


def test_readme_is_short():
    assert len(README.read_bytes()) < 8000
    assert README.read_text().index("```python") < 300  # The first program comes at once.


def test_links_work_where_only_readme_is_shown():
    """A picture with a relative path is broken there; pages of the sources are named as such."""
    text = README.read_text()
    assert "![" not in text
    for target in links(text):
        path, _, anchor = target.partition("#")
        assert not anchor or path or anchor in anchors(text)
        assert not path or path.startswith("docs/") or path in ("CONTRIBUTING.md", "SECURITY.md")
    assert "Links lead to files of this repository" in text


def test_both_pages_with_the_command_say_how_long_the_tests_take():
    pattern = r"some (\w+) minutes on two cores"
    (of_readme,) = re.findall(pattern, README.read_text())
    assert re.findall(pattern, (ROOT / "CONTRIBUTING.md").read_text()) == [of_readme]


def test_ways_of_travel_are_counted():
    assert f"{len(TRANSPORTS)} ways of travel" in README.read_text()


def test_commands():
    run, test = blocks("console")
    assert run.endswith(" -m keras_reduce demo\n")
    assert test.endswith(" -m pytest\n")
    for command in (run, test):
        assert command.count("\n") == 1
        set_up, install, _ = command.split(" && ")
        assert set_up == "python3 -m venv .venv"
        assert install.startswith(".venv/bin/pip install ")
    # The gate takes the command from here, so that the two can't differ.
    gate = (ROOT / ".ci" / "run").read_text()
    (pattern,) = re.findall(r"grep -x '(.*)' README\.md", gate)
    (line,) = [line for line in README.read_text().splitlines() if re.fullmatch(pattern, line)]
    assert f"{line}\n" == test
