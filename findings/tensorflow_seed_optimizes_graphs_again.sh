#!/usr/bin/env bash
# Setting TensorFlow's seed throws away all optimized graphs: each tf.function is optimized again.
#
# Version: TensorFlow 2.21.0.
# Behaviour: tf.random.set_seed(), and so keras.utils.set_random_seed(), empties the caches of the
# eager context. A tf.function is not traced again, but its graph is optimized and placed again in
# its next call, as in its first one, and each kernel of an eager operation is made again. For deep
# models that takes most of the time of a first call; a search that seeds each fit pays it each time.
# Output seen:
#   graphs optimized in the first call: yes
#   in the second: no
#   after set_seed: yes
#   in the next: no
#   times traced: 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "tensorflow==2.21.0"
cat > "$folder/program.py" <<'PROGRAM'
import tensorflow as tf
from tensorflow.python.eager import context


@tf.function
def compute(x):
    for _ in range(20):
        x = tf.linalg.matmul(x, x) + 1.0
    return tf.reduce_sum(x)


def optimizes():
    """Tell whether TensorFlow optimizes a graph in a call."""
    context.enable_run_metadata()
    compute(tf.ones((2, 2)))
    graphs = context.export_run_metadata().function_graphs
    context.disable_run_metadata()
    return "yes" if graphs else "no"


print("graphs optimized in the first call:", optimizes())
print("in the second:", optimizes())
tf.random.set_seed(1)
print("after set_seed:", optimizes())
print("in the next:", optimizes())
print("times traced:", compute.experimental_get_tracing_count())
PROGRAM
output=$(TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/program.py" 2>/dev/null)
expected='graphs optimized in the first call: yes
in the second: no
after set_seed: yes
in the next: no
times traced: 1'
if [ "$output" != "$expected" ]; then
    printf 'changed: expected\n%s\nnow\n%s\n' "$expected" "$output"
    exit 1
fi
echo "as described"
