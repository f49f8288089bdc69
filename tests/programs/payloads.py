"""What a payload is made of, and what happens to one that is wrong."""

import json
import pickle
import sys
import types

import keras
import numpy as np
from keras import layers

import keras_reduce
from checks import check, main, raises
from keras_reduce import CustomObjectError, PayloadError, ReduceError, reducers

keras_reduce.install()


def small_model():
    model = keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(3, name="first"),
            layers.Dropout(0.5),
            layers.Dense(1, name="last"),
        ]
    )
    model.compile("adam", loss="mse", run_eagerly=True)
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    return model


def taken_apart(obj=None):
    """Return what `obj` reduces to, ready to be tampered with."""
    rebuild, arguments = (small_model() if obj is None else obj).__reduce__()[:2]
    return rebuild, list(arguments)


def tampered_header(change):
    rebuild, arguments = taken_apart()
    document = json.loads(arguments[0])
    change(document)
    arguments[0] = json.dumps(document)
    return rebuild, arguments


# --- the tuple ------------------------------------------------------------------------------


@check
def is_a_json_string_plain_arrays_and_a_compile_config():
    rebuild, (text, weights, compile_config, *_) = taken_apart()
    assert rebuild is reducers.rebuild_model
    header = json.loads(text)["header"]
    assert header["protocol"] == 1
    assert header["family"] == "keras3"
    assert set(header["versions"]) == {"keras_reduce", "keras", "backend", "tensorflow"}
    assert isinstance(weights, tuple)
    assert all(type(array) is np.ndarray for array in weights)
    assert [[list(a.shape), a.dtype.name] for a in weights] == [w[1:] for w in header["weights"]]
    assert header["weights"][0] == ["layers/first/kernel", [2, 3], "float32"]
    assert len({path for path, _, _ in header["weights"]}) == len(weights)
    assert json.loads(compile_config)[""]["config"]["optimizer"]["class_name"] == "Adam"


@check
def has_every_variable():
    model = small_model()
    _, (_, weights, *_) = taken_apart(model)
    metric = [variable for m in model.metrics for variable in m.variables]
    assert len(weights) == len(model.variables) + len(model.optimizer.variables) + len(metric)


@check
def is_none_for_a_model_that_was_not_compiled():
    _, (_, _, compile_config, *_) = taken_apart(keras.Sequential([layers.Dense(1)]))
    assert compile_config is None


@check
def old_and_short_argument_lists_are_read():
    rebuild, arguments = taken_apart()
    assert rebuild(*arguments[:3]).compiled
    rebuild, arguments = taken_apart(keras.Sequential([keras.Input((2,)), layers.Dense(1)]))
    assert rebuild(*arguments[:2]).built


# --- what is wrong with it ------------------------------------------------------------------


@check
def a_missing_weight():
    rebuild, arguments = tampered_header(lambda d: d["header"]["weights"].pop(0))
    arguments[1] = arguments[1][1:]
    with raises(PayloadError, "no weights for layers/first/kernel", "What to do"):
        rebuild(*arguments)


@check
def a_weight_too_many():
    entry = ["layers/first/extra", [1], "float32"]
    rebuild, arguments = tampered_header(lambda d: d["header"]["weights"].append(entry))
    arguments[1] = (*arguments[1], np.zeros(1, "float32"))
    with raises(PayloadError, "no variable: layers/first/extra"):
        rebuild(*arguments)


@check
def more_arrays_than_the_header_lists():
    rebuild, arguments = taken_apart()
    arguments[1] = arguments[1][1:]
    with raises(PayloadError, "lists", "holds"):
        rebuild(*arguments)


@check
def a_shape_that_disagrees_with_the_header():
    rebuild, arguments = taken_apart()
    arguments[1] = (arguments[1][0].T, *arguments[1][1:])
    with raises(PayloadError, "(2, 3)", "(3, 2)", "at layers/first/kernel"):
        rebuild(*arguments)


@check
def a_shape_that_disagrees_with_the_class():
    def widen(document):
        document["config"]["config"]["layers"][-1]["config"]["units"] = 4

    rebuild, arguments = tampered_header(widen)
    with raises(PayloadError, "(3, 1)", "(3, 4)", "at layers/last/kernel"):
        rebuild(*arguments)


@check
def a_dtype_that_disagrees():
    rebuild, arguments = taken_apart()
    arguments[1] = (arguments[1][0].astype("float64"), *arguments[1][1:])
    with raises(PayloadError, "float32", "float64", "at layers/first/kernel"):
        rebuild(*arguments)


