#!/usr/bin/env bash
# scikit-learn takes numbers of bfloat16 for text in most estimators, and for numbers in scalers.
#
# Versions: scikit-learn 1.9.1, ml_dtypes 0.6.0, NumPy 2.4.6.
# Behaviour: StandardScaler and MinMaxScaler, which ask for floats, take an array of bfloat16 and
# return float64. LinearRegression asks for any number, and raises a ValueError about "arrays of
# bytes/strings". r2_score and mean_absolute_error raise a TypeError: the dtype is none of NumPy's.
# Keras models with the policy "mixed_bfloat16" predict such arrays.
# Output seen:
#   StandardScaler: float64
#   LinearRegression: ValueError, about text: True
#   r2_score: TypeError, about text: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet "scikit-learn==1.9.1" "ml_dtypes==0.6.0" "numpy==2.4.6"
found=$(venv/bin/python - <<'PROGRAM'
import ml_dtypes
import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

numbers = np.arange(4).astype(ml_dtypes.bfloat16)
column = numbers.reshape(-1, 1)
print("StandardScaler:", StandardScaler().fit_transform(column).dtype)
for function, arguments in (
    (LinearRegression().fit, (column, numbers.astype("float32"))),
    (r2_score, (numbers.astype("float32"), numbers)),
):
    try:
        print(function(*arguments))
    except (TypeError, ValueError) as error:
        name = getattr(function, "__self__", function)
        name = getattr(name, "__name__", type(name).__name__)
        print(f"{name}: {type(error).__name__}, about text: {'bytes/strings' in str(error)}")
PROGRAM
)
expected="StandardScaler: float64
LinearRegression: ValueError, about text: True
r2_score: TypeError, about text: False"
if [ "$found" != "$expected" ]; then
    printf 'changed: expected\n%s\nfound\n%s\n' "$expected" "$found"
    exit 1
fi
echo "as described"
