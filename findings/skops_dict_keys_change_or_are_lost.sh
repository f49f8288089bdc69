#!/usr/bin/env bash
# skops.io changes keys of dictionaries that are no strings, and loses entries, without an error.
#
# Version: skops 0.16.0.
# Behaviour: keys are written as keys of JSON, and their types beside them. A False comes back as
# True, as bool("false") is true; and of the entries with the keys 1 and "1", which JSON writes
# alike, one is lost. Neither dumps nor loads raises an error.
# Output seen:
#   {True: 'yes'}
#   {1: 'b'}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet "skops==0.16.0"
found=$(venv/bin/python - <<'PROGRAM'
import skops.io

for keys in ({False: "no", True: "yes"}, {1: "a", "1": "b"}):
    print(skops.io.loads(skops.io.dumps(keys)))
PROGRAM
)
expected=$"{True: 'yes'}
{1: 'b'}"
if [ "$found" != "$expected" ]; then
    printf 'changed: expected\n%s\nfound\n%s\n' "$expected" "$found"
    exit 1
fi
echo "as described"
