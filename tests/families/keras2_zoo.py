"""The zoo of Keras 2: at least one object of every kind of that family that ships.

Run as a program, so that its classes and functions live in ``__main__``, where no reader can
import them from. Each case returns an object and the data to try it with; `keras2_probes` says how.
"""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras2_importable
from keras_reduce.families.keras2.framework import keras as keras2

keras = keras2()
layers, losses, metrics, optimizers = keras.layers, keras.losses, keras.metrics, keras.optimizers

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


rng = np.random.default_rng(0)
X = rng.normal(size=(24, 6)).astype("float32")
Y = (X @ rng.normal(size=(6, 1)) + 0.5).astype("float32")
LABELS = (rng.random(24) * 3).astype("int64")
IMAGES = rng.random((8, 12, 12, 3)).astype("float32")
TOKENS = (rng.random((16, 5)) * 20).astype("int64")
SERIES = rng.normal(size=(16, 7, 3)).astype("float32")
TARGETS = np.ones((16, 1), "float32")


def trained(model, x=X, y=Y, *, optimizer="adam", loss="mse", eager=True, **compile_args):
    """Compile and fit a model; eagerly by default, since tracing takes most of the time."""
    model.compile(optimizer=optimizer, loss=loss, run_eagerly=eager, **compile_args)
    model.fit(x, y, epochs=1, batch_size=8, shuffle=False, verbose=0)
    return model, x, y


def mlp(*hidden, outputs=1):
    hidden = hidden or (layers.Dense(8, activation="relu"),)
    return keras.Sequential([keras.Input((6,)), *hidden, layers.Dense(outputs)])


# --- ways to build a model ------------------------------------------------------------------


@case
def sequential():
    hidden = [layers.Dense(8, activation="relu"), layers.BatchNormalization()]
    return trained(mlp(*hidden), eager=False, metrics=["mae"])


@case
def sequential_without_input_shape():
    return trained(keras.Sequential([layers.Dense(4, activation="tanh"), layers.Dense(1)]))


@case
def sequential_with_input_dim():
    return trained(keras.Sequential([layers.Dense(4, input_dim=6), layers.Dense(1)]))


@case
def sequential_unbuilt():
    return keras.Sequential([layers.Dense(4), layers.Dense(1)]), None, None


@case
def functional_two_inputs_two_outputs():
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    hidden = layers.concatenate([layers.Dense(4)(a), layers.Dense(4)(b)])
    first = layers.Dense(1, name="first")(hidden)
    second = layers.Dense(3, activation="softmax", name="second")(hidden)
    model = keras.Model({"a": a, "b": b}, {"first": first, "second": second})
    return trained(
        model,
        {"a": X, "b": X[::-1].copy()},
        {"first": Y, "second": LABELS},
        loss={"first": "mse", "second": "sparse_categorical_crossentropy"},
        loss_weights={"first": 1.0, "second": 0.5},
        metrics={"second": ["accuracy"]},
        weighted_metrics={"first": ["mae"]},
    )


@case
def functional_shared_layer():
    inputs = keras.Input((6,))
    shared = layers.Dense(6, activation="tanh")
    return trained(keras.Model(inputs, layers.Dense(1)(shared(shared(inputs)))))


@case
def functional_with_operations():
    inputs = keras.Input((6,))
    hidden = tf.concat([tf.exp(-tf.square(inputs)), inputs * 2.0 + 1.0], axis=-1)
    return trained(keras.Model(inputs, layers.Dense(1)(hidden[:, 1:])))


@case
def functional_in_functional():
    inner = mlp(layers.Dense(5, activation="relu"), outputs=3)
    inner.compile("sgd", "mse")
    inputs = keras.Input((6,))
    return trained(keras.Model(inputs, layers.Dense(1)(inner(inputs))))


@case
def two_models_with_one_layer():
    shared = layers.Dense(4, activation="relu")
    one, two = mlp(shared), mlp(shared)
    trained(one)
    return {"one": one, "two": two}, X, Y


class Subclassed(keras.Model):
    def __init__(self, units, unusual):
        super().__init__()
        self.first = layers.Dense(units, activation="relu")
        self.rest = [layers.Dense(3), layers.Dense(1)]
        self.unusual = unusual

    def build(self, shape):
        self.scale = self.add_weight(
            name="scale", shape=(shape[-1],), initializer="ones", regularizer="l2"
        )
        super().build(shape)

    def call(self, inputs):
        hidden = self.first(inputs * self.scale)
        for layer in self.rest:
            hidden = layer(hidden)
        return hidden


