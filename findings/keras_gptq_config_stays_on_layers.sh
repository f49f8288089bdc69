#!/usr/bin/env bash
# A GPTQ config stays on every layer it was offered to, and makes the model impossible to save.
#
# Version: Keras 3.15.1 on JAX 0.10.2.
# Behaviour: `model.quantize("gptq", config=...)` warns that an Embedding has no such mode, and
# leaves the config on it all the same, with the whole calibration data set. If the config names the
# blocks (`quantization_layer_structure`), each layer holds a config that holds the layers, so that
# `to_json()` and `save()` end in a RecursionError. A layer outside of the blocks says that it is
# quantized, and goes on computing with its float kernel.
# Output seen:
#   embedding: mode None, holds the data set True
#   head: mode gptq, calibrated False, float kernel True
#   to_json: RecursionError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "keras==3.15.1" "jax==0.10.2"
cat > "$folder/program.py" <<'PROGRAM'
import sys
import warnings

import keras
import numpy as np
from keras import layers

warnings.simplefilter("ignore")
embedding, head = layers.Embedding(10, 8), layers.Dense(10)
block = keras.Sequential([layers.Dense(8)])
inputs = keras.Input((4,), dtype="int32")
model = keras.Model(inputs, head(block(embedding(inputs))))
texts = [np.ones((1, 4), "int32")]
config = keras.quantizers.GPTQConfig(
    dataset=texts,
    tokenizer=lambda text: text,
    num_samples=1,
    sequence_length=4,
    group_size=4,
    quantization_layer_structure={"pre_block_layers": [embedding], "sequential_blocks": [block]},
)
keras.config.disable_interactive_logging()
model.quantize("gptq", config=config)
held = embedding.quantization_config.dataset is texts
print(f"embedding: mode {embedding.quantization_mode}, holds the data set {held}")
print(
    f"head: mode {head.quantization_mode}, calibrated {head.is_gptq_calibrated}, "
    f"float kernel {head._kernel.dtype == 'float32'}"
)
try:
    model.to_json()
except RecursionError as error:
    print(f"to_json: {type(error).__name__}")
PROGRAM
found=$(KERAS_BACKEND=jax "$folder/venv/bin/python" "$folder/program.py" | grep -E '^(embedding|head|to_json)')
expected='embedding: mode None, holds the data set True
head: mode gptq, calibrated False, float kernel True
to_json: RecursionError'
if [ "$found" != "$expected" ]; then
    printf 'changed: expected\n%s\nfound\n%s\n' "$expected" "$found"
    exit 1
fi
echo "as described"
