"""Many small checks in one process: a TensorFlow process costs three seconds to start."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import signal
import sys
import traceback

from keras_reduce.core import keras_backend

CHECKS = {}
# Where pytest has not selected all. A program that this one starts has a selection of its own.
_SELECTED = os.environ.pop("KERAS_REDUCE_CHECKS", None)


def selected(names):
    """Return those of `names` that pytest has selected, in their order; elsewhere all."""
    return [name for name in names if _SELECTED is None or name in json.loads(_SELECTED)]


def entering(entries):
    """Return a decorator that enters functions into `entries`, by name.

    Those with ``needs``, backends of Keras by their names, only where Keras has one of these.
    """

    def enter(function=None, *, needs=""):
        if function is None:
            return lambda marked: enter(marked, needs=needs)
        if not needs or keras_backend.expected() in needs.split():
            entries[function.__name__] = function
        return function

    return enter


# A decorator for functions that fail by raising.
check = entering(CHECKS)


def compute_eagerly():
    """Have Keras compute without traces: each takes a second, and small models gain nothing."""
    if keras_backend.expected() == "tensorflow":
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)


def main(*texts):
    """Run checks in order, and print a word for each as it ends: empty, or what went wrong.

    Those with one of `texts` in their names, if there are any; else what pytest has selected.
    """
    # Sent when the time of a check is up: all threads then print their stacks.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    for name in CHECKS if texts else selected(CHECKS):
        if texts and not any(text in name for text in texts):
            continue
        function = CHECKS[name]
        print(name, file=sys.stderr, flush=True)  # where a program hangs
        word = ""
        try:
            function()
        except BaseException:
            word = traceback.format_exc()
        print(f"\nWORDS {json.dumps({name: word})}", flush=True)


def bits(found):
    """Write down what was found: the same text for the same bits.

    A pickle would tell identities as well: of two equal strings, whether they are one.
    """
    import numpy as np

    if isinstance(found, dict):
        return f"{{{', '.join(f'{name}: {bits(value)}' for name, value in found.items())}}}"
    if isinstance(found, (list, tuple)):
        return f"[{', '.join(map(bits, found))}]"
    if isinstance(found, np.ndarray) and (np.ma.isMaskedArray(found) or found.dtype.hasobject):
        return bits(found.tolist())  # What is behind a mask is anything, and objects are anywhere.
    if isinstance(found, np.ndarray):
        return f"{found.dtype} {found.shape} {found.tobytes().hex()}"
    return repr(found)


@contextlib.contextmanager
def logged(name):
    """Return the list of messages that a logger is given meanwhile."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger(name).addHandler(handler)
    try:
        yield messages
    finally:
        logging.getLogger(name).removeHandler(handler)


def is_path(where):
    """Tell whether a place in an object graph, or a file, is spelled as one."""
    is_file = "/" in where or where == "."
    return is_file or not (".." in where or where.startswith(".") or where.endswith("."))


def raises(kind, *fragments):
    """Return a context that demands an error of `kind` whose message has all `fragments`."""

    class Demand:
        def __enter__(self):
            return self

        def __exit__(self, error_type, error, trace):
            assert error is not None, f"{kind.__name__} was not raised"
            if not isinstance(error, kind):
                return False
            missing = [text for text in fragments if text not in str(error)]
            assert not missing, f"{missing} not in: {error}"
            assert is_path(getattr(error, "where", "")), f"not a path: {error.where!r}"
            self.error = error
            return True

    return Demand()
