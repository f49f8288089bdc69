#!/usr/bin/env bash
# Marks of pytest-xdist's groups do nothing with pytest 9.2: tests of one group run anywhere.
#
# Version: pytest-xdist 3.8.0 with pytest 9.1.1 and 9.2.0.
# Behaviour: with --dist loadgroup, all tests marked as one group run in the same worker. That holds
# with pytest 9.1. With pytest 9.2, which keeps the parts of a node id by themselves, the group that
# the plugin appends to the id is lost, and the tests of a group are spread over all workers without
# a warning. A fixture with a wide scope is then set up in each of them.
# Output seen (pytest, workers that ran tests of the one group):
#   9.1.1 1
#   9.2.0 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/test_group.py" <<'PROGRAM'
import os
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(20))
def test_in_a_group(number):
    time.sleep(0.1)
    with open("workers", "a") as file:
        file.write(os.environ["PYTEST_XDIST_WORKER"] + "\n")
PROGRAM
cd "$folder"
found=""
for version in 9.1.1 9.2.0; do
    python3 -m venv "venv-$version"
    "venv-$version/bin/pip" install --quiet "pytest==$version" "pytest-xdist==3.8.0"
    rm -f workers
    "venv-$version/bin/python" -m pytest -q -n 2 --dist loadgroup test_group.py > log
    found+="$version $(sort -u workers | wc -l)"$'\n'
done
expected=$'9.1.1 1\n9.2.0 2\n'
if [ "$found" != "$expected" ]; then
    printf 'changed: expected\n%s\nfound\n%s\n' "$expected" "$found"
    exit 1
fi
echo "as described"
