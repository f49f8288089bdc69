"""User-defined code to which golden files refer by the names in this module, which must stay."""

import tensorflow as tf

try:
    import tf_keras as keras
except ImportError:
    from tensorflow import keras


class Scale(keras.layers.Layer):
    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape):
        self.gain = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gain")

    def call(self, inputs):
        return inputs * self.gain * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Subclassed(keras.Model):
    """Has no get_config: travels by its attributes."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(units, activation="tanh")
        self.heads = {"one": keras.layers.Dense(1), "two": [keras.layers.Dense(1)]}

    def call(self, inputs):
        hidden = self.hidden(inputs)
        return self.heads["one"](hidden) + self.heads["two"][0](hidden)


class Counting(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)


def loss(y_true, y_pred):
    return tf.reduce_mean(tf.square(y_true - y_pred) * 1.5, axis=-1)


def build(units=4):
    hidden = keras.layers.Dense(units, activation="relu")
    model = keras.Sequential([keras.Input((3,)), hidden, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


class HalfCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Has no get_config."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return self.rate * tf.cos(tf.cast(step, "float32") / 10)
