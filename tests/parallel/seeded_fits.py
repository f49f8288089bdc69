"""Layers that draw from the global random generator of the program.

``python seeded_fits.py FOLDER write`` trains models, dumps them, and prints the outcome of more
training; ``read`` loads each into a program that has not drawn yet, and ``workers`` sends it to
workers: both print the same. ``own`` loads each into a program that has drawn, and prints the next
numbers of its generator.
"""

import json
import pickle
import sys
from pathlib import Path

import joblib
import keras
import numpy as np
from keras import layers, ops
from keras.random import normal

import keras_reduce

keras_reduce.install()

X, Y = np.ones((4, 3), "float32"), np.ones((4, 1), "float32")
GENERATOR = "global_seed_generator"


def helper(inputs):
    return inputs + normal(ops.shape(inputs))


class ByModule(layers.Layer):
    def call(self, inputs):
        return inputs + keras.random.uniform(ops.shape(inputs))


class ByHelper(layers.Layer):
    def call(self, inputs):
        return helper(inputs)


class Seeded(layers.Layer):
    def call(self, inputs):
        return inputs


def models():
    return {
        "module": ByModule(),
        "helper": ByHelper(),
        "lambda": layers.Lambda(lambda inputs: inputs * keras.random.normal((3,))),
        "inner": keras.Sequential([ByModule()]),
        "none": Seeded(),
    }


def go_on(model):
    fitted = model.fit(X, Y, epochs=2, shuffle=False, verbose=0)
    return [*fitted.history["loss"], *np.ravel(model.predict(X, verbose=0)).tolist()]


def forget():
    """Reset the global generator, as in a program that has not drawn any random number yet."""
    from keras.src.backend.common import global_state

    global_state.set_global_attribute(GENERATOR, None)


def main(folder, role):
    results = {}
    if role == "write":
        for name, layer in models().items():
            forget()
            keras.utils.set_random_seed(3)
            model = keras.Sequential([keras.Input((3,)), layer, layers.Dense(1)])
            model.compile("sgd", "mse", run_eagerly=True)
            model.fit(X, Y, verbose=0)
            (folder / name).write_bytes(pickle.dumps(model))
            results[name] = go_on(model)
    else:
        for name in models():
            forget()
            if role == "own":
                keras.utils.set_random_seed(5)
                keras.random.normal((2,))
            model = pickle.loads((folder / name).read_bytes())
            if role == "own":
                results[name] = np.ravel(keras.random.normal((3,))).tolist()
            elif role == "workers":
                # One of the two workers gets two tasks.
                tasks = [joblib.delayed(go_on)(model) for _ in range(3)]
                first, *others = joblib.Parallel(n_jobs=2)(tasks)
                assert others == 2 * [first], (name, first, others)
                results[name] = first
            else:
                results[name] = go_on(model)
    print(f"\nWORDS {json.dumps(results)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
