"""Programs without Keras are not changed by `install`: see ``integrations/without_keras.py``."""

import json

import pytest

from processes import program, python


@pytest.fixture
def printed(once):
    """Lines that the program prints, without `install` and with it."""

    def run():
        path = program("without_keras.py")
        return [
            python(path, each, fresh=True, timeout=60).splitlines()
            for each in ("plain", "installed")
        ]

    return once(run)


def test_files_and_hashes_and_processes_are_the_same(printed):
    plain, installed = printed
    assert len(plain) == 16
    assert installed[:-1] == plain[:-1]
    assert installed[-4] == "True LokyBackend"
    assert installed[-2] == "[]"


def test_dumps_take_no_more_than_a_call_for_each_class(printed):
    (large, small), (large_installed, small_installed) = (
        json.loads(lines[-1].removeprefix("calls ")) for lines in printed
    )
    # What is done for each dump and each class; nothing is done for each object.
    assert large_installed - large < 250
    assert small_installed - small < 250
    assert large_installed < 1.02 * large


def test_tasks_that_import_keras_themselves_return_whole_models():
    code = """
        import sys
        import keras_reduce
        from joblib import Parallel, delayed

        def trained(seed):
            import keras, numpy as np
            keras.utils.set_random_seed(seed)
            model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
            model.compile("adam", loss=lambda true, predicted: abs(true - predicted))
            model.fit(np.ones((4, 2)), np.ones(4), verbose=0)
            return model, model.predict(np.ones((1, 2)), verbose=0)

        keras_reduce.install()
        assert "keras" not in sys.modules
        (model, answer), _ = Parallel(2)(delayed(trained)(seed) for seed in range(2))
        import numpy as np
        assert np.array_equal(model.predict(np.ones((1, 2)), verbose=0), answer)
        assert model.optimizer.iterations == 1
        """
    python(code, fresh=True, timeout=200)


def test_an_estimator_gets_the_workers_with_keras():
    code = """
        import joblib, sys
        import keras_reduce
        keras_reduce.install()
        make = joblib.parallel.BACKENDS[joblib.parallel.DEFAULT_BACKEND]
        assert type(make()).__name__ == "LokyBackend"
        keras_reduce.KerasRegressor(len)
        assert "keras" not in sys.modules
        assert type(make()).__name__ == "KerasBackend"
        """
    python(code, fresh=True, timeout=100)
