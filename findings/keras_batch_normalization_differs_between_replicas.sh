#!/usr/bin/env bash
# Under MirroredStrategy, BatchNormalization has other moving averages on each device.
#
# Version: Keras 3.15.1 on TensorFlow 2.21.0, two logical devices on the CPU.
# Behaviour: a BatchNormalization with its default, synchronized=False, updates the moving mean and
# variance of each replica with that replica's part of the batches, and nothing ever aggregates
# them. What predict() answers for a row then depends on the half of the batch that it is in, and a
# saved model, which holds the averages of the first device, answers otherwise than its original.
# With synchronized=True none of this happens.
# Output seen (synchronized, replicas alike, one row answered alike in both halves of a batch, a
# saved and loaded model answers as the original):
#   False False False False
#   True True True True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "keras==3.15.1" "tensorflow==2.21.0"
cat > "$folder/program.py" <<'PROGRAM'
import logging
import sys

import keras
import numpy as np
import tensorflow as tf

logging.getLogger("tensorflow").setLevel(logging.ERROR)
device = tf.config.list_physical_devices("CPU")[0]
logical = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(device, logical)
keras.utils.set_random_seed(0)
X = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for synchronized in (False, True):
    with strategy.scope():
        normalization = keras.layers.BatchNormalization(synchronized=synchronized)
        model = keras.Sequential([keras.Input((8,)), normalization])
        model.compile("sgd", "mse")
    model.fit(X, X, batch_size=16, epochs=2, verbose=0)
    one, other = normalization.moving_mean.value.values
    alike = np.allclose(one.read_value(), other.read_value())
    first, second = model.predict(X[[0, 0]], batch_size=2, verbose=0)
    model.save(sys.argv[1])
    with strategy.scope():
        loaded = keras.saving.load_model(sys.argv[1])
    same = np.allclose(*(each.predict(X, batch_size=16, verbose=0) for each in (model, loaded)))
    print(synchronized, alike, np.allclose(first, second), same)
PROGRAM
found=$(TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/program.py" "$folder/model.keras" \
    2> "$folder/errors") || { cat "$folder/errors"; exit 1; }
expected=$(printf 'False False False False\nTrue True True True')
if [ "$found" != "$expected" ]; then
    printf 'changed: expected\n%s\nfound\n%s\n' "$expected" "$found"
    exit 1
fi
echo "as described"
