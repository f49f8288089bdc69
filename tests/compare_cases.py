"""List the tests that another checkout has and this one has not, and the other way round.

    python tests/compare_cases.py OTHER_CHECKOUT

Tests that moved are the same if `renamed` maps one to the other. Fails if a test has gone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# The beginning of a name there, and here.
RENAMED = {}


def renamed(name):
    """Return how a test of the other checkout is called here."""
    for there, here in RENAMED.items():
        if name.startswith(there):
            return here + name.removeprefix(there)
    return name


def collected(checkout):
    """Return the names of the tests of a checkout, without what pytest-xdist adds to them."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.partition("@")[0] for line in done.stdout.splitlines() if "::" in line}


def main(other):
    """Print both lists; return 1 if a test has gone."""
    there, here = (collected(path) for path in (Path(other), Path(__file__).parents[1]))
    gone = {name for name in there if renamed(name) not in here}
    new = here - {renamed(name) for name in there}
    for title, names in (("Gone", gone), ("New", new)):
        print(f"{title}: {len(names)}", *sorted(names), sep="\n  ")
    print(f"{len(there)} tests there, {len(here)} here")
    return 1 if gone else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
