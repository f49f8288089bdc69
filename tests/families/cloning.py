"""Clones of models that were loaded before, compared with models that are rebuilt from configs.

Every case of the zoo that one pickle holds is rebuilt without a template, and cloned. The graphs of
objects must be the same, and what predicting and training makes of them.
"""

from __future__ import annotations

import collections
import gc
import pickle
import threading
import weakref

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import checks
import keras_reduce
import probes
import zoo
from checks import check
from keras_reduce.errors import PayloadError
from keras_reduce.families.keras3 import templates
from object_graphs import Comparison

keras_reduce.install()


def counters():
    """Return Keras's counters of automatic names in this thread."""
    # Private: they have no public name.
    from keras.src.backend.common import global_state

    return global_state.get_global_attribute(
        "object_name_uids", collections.defaultdict(int), set_to_default=True
    )


def loaded(content, before, reuse=True):
    """Return the object of a pickle, loaded with the counters `before`, and these afterwards."""
    counters().clear()
    counters().update(before)
    with keras_reduce.installed(reuse=reuse):
        return pickle.loads(content), dict(counters())


def compare(content):
    """Return an object that was rebuilt, and two clones: require that their graphs are equal."""
    # Clones get other automatic names than the object that the template was made of.
    before = {name: count + 7 for name, count in counters().items()}
    rebuilt, after = loaded(content, before, reuse=False)
    assert not len(templates.cache)
    for _ in range(2):  # The second load makes the templates.
        loaded(content, dict(counters()))
    (clone, named), (other, named_again) = [loaded(content, before) for _ in range(2)]
    assert named == named_again == after, "the counters of automatic names differ"
    comparison = Comparison(rebuilt, clone)
    assert not comparison.differences, "\n".join(comparison.differences[:8])
    # What clones have in common, models that are rebuilt have as well, but for constants.
    alone = {id(each) for _, each in comparison.shared}
    shared = [path for path, each in Comparison(clone, other).shared if id(each) not in alone]
    assert not shared, shared[:8]
    return rebuilt, clone, other


for case_name, make in zoo.CASES.items():

    @check
    def case(make=make):
        obj, x, y = make()
        before = dict(counters())
        content = pickle.dumps(obj)
        rebuilt, clone, other = compare(content)
        word = probes.difference(probes.probe(rebuilt, x, y), probes.probe(clone, x, y))
        word = word or probes.difference(probes.advance(rebuilt, x, y), probes.advance(clone, x, y))
        assert not word, word
        # Neither what training has changed in one clone, nor anything else shows in the others.
        third, _ = loaded(content, before)
        word = probes.difference(probes.probe(other, x, y), probes.probe(third, x, y))
        assert not word, word

    checks.CHECKS[f"zoo_{case_name}"] = checks.CHECKS.pop("case")


def payloads(content):
    """Return how many payloads of a pickle were cloned, and how many might have been."""
    attempts = []
    original = templates.Request.clone

    def clone(request, *arguments):
        result = original(request, *arguments)
        attempts.append(result is not None)
        return result

    templates.Request.clone = clone
    try:
        pickle.loads(content)
    finally:
        templates.Request.clone = original
    return sum(attempts), len(attempts)


