#!/usr/bin/env bash
# A tf.function that returns nothing trains to other weights than the same one that returns its loss.
#
# Version: TensorFlow 2.21.0, on a CPU.
# Behaviour: the optimizer of graphs looks at a function's outputs. If there are none, it leaves out
# rewrites (its log says that common subexpressions stay), although the same variables are assigned.
# So whether a training step returns its loss changes the last bits of the weights, and later ones
# with them. A function that loops over batches and returns nothing is no exact replacement for
# steps that return results.
# Output seen:
#   the loss is returned, twice: the same bits
#   nothing is returned, twice: the same bits
#   one of each: other bits, at most 1e-4 apart
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "tensorflow==2.21.0"
cat > "$folder/program.py" <<'PROGRAM'
import tensorflow as tf

generator = tf.random.Generator.from_seed(0)
inputs, targets = generator.normal((64, 10)), generator.normal((64, 1))
initial = [generator.normal((10, 32)), generator.normal((32, 1))]


def train(returns_loss):
    first, second = map(tf.Variable, initial)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((tf.nn.gelu(x @ first) @ second - y) ** 2)
        for variable, gradient in zip((first, second), tape.gradient(loss, [first, second])):
            variable.assign_sub(0.01 * gradient)
        return loss if returns_loss else None

    for _ in range(10):
        step(inputs, targets)
    return first.numpy()


def compare(one, other):
    """Tell whether two arrays are equal to the bit."""
    if one.tobytes() == other.tobytes():
        return "the same bits"
    return f"other bits, at most {'1e-4' if abs(one - other).max() <= 1e-4 else 'more'} apart"


print("the loss is returned, twice:", compare(train(True), train(True)))
print("nothing is returned, twice:", compare(train(False), train(False)))
print("one of each:", compare(train(True), train(False)))
PROGRAM
output=$(TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/program.py" 2>/dev/null)
expected='the loss is returned, twice: the same bits
nothing is returned, twice: the same bits
one of each: other bits, at most 1e-4 apart'
if [ "$output" != "$expected" ]; then
    printf 'changed: expected\n%s\nnow\n%s\n' "$expected" "$output"
    exit 1
fi
echo "as described"
