"""Files of skops with Keras objects: names to trust, refusals, damage, and undoing.

That every kind of object comes back is shown by ``skops_zoo.py``.
"""

from __future__ import annotations

import io
import json
import pickle
import threading
import weakref
import zipfile

import keras
import ml_dtypes
import numpy as np
import skops.io
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skops.io import _audit, _utils
from skops.io.exceptions import UntrustedTypesFoundException

import importable
import keras_reduce
from checks import check, compute_eagerly, main, raises
from keras_reduce.core import array_backends

X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
Y = X.sum(axis=1)


def trained(*layers, loss="mse"):
    model = keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(1)])
    model.compile("adam", loss)
    model.fit(X, Y, epochs=1, verbose=0, shuffle=False)
    return model


def answers(model):
    return np.asarray(model.predict(X, verbose=0)).tolist()


def changed(data, change):
    """Return a file of skops after `change` of its schema."""
    source, target = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as written:
        for name in source.namelist():
            content = source.read(name)
            if name == "schema.json":
                schema = json.loads(content)
                change(schema)
                content = json.dumps(schema).encode()
            written.writestr(name, content)
    return target.getvalue()


@check
def a_pipeline_needs_no_trust_and_comes_back():
    wrapper = keras.wrappers.SKLearnRegressor(trained(), fit_kwargs={"epochs": 1, "verbose": 0})
    pipeline = make_pipeline(StandardScaler(), wrapper).fit(X, Y)
    data = skops.io.dumps(pipeline)
    assert skops.io.get_untrusted_types(data=data) == []
    assert np.array_equal(skops.io.loads(data).predict(X), pipeline.predict(X))


@check
def arrays_are_members_of_the_file_and_nothing_is_a_pickle():
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(trained()))) as file:
        names = file.namelist()
        assert len([name for name in names if name.endswith(".npy")]) >= 2
        assert {name.rpartition(".")[2] for name in names} == {"npy", "json"}
        assert b"pickle" not in file.read("schema.json")


def added(schema):
    """Return the first node of an array with a dtype that a package adds."""
    nodes = [schema]
    for node in nodes:
        if isinstance(node, dict) and node.get("__loader__", "").startswith("Array"):
            return node
        nodes += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    raise AssertionError("there is none")


@check
def dtypes_that_packages_add_to_numpy_come_back():
    model = trained(keras.layers.Dense(2, dtype="bfloat16"))
    model.note = {
        "array": np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16).T,
        "scalar": ml_dtypes.float8_e4m3fn(1.5),
        "small": np.array([1, -3], ml_dtypes.int4),
    }
    data = skops.io.dumps(model)
    copied = skops.io.loads(data)
    assert answers(copied) == answers(model)
    for name, value in model.note.items():
        assert copied.note[name].dtype == value.dtype
        assert type(copied.note[name]) is type(value)
        assert (copied.note[name] == value).all()
    for name in ("finfo", "__name__", "float32"):
        crafted = changed(data, lambda schema, name=name: added(schema).update(dtype=name))
        with raises(keras_reduce.PayloadError, "skops file"):
            skops.io.loads(crafted)
    model.note = np.zeros(2, [("field", ml_dtypes.bfloat16)])
    with raises(keras_reduce.ReduceError, "raw bytes"):
        skops.io.dumps(model)


@check
def an_object_and_what_it_shares_come_back_as_one():
    model = trained()
    model.history_of = [model.history, model.layers[0]]
    first, second = skops.io.loads(skops.io.dumps([model, model.layers[0]]))
    assert first.layers[0] is second
    assert first.history_of[0] is first.history
    assert first.history_of[1] is second
    assert first.history.model is first


@check
def a_plain_object_that_refers_back_comes_back():
    model = trained()
    model.note = importable.ModelFeatures(model)
    data = skops.io.dumps(model)
    names = skops.io.get_untrusted_types(data=data)
    assert names == ["importable.ModelFeatures"]
    copy = skops.io.loads(data, trusted=names)
    assert copy.note.regressor is copy