@check
def a_newer_protocol():
    def newer(document):
        document["header"].update(protocol=99, versions={"keras_reduce": "8.1"})

    rebuild, arguments = tampered_header(newer)
    with raises(PayloadError, "protocol number 99", "8.1", "pip install 'keras_reduce>=8.1'"):
        rebuild(*arguments)


@check
def no_protocol():
    rebuild, arguments = tampered_header(lambda d: d["header"].pop("protocol"))
    with raises(PayloadError, "protocol number None"):
        rebuild(*arguments)


@check
def an_unknown_family():
    rebuild, arguments = tampered_header(lambda d: d["header"].update(family="keras9"))
    with raises(keras_reduce.FrameworkError, "keras9", "upgrade"):
        rebuild(*arguments)


@check
def no_keras_where_it_is_read():
    rebuild, arguments = taken_apart()
    sys.modules["keras"] = None
    try:
        with raises(keras_reduce.FrameworkError, "without 'keras'", "pip install"):
            rebuild(*arguments)
    finally:
        sys.modules["keras"] = keras


@check
def text_that_is_not_json():
    rebuild, arguments = taken_apart()
    for text in ("", "{", "null", "[]", '{"header": {}}'):
        with raises(PayloadError):
            rebuild(text, *arguments[1:])


@check
def an_unknown_class():
    rebuild, arguments = tampered_header(lambda d: d["config"].update(class_name="Sequence"))
    with raises(PayloadError, "Sequence", "can't be rebuilt", "keras 3"):
        rebuild(*arguments)


@check
def a_module_that_can_not_be_imported():
    module = types.ModuleType("passing_module")
    exec("import keras\nclass Passing(keras.layers.Dense): pass", vars(module))
    sys.modules["passing_module"] = module
    content = pickle.dumps(keras.Sequential([keras.Input((2,)), module.Passing(1)]))
    assert pickle.loads(content).layers[0].__class__ is module.Passing
    del module.Passing
    with raises(CustomObjectError, "'Passing' can't be imported from module 'passing_module'"):
        pickle.loads(content)
    del sys.modules["passing_module"]
    with raises(
        CustomObjectError, "passing_module:Passing", "sys.path", "register_pickle_by_value"
    ):
        pickle.loads(content)


@check
def code_by_value_that_can_not_be_rebuilt():
    rebuild, arguments = taken_apart(keras.Sequential([layers.Lambda(lambda x: x)]))
    references, blob = arguments[3]
    # As another process sees it, to which the token says nothing.
    strange = tuple((*reference[:5], "token of another process") for reference in references)
    with raises(CustomObjectError, "<lambda>", "minor version of Python"):
        rebuild(*arguments[:3], (strange, blob[:-9]), *arguments[4:])


@check
def code_that_can_not_be_pickled():
    lock = __import__("threading").Lock()
    model = keras.Sequential([layers.Lambda(lambda x: x if lock else -x)])
    with raises(
        ReduceError, "__main__:code_that_can_not_be_pickled", "cannot pickle", "What to do"
    ):
        pickle.dumps(model)


class Swelling(layers.Layer):
    """Has more variables each time it is built."""

    built_before = 0

    def build(self, input_shape):
        Swelling.built_before += 1
        for number in range(Swelling.built_before):
            self.add_weight(shape=(1,), name=f"w{number}")

    def call(self, inputs):
        return inputs

    def get_config(self):
        return super().get_config()


@check
def no_variable_stays_at_a_random_start():
    content = pickle.dumps(keras.Sequential([keras.Input((2,)), Swelling(name="swelling")]))
    with raises(PayloadError, "no weights for layers/swelling/w1"):
        pickle.loads(content)


class OwnCompile(keras.Model):
    def __init__(self):
        super().__init__()
        self.last = layers.Dense(1)

    def call(self, inputs):
        return self.last(inputs)

    def compile(self, strength, **kwargs):
        super().compile(**kwargs)
        self.strength = strength


@check
def a_compile_method_whose_arguments_nothing_records():
    model = OwnCompile()
    model.compile(2.0, optimizer="sgd", loss="mse")
    with raises(ReduceError, "OwnCompile.compile()", "get_compile_config"):
        pickle.dumps(model)


