"""Keras 2 beside the zoo: estimators, workers, files, hashes, and Keras 3 in the same graph.

Needs the folder of the tests on its path. Checks that need Keras 3, or the wrappers of Keras 2.12,
are registered only if these are installed.
"""

import collections
import copy
import copyreg
import pickle
import sys
import tempfile
import threading
import weakref
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import sklearn
import tensorflow as tf
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_reduce
from checks import check, main, raises
from keras_reduce import errors, families
from keras_reduce.families.keras2 import kinds
from keras_reduce.families.keras2.framework import keras as keras2
from processes import python

keras = keras2()
X, Y = load_diabetes(return_X_y=True)
IS_2_12 = keras.__version__.startswith("2.12")


def build(units=4):
    hidden = keras.layers.Dense(units, activation="relu")
    model = keras.Sequential([hidden, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def build_classifier(units=4):
    hidden = keras.layers.Dense(units, activation="relu")
    model = keras.Sequential([hidden, keras.layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def trained():
    model = build()
    model.fit(X, Y, verbose=0)
    return model


class Drawn(keras.layers.Layer):
    """A base class with a config, whose calls store tensors, as in TensorFlow Probability."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.kernel = self.add_weight(name="kernel", shape=(shape[-1], self.units))
        self.rate = tf.constant(0.5)
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([1], [2]), 0)

    def call(self, inputs):
        self.product = tf.matmul(inputs, self.kernel)
        return self.rate * self.product

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Shifted(Drawn):
    """A layer whose constructor takes more arguments than the inherited config has."""

    def __init__(self, units, shift=0.0, clean=None, **kwargs):
        super().__init__(units, **kwargs)
        self.shift, self.clean = shift, clean

    def call(self, inputs):
        return super().call(inputs) + self.shift


ARRIVED = """
import pickle, sys
model = pickle.load(open(sys.argv[1], "rb"))
from sklearn.datasets import load_diabetes
X, y = load_diabetes(return_X_y=True)
before = model.predict(X[:2], verbose=0).tolist()
model.fit(X, y, verbose=0, shuffle=False)
print(before, model.predict(X[:2], verbose=0).tolist())
"""


def goes_on_elsewhere(model):
    """Require that `model` predicts and trains the same in another process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.pickle")
        file.write_bytes(cloudpickle.dumps(model))
        printed = python(ARRIVED, file).splitlines()[-1]
    before = model.predict(X[:2], verbose=0).tolist()
    model.fit(X, Y, verbose=0, shuffle=False)
    assert printed == f"{before} {model.predict(X[:2], verbose=0).tolist()}", printed


@check
def values_that_only_a_constructor_or_a_call_makes():
    layer = Shifted(3, shift=2.0, clean=str.lower)
    model = keras.Sequential([keras.Input((10,)), layer, keras.layers.Dense(1)])
    layer.rate = tf.constant(0.25)  # A rate that differs from the one of build().
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    copied = pickle.loads(cloudpickle.dumps(model)).layers[0]
    assert (copied.shift, copied.clean("A"), float(copied.rate)) == (2.0, "a", 0.25)
    goes_on_elsewhere(model)


@check
def what_load_model_makes_of_a_saved_model():
    dense, lookup = keras.layers.Dense(4, "relu"), Drawn(1)
    model = keras.Sequential([keras.Input((10,)), dense, keras.layers.BatchNormalization(), lookup])
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    model.save(folder := tempfile.mkdtemp())
    revived = keras.models.load_model(folder)
    with raises(errors.ReduceError, "The class of this Drawn was not found", "custom_objects"):
        pickle.dumps(revived)
    loaded = keras.models.load_model(folder, custom_objects={"Drawn": Drawn})
    assert "signatures" in vars(loaded)
    goes_on_elsewhere(loaded)


@check
def a_model_made_within_a_traced_function():
    class Holder(keras.layers.Layer):
        def build(self, shape):
            self.inner = keras.Sequential([keras.layers.Dense(1)])
            super().build(shape)

        def call(self, inputs):
            return self.inner(inputs)

    inputs = keras.Input((10,))
    model = keras.Model(inputs, Holder()(inputs))
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    if not IS_2_12:  # TensorFlow 2.12 creates the counters there, too.
        assert "_train_counter" not in vars(model.layers[1].inner)
    goes_on_elsewhere(model)


@check
def a_search_over_our_wrapper():
    estimator = make_pipeline(StandardScaler(), keras_reduce.KerasRegressor(build, random_state=0))
    grid = {"kerasregressor__units": [2, 3]}
    searches = [
        GridSearchCV(estimator, grid, cv=2, n_jobs=jobs, error_score="raise").fit(X, Y)
        for jobs in (1, 2)
    ]
    one, two = (search.cv_results_["mean_test_score"] for search in searches)
    assert one.tolist() == two.tolist()
    assert (
        pickle.loads(pickle.dumps(searches[1])).predict(X).tolist()
        == searches[1].predict(X).tolist()
    )


@check
def estimators_come_back_from_workers():
    estimator = keras_reduce.KerasRegressor(build, random_state=0)
    validation = cross_validate(estimator, X, Y, cv=2, n_jobs=2, return_estimator=True)
    assert all(one.model_.optimizer.iterations.numpy() > 0 for one in validation["estimator"])


@check
def a_classifier():
    estimator = keras_reduce.KerasClassifier(build_classifier, random_state=0)
    scores = cross_val_score(estimator, *load_iris(return_X_y=True), cv=2, error_score="raise")
    assert len(scores) == 2


@check
def a_model_sent_to_many_tasks():
    model = trained()
    parts = np.array_split(X, 4)
    answers = joblib.Parallel(n_jobs=2)(
        joblib.delayed(model.predict)(part, verbose=0) for part in parts
    )
    # Products of matrices of other sizes may be summed in another order.
    assert np.allclose(np.concatenate(answers), model.predict(X, verbose=0), rtol=1e-5)


@check
def hashes_are_the_same_in_another_process():
    model = trained()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.joblib")
        keras_reduce.dump(model, file)
        printed = python(
            "import sys, joblib, keras_reduce; keras_reduce.install()\n"
            "print('HASH', joblib.hash(keras_reduce.load(sys.argv[1])))",
            file,
        )
    assert f"HASH {joblib.hash(model)}" in printed.splitlines()
    before = joblib.hash(model)
    model.trainable_variables[0].assign_add(tf.ones_like(model.trainable_variables[0]))
    assert joblib.hash(model) != before


@check
def mapped_files_stay_as_they_are():
    model = trained()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.joblib")
        keras_reduce.dump(model, file)
        before = file.read_bytes()
        mapped = keras_reduce.load(file, mmap_mode="r")
        assert mapped.predict(X, verbose=0).tolist() == model.predict(X, verbose=0).tolist()
        mapped.fit(X, Y, verbose=0)
        again = keras_reduce.load(file, mmap_mode="r")
        assert again.predict(X, verbose=0).tolist() == model.predict(X, verbose=0).tolist()
        assert file.read_bytes() == before


@check
def weights_leave_the_pickle_out_of_band():
    model = trained()
    buffers = []
    text = pickle.dumps(model, protocol=5, buffer_callback=buffers.append)
    assert len(buffers) > len(model.weights)
    same = pickle.loads(text, buffers=buffers)
    assert same.predict(X, verbose=0).tolist() == model.predict(X, verbose=0).tolist()


@check
def rebuilding_leaves_the_random_numbers_of_the_program_alone():
    text = pickle.dumps(trained())
    keras.utils.set_random_seed(1)
    expected = tf.random.normal((3,)).numpy().tolist()
    keras.utils.set_random_seed(1)
    pickle.loads(text)
    assert tf.random.normal((3,)).numpy().tolist() == expected


@check
def seeds_of_random_layers_go_on_where_they_were():
    noise = keras.layers.GaussianNoise(1.0, seed=3)
    noise(X, training=True)
    copied = pickle.loads(pickle.dumps(noise))
    draws = []
    for layer in (noise, copied):
        keras.utils.set_random_seed(1)
        draws.append(layer(X, training=True).numpy().tolist())
    assert draws[0] == draws[1]


@check
def two_kinds_of_copies():
    model = trained()
    deep, shallow = copy.deepcopy(model), copy.copy(model)
    expected = model.predict(X, verbose=0).tolist()
    model.fit(X, Y, verbose=0)
    assert deep.predict(X, verbose=0).tolist() == expected
    assert type(shallow) is type(model)


@check
def what_cannot_be_carried_is_found():
    model = trained()
    model.guards = [threading.Lock()]
    report = str(keras_reduce.explain({"model": model}, "graph"))
    assert "graph['model'].guards[0] (_thread.lock)" in report, report
    with raises(errors.ReduceError, "dict['model'].guards[0]"):
        cloudpickle.dumps({"model": model})


@check
def losses_of_unknown_origin_are_refused():
    class Penalised(keras.layers.Layer):
        def __init__(self, function):
            super().__init__()
            self.function = function
            self.add_loss(lambda: tf.constant(1.0))

        def call(self, inputs):
            return inputs

    with raises(errors.ReduceError, "add_loss(function)", "get_config"):
        pickle.dumps(Penalised(len))
    model = trained()
    model.add_loss(lambda: tf.reduce_sum(model.layers[0].kernel))
    with raises(errors.ReduceError, "add_loss(function)", "as a tensor"):
        pickle.dumps(model)


@check
def filled_tables_are_refused():
    class Filled(keras.layers.Layer):
        def __init__(self, **others):
            super().__init__(**others)
            self.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, 0)

        def get_config(self):
            return super().get_config()

    layer = Filled()
    pickle.loads(pickle.dumps(layer))
    layer.table.insert(["a"], [1])
    with raises(errors.ReduceError, ".table", "StaticHashTable"):
        pickle.dumps(layer)


@check
def csv_loggers_travel_once_their_file_is_closed():
    with tempfile.TemporaryDirectory() as folder:
        logger = keras.callbacks.CSVLogger(str(Path(folder, "log.csv")))
        build().fit(X, Y, verbose=0, callbacks=[logger])
        trained().fit(X, Y, verbose=0, callbacks=[pickle.loads(pickle.dumps(logger))])
        logger.on_train_begin()
        logger.on_epoch_end(0, {"loss": 1.0})
        with raises(errors.ReduceError, "file open"):
            pickle.dumps(logger)
        logger.on_train_end()


def two_networks():
    """Return two networks of equal shapes, and an optimizer with slots for both."""
    one, two = (keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]) for _ in range(2))
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build([*one.trainable_variables, *two.trainable_variables])
    for scale, network in enumerate((one, two), 1):
        variables = network.trainable_variables
        optimizer.apply_gradients([(scale * tf.ones(v.shape), v) for v in variables])
    return one, two, optimizer


def stepped(optimizer, *networks):
    for network in networks:
        optimizer.apply_gradients([(tf.ones(v.shape), v) for v in network.trainable_variables])
    return [w.tolist() for network in networks for w in network.get_weights()]


@check
def an_optimizer_beside_its_models():
    one, two, optimizer = two_networks()
    orders = {"optimizer": optimizer, "one": one, "two": two}, {"two": two, "optimizer": optimizer}
    copies = [
        copied
        for order in orders
        for copied in (pickle.loads(pickle.dumps(order)), copy.deepcopy(order))
    ]
    copies += [pickle.loads(pickle.dumps(copied)) for copied in copies]
    apart = [pickle.loads(pickle.dumps(each)) for each in (optimizer, one, two)]
    with raises(ValueError, "equal shapes", "in one object with its models"):
        apart[0].build([*apart[2].trainable_variables, *apart[1].trainable_variables])
    apart[0].build([*apart[1].trainable_variables, *apart[2].trainable_variables])
    expected = stepped(optimizer, two)
    assert [stepped(arrived["optimizer"], arrived["two"]) for arrived in copies] == [expected] * 8
    assert stepped(apart[0], apart[2]) == expected
    model = trained()
    for order in (model, model.optimizer), (model.optimizer, model):
        for arrived in pickle.loads(pickle.dumps(order)), copy.deepcopy(order):
            assert any(getattr(each, "optimizer", None) in arrived for each in arrived)


class OverModel(keras.losses.Loss):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, targets, outputs):
        return tf.reduce_mean((targets - outputs) ** 2 + tf.abs(self.model(X[:3])[0]))


