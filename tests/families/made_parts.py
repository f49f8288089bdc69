"""Parts and values that a constructor creates: shared layers, tables, tokenizers.

``python made_parts.py write FOLDER`` pickles the cases; ``python made_parts.py read FOLDER``
compares the files with the expected results, in a process that never called `install`. Each class
is tried twice: in an importable module, and in ``__main__``, for a reader without the class.
"""

from __future__ import annotations

import copy
import json
import pickle
import sys
import traceback
from pathlib import Path

import cloudpickle
import keras
import numpy as np
import tensorflow as tf

import keras_reduce
from checks import bits, compute_eagerly, entering, raises, selected

TOKENS = np.arange(12, dtype="int32").reshape(4, 3) % 5
TARGETS = (TOKENS + 1) % 5
TEXTS = tf.constant([["b", "a"], ["c", "?"]])
CASES, REFUSED = {}, {}
case, refused = entering(CASES), entering(REFUSED)


@case
def functional_task_with_tied_output(classes):
    return classes.CausalLM(classes.Backbone(5, 4), name="task")


@case
def a_sampler_given_to_compile(classes):
    model = classes.CausalLM(classes.Backbone(5, 4), name="task")
    model.compile("adam", sampler=classes.Sampler("top_k", temperature=0.5))
    return model


@case
def a_compile_that_makes_the_loss(classes):
    model = classes.Detector(classes.Backbone(5, 4), name="detector")
    model.compile("adam", from_logits=False, scale=3.0)
    return model


@case
def head_with_tied_embedding(classes):
    return classes.MaskedLM(classes.Backbone(5, 4), name="task")


@case
def tied_within_another_model(classes):
    inner = classes.MaskedLM(classes.Backbone(5, 4), name="inner")
    inputs = keras.Input((None,), dtype="int32")
    model = keras.Model(inputs, 2 * inner(inputs))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@case
def part_of_a_layer_of_keras(classes):
    inputs = keras.Input((3,), dtype="int32")
    hidden = keras.layers.Embedding(5, 4)(inputs)
    model = keras.Model(inputs, classes.Tied()(hidden))
    model.compile("sgd", "mse")
    return model


@case
def tokenizer(classes):
    return classes.ShiftedTokenizer(["a", "b", "c"], offset=3, clean=str.lower)


@case
def tokenizer_within_a_preprocessor(classes):
    return classes.Preprocessor(classes.ShiftedTokenizer(["a", "b", "c"], offset=3))


@case
def lookup_table_without_a_config(classes):
    layer = classes.Lookup(["a", "b", "c"])
    layer.scale.assign(3.0)
    layer.note = "set from outside"
    return layer


@refused
def constructor_that_asks_for_more(classes):
    return classes.Unmakable(["a"], 3)


@refused
def model_that_records_no_arguments(classes):
    return classes.LookupModel(["a"])


@refused
def table_set_from_outside(classes):
    layer = classes.ShiftedTokenizer(["a"])
    layer.added = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a"], [1]), 0)
    return layer


def probe(obj):
    """Return the outputs of `obj`, the outcome of training, and its shared parts, as text."""
    facts = [type(obj).__name__, obj.name]
    if not isinstance(obj, keras.Model):
        shown = [getattr(obj, name, None) for name in ("offset", "words", "note")]
        clean = getattr(obj, "clean", None)
        return bits([*facts, *shown, obj(TEXTS).numpy(), clean and clean("A")])
    keras.utils.set_random_seed(0)
    results = [*facts, [variable.path for variable in obj.variables], obj.get_weights()]
    results.append(obj.predict(TOKENS, verbose=0))
    targets = np.ones((4, 3, 4), "float32") if obj.loss == "mse" else TARGETS
    results.append(obj.fit(TOKENS, targets, epochs=2, shuffle=False, verbose=0).history["loss"])
    sampler = getattr(obj, "sampler", getattr(obj, "scale", None))
    results += [sampler and vars(sampler), [v.numpy() for v in obj.optimizer.variables]]
    return bits([*results, [v.numpy() for v in obj.variables], tied(obj)])


def tied(obj):
    """Return for each listed layer the position of the first identical one."""
    listed = [layer for holder in obj._flatten_layers() for layer in holder._layers]
    ids = [id(layer) for layer in listed]
    return [ids.index(number) for number in ids]


class Namespace:
    def __init__(self, names):
        vars(self).update(names)


def variants():
    import made_parts_importable

    yield "importable", made_parts_importable
    source = Path(made_parts_importable.__file__)
    namespace = {"__name__": "__main__"}
    exec(compile(source.read_text(), source, "exec"), namespace)
    yield "main", Namespace(namespace)


def write(folder):
    words, expected = {}, {}
    for variant, classes in variants():
        makers = CASES | REFUSED
        for name in selected(makers):
            make, key = makers[name], f"{name}-{variant}"
            try:
                words[key] = ""
                keras.utils.set_random_seed(1)
                obj = make(classes)
                if name in REFUSED:
                    refuse(obj)
                    continue
                if isinstance(obj, keras.Model):
                    probe(obj)  # So that the optimizer has slots.
                (folder / f"{key}.pickle").write_bytes(cloudpickle.dumps(obj))
                keras_reduce.dump({"obj": obj}, folder / f"{key}.joblib")
                copied = copy.deepcopy(obj)
                expected[key] = probe(obj)
                assert probe(copied) == expected[key], "copied"
            except Exception:
                words[key] = traceback.format_exc()
    (folder / "expected.json").write_text(json.dumps(expected))
    return words


def refuse(obj):
    for dump in (pickle.dumps, keras_reduce.dumps):
        with raises(keras_reduce.ReduceError, "can't be carried", "table"):
            dump(obj)


def read(folder):
    words = {}
    for key, expected in json.loads((folder / "expected.json").read_text()).items():
        try:
            copies = [pickle.loads((folder / f"{key}.pickle").read_bytes())]
            copies.append(keras_reduce.load(folder / f"{key}.joblib")["obj"])
            words[key] = "" if [probe(obj) for obj in copies] == 2 * [expected] else "differs"
        except Exception:
            words[key] = traceback.format_exc()
    return words


if __name__ == "__main__":
    compute_eagerly()
    place = Path(sys.argv[2])
    if sys.argv[1] == "write":
        keras_reduce.install()
    report = write(place) if sys.argv[1] == "write" else read(place)
    (place / f"{sys.argv[1]}.json").write_text(json.dumps(report))