@check
def names_of_classes_and_functions_are_listed_and_must_be_trusted():
    data = skops.io.dumps(trained(importable.ImportableScale(), loss=importable.importable_loss))
    names = skops.io.get_untrusted_types(data=data)
    assert names == ["importable.ImportableScale", "importable.importable_loss"]
    for trusted in (None, names[:1], names[1:]):
        with raises(UntrustedTypesFoundException, "importable."):
            skops.io.loads(data, trusted=trusted)
    for trusted in (names, [importable.ImportableScale, importable.importable_loss]):
        assert isinstance(
            skops.io.loads(data, trusted=trusted).layers[0], importable.ImportableScale
        )


@check
def the_build_function_of_an_estimator_must_be_trusted():
    estimator = keras_reduce.KerasRegressor(importable.build, epochs=1, verbose=0).fit(X, Y)
    data = skops.io.dumps(estimator)
    names = skops.io.get_untrusted_types(data=data)
    assert names == ["importable.build"]
    copy = skops.io.loads(data, trusted=names)
    assert np.array_equal(copy.predict(X), estimator.predict(X))
    assert copy.build_fn is importable.build


def build_of_main():
    return trained()


def loss_of_main(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred))


class LayerOfMain(keras.layers.Layer):
    def call(self, inputs):
        return inputs


def refused_objects():
    yield "__main__.build_of_main", keras_reduce.KerasRegressor(build_of_main)
    yield "__main__.loss_of_main", trained(loss=loss_of_main)
    yield "__main__.LayerOfMain", trained(LayerOfMain())
    yield "Lambda", trained(keras.layers.Lambda(importable.tripled))


@check
def code_is_refused_with_the_name_of_another_format():
    for name, obj in refused_objects():
        with raises(keras_reduce.ReduceError, "skops can't carry this code", name) as refusal:
            skops.io.dumps(obj)
        assert 'serialization_format="cloudpickle"' in refusal.error.cure
        assert str(pickle.loads(pickle.dumps(refusal.error))) == str(refusal.error)


@check
def what_skops_would_write_under_another_name_is_refused():
    for value, name in (
        ({False: 1, True: 2}, "{False, True}"),
        ({"inner": [{1: "a", "1": "b"}]}, "{1, '1'}"),
        (importable.Tools.tripled, "importable.Tools.tripled"),
    ):
        model = trained()
        model.note = value
        with raises(keras_reduce.ReduceError, "skops can't carry", name) as refusal:
            skops.io.dumps(model)
        assert 'serialization_format="cloudpickle"' in refusal.error.cure
    model.note = {1: "a", "b": 2.5, 2.5: None}
    assert skops.io.loads(skops.io.dumps(model)).note == model.note
    # What is in no Keras object is left to skops.
    assert skops.io.dumps({False: 1})


@check
def a_file_whose_config_names_another_class_needs_its_name():
    data = skops.io.dumps(trained())

    def rename(schema):
        for layer in schema["objects"]:
            layer["json"] = layer["json"].replace(
                '"module":"keras.layers"', '"module":"importable"'
            )

    crafted = changed(data, rename)
    names = skops.io.get_untrusted_types(data=crafted)
    assert names == ["importable.Dense", "importable.InputLayer"]
    with raises(UntrustedTypesFoundException, "importable.Dense"):
        skops.io.loads(crafted)