class Tied(keras.layers.Layer):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = weakref.ref(encoder)

    def call(self, inputs):
        return tf.matmul(inputs, tf.transpose(self.encoder().kernel))


@check
def losses_over_their_own_model_and_weak_references():
    models = [build() for _ in range(3)]

    one = models[0]

    def physics(targets, outputs):
        return tf.reduce_mean((targets - outputs) ** 2 + tf.abs(one(X[:3])[0]))

    one.compile("adam", physics, metrics=[lambda *_: tf.reduce_sum(one(X[:3]))])
    models[1].compile("adam", OverModel(models[1]))
    encoder = keras.layers.Dense(4)
    inputs = keras.Input((10,))
    models[2] = keras.Model(inputs, Tied(encoder)(encoder(inputs)))
    models[2].compile("adam", "mse")
    for model in models:
        y = Y if model is not models[2] else X
        model.fit(X, y, verbose=0, shuffle=False)
        copies = pickle.loads(pickle.dumps(model)), copy.deepcopy(model)
        copies += (keras_reduce.loads(keras_reduce.dumps(model)),)
        expected = model.fit(X, y, verbose=0, shuffle=False).history
        for copied in copies:
            assert copied.fit(X, y, verbose=0, shuffle=False).history == expected
            pairs = zip(copied.get_weights(), model.get_weights(), strict=True)
            assert all(np.array_equal(*pair) for pair in pairs)


