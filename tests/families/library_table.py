"""The table in ``docs/libraries.md``, and the results of the programs about other libraries."""

from __future__ import annotations

import json
import re

from processes import ROOT, program, python


def table(prefixes):
    """Return the entries of the table, by names of cases, for the given prefixes of names."""
    rows = {}
    for line in (ROOT / "docs" / "libraries.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        named = re.fullmatch(r"`(\w+)`", cells[-1])
        if named and named[1].startswith(prefixes):
            rows[named[1]] = cells[2], cells[3]
    return rows


def run(name, folder, **environment):
    """Run a program twice, to write and to read; return its results."""
    for role in ("write", "read"):
        python(program(name), role, folder, timeout=1500, **environment)
    return {role: json.loads((folder / f"{role}.json").read_text()) for role in ("write", "read")}


def words(outcomes, group):
    """Return the errors of the objects of a group, of the writer and of the reader."""
    failed = {name: word for name, word in outcomes["write"]["words"][group].items() if word}
    arrived = {name: word for name, word in outcomes["read"].items() if word}
    return failed, {k: v for k, v in arrived.items() if k.startswith(f"{group}-")}


def natively(outcomes, group):
    """Return the expected entry of the table about native pickling."""
    results = [word == "" for word in outcomes["write"]["natives"][group].values()]
    return "yes" if all(results) else "partly" if any(results) else "no"
