"""Effects of `install` on a process, all of which `uninstall` undoes."""

import copy
import copyreg
import pickle
import random
import sys
import threading

import keras_reduce
from checks import check, main, raises
from keras_reduce import registry


def snapshot():
    """Return everything that an installation may touch, by identity."""
    import keras
    from joblib.numpy_pickle import NumpyPickler

    owners = [keras.Layer, keras.Model, keras.losses.Loss, keras.metrics.Metric, NumpyPickler]
    owners += keras.optimizers.Optimizer.__mro__[:-1]
    owners += keras.Layer.__mro__[:-1]
    owners += keras.wrappers.SKLearnRegressor.__mro__[:-1]
    return {
        "classes": {
            (owner, name): value
            for owner in owners
            for name, value in vars(owner).items()
            # Python creates __annotations__ of a class at the first access.
            if name not in {"__doc__", "__weakref__", "_abc_impl", "__annotations__"}
        },
        "copyreg": dict(copyreg.dispatch_table),
        "meta_path": list(sys.meta_path),
    }


def reduces(obj):
    """Tell whether `obj` is reduced by this package."""
    return obj.__reduce__()[0].__module__ == "keras_reduce.reducers"


def answer(model):
    import numpy as np

    return model.predict_on_batch(np.ones((1, 2))).tolist()


@check
def waits_for_keras_and_imports_nothing():
    keras_reduce.install()
    for name in ("keras", "tensorflow", "numpy", "sklearn", "joblib"):
        assert name not in sys.modules, name
    # Private: no public name tells which hooks are in effect.
    assert registry._hooks in sys.meta_path
    import keras

    assert reduces(keras.layers.Dense(1))
    assert keras.__spec__.loader.__class__.__module__ != "keras_reduce.core.import_hooks"


@check
def joblib_imported_later_is_taught_too():
    assert "joblib.parallel" in sys.modules  # scikit-learn came with Keras's wrappers
    from joblib.numpy_pickle import NumpyPickler
    from joblib.parallel import BatchedCalls

    assert "reducer_override" in vars(NumpyPickler)
    assert BatchedCalls in copyreg.dispatch_table


@check
def uninstall_restores_everything():
    import keras

    keras_reduce.uninstall()
    before = snapshot()
    assert not reduces(keras.layers.Dense(1))
    keras_reduce.install()
    assert snapshot()["classes"] != before["classes"]
    keras_reduce.uninstall()
    assert snapshot() == before
    keras_reduce.uninstall()
    assert snapshot() == before


@check
def install_is_idempotent():
    before = snapshot()
    keras_reduce.install()
    once = snapshot()
    keras_reduce.install()
    assert snapshot() == once
    keras_reduce.uninstall()
    assert snapshot() == before


@check
def options_can_change():
    from joblib.numpy_pickle import NumpyPickler

    keras_reduce.install(functions_by_value=False)
    assert "reducer_override" not in vars(NumpyPickler)
    keras_reduce.install()
    assert "reducer_override" not in vars(NumpyPickler)
    keras_reduce.install(functions_by_value=True)
    assert "reducer_override" in vars(NumpyPickler)
    keras_reduce.uninstall()
    assert "reducer_override" not in vars(NumpyPickler)


@check
def installed_for_a_block():
    import keras

    before = snapshot()
    with keras_reduce.installed(functions_by_value=False):
        assert reduces(keras.layers.Dense(1))
        with keras_reduce.installed(functions_by_value=True):
            # Private: no public name tells which hooks are in effect.
            assert registry._current.functions_by_value
        assert not registry._current.functions_by_value
        assert keras_reduce.is_installed()
    assert not keras_reduce.is_installed()
    with raises(ZeroDivisionError), keras_reduce.installed():
        1 / 0  # noqa: B018
    assert snapshot() == before


@check
def many_threads_install_at_once():
    before = snapshot()
    barrier = threading.Barrier(8)
    failures = []

    def work():
        try:
            barrier.wait()
            for _ in range(20):
                keras_reduce.install()
                keras_reduce.install(functions_by_value=random.random() < 0.5)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures
    keras_reduce.uninstall()
    assert snapshot() == before


@check
def a_patch_of_somebody_else_survives_uninstall():
    import keras

    (base,) = [c for c in keras.Layer.__mro__ if "__reduce__" in vars(c) and c is not object]
    original = vars(base)["__reduce__"]
    keras_reduce.install()

    def theirs(self):
        return str, ("theirs",)

    base.__reduce__ = theirs
    keras_reduce.uninstall()
    assert vars(base)["__reduce__"] is theirs
    base.__reduce__ = original