class OwnCompile(keras.Model):
    """A class with a config, whose ``compile()`` takes what Keras doesn't record."""

    def __init__(self, units=1, **others):
        super().__init__(**others)
        self.units, self.last = units, keras.layers.Dense(units)

    def call(self, inputs):
        return self.last(inputs)

    def compile(self, optimizer, slow, beta):
        super().compile(optimizer, keras.losses.Huber(beta), run_eagerly=True)
        self.slow, self.beta = slow, beta

    def train_step(self, data):
        variables = self.last.trainable_variables
        self.slow.apply_gradients([(tf.ones(v.shape) * self.beta, v) for v in variables])
        return super().train_step(data)

    def get_config(self):
        return {"units": self.units}


@check
def compile_methods_with_arguments_of_their_own():
    model = OwnCompile()
    slow = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(keras.optimizers.Adam(0.01), slow, beta=0.5)
    model.fit(X, Y, verbose=0, shuffle=False)
    copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    copies.append(pickle.loads(pickle.dumps(copies[0])))
    expected = model.fit(X, Y, verbose=0, shuffle=False).history
    for copied in copies:
        assert copied.fit(X, Y, verbose=0, shuffle=False).history == expected
        assert int(copied.slow.iterations) == int(model.slow.iterations) > 0
        pairs = zip(copied.get_weights(), model.get_weights(), strict=True)
        assert all(np.array_equal(*pair) for pair in pairs)