@case
def subclassed_model():
    model, x, y = trained(Subclassed(4, unusual={1, 2}))
    model.note = {"a": [1, 2]}
    return model, x, y


class WithTrainStep(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = mlp()
        self.tracker = metrics.Mean(name="loss")

    def call(self, inputs):
        return self.inner(inputs)

    def compile(self, rate=0.1, **others):
        super().compile(**others)
        self.own_optimizer = optimizers.SGD(rate, momentum=0.9)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x) - y) ** 2)
        variables = self.inner.trainable_variables
        self.own_optimizer.apply_gradients(
            zip(tape.gradient(loss, variables), variables, strict=True)
        )
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}

    @property
    def metrics(self):
        return [self.tracker]


@case
def subclassed_with_train_step():
    model = WithTrainStep()
    model.compile(run_eagerly=True)
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    return model, X, Y


class FunctionalSubclass(keras.Model):
    def extra(self):
        return 1


@case
def functional_subclass():
    inputs = keras.Input((6,))
    return trained(FunctionalSubclass(inputs, layers.Dense(1)(inputs)))


class Holding(keras.Model):
    """A model with a config, whose inner layers have names with a counter."""

    def __init__(self, units=3, **others):
        super().__init__(**others)
        self.units = units
        inputs = keras.Input((6,))
        self.first = keras.Model(inputs, layers.Dense(units)(inputs))
        self.second = keras.Sequential([layers.Dense(units), layers.Dense(units)])
        self.last = layers.Dense(1)

    def call(self, inputs):
        a, b = inputs
        return self.last(self.first(a) + self.second(b))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@case
def subclassed_with_nameless_layers_and_two_inputs():
    return trained(Holding(4), [X, X])


@case
def adversarial():
    judge = mlp(layers.Dense(4))
    judge.compile("adam", "mse", run_eagerly=True)
    judge.trainable = False  # Frozen in the model around it, not when it trains by itself.
    inputs = keras.Input((6,))
    both = keras.Model(inputs, judge(layers.Dense(6)(inputs)))
    both.compile("adam", "mse", run_eagerly=True)
    for model in (judge, both):
        model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    return {"judge": judge, "both": both}, X, Y


@case
def model_with_an_optimizer_but_not_compiled():
    model = mlp()
    model.optimizer = optimizers.SGD(0.1, momentum=0.9)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(X) - Y) ** 2)
    variables = model.trainable_variables
    model.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    return model, X, Y


@case
def mobilenet():
    model = keras.applications.MobileNetV2(input_shape=(32, 32, 3), weights=None, classes=2)
    return model, np.ones((2, 32, 32, 3), "float32"), None


# --- layers ---------------------------------------------------------------------------------


