"""A workaround of old programs: the parts are saved separately and joined by hand.

``classic_cure.py save PATH`` trains and saves, ``classic_cure.py load PATH`` rebuilds.
"""

# ruff: noqa: N806, NPY002, PTH123  This is the style of programs of that time.

import pickle
import sys

import numpy as np
from tensorflow.keras.layers import Dense
from tensorflow.keras.models import Sequential, model_from_json
from tensorflow.keras.wrappers.scikit_learn import KerasRegressor


def create_model():
    model = Sequential()
    model.add(Dense(10, input_dim=5, activation="relu"))
    model.add(Dense(1))
    model.compile(loss="mean_squared_error", optimizer="adam")
    return model


def save(path):
    X = np.random.rand(100, 5)
    y = np.random.rand(100)
    estimator = KerasRegressor(build_fn=create_model, epochs=1, batch_size=32, verbose=0)
    estimator.fit(X, y)
    parts = {
        "architecture": estimator.model.to_json(),
        "weights": estimator.model.get_weights(),
        "params": estimator.get_params(),
    }
    with open(path, "wb") as file:
        pickle.dump(parts, file)
    return estimator


def load(path):
    with open(path, "rb") as file:
        parts = pickle.load(file)
    model = model_from_json(parts["architecture"])
    model.set_weights(parts["weights"])
    model.compile(loss="mean_squared_error", optimizer="adam")
    estimator = KerasRegressor(**parts["params"])
    estimator.model = model
    return estimator


if __name__ == "__main__":
    estimator = {"save": save, "load": load}[sys.argv[1]](sys.argv[2])
    print("predictions", estimator.predict(np.ones((2, 5))).tolist())