@check
def errors_of_a_compile_method():
    class Minding(keras.Model):
        fails = False

        def call(self, inputs):
            return inputs

        def compile(self, optimizer="sgd", loss=None, **others):
            if self.fails:
                raise TypeError("minds the optimizer")
            super().compile(optimizer, loss, **others)

        def get_config(self):
            return {}

    model = Minding()
    model.compile("adam", "mse")
    content = pickle.dumps(model)
    pickle.loads(content)
    Minding.fails = True
    with raises(errors.PayloadError, "compile() of", "TypeError: minds the optimizer"):
        pickle.loads(content)


@check
def losses_and_metrics_beside_their_models_stay_one():
    models, losses = [build(), build()], [keras.losses.Huber(0.5), OverModel(None)]
    losses[1].model = models[1]
    for model, loss in zip(models, losses, strict=True):
        metric = keras.metrics.MeanAbsoluteError()
        model.compile("adam", loss, metrics=[metric], run_eagerly=True)
        for _ in range(2):
            for order in ([model, loss, metric], [metric, loss, model]):
                for copies in (pickle.loads(pickle.dumps(order)), copy.deepcopy(order)):
                    by_original = dict(zip(map(id, order), copies, strict=True))
                    copied, beside = by_original[id(model)], by_original[id(metric)]
                    assert copied.loss is by_original[id(loss)]
                    assert copied.loss.name == loss.name
                    copied.fit(X, Y, verbose=0, shuffle=False)
                    assert beside in copied.compiled_metrics.metrics
                    assert float(beside.result()) > 0
            model.fit(X, Y, verbose=0, shuffle=False)


