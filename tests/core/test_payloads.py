"""Contents of payloads, and errors for wrong ones: see ``core/payload_contents.py``."""

import pytest

from processes import ELSEWHERE, decorated, python

CHECKS = decorated("payload_contents.py", "check")


@pytest.mark.parametrize("name", CHECKS)
def test_payload(run_checks, name):
    run_checks("payload_contents.py").demand(name)


WRITE = """
import pickle, sys
import cloudpickle, joblib, keras, numpy as np
import keras_reduce
from keras import ops
keras_reduce.install()

class Scaled(keras.losses.Loss):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale
    def call(self, y_true, y_pred):
        return ops.mean((y_true - y_pred) ** 2) * self.scale

class Callable:
    def __init__(self, scale):
        self.scale = scale
    def __call__(self, y_true, y_pred):
        return ops.mean((y_true - y_pred) ** 2) * self.scale

def plain(y_true, y_pred):
    return ops.mean(ops.abs(y_true - y_pred))

def graph(loss):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    metric = keras.metrics.MeanAbsoluteError()
    model.compile("adam", loss, metrics=[metric], run_eagerly=True)
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    return {"loss": loss, "model": model, "metric": metric}

graphs = [graph(keras.losses.Huber(0.5)), graph(Scaled(2.0))]
pickle.dump(graphs, open("graphs.pickle", "wb"))
graphs += [graph(Callable(3.0)), graph(plain), graph(lambda y, p: ops.mean((y - p) ** 4))]
cloudpickle.dump(graphs, open("graphs.cloudpickle", "wb"))
joblib.dump(graphs, "graphs.joblib")
keras_reduce.dump(graphs, "graphs.ours")
expected = []
for each in graphs:
    each["model"].fit(np.ones((4, 2)), np.zeros((4, 1)), verbose=0)
    expected.append([each["model"].get_weights()[0].tolist(), float(each["metric"].result())])
pickle.dump(expected, open("expected", "wb"))
"""

READ = """
import pickle
import joblib, keras, numpy as np
expected = pickle.load(open("expected", "rb"))
for name in ("pickle", "cloudpickle", "joblib", "ours"):
    path = f"graphs.{name}"
    loaded = pickle.load(open(path, "rb")) if "pickle" in name else joblib.load(path)
    assert len(loaded) == (2 if name == "pickle" else 5)
    for each, (kernel, error) in zip(loaded, expected):
        model = each["model"]
        assert model.loss is each["loss"], (name, each["loss"])
        assert model._compile_metrics.metrics == [each["metric"]], name
        model.fit(np.ones((4, 2)), np.zeros((4, 1)), verbose=0)
        assert model.get_weights()[0].tolist() == kernel, name
        assert float(each["metric"].result()) == error, name
"""


def test_losses_and_metrics_beside_their_models_stay_one_in_another_process(tmp_path):
    python(WRITE, cwd=tmp_path)
    python(READ, cwd=tmp_path, **ELSEWHERE)
