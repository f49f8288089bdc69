"""Custom objects of Keras 2 in a module that a reader can import."""

import tensorflow as tf


def activation(inputs):
    return 0.5 * inputs


class Scale(tf.Module):
    def __init__(self):
        super().__init__()
        self.factor = tf.Variable(2.0)
