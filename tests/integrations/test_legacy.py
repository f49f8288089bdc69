"""The old import path, and programs that use it, each in its own process."""

import pytest

from processes import program, python

# Runs a program that does not use keras_reduce, unchanged.
WITH_LEGACY = """
import runpy, sys
import keras_reduce
keras_reduce.install(legacy_wrappers=True)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def predictions(output):
    (line,) = [line for line in output.splitlines() if line.startswith("predictions")]
    return line


def test_classic_program_pickles_its_estimator(tmp_path):
    path = tmp_path / "estimator.pickle"
    printed = python(WITH_LEGACY, program("classic_failure.py"), path)
    assert "loss" in printed
    # The reader lacks the program and the old import path.
    loaded = python(
        """
        import pickle, sys
        import numpy as np
        estimator = pickle.load(open(sys.argv[1], "rb"))
        print("predictions", estimator.predict(np.ones((2, 5))).tolist())
        assert estimator.get_params()["build_fn"]().optimizer is not None
        assert type(estimator).__module__ == "keras_reduce.legacy"
        """,
        path,
    )
    assert predictions(loaded) == predictions(printed)


def test_classic_cure_runs_unchanged(tmp_path):
    path = tmp_path / "parts.pickle"
    saved = python(WITH_LEGACY, program("classic_cure.py"), "save", path)
    loaded = python(WITH_LEGACY, program("classic_cure.py"), "load", path)
    assert predictions(loaded) == predictions(saved)


def test_every_way_to_name_the_module_and_no_trace_afterwards():
    python(
        """
        import sys
        from keras_reduce import legacy
        from keras_reduce.integrations import legacy_path

        def ours():
            return [f for f in sys.meta_path if type(f).__module__.startswith("keras_reduce")]

        legacy_path.enable()
        finders = ours()
        legacy_path.enable()
        assert finders and ours() == finders
        assert not {"keras", "tensorflow"} & set(sys.modules)

        import tensorflow as tf
        assert tf.keras.wrappers.scikit_learn.KerasRegressor is legacy.KerasRegressor
        from tensorflow.keras.wrappers.scikit_learn import KerasClassifier, KerasRegressor
        assert KerasRegressor is legacy.KerasRegressor
        assert KerasClassifier is legacy.KerasClassifier
        import tensorflow.keras.wrappers.scikit_learn as module
        assert module.KerasRegressor is legacy.KerasRegressor
        assert tf.keras.wrappers.scikit_learn is module
        import keras
        assert keras.wrappers.scikit_learn.KerasRegressor is legacy.KerasRegressor
        from keras.wrappers.scikit_learn import KerasClassifier
        assert KerasClassifier is legacy.KerasClassifier
        from keras.wrappers import SKLearnRegressor

        legacy_path.disable()
        legacy_path.disable()
        assert not ours()
        assert not [name for name in sys.modules if name.endswith("wrappers.scikit_learn")]
        for wrappers in (keras.wrappers, tf.keras.wrappers):
            assert not hasattr(wrappers, "scikit_learn")
            assert wrappers.SKLearnRegressor is SKLearnRegressor
        try:
            import keras.wrappers.scikit_learn
        except ModuleNotFoundError:
            pass
        else:
            raise AssertionError("still there")

        # A second time, with everything imported already.
        legacy_path.enable()
        assert tf.keras.wrappers.scikit_learn.KerasRegressor is legacy.KerasRegressor
        """,
        fresh=True,
    )


def package(root, *files):
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return root


@pytest.mark.parametrize("enabled_first", [True, False])
def test_a_module_that_exists_is_left_alone(tmp_path, enabled_first):
    fake = package(tmp_path, "keras/__init__.py", "keras/wrappers/__init__.py")
    (fake / "keras/wrappers/scikit_learn.py").write_text("KerasRegressor = 'the real one'")
    lines = ["legacy_path.enable()", "import keras.wrappers.scikit_learn as module"]
    code = "\n".join(lines if enabled_first else reversed(lines))
    python(
        "from keras_reduce import legacy\n"
        f"from keras_reduce.integrations import legacy_path\n{code}\n"
        "assert module.KerasRegressor == 'the real one'\n"
        "legacy_path.disable()\n"
        "import sys\n"
        "assert sys.modules['keras.wrappers.scikit_learn'] is module\n",
        path=[fake],
        fresh=True,
    )


def test_a_keras_without_any_wrappers(tmp_path):
    python(
        """
        import sys
        from keras_reduce import legacy
        from keras_reduce.integrations import legacy_path

        legacy_path.enable()
        import keras.wrappers.scikit_learn
        assert keras.wrappers.scikit_learn.KerasRegressor is legacy.KerasRegressor
        legacy_path.disable()
        assert not hasattr(keras, "wrappers")
        assert not [name for name in sys.modules if name.startswith("keras.")]
        """,
        path=[package(tmp_path, "keras/__init__.py")],
        fresh=True,
    )


def test_no_keras_at_all(tmp_path):
    python(
        """
        import sys
        from keras_reduce import legacy
        from keras_reduce.integrations import legacy_path

        sys.modules["keras"] = None
        legacy_path.enable()
        try:
            import keras.wrappers.scikit_learn
        except ModuleNotFoundError:
            pass
        else:
            raise AssertionError("imported")
        """,
        fresh=True,
    )


def test_habits_of_old():
    import keras
    import numpy as np

    from keras_reduce import legacy, wrappers

    def create_model(units=1):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
        model.compile("adam", "mse")
        return model

    rng = np.random.default_rng(0)
    x, y = rng.random((20, 3)), rng.random((20, 1))
    estimator = legacy.KerasRegressor(build_fn=create_model, epochs=2)
    history = estimator.fit(x=x, y=y)
    assert len(history.history["loss"]) == 2
    assert estimator.predict(x).shape == (20,)
    assert estimator.predict(x[:1]).shape == ()
    mean_squared_error = np.mean((estimator.predict(x) - y[:, 0]) ** 2)
    assert estimator.score(x, y, batch_size=5) == pytest.approx(-mean_squared_error, rel=1e-5)
    assert isinstance(estimator, wrappers.KerasRegressor)

    def create_classifier():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, "sigmoid")])
        model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
        return model

    classifier = legacy.KerasClassifier(create_classifier, verbose=0)
    labels = (y[:, 0] > 0.5).astype(int)
    history = classifier.fit(x, labels)
    assert set(history.history) == {"accuracy", "loss"}
    accuracy = classifier.model.evaluate(x, labels, verbose=0, return_dict=True)["accuracy"]
    assert classifier.score(x, labels, verbose=0) == pytest.approx(accuracy)
