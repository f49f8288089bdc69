"""A process that maps a model, predicts, and prints its private memory; see test_persistence.py.

``python mapped_model.py write path`` writes the model; with ``read path``, the program maps it,
predicts, and prints a line.
"""

import gc
import re
import signal
import sys
from pathlib import Path

import numpy as np

import keras_reduce

UNITS = 2300  # four layers of 21 MB


def build(units=UNITS):
    import keras

    layers = [keras.layers.Dense(units) for _ in range(4)]
    return keras.Sequential([keras.Input((units,)), *layers])


def private_dirty():
    gc.collect()
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"Private_Dirty: +(\d+) kB", text)[1]) * 1024


def main(role, path):
    if role == "write":
        keras_reduce.dump(build(), path)
        return
    # The first model of a process allocates memory that does not depend on its size.
    warm = keras_reduce.loads(keras_reduce.dumps(build(10)))
    warm.predict(np.ones((2, 10)), verbose=0)
    before = private_dirty()
    model = keras_reduce.load(path, mmap_mode="r")
    after_load = private_dirty() - before
    model.predict(np.ones((2, UNITS), np.float32), verbose=0)
    weights = sum(weight.nbytes for weight in model.get_weights())
    gc.collect()
    print("GROWTH", after_load, private_dirty() - before, weights, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
    if sys.argv[1] == "read":
        signal.pause()
