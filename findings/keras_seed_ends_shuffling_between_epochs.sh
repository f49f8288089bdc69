#!/usr/bin/env bash
# On TensorFlow, a seeded Keras program trains every epoch in one and the same order.
#
# Version: Keras 3.15.1 on TensorFlow 2.21.0.
# Behaviour: fit(shuffle=True) is said to shuffle before each epoch. Without a seed it does. After
# keras.utils.set_random_seed() all epochs of a fit, and of later fits, have one order: arrays are
# shuffled by tf.random.shuffle within a data pipeline, and each epoch makes a new iterator, in
# which this operation starts again from the program's seed. Nothing is said about it.
# Output seen (different orders in four epochs):
#   without a seed: 4
#   after set_random_seed: 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "keras==3.15.1" "tensorflow==2.21.0"
cat > "$folder/program.py" <<'PROGRAM'
import keras
import numpy as np

SEEN = []


class Note(keras.layers.Layer):
    """Notes the samples of each batch, in their order."""

    def call(self, inputs):
        SEEN.extend(int(sample) for sample in np.asarray(inputs)[:, 0])
        return inputs


def orders(epochs):
    """Return the orders of the samples in the epochs of a fit."""
    model = keras.Sequential([keras.Input((1,)), Note(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    SEEN.clear()
    samples = np.arange(100.0, dtype="float32").reshape(-1, 1)
    model.fit(samples, samples, batch_size=25, epochs=epochs, shuffle=True, verbose=0)
    return {tuple(SEEN[start : start + 100]) for start in range(0, len(SEEN), 100)}


print("without a seed:", len(orders(4)))
keras.utils.set_random_seed(0)
print("after set_random_seed:", len(orders(4)))
PROGRAM
output=$(KERAS_BACKEND=tensorflow "$folder/venv/bin/python" "$folder/program.py" 2>/dev/null)
expected=$(printf 'without a seed: 4\nafter set_random_seed: 1')
if [ "$output" != "$expected" ]; then
    printf 'changed: expected\n%s\nnow\n%s\n' "$expected" "$output"
    exit 1
fi
echo "as described"
