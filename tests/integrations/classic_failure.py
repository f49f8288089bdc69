"""A program in the style of old ones: it trains an estimator and pickles it to the file argv[1]."""

# ruff: noqa: NPY002, PTH123  This is the style of programs of that time.

import pickle
import sys

import numpy as np
from tensorflow.keras.layers import Dense
from tensorflow.keras.models import Sequential
from tensorflow.keras.wrappers.scikit_learn import KerasRegressor


def create_model():
    model = Sequential()
    model.add(Dense(10, input_dim=5, activation="relu"))
    model.add(Dense(1))
    model.compile(loss="mean_squared_error", optimizer="adam")
    return model


X = np.random.rand(100, 5)
y = np.random.rand(100)

estimator = KerasRegressor(build_fn=create_model, epochs=1, batch_size=32, verbose=0)
history = estimator.fit(X, y)
print("loss", history.history["loss"][-1])

with open(sys.argv[1], "wb") as file:
    pickle.dump(estimator, file)
print("predictions", estimator.predict(np.ones((2, 5))).tolist())
