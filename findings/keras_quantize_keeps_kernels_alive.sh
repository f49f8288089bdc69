#!/usr/bin/env bash
# Quantizing a compiled, trained Keras model saves no memory: its optimizer keeps the old kernels.
#
# Version: Keras 3.15.1 on JAX 0.10.2.
# Behaviour: `model.quantize("int8")` replaces the kernels, but the optimizer of the model still
# refers to the float32 ones, and keeps two slots of the same size for each (Adam). They are freed
# only by another `compile()`. When such a model is saved and loaded, the optimizer's whole state is
# skipped with a warning: iterations begin at 0, so that schedules and bias corrections start over.
# Output seen:
#   kernel alive after quantize: True
#   bytes of weights below bytes of optimizer: True
#   iterations saved 1 loaded 0
#   kernel alive after compile: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "keras==3.15.1" "jax==0.10.2"
cat > "$folder/program.py" <<'PROGRAM'
import gc
import sys
import warnings
import weakref

import keras
import numpy as np


def size(variables):
    return sum(variable.value.nbytes for variable in variables)


model = keras.Sequential(
    [keras.Input((64,)), keras.layers.Dense(64), keras.layers.Dense(1)]
)
model.compile("adam", "mse")
model.fit(np.ones((4, 64)), np.ones((4, 1)), verbose=0)
kernel = weakref.ref(model.layers[0]._kernel)
warnings.simplefilter("ignore")
model.quantize("int8")
gc.collect()
print("kernel alive after quantize:", kernel() is not None)
print("bytes of weights below bytes of optimizer:", 4 * size(model.weights) < size(model.optimizer.variables))
model.save(sys.argv[1])
loaded = keras.models.load_model(sys.argv[1])
print("iterations saved", int(model.optimizer.iterations), "loaded", int(loaded.optimizer.iterations))
model.compile("adam", "mse")
gc.collect()
print("kernel alive after compile:", kernel() is not None)
PROGRAM
found=$(KERAS_BACKEND=jax "$folder/venv/bin/python" "$folder/program.py" "$folder/model.keras")
expected='kernel alive after quantize: True
bytes of weights below bytes of optimizer: True
iterations saved 1 loaded 0
kernel alive after compile: False'
if [ "$found" != "$expected" ]; then
    printf 'changed: expected\n%s\nfound\n%s\n' "$expected" "$found"
    exit 1
fi
echo "as described"
