"""Models that are exact enough for scikit-learn's checks of estimators, which fit hundreds."""

import functools


@functools.cache
def least_squares():
    """Return a class of models with one layer, whose step solves the batch by least squares.

    An optimizer would need a dozen steps. Keras computes the loss with its weights as ever.
    """
    global LeastSquares  # So pickle finds it.
    import keras  # Workers import this module, and pytest collects with it.

    @keras.saving.register_keras_serializable()
    class LeastSquares(keras.Model):
        def train_step(self, data):
            ops = keras.ops
            x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
            loss = self.compute_loss(x, y, self(x, training=True), weights)
            layer = self.layers[-1]
            x = ops.convert_to_tensor(x, "float64", sparse=False)
            if layer.activation is keras.activations.softmax:
                y = ops.one_hot(y, layer.units, dtype="float64")
            y = ops.reshape(ops.cast(y, "float64"), (-1, layer.units))
            if layer.activation is not keras.activations.linear:
                y = 8 * y - 4  # Logits: an activation makes probabilities of them.
            ones = ops.ones_like(x[:, :1])
            x = ops.concatenate([x, ones], axis=1)
            weighted = x if weights is None else x * ops.cast(weights, "float64")[:, None]
            # A little of the unit matrix, since there may be fewer samples than features.
            moments = ops.matmul(ops.transpose(weighted), x) + 1e-3 * ops.eye(
                x.shape[1], dtype="float64"
            )
            solved = ops.solve(moments, ops.matmul(ops.transpose(weighted), y))
            layer.kernel.assign(solved[:-1])
            layer.bias.assign(solved[-1])
            return {"loss": loss}

    return LeastSquares


def linear(meta):
    """Build a linear model that is exact enough for scikit-learn's checks.

    They compare results up to rounding in double precision, and a weight of 2 must be the same as a
    repeated sample.
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
    model = least_squares()(inputs, outputs)
    model.compile("sgd", loss(dtype="float64"), run_eagerly=True)
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
