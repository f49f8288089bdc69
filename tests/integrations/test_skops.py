"""Errors of `skops.io`, which can't hold Keras objects; they name the alternative."""

from importlib.util import find_spec
from textwrap import dedent

import pytest

from processes import python

# The part of skops 0.16 through which an object is written.
STAND_IN = {
    "skops/__init__.py": "",
    "skops/io/__init__.py": "from ._persist import dumps",
    "skops/io/_utils.py": """
        from functools import singledispatch

        @singledispatch
        def _get_state(obj, save_context):
            raise TypeError

        def get_state(value, save_context):
            return _get_state(value, save_context)
        """,
    "skops/io/_persist.py": """
        from ._utils import _get_state, get_state

        def of_object(obj, save_context):
            if callable(obj) or not hasattr(obj, "__dict__"):
                return repr(obj)
            return {name: get_state(each, save_context) for name, each in vars(obj).items()}

        def of_list(obj, save_context):
            return [get_state(each, save_context) for each in obj]

        _get_state.register(object)(of_object)
        _get_state.register(list)(of_list)

        def dumps(obj):
            return repr(get_state(obj, None)).encode()
        """,
}
PROGRAM = """
import keras, numpy as np
import keras_reduce
from sklearn.preprocessing import StandardScaler
if {first}:
    import skops.io
keras_reduce.install()
import skops.io
from skops.io import _utils

def build():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    return model

fitted = keras_reduce.KerasRegressor(build).fit(np.ones((4, 2)), np.ones(4))
for obj in (fitted, [fitted.model_], fitted.model_.layers[0]):
    try:
        skops.io.dumps(obj)
    except keras_reduce.ReduceError as error:
        assert "skops can't hold Keras objects" in str(error), error
        assert "keras_reduce.dump" in error.cure, error
    else:
        raise AssertionError(obj)
assert skops.io.dumps(StandardScaler())
original = _utils._get_state.__wrapped__
keras_reduce.uninstall()
assert _utils._get_state is original
"""


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("stand_in", [True, False] if find_spec("skops") else [True])
def test_skops_says_what_to_use(tmp_path, stand_in, first):
    if stand_in:
        for name, text in STAND_IN.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))
    python(PROGRAM.format(first=first), path=[tmp_path])
