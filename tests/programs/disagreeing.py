"""A worker that has imported Keras with another backend than the program's says so."""

import os
import sys
import types

import joblib
import keras

import keras_reduce
from checks import check, main, raises

keras_reduce.install()
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])


def have_another(_=None):
    """Have what looks like a Keras with another backend: few environments have two."""
    keras = sys.modules["keras"] = types.ModuleType("keras")
    keras.config = types.SimpleNamespace(backend=lambda: "another")
    return os.getpid()


def count(network):
    return network.count_params()


def told(error):
    """Return all that an error says, with what it came from."""
    found = []
    while error is not None:
        found.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(found)


@check
def under_loky():
    with joblib.parallel_config("loky", n_jobs=2), raises(Exception) as demand:
        joblib.Parallel(batch_size=1)(joblib.delayed(have_another)(i) for i in range(2))
        joblib.Parallel()(joblib.delayed(count)(model) for _ in range(2))
    assert "computes with 'another'" in told(demand.error), told(demand.error)
    assert "os.environ['KERAS_BACKEND']" in told(demand.error), told(demand.error)
    # Others take it.
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)
    with joblib.parallel_config("loky", n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(count)(model) for _ in range(2)) == [9, 9]


if __name__ == "__main__":
    main()
