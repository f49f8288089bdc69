"""Keras's backend in workers: ``python choosing.py HOW BACKEND``.

The environment names no backend; `HOW` is the way in which the program chooses one. The words are
empty, for each joblib backend, if its workers use the same one.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

# joblib's backend "multiprocessing" would fork, and JAX can't be forked after a computation.
os.environ["JOBLIB_START_METHOD"] = "spawn"

import joblib

import keras_reduce


def here(_=None):
    """Return the Keras backend of this process, and the result of a computation."""
    import keras

    return keras.config.backend(), float(keras.ops.sum(keras.ops.ones(3)))


def ask(model):
    """Return the Keras backend of the process that has received a model, and a prediction."""
    import keras
    import numpy as np

    return keras.config.backend(), float(np.sum(model.predict(np.ones((1, 2)), verbose=0)))


def by_environment(backend):
    os.environ["KERAS_BACKEND"] = backend


def by_environment_after_all_has_started(backend):
    keras_reduce.install(prestart=True)
    for name in ("keras", "loky"):
        with joblib.parallel_config(name, n_jobs=2):
            assert joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]
    os.environ["KERAS_BACKEND"] = backend


def by_settings(backend):
    (Path(os.environ["KERAS_HOME"]) / "keras.json").write_text(json.dumps({"backend": backend}))


def by_reloading(backend):
    """Import Keras with one backend, then switch to another (if only one is installed, to it)."""
    # Keras's NumPy backend uses some functions of JAX.
    first = os.environ["KERAS_BACKEND"] = "numpy" if importlib.util.find_spec("jax") else backend
    keras_reduce.install()
    with joblib.parallel_config("keras", n_jobs=2):
        answers = joblib.Parallel()(joblib.delayed(here)() for _ in range(2))
    assert answers == [(first, 3.0)] * 2
    import keras

    keras.config.set_backend(backend)


def main(how, backend):
    globals()[how](backend)
    # Import again, as Keras asks for: set_backend() removes all modules that begin with "keras".
    import keras

    import keras_reduce

    keras_reduce.install()
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    expected = ask(model)
    assert expected[0] == backend, expected
    words = {}
    for name in ("keras", "loky", "multiprocessing"):
        with joblib.parallel_config(name, n_jobs=2):
            plain = joblib.Parallel()(joblib.delayed(here)(i) for i in range(4))
            shipped = joblib.Parallel()(joblib.delayed(ask)(model) for _ in range(4))
        is_same = plain == [(backend, 3.0)] * 4 and shipped == [expected] * 4
        words[name] = "" if is_same else f"{plain} {shipped} {expected}"
    print(f"\nWORDS {json.dumps(words)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
