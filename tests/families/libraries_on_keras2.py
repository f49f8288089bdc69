"""Objects of libraries that build on tf_keras, and objects from SavedModels; see `library_cases`.

TensorFlow Probability, TensorFlow Decision Forests, QKeras and KerasCV, and models that
``tf_keras.models.load_model`` returns for a SavedModel.
"""

from __future__ import annotations

import os
import tempfile

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import keras_cv
import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_decision_forests as tfdf
import tensorflow_probability as tfp
import tf_keras as keras
from qkeras import QLSTM, QActivation, QAdaptiveActivation, QConv2D, QDense, quantizers

from library_cases import carried, main, refused

tfd, tfpl, layers = tfp.distributions, tfp.layers, keras.layers
rng = np.random.default_rng(0)
VECTORS = rng.random((8, 6)).astype("float32")
SUMS = VECTORS.sum(1, keepdims=True)


def trained(x=VECTORS, y=SUMS):
    """Return a function that returns the predictions of a model and the outcome of training."""

    def use(model):
        keras.utils.set_random_seed(5)
        before = np.asarray(tf.convert_to_tensor(model(x)))
        if not model.optimizer:
            return [before, [np.asarray(value) for value in model.weights]]
        # Traced again on both sides: TensorFlow seeds an operation by its place in a graph.
        model.make_train_function(force=True)
        keras.utils.set_random_seed(6)
        losses = model.fit(x, y, shuffle=False, verbose=0).history["loss"]
        values = [*model.weights, *model.optimizer.variables]
        return [before, losses, [np.asarray(value) for value in values]]

    return use


def sequential(*parts, loss="mse"):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), *parts])
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(VECTORS, SUMS, verbose=0)
    return model


# --- TensorFlow Probability ----------------------------------------------------------------------


def surprise(truth, distribution):
    return -distribution.log_prob(truth)


def posterior(kernel_size, bias_size=0, dtype=None):
    size = kernel_size + bias_size
    return keras.Sequential(
        [
            tfpl.VariableLayer(2 * size, dtype=dtype),
            tfpl.DistributionLambda(
                lambda t: tfd.Independent(
                    tfd.Normal(t[..., :size], 1e-5 + tf.nn.softplus(t[..., size:])), 1
                )
            ),
        ]
    )


def prior(kernel_size, bias_size=0, dtype=None):
    return keras.Sequential(
        [
            tfpl.VariableLayer(kernel_size + bias_size, dtype=dtype),
            tfpl.DistributionLambda(lambda t: tfd.Independent(tfd.Normal(t, 1.0), 1)),
        ]
    )


@carried
def probability_weights():
    yield "any", sequential(tfpl.DenseVariational(1, posterior, prior, 0.1)), trained()
    for name in ("Reparameterization", "Flipout", "LocalReparameterization"):
        layer = getattr(tfpl, f"Dense{name}")
        yield f"dense {name}", sequential(layer(4, activation="relu"), layer(1)), trained()
    for name in ("Reparameterization", "Flipout"):
        convolution = getattr(tfpl, f"Convolution1D{name}")(2, 2)
        stack = layers.Reshape((6, 1)), convolution, layers.Flatten(), layers.Dense(1)
        yield f"convolution {name}", sequential(*stack), trained()


@carried
def probability_outputs():
    def ending(layer, width):
        return sequential(layers.Dense(width), layer, loss=surprise)

    normal = tfpl.DistributionLambda(
        lambda t: tfd.Normal(t[..., :1], 1e-3 + tf.math.softplus(t[..., 1:]))
    )
    yield "lambda", ending(normal, 2), trained()
    for name in ("IndependentNormal", "IndependentLogistic", "MultivariateNormalTriL"):
        cls = getattr(tfpl, name)
        yield name, ending(cls(1), cls.params_size(1)), trained()
    mixture = tfpl.MixtureNormal(2, [1])
    yield "mixture", ending(mixture, tfpl.MixtureNormal.params_size(2, [1])), trained()
    rule = tfpl.KLDivergenceRegularizer(tfd.Normal(0.0, 1.0), weight=0.1)
    yield "regularized", ending(tfpl.IndependentNormal(1, activity_regularizer=rule), 2), trained()


@refused
def probability_priors_that_cannot_be_unpickled():
    distribution = tfd.Independent(tfd.Normal(tf.zeros(1), 1.0), 1)
    rule = tfpl.KLDivergenceRegularizer(distribution, weight=0.1)
    ends = layers.Dense(2), tfpl.IndependentNormal(1, activity_regularizer=rule)
    yield "regularizer", sequential(*ends, loss=surprise), trained()


