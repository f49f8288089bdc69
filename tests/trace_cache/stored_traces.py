"""Traces that other processes have left: the same results to the bit, and no tracing.

Nothing is computed in this process, so that it may be forked: each step of a check is a process.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
import random
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from joblib import Parallel, delayed
from keras import layers, ops, optimizers

import keras_reduce
from checks import bits, check, logged, main, raises
from keras_reduce.core import trace_folders
from keras_reduce.errors import FileError
from keras_reduce.parallel import backend
from keras_reduce.trace_cache import cache, definitions, digests, stored
from keras_reduce.trace_cache.store import Store, create

keras_reduce.install()
rng = np.random.default_rng(0)
X = rng.normal(size=(50, 6)).astype("float32")
Y = np.stack([X.sum(axis=1), X[:, 0]], axis=1)
TOKENS = rng.integers(0, 9, size=(50, 6))


def dense(optimizer="adam", **options):
    stack = [layers.Dense(8, "gelu"), layers.BatchNormalization(), layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input((6,)), *stack, layers.Dense(2)])
    model.compile(optimizer, "mse", **{"metrics": ["mae"], **options})
    return model


def averaged():
    return optimizers.AdamW(1e-2, clipvalue=0.5, use_ema=True, ema_overwrite_frequency=3)


def scheduled():
    return optimizers.SGD(optimizers.schedules.CosineDecay(0.05, 20), momentum=0.9, nesterov=True)


def attention():
    inputs = keras.Input((6,), dtype="int64")
    hidden = layers.Embedding(9, 8)(inputs)
    hidden = layers.LayerNormalization()(hidden + layers.MultiHeadAttention(2, 4)(hidden, hidden))
    hidden = layers.Bidirectional(layers.LSTM(3, dropout=0.2))(hidden)
    model = keras.Model(inputs, layers.Dense(2)(hidden))
    model.compile("rmsprop", "huber")
    return model


def two_heads():
    inputs = {name: keras.Input((3,), name=name) for name in ("left", "right")}
    joined = layers.Concatenate()(list(inputs.values()))
    heads = {name: layers.Dense(1, name=name)(joined) for name in ("first", "second")}
    model = keras.Model(inputs, heads)
    model.compile("sgd", {"first": "mse", "second": "mae"})
    return model


class Scaled(layers.Layer):
    """A layer that can't be imported."""

    def __init__(self, factor=2.0, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, inputs):
        if self.factor > 1:
            return ops.tanh(inputs) * self.factor
        return inputs


def own_code(factor=2.0):
    def loss(y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred) * factor, axis=-1)

    model = keras.Sequential([keras.Input((6,)), layers.Dense(4), Scaled(factor), layers.Dense(2)])
    model.compile("adam", loss)
    return model


def halves():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, "relu", dtype="mixed_bfloat16"), layers.Dense(2)]
    )
    model.compile(optimizers.LossScaleOptimizer(optimizers.Adam()), "mse")
    return model


