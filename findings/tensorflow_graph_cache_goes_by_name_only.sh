#!/usr/bin/env bash
# With TF_GRAPH_CACHING set, a program may compute what another program's function says.
#
# Version: TensorFlow 2.21.0, on a CPU.
# Behaviour: TensorFlow keeps optimized graphs in the folder that the variable names, and takes them
# from there. A graph is stored if optimizing it took three seconds. It is found by the name of the
# function and the number of its operations; what the operations are is not compared. tf.function
# numbers its names from the start of the program, so two programs, or two versions of one, easily
# have functions of one name. The variable is not in the documentation; whoever finds it in the
# source must give every function a name of its own, such as a digest of its contents.
# Output seen:
#   adds 1, empty folder: 1.93456
#   adds 2, no folder: 2.55420
#   adds 2, folder of the first: 1.93456
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "tensorflow==2.21.0"
cat > "$folder/program.py" <<'PROGRAM'
import sys

import tensorflow as tf

added = float(sys.argv[1])


@tf.function(autograph=False)
def chain(x):
    for _ in range(4000):  # so many that TensorFlow stores the graph
        x = tf.sin(x) + added
    return x


print(f"{chain(tf.constant(0.5)).numpy():.5f}")
PROGRAM
run() { TF_CPP_MIN_LOG_LEVEL=3 TF_GRAPH_CACHING=$2 "$folder/venv/bin/python" "$folder/program.py" "$1" 2>/dev/null; }
output=$(
    echo "adds 1, empty folder: $(run 1 "$folder/graphs")"
    echo "adds 2, no folder: $(run 2 "")"
    echo "adds 2, folder of the first: $(run 2 "$folder/graphs")"
)
expected='adds 1, empty folder: 1.93456
adds 2, no folder: 2.55420
adds 2, folder of the first: 1.93456'
if [ "$output" != "$expected" ]; then
    printf 'changed: expected\n%s\nnow\n%s\n' "$expected" "$output"
    exit 1
fi
echo "as described"
