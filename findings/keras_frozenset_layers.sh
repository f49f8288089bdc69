#!/usr/bin/env bash
# Keras tracks layers that a model holds in a set, but not those in a frozenset.
#
# Version: Keras 3.15.1 on JAX 0.10.2.
# Behaviour: a subclassed model that keeps its layers in a frozenset computes with them, and yet has
# no layers and no weights: they are neither trained nor saved, and nothing is said about it. In a
# list or in a set the same layers are tracked.
# Output seen (container, layers, weights):
#   list 2 4
#   set 2 4
#   frozenset 0 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "keras==3.15.1" "jax==0.10.2"
cat > "$folder/program.py" <<'PROGRAM'
import keras
import numpy as np


class Model(keras.Model):
    def __init__(self, container):
        super().__init__()
        self.parts = container([keras.layers.Dense(3), keras.layers.Dense(3)])

    def call(self, inputs):
        for part in self.parts:
            inputs = part(inputs)
        return inputs


for container in (list, set, frozenset):
    model = Model(container)
    assert model(np.ones((1, 3), "float32")).shape == (1, 3)
    print(container.__name__, len(model.layers), len(model.weights))
PROGRAM
found=$(KERAS_BACKEND=jax "$folder/venv/bin/python" "$folder/program.py")
expected=$(printf 'list 2 4\nset 2 4\nfrozenset 0 0')
if [ "$found" != "$expected" ]; then
    printf 'changed: expected\n%s\nfound\n%s\n' "$expected" "$found"
    exit 1
fi
echo "as described"
