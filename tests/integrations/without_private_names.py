"""joblib and its engines without private names: features that need a missing one are off.

Hides each name of each manifest in turn, and uses everything that this package patches.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys

import joblib
import numpy as np
from joblib import parallel

import keras_reduce
from checks import logged
from keras_reduce.core import private_names
from keras_reduce.integrations.patch_table import CHANGES
from keras_reduce.integrations.private import MANIFESTS
from keras_reduce.parallel.private import BACKEND

FIND = private_names.find
USES_WORKERS = {"workers": BACKEND, "backend": MANIFESTS["backend"]}
ALL = USES_WORKERS | MANIFESTS


@contextlib.contextmanager
def hidden(gone):
    for manifest in ALL.values():
        manifest._has_told = (
            False  # Private: only the first missing name is logged, so forget the earlier ones.
        )
    private_names.find = lambda name, default=None: default if name == gone else FIND(name, default)
    try:
        yield
    finally:
        private_names.find = FIND


def write_and_hash():
    array = np.arange(3.0)
    file = io.BytesIO()
    joblib.dump({"array": array, "text": "a"}, file)
    file.seek(0)
    assert joblib.load(file)["array"].tolist() == array.tolist()
    assert joblib.hash([array]) == joblib.hash([array.copy()])


def compute():
    assert parallel.Parallel(n_jobs=2)(parallel.delayed(abs)(-n) for n in range(3)) == [0, 1, 2]
    with joblib.parallel_config("loky"):
        assert parallel.Parallel(n_jobs=2)([parallel.delayed(abs)(-1)]) == [1]
    assert "keras_reduce.parallel.executor" not in sys.modules


def word(feature, gone):
    """Return an empty string, or the error without a private name."""
    with logged("keras_reduce") as messages, hidden(gone):
        for _ in range(2):
            with keras_reduce.installed():
                write_and_hash()
                if feature in USES_WORKERS:
                    compute()
    shown = f"is off: {gone.replace(':', '.')} can't be found, so"
    # Several features may need the same name.
    needing = [each for each in ALL.values() if gone in each.names]
    expected = [f"{each.feature} {shown} {each.instead}" for each in needing]
    is_told = ALL[feature].feature in "".join(messages)
    is_only_told_once = len(set(messages)) == len(messages) and set(messages) <= set(expected)
    return "" if is_told and is_only_told_once else f"told: {messages}"


if __name__ == "__main__":
    for change in CHANGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(change.module)
    for feature, manifest in ALL.items():
        names = [n for n in manifest.names if FIND(n, manifest) is not manifest]
        if len(names) == len(manifest.names):
            for name in names:
                print(f"WORDS {json.dumps({f'{feature} {name}': word(feature, name)})}")