class Beside(keras.layers.Layer):
    """A model with layers and weak references in one attribute."""

    def __init__(self, watched):
        super().__init__()
        self.mixed = {"parts": [keras.layers.Dense(2), (weakref.ref(watched), "a")]}

    def call(self, inputs):
        return self.mixed["parts"][0](inputs)


@check
def layers_and_weak_references_in_one_attribute():
    watched = keras.layers.Dense(2)
    watched.build((None, 2))
    layer = Beside(watched)
    expected = layer(X[:, :2]).numpy().tolist()
    for order in ([layer, watched], [watched, layer]):
        for copies in (pickle.loads(pickle.dumps(order)), copy.deepcopy(order)):
            by_original = dict(zip(map(id, order), copies, strict=True))
            copied = by_original[id(layer)]
            assert copied(X[:, :2]).numpy().tolist() == expected
            assert copied.mixed["parts"][1][0]() is by_original[id(watched)]
            assert len(copied.trainable_variables) == 2
    with raises(errors.ReduceError, "weak reference to a Dense", "mixed['parts'][1][0]"):
        pickle.dumps(layer)
    Pair = collections.namedtuple("Pair", "one two")
    layer.hidden = Pair(Pair({"layer": keras.layers.Dense(1)}, 1), 2)
    with raises(errors.ReduceError, "Layers in a Pair can't be carried", ".hidden"):
        pickle.dumps([layer, watched])


@check
def optimizers_of_other_models_are_refused():
    model = trained()
    model.compile(trained().optimizer, "mse")
    with raises(errors.ReduceError, "variables that are not part of the object"):
        pickle.dumps(model)


@check
def classes_of_keras_are_in_the_table_of_copyreg():
    model = trained()
    objects = {
        "model": model,
        "layer": model.layers[0],
        "optimizer": model.optimizer,
        "metric": keras.metrics.AUC(name="auc"),
        "loss": keras.losses.Huber(),
        "initializer": keras.initializers.GlorotNormal(seed=1),
        "regularizer": keras.regularizers.L2(),
        "constraint": keras.constraints.MaxNorm(),
        "schedule": keras.optimizers.schedules.CosineDecay(0.1, 10),
        "policy": keras.mixed_precision.Policy("mixed_bfloat16"),
        "callback": keras.callbacks.EarlyStopping(),
    }
    assert objects.keys() == kinds.bases().keys()
    for kind, obj in objects.items():
        by_table = pickle.dumps(obj)
        reduce = copyreg.dispatch_table.pop(type(obj))
        try:
            assert pickle.dumps(obj) == by_table, kind
            assert type(pickle.loads(by_table)) is type(obj)
        finally:
            copyreg.dispatch_table[type(obj)] = reduce
    derived = type("Derived", (keras.layers.Dense,), {})
    assert derived not in copyreg.dispatch_table
    assert derived.__reduce__ is copyreg.dispatch_table[keras.layers.Dense]


@check
def uninstalling_leaves_no_trace():
    roots = {cls: dict(vars(cls)) for cls in families.by_name("keras2").public_classes()}
    keras_reduce.uninstall()
    try:
        originals = {cls: dict(vars(cls)) for cls in roots}
        assert "__deepcopy__" in originals[keras.Model]
        keras_reduce.install()
        keras_reduce.uninstall()
        for cls, members in originals.items():
            assert dict(vars(cls)) == members, cls
    finally:
        keras_reduce.install()


