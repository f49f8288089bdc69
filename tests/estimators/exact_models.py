"""A model that is exact enough for scikit-learn's checks of estimators."""

import functools


@functools.cache
def many_steps():
    """Return a class of models that take 12 steps with each batch: faster than 12 epochs."""
    global ManySteps  # So pickle finds it.
    import keras  # Workers import this module, and pytest collects with it.

    @keras.saving.register_keras_serializable()
    class ManySteps(keras.Model):
        def train_step(self, data):
            for _ in range(12):
                logs = super().train_step(data)
            return logs

    return ManySteps


def linear(meta):
    """Build a linear model that is exact enough for scikit-learn's checks.

    They compare results up to rounding in double precision, and a weight of 2 must be the same as a
    repeated sample: this needs the mean over weights, which Keras has as a reduction.
    """
    import keras  # Workers import this module.

    losses = keras.losses
    if meta["target_type_"] == "multilabel-indicator":
        units, activation, loss = meta["n_classes_"], "sigmoid", losses.BinaryCrossentropy
    elif "n_classes_" in meta:
        units, activation, loss = (
            meta["n_classes_"],
            "softmax",
            losses.SparseCategoricalCrossentropy,
        )
    else:
        units, activation, loss = meta["n_outputs_"], "linear", losses.MeanSquaredError
    inputs = keras.Input((meta["n_features_in_"],), dtype="float64")
    outputs = keras.layers.Dense(units, activation, dtype="float64")(inputs)
    model = many_steps()(inputs, outputs)
    model.compile(
        keras.optimizers.Adam(0.3),
        loss(reduction="mean_with_sample_weight", dtype="float64"),
        run_eagerly=True,
    )
    return model


def coder(meta):
    """Build an autoencoder for scikit-learn's checks, which compare results in double precision."""
    import keras  # Workers import this module.

    features = meta["n_features_in_"]
    code = keras.layers.Dense(2, dtype="float64", name="code")
    samples = keras.layers.Dense(features, dtype="float64")
    model = keras.Sequential([keras.Input((features,), dtype="float64"), code, samples])
    loss = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight", dtype="float64")
    model.compile("sgd", loss, run_eagerly=True)
    return model