@refused
def probability_processes():
    class Kernel(layers.Layer):
        def __init__(self):
            super().__init__()
            self.amplitude = self.add_weight(name="amplitude", initializer="zeros")

        @property
        def kernel(self):
            amplitude = tf.nn.softplus(self.amplitude)
            return tfp.math.psd_kernels.ExponentiatedQuadratic(amplitude)

    points = keras.initializers.Constant(np.linspace(0, 1, 3).reshape(3, 1))
    process = tfpl.VariationalGaussianProcess(3, Kernel(), (1,), points)
    yield "process", keras.Sequential([keras.Input((6,)), layers.Dense(1), process]), trained()


# --- TensorFlow Decision Forests -----------------------------------------------------------------

TABLE = pd.DataFrame({"a": np.arange(60.0), "b": rng.random(60), "y": np.arange(60) // 30})


def rows():
    return tfdf.keras.pd_dataframe_to_tf_dataset(TABLE, label="y")


@carried
def forests_before_training():
    def use(forest):
        forest.fit(rows(), verbose=0)
        return forest.predict(rows(), verbose=0)

    yield "forest", tfdf.keras.RandomForestModel(num_trees=3, verbose=0), use


@refused
def forests_after_training():
    for name in ("RandomForestModel", "GradientBoostedTreesModel", "CartModel"):
        forest = getattr(tfdf.keras, name)(verbose=0)
        forest.fit(rows(), verbose=0)
        yield name, forest, None
    forest.save(folder := tempfile.mkdtemp())
    yield "loaded again", keras.models.load_model(folder), None


# --- QKeras --------------------------------------------------------------------------------------


@carried
def qkeras_layers():
    bits = quantizers.quantized_bits
    dense = QDense(4, kernel_quantizer=bits(4, 0, 1), bias_quantizer=bits(4))
    last = QDense(1, kernel_quantizer="quantized_po2(4)")
    yield "dense", sequential(dense, QActivation("quantized_relu(4)"), last), trained()
    drawn = QDense(4, kernel_quantizer=quantizers.stochastic_ternary())
    yield "stochastic", sequential(drawn, layers.Dense(1)), trained()
    noisy = QDense(4, kernel_quantizer=bits(4, 0, 1, qnoise_factor=0.5, use_variables=True))
    yield "noise", sequential(noisy, layers.Dense(1)), trained()
    adaptive = QAdaptiveActivation("quantized_relu", 4)
    yield "adaptive", sequential(adaptive, layers.Dense(1)), trained()
    convolution = QConv2D(2, (2, 1), kernel_quantizer=bits(4), bias_quantizer=bits(4))
    stack = layers.Reshape((6, 1, 1)), convolution, layers.Flatten(), layers.Dense(1)
    yield "convolution", sequential(*stack), trained()
    given = dict.fromkeys(("kernel_quantizer", "recurrent_quantizer", "bias_quantizer"), bits(4))
    yield "LSTM", sequential(layers.Reshape((3, 2)), QLSTM(2, **given), layers.Dense(1)), trained()


# --- KerasCV -------------------------------------------------------------------------------------

IMAGES = rng.random((2, 32, 32, 3)).astype("float32")


@carried
def cv_models():
    sizes = {"stackwise_filters": [8, 16], "stackwise_blocks": [2, 2], "stackwise_strides": [1, 2]}
    backbone = keras_cv.models.ResNetV2Backbone(
        **sizes, include_rescaling=True, input_shape=(32, 32, 3)
    )
    model = keras_cv.models.ImageClassifier(backbone=backbone, num_classes=2)
    model.compile("adam", "sparse_categorical_crossentropy")
    yield "classifier", model, trained(IMAGES, np.array([0, 1]))


@carried
def cv_layers():
    def use(layer):
        keras.utils.set_random_seed(2)
        return np.asarray(layer(IMAGES, training=True))

    for name in ("RandomFlip", "GridMask"):
        yield name, getattr(keras_cv.layers, name)(seed=1), use
    yield "DropBlock2D", keras_cv.layers.DropBlock2D(0.2, 3, seed=1), use
    yield "Grayscale", keras_cv.layers.Grayscale(1), use
    yield "Solarization", keras_cv.layers.Solarization((0, 255), seed=1), use


# --- SavedModels ---------------------------------------------------------------------------------


class Times(layers.Layer):
    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return self.factor * inputs

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def saved(*parts):
    model = sequential(*parts)
    model.save(folder := tempfile.mkdtemp())
    return folder


@carried
def saved_models_of_known_classes():
    plain = saved(layers.Dense(4, "relu"), layers.BatchNormalization(), layers.Dense(1))
    yield "plain", keras.models.load_model(plain), trained()
    path = saved(layers.Dense(1), Times(2.0))
    yield "given", keras.models.load_model(path, custom_objects={"Times": Times}), trained()


@refused
def saved_models_without_their_classes():
    model = keras.models.load_model(saved(layers.Dense(1), Times(2.0)))
    yield "layer", model.layers[1], None
    yield "model", model, None


if __name__ == "__main__":
    main()
