"""Behaviour with a Keras that lacks a private name, or that is not among the tested versions."""

import contextlib
import pickle
import tempfile

import keras
import numpy as np

import keras_reduce
from checks import check, logged, main, raises
from keras_reduce import families, reducers
from keras_reduce.core import private_names, trace_folders
from keras_reduce.errors import FrameworkError, PayloadError, ReduceError
from keras_reduce.families.keras3 import private, tree
from keras_reduce.trace_cache import hooks, stored

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
NEEDED = (*private.NEEDED, *private.NEEDED_WITH.get(keras.backend.backend(), ()))


def forget():
    for cached in (private.missing, private.is_tested, private.can_share_traces):
        cached.cache_clear()


@contextlib.contextmanager
def without(gone):
    """Hide ``module:attribute`` from our look-ups for a block; Keras itself keeps the name."""
    find = private_names.find

    def without_one(name, default=None):
        return default if name == gone else find(name, default)

    # Private: only the first missing name is logged, so forget the earlier ones.
    for manifest in private.OPTIONAL:
        manifest._has_told = False
    private.find = private_names.find = without_one
    forget()
    try:
        yield
    finally:
        private.find = private_names.find = find
        forget()


@contextlib.contextmanager
def tested(*versions):
    """Set the tested versions for a block."""
    before, private.TESTED = private.TESTED, versions
    forget()
    try:
        yield
    finally:
        private.TESTED = before
        forget()


def model():
    sequential = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dropout(0.5)]
    )
    sequential.compile("adam", "mse", metrics=["mae"])
    return sequential


@check
def all_names_are_there():
    assert private.missing() == ()
    assert private.is_tested()
    assert families.by_name("keras3").untested() == ""
    assert private.can_share_traces() is ON_TENSORFLOW


@check
def without_a_private_name_nothing_is_carried_and_the_cure_is_named():
    with keras_reduce.installed():
        content = pickle.dumps(keras.layers.Dense(1))
    oldest, newest = private.TESTED
    for name in NEEDED:
        said = [name.replace(":", "."), keras.__version__, f"{oldest} to {newest}", "pip install"]
        with without(name), keras_reduce.installed():
            with raises(FrameworkError, *said):
                pickle.dumps(keras.layers.Dense(1))
            with raises(FrameworkError, *said):
                pickle.dumps({"nested": [keras.optimizers.SGD()]})
            with raises(FrameworkError, *said):
                keras_reduce.dumps(keras.losses.Huber())
            with raises(FrameworkError, *said):
                pickle.loads(content)
    with keras_reduce.installed():
        assert pickle.loads(pickle.dumps(keras.layers.Dense(1))).units == 1


@check
def without_an_attribute_of_layers_nothing_is_carried():
    private.ATTRIBUTES["Layer"]["_moved_by_a_release"] = ""
    forget()
    try:
        with keras_reduce.installed(), raises(FrameworkError, "Layer._moved_by_a_release"):
            pickle.dumps(model())
    finally:
        del private.ATTRIBUTES["Layer"]["_moved_by_a_release"]
        forget()


@check
def without_what_traces_need_models_ship_all_the_same():
    x, y = np.ones((8, 3), "float32"), np.ones((8, 2), "float32")
    for name in private.TRACES.names:
        with without(name), logged("keras_reduce") as messages:
            for _ in range(2):
                assert not private.can_share_traces()
            assert private.missing() == ()
            assert tuple(hooks.patches()) == ()
        told = f"Sharing traces is off: {name.replace(':', '.')} can't be found, so each model is"
        assert [message.startswith(told) for message in messages] == [True] * ON_TENSORFLOW
    with without(name), keras_reduce.installed(reuse=True):
        original = model()
        original.fit(x, y, verbose=0)
        copied = pickle.loads(pickle.dumps(original))
        assert np.array_equal(original.predict(x, verbose=0), copied.predict(x, verbose=0))