if IS_2_12:
    from tensorflow.keras.wrappers.scikit_learn import KerasClassifier, KerasRegressor

    @check
    def a_search_over_wrappers_of_old():
        for wrapper, make, data in (
            (KerasRegressor, build, (X, Y)),
            (KerasClassifier, build_classifier, load_iris(return_X_y=True)),
        ):
            estimator = wrapper(build_fn=make, epochs=1, verbose=0)
            search = GridSearchCV(estimator, {"units": [2, 3]}, cv=2, error_score="raise", n_jobs=2)
            search.fit(*data)
            copied = pickle.loads(pickle.dumps(search))
            assert copied.predict(data[0]).tolist() == search.predict(data[0]).tolist()
            assert clone(search.best_estimator_).get_params()["build_fn"] is make

    @check
    def wrappers_of_old_have_tags_where_scikit_learn_asks_for_them():
        estimator = KerasClassifier(build_fn=build_classifier)
        has_tags = hasattr(sklearn.base.BaseEstimator, "__sklearn_tags__")
        assert hasattr(estimator, "__sklearn_tags__") == has_tags
        assert is_classifier(estimator) == has_tags

    @check
    def a_program_without_the_build_function_reads_it():
        estimator = KerasRegressor(build_fn=lambda: build(3), epochs=1, verbose=0)
        estimator.fit(X, Y)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "estimator.pickle")
            file.write_bytes(pickle.dumps(estimator))
            printed = python(
                "import pickle, sys\n"
                "from sklearn.datasets import load_diabetes\n"
                "estimator = pickle.load(open(sys.argv[1], 'rb'))\n"
                "print('FOUND', estimator.predict(load_diabetes().data[:2]).tolist())",
                file,
            )
        assert f"FOUND {estimator.predict(X[:2]).tolist()}" in printed.splitlines()

    @check
    def keras_2_cannot_load_its_own_pickle_of_mobilenet():
        printed = python(
            "import pickle, tensorflow as tf\n"
            "model = tf.keras.applications.MobileNetV2((32, 32, 3), weights=None, classes=2)\n"
            "text = pickle.dumps(model)\n"
            "try: pickle.loads(text)\n"
            "except Exception as error: print('FAILED', type(error).__name__)"
        )
        assert "FAILED" in printed  # The wrapper of this package is in the zoo.


if families.active().NAME == "keras3":
    import keras as keras3

    @check
    def both_families_in_one_graph():
        new = keras3.Sequential([keras3.Input((10,)), keras3.layers.Dense(1)])
        new.compile("adam", "mse")
        new.fit(X, Y, verbose=0)
        graph = {"new": new, "old": trained(), "again": new}
        graph["old"].friend = np.arange(3)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "graph.joblib")
            joblib.dump(graph, file)
            printed = python(
                "import sys, joblib\n"
                "from sklearn.datasets import load_diabetes\n"
                "graph = joblib.load(sys.argv[1])\n"
                "assert graph['again'] is graph['new']\n"
                "assert graph['old'].friend.tolist() == [0, 1, 2]\n"
                "X, y = load_diabetes(return_X_y=True)\n"
                "for name in ('new', 'old'):\n"
                "    graph[name].fit(X, y, verbose=0, shuffle=False)\n"
                "    print(name, graph[name].predict(X[:2], verbose=0).tolist())",
                file,
            )
        for name in ("new", "old"):
            graph[name].fit(X, Y, verbose=0, shuffle=False)
            expected = f"{name} {graph[name].predict(X[:2], verbose=0).tolist()}"
            assert expected in printed.splitlines(), printed

    @check
    def a_program_without_keras_2_is_told_what_to_install():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model.pickle")
            file.write_bytes(pickle.dumps(trained()))
            printed = python(
                "import pickle, sys\n"
                "sys.modules['tf_keras'] = None\n"
                "try: pickle.load(open(sys.argv[1], 'rb'))\n"
                "except Exception as error: print(type(error).__name__, error)",
                file,
            )
        assert "FrameworkError" in printed
        assert "pip install tf_keras" in printed


if __name__ == "__main__":
    keras_reduce.install()
    main(*sys.argv[1:])
