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


@pytest.mark.parametrize("function", ["dumped", "hash"])
def test_each_object_takes_no_call_more(printed, function):
    (large, small), (large_installed, small_installed) = (
        json.loads(lines[-1].removeprefix("calls "))[function] for lines in printed
    )
    # What is done for each dump and each class; nothing is done for each object.
    assert large_installed - large < 250
    assert small_installed - small < 250
    assert large_installed < 1.02 * large


def test_hashes_are_the_same_once_keras_is_imported():
    code = """
        import collections, enum, functools, json, types
        import joblib, keras_reduce
        import numpy as np

        keras_reduce.install()

        class Names(frozenset):
            pass

        class Kind(enum.Enum):
            ONE = 1

        def scaled(values, by=2.0):
            return values * by

        values = [
            len, np.mean, json.dumps, scaled, lambda values: scaled(values), Names, Kind, Kind.ONE,
            Names("ab"), frozenset("ab"), json, types.ModuleType("own"), types.MappingProxyType({}),
            functools.lru_cache(scaled), functools.partial(scaled, by=3), type(None),
            collections.OrderedDict(a=np.arange(3)), [np.float32, np.dtype("f4")], {"ab", "c"},
        ]
        values.append([*values])
        before = [joblib.hash(value) for value in values]
        import keras
        after = [joblib.hash(value) for value in values]
        pairs = zip(values, before, after, strict=True)
        assert not [value for value, one, other in pairs if one != other]
        assert len(set(before)) == len(before)
        """
    python(code, fresh=True)


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
