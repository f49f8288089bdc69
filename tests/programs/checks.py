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
# Set unless pytest has selected all. A program that this one starts has its own selection.
_SELECTED = os.environ.pop("KERAS_REDUCE_CHECKS", None)


def selected(names):
    """Return those of `names` that pytest has selected, in their order; outside of pytest, all."""
    return [name for name in names if _SELECTED is None or name in json.loads(_SELECTED)]


def entering(entries):
    """Return a decorator that adds functions to the dictionary `entries`, by name.

    A function with ``needs``, names of Keras backends, is added only if Keras has one of these.
    """

    def enter(function=None, *, needs=""):
        if function is None:
            return lambda marked: enter(marked, needs=needs)
        if not needs or keras_backend.expected() in needs.split():
            entries[function.__name__] = function
        return function

    return enter


# A decorator for checks: functions that raise if they fail.
check = entering(CHECKS)


def compute_eagerly():
    """Make Keras run eagerly: a trace takes a second, and small models gain nothing from it."""
    if keras_backend.expected() == "tensorflow":
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)


def main(*texts):
    """Run checks in order; print a word for each as it ends: empty, or the reason for the failure.

    If there are `texts`, run the checks with one of them in their names; else the selected ones.
    """
    # The signal is sent when the time of a check is up: all threads then print their stacks.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    for name in CHECKS if texts else selected(CHECKS):
        if texts and not any(text in name for text in texts):
            continue
        function = CHECKS[name]
        print(name, file=sys.stderr, flush=True)  # so that stderr shows where a program hangs
        word = ""
        try:
            function()
        except BaseException:
            word = traceback.format_exc()
        print(f"\nWORDS {json.dumps({name: word})}", flush=True)


def bits(content):
    """Return a text for a value: the same text for the same bits.

    A pickle also depends on identities: on whether two equal strings are one object.
    """
    import numpy as np

    if isinstance(content, dict):
        return f"{{{', '.join(f'{name}: {bits(value)}' for name, value in content.items())}}}"
    if isinstance(content, (list, tuple)):
        return f"[{', '.join(map(bits, content))}]"
    if isinstance(content, np.ndarray) and (
        np.ma.isMaskedArray(content) or content.dtype.hasobject
    ):
        return bits(content.tolist())  # Bytes behind a mask are arbitrary, and so are addresses.
    if isinstance(content, np.ndarray):
        return f"{content.dtype} {content.shape} {content.tobytes().hex()}"
    return repr(content)


@contextlib.contextmanager
def logged(name):
    """Return the list of messages that a logger receives during the block."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger(name).addHandler(handler)
    try:
        yield messages
    finally:
        logging.getLogger(name).removeHandler(handler)


def is_path(where):
    """Tell whether a text is a valid path: into an object graph, or of a file."""
    is_file = "/" in where or where == "."
    return is_file or not (".." in where or where.startswith(".") or where.endswith("."))


def raises(kind, *fragments):
    """Return a context that requires an error of `kind` whose message has all `fragments`."""

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
