"""A `tf.function` of the user's, as golden files refer to it: by its name, which must stay."""

import tensorflow as tf


@tf.function
def doubled(value):
    return value * 2.0
