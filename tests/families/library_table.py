"""The table in ``docs/libraries.md``, and what the programs of `libraries` found."""

from __future__ import annotations

import json
import re

from processes import ROOT, program, python


def table(prefixes):
    """Return what the table says of each case whose name has one of `prefixes`, by name."""
    rows = {}
    for line in (ROOT / "docs" / "libraries.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        named = re.fullmatch(r"`(\w+)`", cells[-1])
        if named and named[1].startswith(prefixes):
            rows[named[1]] = cells[2], cells[3]
    return rows


def run(name, folder, **environment):
    """Let a program write and read in processes of their own; return what they found."""
    for role in ("write", "read"):
        python(program(name), role, folder, timeout=1500, **environment)
    return {role: json.loads((folder / f"{role}.json").read_text()) for role in ("write", "read")}


def words(found, group):
    """Return what went wrong with each object of a group, on either side."""
    failed = {name: word for name, word in found["write"]["words"][group].items() if word}
    arrived = {name: word for name, word in found["read"].items() if word}
    return failed, {k: v for k, v in arrived.items() if k.startswith(f"{group}-")}


def natively(found, group):
    """Return what the table shall say of native pickling."""
    results = [word == "" for word in found["write"]["natives"][group].values()]
    return "yes" if all(results) else "partly" if any(results) else "no"