@check
def an_optimizer_of_variables_elsewhere():
    model, other = small_model(), small_model()
    model.optimizer = other.optimizer
    with raises(ReduceError, "not part of the object", "at optimizer"):
        pickle.dumps(model)


@check
def errors_survive_pickling():
    for kind in (PayloadError, ReduceError, CustomObjectError, keras_reduce.FrameworkError):
        error = kind("what", where="model.layers[2]", cause="why", cure="do this")
        copied = pickle.loads(pickle.dumps(error))
        assert type(copied) is kind
        assert str(copied) == str(error)
        assert (copied.what, copied.where) == ("what", "model.layers[2]")
        assert (copied.cause, copied.cure) == ("why", "do this")
        assert isinstance(error, keras_reduce.KerasReduceError)
    assert issubclass(PayloadError, pickle.UnpicklingError)
    assert issubclass(ReduceError, pickle.PicklingError)


# --- custom objects -------------------------------------------------------------------------


class Mentions(layers.Layer):
    def call(self, inputs):
        return inputs if SELF_MENTIONED is None else inputs + len(SELF_MENTIONED.layers)


SELF_MENTIONED = None


@check
def code_that_mentions_its_own_model():
    global SELF_MENTIONED
    model = keras.Sequential([keras.Input((2,)), Mentions()])
    other = keras.Sequential([keras.Input((2,)), Mentions()])
    SELF_MENTIONED = model
    try:
        with raises(ReduceError, "refers to the object that it belongs to"):
            pickle.dumps(model)
        # Another model that is mentioned travels with the code.
        copied = pickle.loads(pickle.dumps(other))
        assert np.array_equal(copied(np.ones((1, 2))), other(np.ones((1, 2))))
    finally:
        SELF_MENTIONED = None


@check
def a_loss_that_mentions_a_layer_of_its_model():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    layer = model.layers[0]
    model.compile("sgd", loss=lambda y, p: keras.ops.mean(y - p) + keras.ops.sum(layer.kernel))
    with raises(ReduceError, "refers to the object that it belongs to", "dense"):
        pickle.dumps(model)


@check
def loading_leaves_classes_of_this_process_alone():
    class Counted(layers.Layer):
        count = 7

        def call(self, inputs):
            return inputs * self.count

    content = pickle.dumps(keras.Sequential([keras.Input((2,)), Counted()]))
    Counted.count = 9
    copied = pickle.loads(content)
    assert Counted.count == 9
    assert type(copied.layers[0]) is Counted
    assert pickle.dumps(copied) == pickle.dumps(pickle.loads(content))


@check
def classes_come_back_as_the_same_class():
    class Local(layers.Layer):
        def call(self, inputs):
            return inputs

    model = keras.Sequential([keras.Input((2,)), Local(), Mentions()])
    copied = pickle.loads(pickle.dumps(model))
    assert [type(layer) for layer in copied.layers] == [Local, Mentions]


@keras.saving.register_keras_serializable(package="payloads", name="Known")
class Known(layers.Layer):
    def call(self, inputs):
        return inputs


@check
def registered_names_come_along():
    content = pickle.dumps(Known())
    registered = keras.saving.get_custom_objects()
    del registered["payloads>Known"]
    copied = pickle.loads(content)
    assert registered["payloads>Known"] is type(copied)


@check
def layers_keep_names_that_their_config_leaves_out():
    class Nameless(layers.Layer):
        def __init__(self):
            super().__init__()

        def call(self, inputs):
            return inputs

        def get_config(self):
            return {}

    layer = Nameless()
    copied = pickle.loads(pickle.dumps(keras.Sequential([keras.Input((2,)), layer])))
    assert copied.layers[0].name == layer.name


