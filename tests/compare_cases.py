"""Comparison of the tests of two checkouts: lists the tests that have gone, and the new ones.

    python tests/compare_cases.py OTHER_CHECKOUT

`RENAMED` has the patterns of renamed tests. Fails if a test has gone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

# Patterns in names of the other checkout, and their replacements here.
RENAMED = {
    r"(?<=_scikit_learn_checks\[)(Keras\w+)\(batch_size.*?\)(?=-check_)": r"\1",
    r"(?<=test_trust\[)trusting\.py": "loading_by_a_list.py",
    r"(?<=shared_traces\[)searches(?=\])": "estimators_of_others",
    r"(?<=shared_traces\[)lives(?=\])": "random_lives_are_as_those_of_their_twins",
    r"test_arrows_point_down\[.*": "test_no_circle",
    r"test_every_module_has_a_row\[.*": "test_every_module_has_a_room",
    r"(?<=test_frameworks_are_named_in_their_rooms_only)\[.*": "[errors.py]",
    r"test_inspection_can_rebuild_nothing": "test_audit_and_inspection_can_rebuild_nothing",
    r"an_array_of_functions_in_joblib": "an_array_of_functions",
    r"layers_in_a_named_tuple_or_a_set": "layers_in_named_tuples_and_sets",
    r"(?<=import_is_listed\[)trace_keys": "keys",
    r"(?<=import_is_listed\[)traces": "cache",
    r"errors_of_the_pickler_in_c_know_what_the_line_names": "errors_of_the_pickler_in_c_know_the_"
    "path_from_the_model",
}


def renamed(name):
    """Return the name that a test of the other checkout has here."""
    for there, here in RENAMED.items():
        name = re.sub(there, here, name)
    return name


def collected(checkout):
    """Return the names of the tests of a checkout, without folders and suffixes of pytest-xdist."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.partition("@")[0].partition("::") for line in done.stdout.splitlines()]
    return {f"{Path(file).name}::{test}" for file, _, test in lines if test}


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