@check
def classes_defined_later_are_covered():
    import keras

    with keras_reduce.installed():

        class Silent(keras.layers.Dense):
            def __init_subclass__(cls, **kwargs):
                """Skip the method of the base class."""

        class Later(Silent):
            pass

        assert reduces(Later(2))
        for instance in (
            type("Made", (keras.Model,), {})(),
            type("Made", (keras.losses.Loss,), {})(),
            type("Made", (keras.metrics.Metric,), {})(),
            type("Made", (keras.optimizers.SGD,), {})(),
        ):
            assert reduces(instance), instance


def one_of_each_kind():
    """Return an object of a class of Keras's own of each kind, by kind."""
    import keras

    tensor = keras.Input((2,))
    model = keras.Sequential([tensor, keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    functional = keras.Model(tensor, model(tensor))
    objects = {
        "model": functional,
        "layer": model.layers[1],
        "function": keras.Function(tensor, model(tensor)),
        # Private: an operation has no public name.
        "operation": (tensor + 1)._keras_history.operation,
        "optimizer": model.optimizer,
        "metric": keras.metrics.AUC(name="auc"),
        "loss": keras.losses.Huber(),
        "initializer": keras.initializers.GlorotNormal(seed=1),
        "regularizer": keras.regularizers.L2(),
        "constraint": keras.constraints.MaxNorm(),
        "schedule": keras.optimizers.schedules.CosineDecay(0.1, 10),
        "policy": keras.dtype_policies.DTypePolicy("mixed_bfloat16"),
        "callback": keras.callbacks.EarlyStopping(),
        "seed_generator": keras.random.SeedGenerator(1),
        "variable": model.layers[1].kernel,
        "tensor": tensor,
        "node": model.layers[1]._inbound_nodes[0],  # Private: a node has no public way to it.
    }
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        objects["tf_function"] = tf.function(len)
    return objects


@check
def classes_of_keras_are_in_the_table_of_copyreg():
    import keras

    from keras_reduce.families.keras3 import kinds

    objects = one_of_each_kind()
    assert objects.keys() == kinds.bases().keys()
    before = dict(copyreg.dispatch_table)
    with keras_reduce.installed():
        for kind, obj in objects.items():
            cls = type(obj)
            assert kinds.kind(obj) == kind, kind
            by_table = pickle.dumps(obj)
            reduce = copyreg.dispatch_table.pop(cls)
            assert reduce is cls.__reduce__
            assert pickle.dumps(obj) == by_table, kind
            copied = pickle.loads(by_table)
            copyreg.dispatch_table[cls] = reduce
            assert type(copied) is cls
            assert type(copy.deepcopy(obj)) is cls
        for namespace in (keras, keras.layers, keras.losses, keras.metrics, keras.optimizers):
            for cls in filter(lambda value: isinstance(value, type), vars(namespace).values()):
                is_carried = issubclass(cls, tuple(kinds.bases().values()))
                assert (cls in copyreg.dispatch_table) == is_carried, cls
        derived = type("Derived", (keras.layers.Dense,), {})
        assert derived not in copyreg.dispatch_table
        assert reduces(derived(1))
    assert copyreg.dispatch_table == before


@check
def an_entry_of_the_program_in_the_table_of_copyreg_stays():
    import keras

    def theirs(layer):
        return str, ("theirs",)

    copyreg.pickle(keras.layers.Dense, theirs)
    try:
        with keras_reduce.installed():
            assert pickle.loads(pickle.dumps(keras.layers.Dense(1))) == "theirs"
        assert copyreg.dispatch_table[keras.layers.Dense] is theirs
    finally:
        del copyreg.dispatch_table[keras.layers.Dense]


@check
def no_class_is_kept_alive():
    import gc
    import weakref

    import keras

    with keras_reduce.installed():
        cls = type("Passing", (keras.layers.Layer,), {"call": lambda self, x: x})
        pickle.loads(pickle.dumps(keras.layers.Dense(1)))
        gone = weakref.ref(cls)
        del cls
        gc.collect()
        assert gone() is None


@check
def classes_with_methods_of_their_own_are_left_alone():
    import keras

    class OwnReduce(keras.layers.Layer):
        def __reduce__(self):
            return str, ("own reduce",)

    class OwnReduceEx(keras.layers.Layer):
        def __reduce_ex__(self, protocol):
            return str, ("own reduce_ex",)

    class OwnState(keras.layers.Layer):
        def __getstate__(self):
            return {}

    layer = OwnState()
    keras_reduce.uninstall()
    native = layer.__reduce__()[0]
    with keras_reduce.installed():
        assert pickle.loads(pickle.dumps(OwnReduce())) == "own reduce"
        assert copy.deepcopy(OwnReduceEx()) == "own reduce_ex"
        assert layer.__reduce__()[0] == native


@check
def scikeras_imported_afterwards():
    import keras

    keras_reduce.install()
    import scikeras  # noqa: F401

    check_ours_with_scikeras(keras)


@check
def scikeras_imported_before():
    import keras

    assert not reduces(keras.Sequential([keras.layers.Dense(1)]))
    theirs = snapshot()
    keras_reduce.install()
    check_ours_with_scikeras(keras)
    assert snapshot() == theirs


def check_ours_with_scikeras(keras):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)])
    for obj in (model, keras.losses.Huber(), keras.metrics.Mean(), keras.optimizers.SGD()):
        assert reduces(obj)
    # SciKeras refuses Lambda layers, so this copy was made by this package.
    assert answer(copy.deepcopy(model)) == [[2.0, 2.0]]
    keras_reduce.uninstall()
    assert vars(keras.Model)["__deepcopy__"].__module__.startswith("scikeras")
    assert vars(keras.Model)["__reduce__"].__module__.startswith("scikeras")
    assert vars(keras.losses.Loss)["__reduce__"].__module__.startswith("scikeras")


