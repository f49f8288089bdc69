#!/usr/bin/env bash
# Keras can't build a chain of a thousand layers with Python's default recursion limit.
#
# Version: Keras 3.15.1 on JAX 0.10.2.
# Behaviour: Keras follows the graph of a functional model from its outputs by recursion, one call
# for each layer in a chain; a sequential model that knows its inputs has a functional one within.
# So a chain of some 980 layers and more raises a RecursionError, when it is built and when it is
# loaded, unless each of these programs raises the limit. Branches beside each other don't count.
# Output seen (recursion limit, model, layers, result):
#   1000 Sequential 900 built
#   1000 Sequential 1000 RecursionError
#   1000 Functional 900 built
#   1000 Functional 1000 RecursionError
#   20000 Sequential 1000 built
#   20000 Functional 1000 built
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "keras==3.15.1" "jax==0.10.2"
cat > "$folder/program.py" <<'PROGRAM'
import sys

import keras


def sequential(count):
    layers = [keras.layers.Identity() for _ in range(count)]
    return keras.Sequential([keras.Input((1,)), *layers])


def functional(count):
    inputs = flow = keras.Input((1,))
    for _ in range(count):
        flow = keras.layers.Identity()(flow)
    return keras.Model(inputs, flow)


for limit, counts in ((1000, (900, 1000)), (20_000, (1000,))):
    sys.setrecursionlimit(limit)
    for name, build in (("Sequential", sequential), ("Functional", functional)):
        for count in counts:
            try:
                build(count)
                result = "built"
            except RecursionError as error:
                result = type(error).__name__
            print(limit, name, count, result)
PROGRAM
found=$(KERAS_BACKEND=jax "$folder/venv/bin/python" "$folder/program.py")
expected=$(printf '%s\n' \
    '1000 Sequential 900 built' '1000 Sequential 1000 RecursionError' \
    '1000 Functional 900 built' '1000 Functional 1000 RecursionError' \
    '20000 Sequential 1000 built' '20000 Functional 1000 built')
if [ "$found" != "$expected" ]; then
    printf 'changed: expected\n%s\nfound\n%s\n' "$expected" "$found"
    exit 1
fi
echo "as described"
