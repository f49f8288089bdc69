"""Which backend Keras has in workers: ``python choosing.py HOW BACKEND``.

The environment names none; `HOW` says how the program comes to one. The words tell, for each way to
have workers, what they compute with.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

# joblib's backend of that name forks else, which JAX does not survive once it has computed.
os.environ["JOBLIB_START_METHOD"] = "spawn"

import joblib

import keras_reduce


def here(_=None):
    """Return what this process computes with, on being asked."""
    import keras

    return keras.config.backend(), float(keras.ops.sum(keras.ops.ones(3)))


def ask(model):
    """Return what a model's payload finds in this process."""
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
    """Have Keras with one backend, and then with another (or with the same, where that is all)."""
    # Keras's backend of NumPy takes some functions from JAX.
    first = os.environ["KERAS_BACKEND"] = "numpy" if importlib.util.find_spec("jax") else backend
    keras_reduce.install()
    with joblib.parallel_config("keras", n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(here)() for _ in range(2))
    assert found == [(first, 3.0)] * 2
    import keras

    keras.config.set_backend(backend)


def main(how, backend):
    globals()[how](backend)
    # Anew, as Keras asks for after set_backend(), which forgets modules that begin with "keras".
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