def branched():
    """Return a trained model with all that training may depend on."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    flow = layers.Dense(8, activation="relu", kernel_regularizer="l2")(inputs)
    flow = layers.Dropout(0.3)(layers.BatchNormalization()(flow))
    flow = layers.Add()([flow, layers.Dense(8, kernel_constraint="max_norm")(flow)]) * 0.5
    model = keras.Model(inputs, layers.Dense(1)(layers.GaussianNoise(0.1)(flow)))
    rate = keras.optimizers.schedules.ExponentialDecay(0.01, 4, 0.9)
    optimizer = keras.optimizers.AdamW(rate, clipnorm=1.0, use_ema=True, ema_overwrite_frequency=5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, "mse", metrics=["mae", keras.metrics.R2Score()])
    model.fit(zoo.X, zoo.Y, epochs=2, batch_size=8, verbose=0)
    return model


def trained_on(model):
    """Return the bits of three more epochs, and of what a model predicts afterwards."""
    history = model.fit(
        zoo.X, zoo.Y, epochs=3, batch_size=8, shuffle=False, verbose=0, validation_split=0.25
    )
    variables = [*model.variables, *model.optimizer.variables]
    return checks.bits(
        [history.history, model.predict(zoo.X, verbose=0), [v.numpy() for v in variables]]
    )


@check
def training_goes_on_bit_for_bit():
    content = pickle.dumps(branched())
    rebuilt, clone, other = compare(content)
    expected = trained_on(rebuilt)
    assert trained_on(clone) == expected
    assert trained_on(other) == expected


@check
def whole_models_are_cloned():
    content = pickle.dumps(branched())
    for _ in range(2):
        pickle.loads(content)
    cloned, all_of_them = payloads(content)
    assert cloned == all_of_them == 9, (cloned, all_of_them)


@check
def layers_of_other_names_are_clones():
    with keras_reduce.installed(reuse=False):
        content = pickle.dumps([layers.Dense(3, name=f"dense_{n}") for n in range(3)])
        for layer in (trio := pickle.loads(content)):
            layer.build((2, 4))
    content = pickle.dumps(trio)
    rebuilt, clone, _ = compare(content)
    assert [layer.name for layer in clone] == ["dense_0", "dense_1", "dense_2"]
    assert [v.path for layer in clone for v in layer.variables] == [
        v.path for layer in rebuilt for v in layer.variables
    ]
    templates.clear()
    # The second layer makes the template.
    assert [payloads(content)[0] for _ in range(2)] == [1, 3]


@check
def names_that_occur_by_chance():
    """Names of layers that are also activations, scopes, variables, or parts of these."""
    names = ("relu", "kernel", "dense", "float32", "query", "a", "seed_generator")
    for name in names:
        twin = "b" if name == "a" else f"{name}_1"
        for first, second in ((name, twin), (twin, name)):
            pair = []
            for each in (first, second):
                inputs = keras.Input((3, 4))
                flow = layers.Dense(4, activation="relu", name=each)(inputs)
                flow = layers.MultiHeadAttention(2, 2, dropout=0.1)(flow, flow)
                pair.append(keras.Model(inputs, layers.Dropout(0.5)(flow)))
            contents = [pickle.dumps(model) for model in pair]
            with keras_reduce.installed(reuse=False):
                before = dict(counters())
                expected = [loaded(content, before, reuse=False)[0] for content in contents]
            templates.clear()
            for content in (contents[0], *contents):
                loaded(content, before)
            for content, model in zip(contents, expected, strict=True):
                differences = Comparison(model, loaded(content, before)[0]).differences
                assert not differences, (name, differences[:4])


@check
def a_layer_of_two_models_is_one():
    inputs = keras.Input((6,))
    hidden = layers.Dense(4)(inputs)
    pair = [keras.Model(inputs, hidden), keras.Model(inputs, layers.Dense(1)(hidden))]
    _, clone, _ = compare(pickle.dumps(pair))
    assert clone[0].layers[1] is clone[1].layers[1]


@check
def what_is_set_on_a_layer_stays():
    model = zoo.mlp()
    content = pickle.dumps(model)
    model.layers[0].note, model.layers[0].autocast = ["a"], False
    compare(content)
    _, clone, _ = compare(pickle.dumps(model))
    assert clone.layers[0].note == ["a"]
    assert not clone.layers[0].autocast


@check
def an_optimizer_beside_its_model():
    model = branched()
    for pair in ([model, model.optimizer], [model.optimizer, model]):
        _, clone, _ = compare(pickle.dumps(pair))
        both = [each for each in clone if isinstance(each, keras.Model)]
        assert both[0].optimizer in clone


@check
def surroundings_make_a_difference():
    content = pickle.dumps([layers.Activation("relu"), branched()])
    for _ in range(3):
        pickle.loads(content)
    global_policy = keras.config.dtype_policy()

    @keras.saving.register_keras_serializable("keras_reduce_tests")
    def anything(x):
        return x

    def in_scope(scope):
        with scope:
            loads = [loaded(content, dict(counters()), reuse=False)[0]]
            loads += [pickle.loads(content) for _ in range(3)]
        return loads

    scopes = (
        keras.name_scope("outer"),
        keras.saving.custom_object_scope({"unknown": anything}),
        tf.name_scope("inner"),
        tf.distribute.OneDeviceStrategy("/cpu:0").scope(),
        tf.variable_creator_scope(lambda make, **options: make(**options)),
    )
    for scope in scopes:
        rebuilt, *others = in_scope(scope)
        for each in others:
            actual = vars(each[1].layers[1].kernel._value)
            wanted = vars(rebuilt[1].layers[1].kernel._value)
            assert type(each[1].layers[1].kernel._value) is type(rebuilt[1].layers[1].kernel._value)
            assert actual.get("_handle_name") == wanted.get("_handle_name")
            assert each[1].layers[1].path == rebuilt[1].layers[1].path
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        compare(content)
    finally:
        keras.config.set_dtype_policy(global_policy)


@check
def threads_get_models_of_their_own():
    content = pickle.dumps(branched())
    expected = [v.numpy() for v in pickle.loads(content).variables]
    templates.clear()
    results, errors = [], []

    def load():
        try:
            for _ in range(6):
                results.append(pickle.loads(content))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    assert len({id(v) for model in results for v in model.variables}) == 24 * len(expected)
    for model in results:
        assert checks.bits([v.numpy() for v in model.variables]) == checks.bits(expected)
    assert trained_on(results[0]) == trained_on(results[-1])


def objects():
    """Return how many objects there are, but for references to some that are gone."""
    return sum(type(each) is not weakref.ref for each in gc.get_objects())


@check
def templates_take_little_memory_and_go():
    content = pickle.dumps(branched())
    with keras_reduce.installed(reuse=False):
        assert not len(templates.cache)
        pickle.loads(content)
        assert not len(templates.cache)
    for _ in range(4):
        pickle.loads(content)
    gc.collect()
    before = objects()
    for _ in range(20):
        model = pickle.loads(content)
    reference = weakref.ref(model.layers[1].kernel)
    del model
    gc.collect()
    assert reference() is None
    assert objects() - before < 100
    bound, templates.MOST_BYTES = templates.MOST_BYTES, 300_000
    try:
        for units in range(1, 40):
            content = pickle.dumps(zoo.mlp(layers.Dense(units, activation="tanh")))
            for _ in range(2):
                pickle.loads(content)
            assert templates.cache.size <= templates.MOST_BYTES
        assert 3 < len(templates.cache) < 60
    finally:
        templates.MOST_BYTES = bound
    keras_reduce.uninstall()
    assert not len(templates.cache)
    keras_reduce.install()


@check
def arrays_of_another_shape_are_refused():
    layer = layers.Dense(3, name="short")
    layer.build((2, 4))
    rebuild, arguments = layer.__reduce__()[:2]
    rebuild(*arguments)
    json, (kernel, bias), *others = arguments
    for wrong in ((kernel[:2], bias), (kernel.astype("float64"), bias), (kernel,)):
        with checks.raises(PayloadError):
            rebuild(json, wrong, *others)
    assert np.array_equal(rebuild(*arguments).kernel, layer.kernel)


@check
def the_comparison_finds_differences():
    def model():
        mlp = zoo.mlp(layers.Dense(3, name="hidden"))
        mlp.compile("adam", "mse")
        mlp.optimizer.build(mlp.trainable_variables)
        return mlp

    content = pickle.dumps(model())

    def changed(change):
        before = dict(counters())
        one, other = loaded(content, before)[0], loaded(content, before)[0]
        assert not Comparison(one, other).differences
        change(other)
        return Comparison(one, other).differences

    def share(other):
        other.layers[0].bias_initializer = other.layers[0].kernel_initializer

    def forget(other):
        other.layers[0]._tracker.stored_ids["trainable_variables"].clear()

    def swap(other):
        other.optimizer._momentums.reverse()

    assert changed(lambda other: other.layers[0].kernel.assign_add(np.ones((6, 3))))
    assert changed(lambda other: setattr(other.layers[0], "note", 1))
    assert changed(lambda other: vars(other.layers[0]).update(use_bias=1))
    assert changed(lambda other: vars(other.layers[0]).update(build=other.layers[0].quantize))
    assert changed(share)
    assert changed(forget)
    assert changed(swap)


if __name__ == "__main__":
    import sys

    checks.main(*sys.argv[1:])