@check
def fit_arguments_of_keras_wrappers_survive_clone():
    import keras
    from sklearn.base import clone

    def build(X, y):  # noqa: N803
        raise AssertionError("not called")

    wrapper = keras.wrappers.SKLearnClassifier(build, fit_kwargs={"epochs": 7})
    keras_reduce.uninstall()
    # If this fails, Keras has fixed the bug, and the patch can be removed.
    assert clone(wrapper).fit_kwargs is None
    with keras_reduce.installed():
        copied = clone(clone(wrapper))
    assert copied.fit_kwargs == {"epochs": 7}
    assert copied.fit_kwargs is not wrapper.fit_kwargs


@check
def other_threads_see_plain_keras():
    """Require that configs of other threads contain Keras's own names while one thread pickles."""
    import keras

    class Plain(keras.layers.Dense):
        pass

    stop = threading.Event()
    layer = Plain(2)
    expected = keras.saving.serialize_keras_object(layer)
    wrong = []

    def look():
        while not stop.is_set():
            config = keras.saving.serialize_keras_object(layer)
            if config != expected:
                wrong.append(config)

    thread = threading.Thread(target=look)
    with keras_reduce.installed():
        thread.start()
        model = keras.Sequential([keras.Input((2,)), Plain(3), keras.layers.Lambda(lambda x: x)])
        for _ in range(30):
            pickle.loads(pickle.dumps(model))
        stop.set()
        thread.join()
    assert not wrong, wrong[0]


@check
def several_threads_pickle_at_once():
    import keras

    def build(number):
        class Numbered(keras.layers.Layer):
            def call(self, inputs):
                return inputs + number

        return keras.Sequential([keras.Input((2,)), Numbered(), keras.layers.Dense(2)])

    models = [build(number) for number in range(4)]
    results = {}

    def work(number):
        for _ in range(10):
            copied = pickle.loads(pickle.dumps(models[number]))
            results.setdefault(number, []).append(copied)

    with keras_reduce.installed():
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    for number, model in enumerate(models):
        assert len(results[number]) == 10
        assert all(answer(copied) == answer(model) for copied in results[number])


@check
def rebuilding_draws_no_random_numbers():
    import keras
    import numpy as np

    with keras_reduce.installed():
        layers = [keras.layers.Dense(4), keras.layers.Dropout(0.5), keras.layers.GRU(2)]
        content = pickle.dumps(keras.Sequential([keras.Input((3, 3)), *layers]))
        keras.utils.set_random_seed(5)
        python, numpy = random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
        pickle.loads(content)
        assert random.getstate() == python
        assert np.random.get_state()[1].tobytes() == numpy  # noqa: NPY002
        drawn = keras.random.normal((3,))
        keras.utils.set_random_seed(5)
        assert np.array_equal(keras.random.normal((3,)), drawn)


if __name__ == "__main__":
    main()