class Watching(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        """See each batch, so that Keras calls a graph for each."""


PAIRS = {"left": X[:, :3], "right": X[:, 3:]}
HEADS = {"first": Y[:, :1], "second": Y[:, 1:]}
# Name: model, inputs, targets, arguments of fit.
LESSONS = {
    "whole epochs": (lambda: dense(averaged()), X, Y, {"validation_split": 0.3}),
    "batches": (
        lambda: dense(scheduled()),
        X,
        Y,
        {"callbacks": [Watching()], "validation_data": (X[:9], Y[:9]), "batch_size": 7},
    ),
    "several steps at once": (
        lambda: dense(steps_per_execution=2),
        X,
        Y,
        {"batch_size": 10},
    ),
    "attention and recurrence": (attention, TOKENS, Y, {"batch_size": 10}),
    "two inputs and outputs": (two_heads, PAIRS, HEADS, {}),
    "code of the program": (own_code, X, Y, {}),
    "half precision": (halves, X, Y, {}),
}


def learn(lesson, folder, seeds=False, factor=None):
    """Return all numbers of a lesson, and how many traces were read and written."""
    counts = {"read": 0, "kept": 0}
    _count(counts, "read", definitions)
    _count(counts, "kept", stored, "keep")
    trace_folders.use(user=folder)
    create_model, x, y, options = LESSONS[lesson]
    keras.utils.set_random_seed(3)
    model = create_model(factor) if factor else create_model()
    results = [keras.ops.convert_to_numpy(w) for w in model.weights]
    for _ in range(2):
        if seeds:  # A number that is drawn eagerly, so that a seed makes TensorFlow forget.
            tf.random.normal([2])
            keras.utils.set_random_seed(4)
        results.append(model.fit(x, y, epochs=2, verbose=0, **options).history)
        results.append(model.predict(x, verbose=0))
        results.append(model.evaluate(x, y, verbose=0))
    results += [np.asarray(variable) for variable in (*model.variables, *model.optimizer.variables)]
    again = pickle.loads(pickle.dumps(model))
    results.append(again.fit(x, y, verbose=0).history)
    return bits(results), counts


def _count(counts, name, module, attribute=None):
    attribute = attribute or name
    original = getattr(module, attribute)

    @functools.wraps(original)
    def counted(*arguments):
        result = original(*arguments)
        counts[name] += 1
        return result

    setattr(module, attribute, counted)


def apart(function, *arguments):
    """Return the result of a function in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        return pool.submit(function, *arguments).result()


def with_messages(function, *arguments):
    with logged("keras_reduce") as messages:
        return function(*arguments), messages


@check
def another_process_computes_the_same_without_tracing():
    for lesson in LESSONS:
        with tempfile.TemporaryDirectory() as folder:
            first, counts = apart(learn, lesson, folder)
            assert counts["read"] == 0 < counts["kept"], lesson
            names = [entry.path.stem for entry in Store(folder).entries()]
            assert len(names) == counts["kept"], lesson
            # TensorFlow's own work is stored as well.
            assert all(Store(folder).get(name).optimized for name in names), lesson
            second, counts = apart(learn, lesson, folder)
            assert counts == {"read": len(names), "kept": 0}, (lesson, counts)
            assert second == first, lesson


@check
def to_leave_traces_changes_nothing():
    with tempfile.TemporaryDirectory() as folder:
        assert apart(learn, "batches", folder)[0] == apart(learn, "batches", None)[0]


@check
def seeds_that_make_tensorflow_forget_change_nothing():
    with tempfile.TemporaryDirectory() as folder:
        expected, _ = apart(learn, "whole epochs", None, True)
        for _ in range(2):
            results, counts = apart(learn, "whole epochs", folder, True)
            assert results == expected
        assert counts["read"] > 0


@check
def what_differs_is_traced():
    with tempfile.TemporaryDirectory() as folder:
        apart(learn, "code of the program", folder, False, 2.0)
        for factor in (3.0, 0.5):
            expected, _ = apart(learn, "code of the program", None, False, factor)
            results, counts = apart(learn, "code of the program", folder, False, factor)
            assert counts["read"] == 0
            assert results == expected


def _digest(environment):
    os.environ.update(environment)
    keras.utils.set_random_seed(0)
    model = dense()
    followed = cache.trace_key(model, "predict")
    return digests.digest(followed.key)


@check
def a_digest_depends_on_settings_and_versions():
    plain = apart(_digest, {})
    assert plain is not None
    assert plain == apart(_digest, {"TF_CPP_MIN_LOG_LEVEL": "2", "OTHER": "1"})
    assert plain != apart(_digest, {"TF_ENABLE_SOMETHING": "1"})
    assert plain != apart(_digest, {"XLA_FLAGS": ""})


@check
def what_has_no_name_elsewhere_has_no_digest():
    for place in range(len(NAMELESS)):
        assert apart(_has_no_digest, place), NAMELESS[place]


# Among them a class of this program: another program may mean another class by its name.
NAMELESS = (object(), lambda: 0, [threading.Lock()], (1, {2: 3}), Scaled)


def _has_no_digest(place):
    return digests.digest((1, NAMELESS[place])) is None


# --- files that are not what they should be ------------------------------------------------------


def _damaged(content, other):
    half = len(content) // 2
    return {
        "cut off": content[:half],
        "empty": b"",
        "one bit": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
        "longer": content + b"\0",
        "of another model": other,
        "of another version": content.replace(b"trace 1", b"trace 0", 1),
        "text": b"hello",
    }


@check
def damaged_and_foreign_files_are_not_used():
    with tempfile.TemporaryDirectory() as folder:
        expected, counts = apart(learn, "code of the program", folder)
        paths = [entry.path for entry in Store(folder).entries()]
        assert len(paths) > 2
        contents = [path.read_bytes() for path in paths]
        ways = list(_damaged(b"....", b""))
        while ways:
            for place, path in enumerate(paths):
                way = ways.pop() if ways else "empty"
                path.write_bytes(_damaged(contents[place], contents[place - 1])[way])
            (results, counted), messages = apart(
                with_messages, learn, "code of the program", folder
            )
            assert results == expected
            assert counted == {"read": 0, "kept": counts["kept"]}, counted
            assert len(messages) == len(paths), messages
            assert all("traced again" in message for message in messages), messages
        # They have been replaced.
        assert apart(learn, "code of the program", folder)[1]["kept"] == 0


def _stored_operation(folder, operation):
    """Return whether a stored graph with another operation is refused."""
    from tensorflow.core.framework import function_pb2

    (entry, *_) = Store(folder).entries()
    definition = Store(folder).get(entry.path.stem)
    library = function_pb2.FunctionDefLibrary.FromString(definition.library)
    library.function[0].node_def.add(name="more", op=operation)
    changed = definition._replace(library=library.SerializeToString())
    try:
        definitions.read(changed, (), cache.TraceKey((), [], False, False))
    except ValueError as error:
        return operation in str(error)
    return False


@check
def only_operations_of_traces_are_read():
    with tempfile.TemporaryDirectory() as folder:
        apart(learn, "code of the program", folder)
        for operation in ("WriteFile", "PyFunc", "RandomUniform", "NoSuchOperation"):
            assert apart(_stored_operation, folder, operation), operation
        assert not apart(_stored_operation, folder, "Add")


# --- folders -------------------------------------------------------------------------------------


@check
def a_folder_that_others_may_write_to_is_not_used():
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "new", "traces")
        keras_reduce.install(trace_cache=folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert trace_folders.current.user == str(folder)
        folder.chmod(0o770)
        with raises(FileError, str(folder), "other users may write to it"):
            keras_reduce.install(trace_cache=folder)
        (Path(parent) / "file").touch()
        with raises(FileError, "file"):
            keras_reduce.install(trace_cache=Path(parent) / "file")
        assert apart(learn, "code of the program", str(folder))[1]["kept"] > 0
        assert list(folder.iterdir()) == []
        keras_reduce.install()
        assert trace_folders.current.user == str(folder)
        keras_reduce.install(trace_cache=False)
        assert trace_folders.current.user is None


def _by_environment(path):
    os.environ["KERAS_REDUCE_TRACE_CACHE"] = path
    keras_reduce.uninstall()
    with logged("keras_reduce") as messages:
        keras_reduce.install()
    return trace_folders.current.user, messages


@check
def the_environment_names_a_folder():
    with tempfile.TemporaryDirectory() as folder:
        assert apart(_by_environment, folder) == (folder, [])
        Path(folder).chmod(0o777)
        path, (message,) = apart(_by_environment, folder)
        assert path is None
        assert "KERAS_REDUCE_TRACE_CACHE" in message
        assert apart(_by_environment, "") == (None, [])


@check
def the_least_recently_used_are_removed():
    definition = definitions.Definition(random.Random(0).randbytes(1000), b"", b"", [0], True)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(create(folder), most_bytes=4000)
        for name in "abc":
            store.put(name, definition)
            os.utime(Path(folder, f"{name}.trace"), (0, ord(name)))
        assert store.get("a") == definition
        store.put("d", definition)
        assert [entry.path.stem for entry in store.entries()] == ["c", "a", "d"]
        abandoned = Path(folder, "e.tmp")
        abandoned.touch()
        os.utime(abandoned, (0, 0))
        fresh = Path(folder, "f.tmp")
        fresh.touch()
        store.put("g", definition)
        assert fresh.exists()
        assert not abandoned.exists()
        store.clear()
        assert list(Path(folder).iterdir()) == []


def _by_the_command_line(*arguments):
    import contextlib
    import io

    from keras_reduce.__main__ import main as command

    with contextlib.redirect_stdout(io.StringIO()) as text:
        code = command(["cache", *arguments])
    return code, text.getvalue()


@check
def the_command_line_lists_and_clears():
    definition = definitions.Definition(b"1" * 1000, b"", b"", [], True)
    with tempfile.TemporaryDirectory() as folder:
        Store(folder).put("0123", definition)
        code, text = _by_the_command_line("list", folder)
        assert code == 0
        assert "0123" in text
        code, text = _by_the_command_line("size", folder)
        assert text.split()[:2] == ["1", "trace,"], text
        assert _by_the_command_line("clear", folder)[0] == 0
        assert Store(folder).entries() == []
        os.environ["KERAS_REDUCE_TRACE_CACHE"] = folder
        assert "0 traces" in _by_the_command_line("size")[1]
        del os.environ["KERAS_REDUCE_TRACE_CACHE"]
        assert _by_the_command_line("size") == (1, "")


# --- several processes and threads ---------------------------------------------------------------


@check
def many_write_at_once():
    context = multiprocessing.get_context("fork")
    expected, _ = apart(learn, "code of the program", None)
    with tempfile.TemporaryDirectory() as folder:
        with ProcessPoolExecutor(4, context) as pool:
            lessons = [pool.submit(learn, "code of the program", folder) for _ in range(4)]
            assert {lesson.result()[0] for lesson in lessons} == {expected}
        assert {path.suffix for path in Path(folder).iterdir()} == {".trace"}
        results, counts = apart(learn, "code of the program", folder)
        assert results == expected
        assert counts["kept"] == 0


def _beside_a_thread(folder):
    """Return all numbers of a lesson, while another thread traces and optimizes other functions."""
    is_done = threading.Event()
    values, errors = [], []

    def work(number=0):
        try:
            while not is_done.is_set():
                number += 1
                function = tf.function(lambda a, number=number: tf.linalg.matmul(a, a) + number)
                values.append(float(function(tf.eye(2))[0, 0]) - number)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        while not values and not errors:
            time.sleep(0.01)
        results = learn("whole epochs", folder)
    finally:
        is_done.set()
        thread.join()
    assert not errors, errors
    assert set(values) == {1.0}
    return results


@check
def other_threads_trace_meanwhile():
    with tempfile.TemporaryDirectory() as folder:
        expected, _ = apart(learn, "whole epochs", None)
        for _ in range(2):
            results, counts = apart(_beside_a_thread, folder)
            assert results == expected
        assert counts["kept"] == 0 < counts["read"]


def _in_a_worker():
    # An estimator's fit draws from these generators.
    return learn("whole epochs", trace_folders.current.user), trace_folders.current.program


@check
def workers_share_what_they_trace():
    expected, _ = apart(learn, "whole epochs", None)
    counts = []
    for _ in range(2):
        backend.shutdown()  # New workers for the next call.
        # A second task, since joblib runs a single one in the program.
        tasks = [delayed(_in_a_worker)(), delayed(abs)(1)]
        ((results, first), folder), _ = Parallel(2, backend="keras")(tasks)
        assert results == expected
        counts.append(first)
    assert counts[0]["read"] == 0 < counts[0]["kept"], counts
    assert counts[1] == {"read": counts[0]["kept"], "kept": 0}
    assert Path(folder).stat().st_mode & 0o777 == 0o700


if __name__ == "__main__":
    main()