class Configured(layers.Layer):
    """A layer with a config, which builds inner layers."""

    def __init__(self, factor=2.0, **others):
        super().__init__(**others)
        self.factor = factor

    def build(self, shape):
        self.gain = self.add_weight(name="gain", shape=(shape[-1],), initializer="ones")
        self.inner = layers.Dense(3)

    def call(self, inputs):
        return self.inner(inputs * self.gain * self.factor)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Bare(layers.Layer):
    """A layer without a config."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.supports_masking = True

    def call(self, inputs):
        return self.function(inputs)


def doubled(inputs):
    return 2 * inputs


@case
def custom_layers():
    return trained(mlp(Configured(3.0), Bare(lambda x: x + 1), layers.Dense(2, activation=doubled)))


@case
def custom_layer_of_a_module():
    return trained(mlp(layers.Dense(2, activation=keras2_importable.activation)))


@case
def lambdas():
    offset = 3.0
    hidden = [layers.Lambda(lambda x: x * offset), layers.Lambda(doubled)]
    return trained(mlp(*hidden, layers.Dense(2, activation=lambda x: x - offset)))


@case
def tied_variables():
    class Tied(layers.Layer):
        def __init__(self, other):
            super().__init__()
            self.other = other

        def call(self, inputs):
            return tf.matmul(inputs, self.other.kernel, transpose_b=True)

    dense = layers.Dense(4)
    return trained(mlp(dense, Tied(dense)))


@case
def recurrent():
    hidden = [layers.Bidirectional(layers.LSTM(3, return_sequences=True)), layers.GRU(2)]
    return trained(
        keras.Sequential([keras.Input((7, 3)), *hidden, layers.Dense(1)]), SERIES, TARGETS
    )


@case
def stateful_recurrent():
    hidden = [layers.LSTM(3, stateful=True)]
    inputs = keras.Input(batch_input_shape=(8, 7, 3))
    return trained(keras.Sequential([inputs, *hidden, layers.Dense(1)]), SERIES, TARGETS)


@case
def convolutions():
    hidden = [layers.Conv2D(4, 3, padding="same"), layers.SeparableConv2D(4, 3), layers.ReLU(6.0)]
    hidden += [layers.MaxPooling2D(), layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((12, 12, 3)), *hidden, layers.Dense(1)])
    return trained(model, IMAGES, TARGETS[:8])


@case
def embedding_and_attention():
    inputs = keras.Input((5,))
    hidden = layers.Embedding(20, 4, mask_zero=True)(inputs)
    hidden = layers.MultiHeadAttention(2, 4)(hidden, hidden)
    hidden = layers.TimeDistributed(layers.Dense(2))(hidden)
    model = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(hidden)))
    return trained(model, TOKENS, TARGETS)


@case
def normalization():
    layer = layers.Normalization()
    layer.adapt(X)
    return trained(mlp(layer, layers.LayerNormalization()))


@case
def lookups():
    words = np.array([["a"], ["b"], ["a"], ["c"]])
    lookup = layers.StringLookup()
    lookup.adapt(words)
    given = layers.IntegerLookup(vocabulary=[3, 5, 7], output_mode="one_hot")
    return {"words": Words(lookup), "numbers": given}, np.array([[3], [5], [4]]), None


class Words(layers.Layer):
    """A lookup of fixed words, which ignores the inputs."""

    def __init__(self, lookup):
        super().__init__()
        self.lookup = lookup

    def call(self, inputs):
        return self.lookup(tf.constant([["b"], ["z"], ["a"]]))


@case
def words_and_bins_with_weights():
    lookup = layers.StringLookup(output_mode="tf_idf", num_oov_indices=2)
    lookup.adapt(np.array([["a"], ["b"], ["a"], ["c"]]))
    bins = layers.Discretization(num_bins=3)
    bins.adapt(X)
    return {"words": Words(lookup), "bins": bins}, X, None


@case
def what_configs_leave_out():
    inverse = layers.Normalization(invert=True)
    inverse.adapt(X)
    penalised = layers.Activation("relu", activity_regularizer="l2")
    model, *_ = trained(mlp(inverse, layers.Dense(4), penalised))
    masking = layers.Flatten(dynamic=True, autocast=False)
    masking.supports_masking = True
    rest = [masking, layers.SpatialDropout2D(0.5, data_format="channels_first")]
    rest.append(layers.Embedding(3, 2, use_one_hot_matmul=True))
    rest.append(layers.AlphaDropout(0.3, noise_shape=(8, 1)))
    return {"model": model, "rest": rest}, X, Y


class Telling(layers.Layer):
    """A layer that adds a loss and a metric in each call."""

    def call(self, inputs):
        self.add_loss(0.1 * tf.reduce_mean(inputs**2))
        self.add_metric(tf.reduce_mean(inputs), name="told")
        return inputs

    def get_config(self):
        return super().get_config()


@case
def losses_and_metrics_of_layers():
    inputs = keras.Input((6,))
    hidden = Telling()(layers.Dense(3)(inputs))
    model = keras.Model(inputs, layers.Dense(1)(hidden))
    model.add_loss(tf.reduce_mean(hidden**2))
    model.add_metric(tf.reduce_sum(hidden), name="sum")
    return trained(model)


class WithModule(layers.Layer):
    """A layer with objects that only TensorFlow tracks, and a variable of any length."""

    def __init__(self, unusual=None, **others):
        super().__init__(**others)
        self.unusual = unusual
        self.module = keras2_importable.Scale()
        self.random = tf.random.Generator.from_seed(1)
        self.open = tf.Variable(np.ones((1, 2), "float32"), shape=(1, None), trainable=False)

    def call(self, inputs):
        noise = self.random.normal((1, 6))
        return inputs * self.module.factor + noise + tf.reduce_sum(self.open)


class WithModuleConfigured(WithModule):
    def get_config(self):
        return layers.Layer.get_config(self)

    def __init__(self, **others):
        super().__init__(**others)


@case
def layers_with_modules_of_tensorflow():
    hidden = [WithModule({1, 2}), WithModuleConfigured()]
    for layer in hidden:
        layer.open.assign(np.ones((1, 4)))
    return trained(mlp(*hidden))


@case
def dropout_with_a_generator():
    keras.backend.experimental.enable_tf_random_generator()
    try:
        return trained(mlp(layers.Dense(9), layers.Dropout(0.5)))
    finally:
        keras.backend.experimental.disable_tf_random_generator()


@case
def rules():
    hidden = layers.Dense(
        4,
        kernel_initializer=keras.initializers.HeNormal(1),
        kernel_regularizer=keras.regularizers.L1L2(0.1, 0.2),
        bias_constraint=keras.constraints.MaxNorm(0.5),
        activity_regularizer="l2",
    )
    return trained(mlp(hidden))


@case
def frozen_layer():
    model = mlp(layers.Dense(4), layers.BatchNormalization())
    model.layers[0].trainable = False
    return trained(model)


@case
def mixed_precision():
    hidden = layers.Dense(4, dtype=keras.mixed_precision.Policy("mixed_float16"))
    model = keras.Sequential([keras.Input((6,)), hidden, layers.Dense(1, dtype="float32")])
    scaled = keras.mixed_precision.LossScaleOptimizer(optimizers.Adam())
    return trained(model, optimizer=scaled)


@case
def layer_alone():
    layer = layers.Dense(3)
    layer(X)
    layer.note = "set from outside"
    return layer, X, None


@case
def layers_built_by_hand():
    built = [layers.Dense(3, activation="relu", kernel_regularizer="l2"), Configured(2.0)]
    for layer in built:
        layer.build((None, 6))
    built[1].inner.build((None, 6))
    return built, X, None


@case
def recurrent_layer_built_by_hand():
    layer = layers.LSTM(2)
    layer.build((None, 7, 3))
    return layer, SERIES, None


# --- optimizers, losses, metrics ------------------------------------------------------------


@case
def optimizer_with_schedule_and_average():
    schedule = optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    return trained(mlp(), optimizer=optimizers.Adam(schedule, use_ema=True, clipnorm=1.0))


@case
def optimizer_without_decay_of_some():
    model = mlp()
    optimizer = optimizers.AdamW(weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return trained(model, optimizer=optimizer)


@case
def legacy_optimizers():
    legacy = [optimizers.legacy.Adam(0.01), optimizers.legacy.SGD(0.1, momentum=0.9, decay=0.01)]
    return [trained(mlp(), optimizer=optimizer)[0] for optimizer in legacy], X, Y


@case
def optimizer_alone():
    optimizer = optimizers.Adam(0.1)
    variables = [tf.Variable(np.ones((3, 2), "float32")), tf.Variable(np.ones(2, "float32"))]
    for _ in range(2):
        optimizer.apply_gradients([(tf.ones((3, 2)), variables[0]), (tf.ones(2), variables[1])])
    return optimizer, None, None


@case
def optimizers_with_variables_besides_their_lists():
    several = [optimizers.Nadam(0.01), optimizers.Adafactor(0.01), Stepping(0.5)]
    return [trained(mlp(), optimizer=optimizer)[0] for optimizer in several], X, Y


class Stepping(optimizers.SGD):
    """An optimizer without a config."""

    def __init__(self, factor):
        super().__init__(0.01, momentum=0.5, name="Stepping")
        self.factor = factor
        self.steps = tf.Variable(0.0)

    def update_step(self, gradient, variable):
        self.steps.assign_add(self.factor)
        super().update_step(gradient * self.steps, variable)


class OwnOptimizer(optimizers.SGD):
    pass


class OwnLoss(losses.Loss):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, y_true, y_pred):
        return self.factor * tf.reduce_mean((y_true - y_pred) ** 2, -1)


class OwnMetric(metrics.Mean):
    def update_state(self, y_true, y_pred, sample_weight=None):
        return super().update_state(tf.abs(y_true - y_pred))


class LateMetric(metrics.Metric):
    """A metric that creates its variable at the first data."""

    def __init__(self, name="late", **others):
        super().__init__(name=name, **others)
        self.is_ready = False

    def update_state(self, y_true, y_pred, sample_weight=None):
        if not self.is_ready:
            self.total = self.add_weight("total", initializer="zeros")
            self.is_ready = True
        self.total.assign_add(tf.reduce_sum(y_pred))

    def result(self):
        return self.total if self.is_ready else 0.0

    def get_config(self):
        return super().get_config()


class AroundMetric(metrics.Metric):
    def __init__(self, unusual):
        super().__init__(name="around")
        self.unusual = unusual
        self.inner = metrics.Mean()

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.inner.update_state(y_pred)

    def result(self):
        return self.inner.result()

    def reset_state(self):
        self.inner.reset_state()


@case
def metrics_that_hold_others_or_build_late():
    return trained(mlp(), metrics=[LateMetric(), AroundMetric({1})])


@case
def loss_weight_in_a_variable():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, [layers.Dense(1)(inputs), layers.Dense(1)(inputs)])
    return trained(model, X, [Y, Y], loss_weights=[1.0, tf.Variable(0.5)])


@case
def initializer_that_has_drawn():
    initializer = keras.initializers.GlorotUniform()
    initializer((2, 2))
    return initializer, None, None


@case
def own_optimizer_loss_and_metric():
    optimizer = OwnOptimizer(0.1, momentum=0.5)
    return trained(mlp(), optimizer=optimizer, loss=OwnLoss(3.0), metrics=[OwnMetric(name="own")])


@case
def loss_and_metric_functions():
    def loss(y_true, y_pred):
        return tf.reduce_mean((y_true - y_pred) ** 2)

    return trained(mlp(), loss=loss, metrics=[lambda a, b: tf.reduce_max(a - b), doubled_error])


def doubled_error(y_true, y_pred):
    return 2 * tf.abs(y_true - y_pred)


@case
def classifier_with_metrics():
    model = mlp(layers.Dense(4), outputs=3)
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    return trained(model, X, LABELS, loss=loss, metrics=["accuracy"])


@case
def losses_and_metrics_alone():
    metric = metrics.MeanSquaredError()
    metric.update_state(Y, X[:, :1])
    tensor = metrics.MeanTensor()
    tensor.update_state(X)
    return {"loss": losses.Huber(0.3), "metric": metric, "own": OwnLoss(2.0)}, X[:, :1], Y


@case
def rules_and_schedules_alone():
    lone = [keras.regularizers.L2(0.3), keras.constraints.NonNeg(), keras.initializers.Ones()]
    lone += [optimizers.schedules.CosineDecay(0.1, 4), keras.mixed_precision.Policy("float64")]
    return lone, None, None


@case
def callbacks_after_use():
    model = mlp()
    stopping = keras.callbacks.EarlyStopping("loss", patience=3)
    plateau = keras.callbacks.ReduceLROnPlateau("loss")
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(X, Y, epochs=2, verbose=0, shuffle=False, callbacks=[stopping, plateau])
    return {"model": model, "callbacks": [stopping, plateau]}, X, Y


# --- estimators -----------------------------------------------------------------------------


def build(units=4):
    model = mlp(layers.Dense(units, activation="relu"))
    model.compile("adam", "mse", run_eagerly=True)
    return model


if keras.__version__.startswith("2.12"):
    # The last version that had wrappers.
    from tensorflow.keras.wrappers.scikit_learn import KerasRegressor

    @case
    def legacy_wrapper():
        estimator = KerasRegressor(build_fn=build, units=3, epochs=1, batch_size=8, verbose=0)
        return estimator.fit(X, Y) and estimator, X, Y

    @case
    def legacy_wrapper_in_a_search():
        estimator = KerasRegressor(build_fn=build, epochs=1, batch_size=8, verbose=0)
        pipeline = make_pipeline(StandardScaler(), estimator)
        grid = {"kerasregressor__units": [2, 3]}
        search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2, error_score="raise")
        return search.fit(X, Y), X, Y


if __name__ == "__main__":
    import transports

    transports.main(sys.argv[1], CASES, sys.argv[2:])
