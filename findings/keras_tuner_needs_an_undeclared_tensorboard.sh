#!/usr/bin/env bash
# A search of KerasTuner fails in each of its trials where TensorBoard is not installed, although no
# TensorBoard callback is asked for, and neither it nor TensorFlow 2.21 declares that they need it.
#
# Version: keras-tuner 1.4.8, TensorFlow 2.21.0 (tensorflow-cpu), Keras 3.15.1.
# Behaviour: `search()` of a RandomSearch with one Dense layer, as in its documentation, and no
# callbacks. Each trial imports tensorboard.plugins.hparams; the ImportError is kept as the trial's
# message, and after three trials the search ends with a RuntimeError. TensorFlow up to 2.20 required
# tensorboard, so that the import always worked.
# Output seen:
#   trials FAILED FAILED FAILED
#   RuntimeError True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "keras-tuner==1.4.8" "tensorflow-cpu==2.21.0" "keras==3.15.1"
cat > "$folder/program.py" <<'PROGRAM'
import sys

import keras
import keras_tuner
import numpy as np


def build(hp):
    model = keras.Sequential([keras.layers.Dense(hp.Int("units", 1, 4)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


tuner = keras_tuner.RandomSearch(build, objective="loss", max_trials=3, directory=sys.argv[1])
try:
    tuner.search(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    ended = None
except Exception as error:
    ended = error
trials = list(tuner.oracle.trials.values())
said = all("No module named 'tensorboard'" in trial.message for trial in trials)
print("trials", *(trial.status for trial in trials))
print(type(ended).__name__, said)
PROGRAM
found=$(TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/program.py" "$folder/out" 2>"$folder/errors" | tail -2)
expected=$(printf 'trials FAILED FAILED FAILED\nRuntimeError True')
if [ "$found" != "$expected" ]; then
    printf 'changed: expected\n%s\nfound\n%s\n' "$expected" "$found"
    exit 1
fi
echo "as described"
