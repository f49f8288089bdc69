"""A user-defined `tf.function` to which golden files refer by its name, which must stay."""

import tensorflow as tf


@tf.function
def doubled(value):
    return value * 2.0
