"""Custom objects in a module that every process of the tests can import."""

import keras
from sklearn.base import BaseEstimator, TransformerMixin


class ImportableScale(keras.layers.Layer):
    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape):
        self.gain = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gain")

    def call(self, inputs):
        return inputs * self.gain * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def importable_loss(y_true, y_pred):
    return keras.ops.mean(keras.ops.square(y_true - y_pred) * 1.5, axis=-1)


def tripled(value):
    return value * 3.0


class Tools:
    @staticmethod
    def tripled(value):
        return value * 3.0


def build_for_keras(X=None, y=None):  # noqa: N803
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile("adam", loss="mse", run_eagerly=True)
    return model


def build(units=4):
    model = keras.Sequential([keras.layers.Dense(units, "relu"), keras.layers.Dense(1)])
    model.compile("adam", loss="mse")
    return model


class ModelFeatures(TransformerMixin, BaseEstimator):
    """A regressor's predictions as features."""

    def __init__(self, regressor):
        self.regressor = regressor

    def fit(self, x, y):
        self.regressor_ = self.regressor.fit(x, y)
        return self

    def transform(self, x):
        return self.regressor_.predict(x).reshape(len(x), -1)


if keras.config.backend() == "tensorflow":
    import tensorflow as tf

    @tf.function
    def compiled(value):
        return value + 1.0