@check(needs="tensorflow")
def without_what_faster_training_needs_traces_are_shared_all_the_same():
    for manifest in (private.WHOLE_EPOCHS, private.KERNELS):
        for name in manifest.names:
            with without(name), logged("keras_reduce") as messages:
                patched = {attribute for _, attribute, _ in hooks.patches()}
            assert messages[:1] == [
                f"{manifest.feature} is off: {name.replace(':', '.')} can't be found, so "
                f"{manifest.instead}"
            ]
            assert "make_train_function" in patched
            gone = "fit" if manifest is private.WHOLE_EPOCHS else "_set_global_seed"
            assert gone not in patched


@check(needs="tensorflow")
def without_what_stored_traces_need_each_process_traces():
    with tempfile.TemporaryDirectory() as folder:
        trace_folders.use(user=folder)
        for name in private.STORED.names:
            with without(name), logged("keras_reduce") as messages:
                for _ in range(2):
                    assert stored.find((), (), None) is None
            shown = name.replace(":", ".")
            assert messages == [
                f"{private.STORED.feature} is off: {shown} can't be found, so "
                f"{private.STORED.instead}"
            ]
        trace_folders.use(user=None)


@check
def an_untested_version_that_has_all_names_works():
    with tested("3.1", "3.2"), keras_reduce.installed():
        assert not private.is_tested()
        original = model()
        original.fit(np.ones((8, 3)), np.ones((8, 2)), verbose=0)
        held = [
            original,
            original.layers[0],
            keras.metrics.AUC(),
            keras.layers.GRU(2, stateful=True),
        ]
        held += [keras.layers.MultiHeadAttention(2, 2), keras.losses.Huber()]
        copied = pickle.loads(pickle.dumps(held))
        assert np.array_equal(copied[0].get_weights()[0], original.get_weights()[0])
        x = np.ones((4, 3), "float32")
        assert np.array_equal(copied[0].predict(x, verbose=0), original.predict(x, verbose=0))


@check
def an_untested_version_that_keeps_variables_elsewhere_is_refused():
    original = tree.own_variables
    with keras_reduce.installed():
        sequential = model()
        content = pickle.dumps(sequential)
        tree.own_variables = lambda node: []
        try:
            with tested("3.1", "3.2"):
                with raises(FrameworkError, "kernel", "3.1 to 3.2", "keras>=3.1,<3.3"):
                    pickle.dumps(sequential)
                with raises(FrameworkError, "kernel"):
                    pickle.loads(content)
        finally:
            tree.own_variables = original


@check
def other_failures_with_an_untested_version_mention_it():
    class Strange(keras.layers.Layer):
        def get_config(self):
            raise ZeroDivisionError

    class Choosy(keras.layers.Layer):
        def __init__(self, necessary, **more):
            super().__init__(**more)

        def get_config(self):
            return super().get_config()

        @classmethod
        def from_config(cls, config):
            return cls(**config)

    said = f"Keras {keras.__version__} is untested"
    with keras_reduce.installed(), tested("3.1", "3.2"):
        with raises(ReduceError, "ZeroDivisionError", said):
            pickle.dumps(Strange())
        content = pickle.dumps(Choosy(1))
        with raises(PayloadError, "necessary", said):
            pickle.loads(content)


@check
def arguments_that_a_newer_keras_has_are_left_out_if_they_say_nothing():
    with keras_reduce.installed():
        rebuild, (json, *others), *_ = keras.layers.Dense(2, name="dense").__reduce__()
    for text in ('"units":2,"news":null', '"units":2,"renorm":false,"renorm_momentum":0.99'):
        rebuilt = rebuild(json.replace('"units":2', text), *others)
        assert (rebuilt.units, rebuilt.name) == (2, "dense")
    for text in ('"units":2,"news":1', '"units":2,"renorm":true', '"units":2,"news":false'):
        with raises(PayloadError, "can't be rebuilt", text.split('"')[3]):
            rebuild(json.replace('"units":2', text), *others)


@check
def hashes_need_the_names_too():
    with without(NEEDED[0]), raises(FrameworkError, NEEDED[0].replace(":", ".")):
        reducers.fingerprint(keras.layers.Dense(1))


if __name__ == "__main__":
    main()
