#!/usr/bin/env bash
# skops.io brings arrays of bfloat16 and int4 back as arrays of raw bytes, without an error.
#
# Versions: skops 0.16.0, ml_dtypes 0.6.0, NumPy 2.4.6, joblib 1.6.0.
# Behaviour: skops writes arrays with numpy.save, whose format knows no dtypes that packages add to
# NumPy: a bfloat16 is written as the type "V2". joblib, which writes the dtype as a pickle, keeps
# it, also in a memory map.
# Output seen:
#   skops |V2 |V1
#   joblib bfloat16 int4
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet "skops==0.16.0" "ml_dtypes==0.6.0" "numpy==2.4.6" "joblib==1.6.0"
found=$(venv/bin/python - <<'PROGRAM'
import joblib
import ml_dtypes
import numpy as np
import skops.io

arrays = [np.arange(3).astype(name) for name in (ml_dtypes.bfloat16, ml_dtypes.int4)]
print("skops", *(skops.io.loads(skops.io.dumps(array)).dtype for array in arrays))
joblib.dump(arrays, "arrays")
print("joblib", *(array.dtype for array in joblib.load("arrays", mmap_mode="r")))
PROGRAM
)
expected="skops |V2 |V1
joblib bfloat16 int4"
if [ "$found" != "$expected" ]; then
    printf 'changed: expected\n%s\nfound\n%s\n' "$expected" "$found"
    exit 1
fi
echo "as described"
