#!/usr/bin/env bash
# load_model() under ModelParallel replicates weights that the program had sharded.
#
# Version: Keras 3.15.1 on JAX 0.10.2, four simulated devices on the CPU.
# Behaviour: a LayoutMap has the path of a variable, such as "outer/hidden/kernel", for key. A model
# that is made under this distribution shards the variable. The same model, saved and loaded under
# the same distribution, does not: load_model() builds the layers of a subclassed or sequential
# model outside of it, as "hidden/kernel", which no key matches. Nothing is said; each device then
# holds all weights, and the slots of the optimizer. A key that matches both paths,
# ".*hidden/kernel", avoids it.
# Output seen (key, layout when made, layout when loaded):
#   outer/hidden/kernel PartitionSpec(None, 'model') PartitionSpec(None, None)
#   .*hidden/kernel PartitionSpec(None, 'model') PartitionSpec(None, 'model')
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "keras==3.15.1" "jax==0.10.2"
cat > "$folder/program.py" <<'PROGRAM'
import sys

import keras
from keras import distribution

mesh = distribution.DeviceMesh((1, 4), ("batch", "model"))
for key in ("outer/hidden/kernel", ".*hidden/kernel"):
    layouts = distribution.LayoutMap(mesh)
    layouts[key] = (None, "model")
    spread = distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")
    with spread.scope():
        hidden = keras.layers.Dense(8, name="hidden")
        model = keras.Sequential([keras.Input((4,)), hidden], name="outer")
        model.save(sys.argv[1])
        loaded = keras.saving.load_model(sys.argv[1])
    specs = [tuple(each.layers[0].kernel.value.sharding.spec) for each in (model, loaded)]
    print(key, *(f"PartitionSpec{spec}" for spec in specs))
PROGRAM
export XLA_FLAGS=--xla_force_host_platform_device_count=4
found=$(KERAS_BACKEND=jax "$folder/venv/bin/python" "$folder/program.py" "$folder/model.keras")
expected=$(printf '%s\n' "outer/hidden/kernel PartitionSpec(None, 'model') PartitionSpec(None, None)" \
    ".*hidden/kernel PartitionSpec(None, 'model') PartitionSpec(None, 'model')")
if [ "$found" != "$expected" ]; then
    printf 'changed: expected\n%s\nfound\n%s\n' "$expected" "$found"
    exit 1
fi
echo "as described"