@check
def dtype_policies_come_along():
    class Simple(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.inner = layers.Dense(units)

        def build(self, shape):
            self.inner.build(shape)

        def call(self, inputs):
            return self.inner(inputs)

        def get_config(self):
            return {"units": self.inner.units}

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = keras.Sequential([keras.Input((2,)), Simple(3)])
    finally:
        keras.config.set_dtype_policy("float32")
    copied = pickle.loads(pickle.dumps(model))
    assert copied.layers[0].inner.compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"


@check
def a_constructor_is_not_called_again():
    calls = []

    class Counting(keras.Model):
        def __init__(self, inner, table):
            super().__init__()
            calls.append(1)
            self.inner, self.table = inner, table
            self.options = {"depth": 2, "names": ["a", ("b", None)]}
            self.helper = self.assist

        def assist(self):
            return self

        def call(self, inputs):
            return self.inner(inputs)

    model = Counting(layers.Dense(2), {3: np.arange(3), "object": types.SimpleNamespace(a=1)})
    model(np.ones((1, 4)))
    copied = pickle.loads(pickle.dumps(model))
    assert np.array_equal(copied(np.ones((1, 4))), model(np.ones((1, 4))))
    assert calls == [1]
    assert copied.options == {"depth": 2, "names": ["a", ("b", None)]}
    assert copied.table[3].tolist() == [0, 1, 2]
    assert copied.table["object"].a == 1
    assert copied.helper() is copied
    assert [layer.name for layer in copied.layers] == [layer.name for layer in model.layers]


@check
def a_class_that_says_it_has_no_config():
    class Unwilling(keras.Model):
        def __init__(self, units):
            super().__init__()
            self.last = layers.Dense(units)
            self.table = np.arange(3)

        def call(self, inputs):
            return self.last(inputs)

        def get_config(self):
            raise NotImplementedError

    model = Unwilling(3)
    expected = model(np.ones((1, 2)))
    copied = pickle.loads(pickle.dumps(model))
    assert np.array_equal(copied(np.ones((1, 2))), expected)
    assert copied.table.tolist() == [0, 1, 2]


@check
def attributes_that_the_user_set():
    model = small_model()
    model.note = {"by": "me", "when": [1, 2]}
    model.transform = lambda value: value + 1
    copied = pickle.loads(pickle.dumps(model))
    assert copied.note == {"by": "me", "when": [1, 2]}
    assert copied.transform(1) == 2


@check
def a_history_refers_to_its_own_model():
    model = small_model()
    copied = pickle.loads(pickle.dumps(model))
    assert copied.history.model is copied
    assert copied.history.history == model.history.history


@check
def arguments_that_keras_forgets():
    for loss in (
        keras.losses.Huber(0.25),
        keras.losses.CosineSimilarity(axis=0),
        keras.losses.MeanSquaredError(dtype="float64"),
    ):
        copied = pickle.loads(pickle.dumps(loss))
        assert copied._fn_kwargs == loss._fn_kwargs
        assert copied.dtype == loss.dtype
    layer = layers.Dense(2, kernel_initializer=keras.initializers.Identity(gain=3.0))
    assert pickle.loads(pickle.dumps(layer)).kernel_initializer.gain == 3.0


@check
def a_layer_in_two_functional_models_of_one_model():
    shared = layers.Dense(3, name="shared")
    first, second = keras.Input((2,)), keras.Input((2,))
    one = keras.Model(first, layers.Dense(2)(shared(first)), name="one")
    two = keras.Model(second, shared(layers.Dense(2)(shared(second))), name="two")
    inputs = keras.Input((2,))
    model = keras.Model(inputs, [one(inputs), two(inputs), two(one(inputs))])
    copied = pickle.loads(pickle.dumps(model))
    for ours, theirs in zip(copied(np.ones((1, 2))), model(np.ones((1, 2))), strict=True):
        assert np.array_equal(ours, theirs)
    found = [copied.get_layer(name).get_layer("shared") for name in ("one", "two")]
    assert found[0] is found[1]


@check
def the_private_parts_of_keras_are_where_we_look_for_them():
    """Fails with a name when Keras moves what the adapter replaces or reads."""
    from keras_reduce.families.keras3 import attributes, tree
    from keras_reduce.families.keras3.reading import _points as points_of_reading
    from keras_reduce.families.keras3.writing import _points as points_of_writing

    for module, name, _ in (*points_of_reading(), *points_of_writing()):
        assert hasattr(module, name), name
    model = small_model()

    class Plain(keras.Model):
        def call(self, inputs):
            return inputs

    plain = Plain()
    plain.compile("sgd", "mse", metrics=["mae"])
    plain.evaluate(np.ones((2, 1)), np.ones((2, 1)), verbose=0)
    plain.predict(np.ones((2, 1)), verbose=0)
    functional = keras.Model(model.inputs, model.outputs)
    for obj in (plain, model, functional, layers.Layer(), keras.Sequential()):
        assert attributes.own_attributes(obj) == {}, type(obj)
    assert tree.is_functional(functional)
    assert model._loss_tracker is not None
    assert hasattr(model, "_compile_metrics")
    assert model._compile_loss.built
    assert model._compile_config.config["loss"] == "mse"


if __name__ == "__main__":
    main()
