#!/usr/bin/env bash
# On JAX, keras.layers.JaxLayer and FlaxLayer can't be built without TensorFlow.
#
# Version: Keras 3.15.1 on JAX 0.10.2, without TensorFlow.
# Behaviour: a layer around functions of JAX, which initializes its parameters by an init_fn, asks
# TensorFlow whether it is being traced, on the JAX backend too; so does FlaxLayer, which inherits
# from it. With parameters that are given to the constructor the same layer works.
# Output seen (parameters, outcome):
#   initialized ImportError: This requires the tensorflow module.
#   given (2, 3)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "keras==3.15.1" "jax==0.10.2"
cat > "$folder/program.py" <<'PROGRAM'
import jax.numpy as jnp
import keras


def call(params, inputs):
    return inputs @ params


def initialize(rng, inputs):
    return jnp.ones((inputs.shape[-1], 3))


for name, options in {
    "initialized": {"init_fn": initialize},
    "given": {"params": jnp.ones((4, 3))},
}.items():
    layer = keras.layers.JaxLayer(call, **options)
    try:
        print(name, layer(jnp.ones((2, 4))).shape)
    except ImportError as error:
        print(name, f"ImportError: {str(error).partition('.')[0]}.")
PROGRAM
found=$(KERAS_BACKEND=jax "$folder/venv/bin/python" "$folder/program.py")
expected=$(printf '%s\n' "initialized ImportError: This requires the tensorflow module." "given (2, 3)")
if [ "$found" != "$expected" ]; then
    printf 'changed: expected\n%s\nfound\n%s\n' "$expected" "$found"
    exit 1
fi
echo "as described"
