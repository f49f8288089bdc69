#!/usr/bin/env bash
# On the OpenVINO backend, Model.predict() replaces the model's History by an empty one.
#
# Version: Keras 3.15.1 with OpenVINO 2026.4.1 and JAX 0.10.2.
# Behaviour: a model that was trained has its History as `history`, and so has a model that was
# pickled with it. On OpenVINO, which can't train, predict() adds a callback History as fit() does
# elsewhere, and that takes the place of the model's. On JAX, predict() leaves it alone.
# Output seen (backend, is it the same object, losses after predict):
#   jax True [0.5]
#   openvino False None
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "keras==3.15.1" "jax==0.10.2" "openvino==2026.4.1"
cat > "$folder/program.py" <<'PROGRAM'
import keras
import numpy as np

model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
history = keras.callbacks.History()
history.set_model(model)  # puts it where fit() puts it
history.on_train_begin()
history.on_epoch_end(0, {"loss": 0.5})
model.predict(np.ones((2, 3)), verbose=0)
print(keras.backend.backend(), model.history is history, model.history.history.get("loss"))
PROGRAM
found=""
for backend in jax openvino; do
    found+=$(KERAS_BACKEND=$backend "$folder/venv/bin/python" "$folder/program.py" | tail -n 1)$'\n'
done
expected=$'jax True [0.5]\nopenvino False None\n'
if [ "$found" != "$expected" ]; then
    printf 'changed: expected\n%s\nfound\n%s\n' "$expected" "$found"
    exit 1
fi
echo "as described"