@check
def crafted_nodes_are_refused():
    data = skops.io.dumps(trained())

    def rebuilder(module, name):
        return lambda schema: schema.update(__module__=module, __class__=name)

    def own_part(schema):
        schema["objects"] = [{"__id__": schema["__id__"], "__loader__": "CachedNode"}]

    def lambda_config(schema):
        schema["json"] = schema["json"].replace(
            '"class_name":"Sequential"', '"class_name":"Lambda"'
        )

    for change in (
        rebuilder("os", "system"),
        rebuilder("keras_reduce.reducers", "rebuild_part_attributes"),
        own_part,
        lambda schema: schema.pop("json"),
        lambda schema: schema.update(custom_objects=[["Dense", "os", "system", 0, None]]),
        lambda schema: schema.update(objects=7),
    ):
        with raises(keras_reduce.PayloadError, "skops file"):
            skops.io.loads(changed(data, change))
    for names in ([], ["Lambda"]):
        with raises((UntrustedTypesFoundException, keras_reduce.UntrustedError), "Lambda"):
            skops.io.loads(changed(data, lambda_config), trusted=names)
    imports = [["key", "os", "system", -1, None]]
    crafted = changed(data, lambda schema: schema.update(custom_objects=imports))
    assert skops.io.get_untrusted_types(data=crafted) == ["os.system"]
    with raises(keras_reduce.UntrustedError, "can run any code"):
        skops.io.loads(crafted, trusted=["os.system"])


@check
def a_later_version_is_refused():
    data = skops.io.dumps(trained())
    with raises(keras_reduce.PayloadError, "version 2", "pip install -U keras_reduce"):
        skops.io.loads(changed(data, lambda schema: schema.update(version=2)))


@check
def a_weak_reference_without_its_target_is_refused():
    model, other = trained(), trained()
    model.other = weakref.ref(other)
    with raises(keras_reduce.ReduceError, "A weak reference"):
        skops.io.dumps(model)
    there, beside = skops.io.loads(skops.io.dumps([other, model]))
    assert beside.other() is there


@check
def all_parts_are_of_one_moment():
    model = trained(keras.layers.Dense(6))
    original, values = array_backends.read, []

    def read(variable, backend):
        values.append(variable.path)
        return original(variable, backend)

    array_backends.read = read
    try:
        skops.io.dumps(model)
    finally:
        array_backends.read = original
    # A value that is read twice may be of another moment.
    assert len(values) == len(set(values)) > 4, values


@check
def threads_may_write_at_once():
    models = [trained() for _ in range(3)]
    files = {}
    threads = [
        threading.Thread(target=lambda n=n, m=m: files.update({n: skops.io.dumps(m)}))
        for n, m in enumerate(models)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, model in enumerate(models):
        assert answers(skops.io.loads(files[number])) == answers(model)


@check
def what_has_no_keras_object_is_written_as_without():
    scaler = StandardScaler().fit(X)
    names = [skops.io.get_untrusted_types(data=skops.io.dumps(scaler))]
    with_it = json.loads(zipfile.ZipFile(io.BytesIO(skops.io.dumps(scaler))).read("schema.json"))
    keras_reduce.uninstall()
    try:
        without = skops.io.dumps(scaler)
        names.append(skops.io.get_untrusted_types(data=without))
    finally:
        keras_reduce.install()
    schema = json.loads(zipfile.ZipFile(io.BytesIO(without)).read("schema.json"))

    def loaders(node):
        if isinstance(node, dict):
            return {
                key: loaders(value) for key, value in node.items() if key not in ("__id__", "file")
            }
        return node

    assert loaders(schema) == loaders(with_it)
    assert names == [[], []]


@check
def undone_it_is_as_before_and_an_error_names_install():
    data = skops.io.dumps(trained())
    original = _utils._get_state.__wrapped__
    keras_reduce.uninstall()
    try:
        assert _utils._get_state is original
        assert not [loader for loader, _ in _audit.NODE_TYPE_MAPPING if "keras_reduce" in loader]
        with raises(TypeError, "keras_reduce.install()"):
            skops.io.loads(data)
    finally:
        keras_reduce.install()
    assert skops.io.loads(data).count_params() == 7


if __name__ == "__main__":
    keras_reduce.install()
    compute_eagerly()
    main()
