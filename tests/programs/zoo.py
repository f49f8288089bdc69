"""The zoo: at least one object of every kind that ships.

Run as a program, so that its classes and functions live in ``__main__``, where no reader can
import them from. Each case returns an object and the data to try it with; `probes` says how.
"""

from __future__ import annotations

import functools
import tempfile
import types
import weakref

import keras
import numpy as np
from keras import layers, losses, metrics, ops, optimizers
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.ensemble import BaggingRegressor, StackingRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import importable
from checks import entering
from keras_reduce import KerasClassifier, KerasRegressor

BACKEND = keras.config.backend()
if BACKEND == "tensorflow":
    import tensorflow as tf
# On Torch, Keras's dropout without a seed draws from Torch's generator, which no model holds.
SEED = 11 if BACKEND == "torch" else None

CASES = {}


case = entering(CASES)


# --- data -----------------------------------------------------------------------------------

rng = np.random.default_rng(0)
X = rng.normal(size=(24, 6)).astype("float32")
Y = (X @ rng.normal(size=(6, 1)) + 0.5).astype("float32")
Y2 = (X @ rng.normal(size=(6, 2))).astype("float32")
LABELS = (rng.random(24) * 3).astype("int64")
IMAGES = rng.random((8, 12, 12, 3)).astype("float32")
TOKENS = (rng.random((16, 5)) * 20).astype("int64")
SERIES = rng.normal(size=(16, 7, 3)).astype("float32")
TEXT = np.array(["the cat sat", "a dog ran off", "the dog sat", "cats and dogs"] * 4, dtype=object)


def trained(model, x=X, y=Y, *, optimizer="adam", loss="mse", eager=True, epochs=1, **compile_args):
    """Compile and fit a model; eagerly by default, since tracing takes most of the time."""
    model.compile(optimizer=optimizer, loss=loss, run_eagerly=eager, **compile_args)
    model.fit(x, y, epochs=epochs, batch_size=8, shuffle=False, verbose=0)
    return model, x, y


def mlp(*hidden, outputs=1):
    hidden = hidden or (layers.Dense(8, activation="relu"),)
    return keras.Sequential([keras.Input((6,)), *hidden, layers.Dense(outputs)])


# --- ways to build a model ------------------------------------------------------------------


@case
def sequential():
    hidden = [
        layers.Dense(8, activation="relu"),
        layers.BatchNormalization(),
        layers.Dropout(0.3, seed=SEED),
    ]
    return trained(mlp(*hidden), eager=False, metrics=["mae"], epochs=2)


@case
def sequential_without_input_shape():
    return trained(keras.Sequential([layers.Dense(4, activation="tanh"), layers.Dense(1)]))


@case
def sequential_unbuilt():
    return keras.Sequential([layers.Dense(4), layers.Dense(1)]), None, None


@case
def sequential_uncompiled():
    return mlp(layers.Dense(4), layers.Dropout(0.5, seed=SEED)), X, None


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
def functional_list_of_outputs():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, [layers.Dense(1)(inputs), layers.Dense(2)(inputs)])
    return trained(model, X, [Y, Y2], loss=["mse", "mae"], metrics=[["mae"], ["mse"]])


@case
def functional_shared_layer():
    inputs = keras.Input((6,))
    shared = layers.Dense(6, activation="tanh")
    return trained(keras.Model(inputs, layers.Dense(1)(shared(shared(inputs)))))


@case
def functional_with_operations():
    inputs = keras.Input((6,))
    hidden = ops.concatenate([ops.exp(-ops.square(inputs)), inputs * 2.0 + 1.0], axis=-1)
    return trained(keras.Model(inputs, layers.Dense(1)(hidden)))


@case
def functional_in_functional():
    inner = mlp(layers.Dense(5, activation="relu"), outputs=3)
    inner.compile("sgd", "mse")
    inputs = keras.Input((6,))
    return trained(keras.Model(inputs, layers.Dense(1)(inner(inputs))))


@case
def residual_and_multiple_merges():
    inputs = keras.Input((6,))
    hidden = layers.add([inputs, layers.Dense(6)(inputs)])
    hidden = layers.multiply([hidden, layers.LayerNormalization()(hidden)])
    return trained(keras.Model(inputs, layers.Dense(1)(hidden)))


class MainModel(keras.Model):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(units, activation="relu")
        self.drop = layers.Dropout(0.25, seed=SEED)
        self.last = layers.Dense(1)

    def call(self, inputs, training=False):
        return self.last(self.drop(self.hidden(inputs), training=training))


@case
def subclassed_model():
    return trained(MainModel(5))


class ContainerModel(keras.Model):
    def __init__(self, depth=2, **kwargs):
        super().__init__(**kwargs)
        self.depth = depth
        self.stack = [layers.Dense(4, activation="relu") for _ in range(depth)]
        self.heads = {"one": layers.Dense(1), "two": layers.Dense(1)}

    def call(self, inputs):
        for layer in self.stack:
            inputs = layer(inputs)
        return self.heads["one"](inputs) + self.heads["two"](inputs)

    def get_config(self):
        return {**super().get_config(), "depth": self.depth}


@case
def subclassed_model_with_containers():
    return trained(ContainerModel(3))


class ModelOfModels(keras.Model):
    """A model that creates models in its constructor and in build(), with layers without names."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first = keras.Sequential([layers.Dense(units), layers.BatchNormalization()])
        inputs = keras.Input((units,))
        self.second = keras.Model(inputs, layers.Dense(units)(layers.Dense(3)(inputs)))

    def build(self, input_shape):
        self.last = keras.Sequential([layers.Dropout(0.3), layers.Dense(1)])
        super().build(input_shape)

    def call(self, inputs):
        return self.last(self.second(self.first(inputs)))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@case
def subclassed_model_of_models():
    return trained(ModelOfModels(4))


class OwnSequential(keras.Sequential):
    def __init__(self, units):
        super().__init__([layers.Dense(units), layers.Dense(1)])
        self.units = units

    def get_config(self):
        return {"units": self.units}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@case
def sequential_that_fills_itself():
    return trained(OwnSequential(3))


class OwnTrainStep(keras.Model):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.own_tracker = metrics.Mean(name="own")

    def train_step(self, data):
        logs = super().train_step(data)
        self.own_tracker.update_state(logs["loss"])
        return {**logs, "own": self.own_tracker.result()}

    @property
    def metrics(self):
        return [*super().metrics, self.own_tracker]


@case(needs="tensorflow torch")
def own_train_step():
    inputs = keras.Input((6,))
    return trained(OwnTrainStep(inputs, layers.Dense(1)(layers.Dense(4)(inputs))))


class OwnCompile(keras.Model):
    def compile(self, strength, **kwargs):
        super().compile(**kwargs)
        self.strength = strength

    def get_compile_config(self):
        return {**super().get_compile_config(), "strength": self.strength}

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))


@case
def own_compile():
    inputs = keras.Input((6,))
    return trained(OwnCompile(inputs, layers.Dense(1)(inputs)), strength=2.0)


class OwnArguments(keras.Model):
    """A class with a config, whose ``compile()`` takes what Keras doesn't record."""

    def __init__(self, units=1, **kwargs):
        super().__init__(**kwargs)
        self.units, self.last = units, layers.Dense(units)

    def call(self, inputs):
        return self.last(inputs)

    def compile(self, optimizer, slow, beta):
        super().compile(optimizer, keras.losses.Huber(beta), metrics=["mae"], run_eagerly=True)
        self.slow, self.beta, self.tracker = slow, beta, metrics.Mean(name="tracker")

    def train_step(self, data):
        kernel, bias = (ops.ones_like(v) * self.beta for v in self.last.trainable_variables)
        self.slow.apply([kernel, bias], self.last.trainable_variables)
        self.tracker.update_state(self.beta)
        return super().train_step(data)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@case(needs="tensorflow torch")
def own_compile_with_arguments_of_its_own():
    model = OwnArguments()
    model.compile(optimizers.Adam(0.01), optimizers.SGD(0.1, momentum=0.9), beta=0.5)
    model(X)
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    return model, X, Y


# --- custom objects -------------------------------------------------------------------------


class MainLayer(layers.Layer):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.unnamed = self.add_weight(shape=(self.units,), initializer="zeros")
        self.calls = self.add_weight(
            shape=(), initializer="zeros", dtype="int32", trainable=False, name="calls"
        )

    def call(self, inputs, training=False):
        if training:
            self.calls.assign_add(1)
        return ops.matmul(inputs, self.kernel) + self.unnamed

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@case
def layer_of_main():
    return trained(mlp(MainLayer(4)))


@case
def layer_without_get_config():
    class Shift(layers.Layer):
        def __init__(self, by, label="x"):
            super().__init__()
            self.by, self.label = by, label

        def call(self, inputs):
            return inputs + self.by

    return trained(mlp(Shift(0.5), layers.Dense(3)))


@case
def layer_of_a_closure():
    factor = 1.5

    class Scaled(layers.Layer):
        def call(self, inputs):
            return inputs * factor

    return trained(mlp(Scaled(), layers.Dense(3)))


@case
def two_classes_of_one_name():
    def make(sign):
        class Signed(layers.Layer):
            def call(self, inputs):
                return sign * inputs

        return Signed

    return trained(mlp(make(-1.0)(), layers.Dense(3), make(2.0)()))


@case
def layer_of_a_module():
    return trained(mlp(importable.ImportableScale(0.5)), loss=importable.importable_loss)


@keras.saving.register_keras_serializable(package="zoo", name="Registered")
class RegisteredLayer(layers.Dense):
    pass


@case
def registered_layer():
    return trained(mlp(RegisteredLayer(4)))


class Composite(layers.Layer):
    """A layer that creates its children where it is built, one of them without a fixed name."""

    def build(self, input_shape):
        self.inner = layers.Dense(input_shape[-1])
        self.inner.build(input_shape)
        self.norm = layers.LayerNormalization()
        self.norm.build(input_shape)

    def call(self, inputs):
        return self.norm(self.inner(inputs)) + inputs


@case
def composite_layer():
    return trained(mlp(Composite(), Composite()))


class SavesItself(layers.Layer):
    """Has state outside variables, and Keras's hooks for it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = np.zeros(3)
        self.words = ""

    def call(self, inputs):
        return inputs * float(self.table.sum())

    def save_own_variables(self, store):
        store["table"] = self.table

    def load_own_variables(self, store):
        self.table = np.array(store["table"])

    def save_assets(self, dir_path):
        with open(f"{dir_path}/words.txt", "w") as file:  # noqa: PTH123
            file.write(self.words)

    def load_assets(self, dir_path):
        with open(f"{dir_path}/words.txt") as file:  # noqa: PTH123
            self.words = file.read()


@case
def layer_that_saves_itself():
    layer = SavesItself()
    layer.table, layer.words = np.array([0.5, 0.25, 0.125]), "alpha\nbeta"
    return trained(mlp(layer, layers.Dense(2)))


def scaled(value):
    return value * OFFSET


OFFSET = 1.25


@case
def lambda_layers():
    local = 0.75
    return trained(
        mlp(
            layers.Lambda(lambda t: t * local + OFFSET),
            layers.Lambda(scaled, output_shape=(6,)),
            layers.Lambda(lambda t, by: t - by, arguments={"by": 2.0}),
        )
    )


@case
def lambda_loss_and_metric():
    return trained(
        mlp(),
        loss=lambda t, p: ops.mean(ops.abs(t - p) * OFFSET, axis=-1),
        metrics=[lambda t, p: ops.max(ops.abs(t - p), axis=-1)],
    )


class MainLoss(losses.Loss):
    def __init__(self, power=2.0, **kwargs):
        super().__init__(**kwargs)
        self.power = power

    def call(self, y_true, y_pred):
        return ops.mean(ops.abs(y_true - y_pred) ** self.power, axis=-1)

    def get_config(self):
        return {**super().get_config(), "power": self.power}


class MainMetric(metrics.Metric):
    def __init__(self, name="biggest", **kwargs):
        super().__init__(name=name, **kwargs)
        self.biggest = self.add_variable(shape=(), initializer="zeros", name="biggest")

    def update_state(self, y_true, y_pred, sample_weight=None):
        largest = ops.max(ops.abs(ops.convert_to_tensor(y_true) - y_pred))
        self.biggest.assign(ops.maximum(self.biggest, ops.cast(largest, self.biggest.dtype)))

    def result(self):
        return ops.convert_to_tensor(self.biggest)


@case
def loss_and_metric_of_main():
    return trained(mlp(), loss=MainLoss(1.5), metrics=[MainMetric(), "mae"])


def soft(value):
    return value / (1.0 + ops.abs(value))


def ramp(shape, dtype=None):
    return ops.reshape(ops.linspace(-1.0, 1.0, int(np.prod(shape))), shape)


class MainInitializer(keras.initializers.Initializer):
    def __init__(self, level=0.1):
        self.level = level

    def __call__(self, shape, dtype=None):
        return ops.ones(shape, dtype) * self.level

    def get_config(self):
        return {"level": self.level}


class MainRegularizer(keras.regularizers.Regularizer):
    def __call__(self, value):
        return 0.01 * ops.sum(ops.square(value))

    def get_config(self):
        return {}


class MainConstraint(keras.constraints.Constraint):
    def __call__(self, value):
        return ops.clip(value, -0.5, 0.5)


@case
def activation_initializer_regularizer_constraint_of_main():
    return trained(
        mlp(
            layers.Dense(
                5,
                activation=soft,
                kernel_initializer=MainInitializer(0.2),
                bias_initializer=ramp,
                kernel_regularizer=MainRegularizer(),
                bias_constraint=MainConstraint(),
            ),
            layers.Dense(4, activation=lambda v: ops.tanh(v) * OFFSET),
        )
    )


def weighted_error(y_true, y_pred, weight):
    return ops.mean(weight * ops.square(y_true - y_pred), axis=-1)


@case
def partial_as_loss():
    loss = functools.partial(weighted_error, weight=3.0)
    loss.__name__ = "weighted"
    return trained(mlp(), loss=loss)


class MainOptimizer(optimizers.SGD):
    pass


@case
def optimizer_of_main():
    return trained(mlp(), optimizer=MainOptimizer(0.01, momentum=0.9))


# --- layers with special state --------------------------------------------------------------


@case
def convolutions():
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.RandomFlip(seed=3),
            layers.Conv2D(4, 3, activation="relu"),
            layers.SeparableConv2D(4, 3),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.GroupNormalization(2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(1),
        ]
    )
    return trained(model, IMAGES, Y[:8])


@case
def mobilenet():
    model = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, weights=None, classes=3
    )
    return model, rng.random((2, 32, 32, 3)).astype("float32"), None


@case
def recurrent():
    model = keras.Sequential(
        [
            keras.Input((7, 3)),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True, dropout=0.2, seed=SEED)),
            layers.GRU(3, recurrent_dropout=0.1, seed=SEED),
            layers.Dense(1),
        ]
    )
    return trained(model, SERIES, Y[:16])


@case
def recurrent_stateful():
    model = keras.Sequential(
        [keras.Input(batch_shape=(8, 7, 3)), layers.LSTM(3, stateful=True), layers.Dense(1)]
    )
    if (
        BACKEND == "torch"
    ):  # Keras (3.15) can't train it on this backend: the states are changed in place.
        model.predict(SERIES, batch_size=8, verbose=0)
        return model, SERIES[:8], None
    return trained(model, SERIES, Y[:16])


@case
def recurrent_with_own_cell():
    cells = [layers.GRUCell(3), layers.LSTMCell(2)]
    model = keras.Sequential([keras.Input((7, 3)), layers.RNN(cells), layers.Dense(1)])
    return trained(model, SERIES, Y[:16])


@case
def transformer():
    inputs = keras.Input((5,), dtype="int64")
    hidden = layers.Embedding(20, 8, mask_zero=True)(inputs)
    attended = layers.MultiHeadAttention(2, 4, dropout=0.1, seed=SEED)(hidden, hidden)
    hidden = layers.LayerNormalization()(hidden + attended)
    model = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(hidden)))
    return trained(model, TOKENS, Y[:16])


@case
def noise_and_normalizations():
    hidden = [
        layers.GaussianNoise(0.1),
        layers.GaussianDropout(0.2),
        layers.AlphaDropout(0.1),
        layers.SpectralNormalization(layers.Dense(5)),
        layers.UnitNormalization(),
    ]
    return trained(mlp(*hidden))


@case
def wrapped_layers():
    model = keras.Sequential(
        [
            keras.Input((7, 3)),
            layers.TimeDistributed(layers.Dense(2)),
            layers.Masking(),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    return trained(model, SERIES, Y[:16])


@case
def normalization_adapted():
    layer = layers.Normalization()
    layer.adapt(X)
    return trained(mlp(layer))


@case(needs="tensorflow")
def discretization_adapted():
    layer = layers.Discretization(num_bins=4)
    layer.adapt(X)
    model = keras.Sequential([keras.Input((6,)), layer, layers.Embedding(4, 2), layers.Flatten()])
    return model, X, None


@case(needs="tensorflow")
def text_vectorization():
    layer = layers.TextVectorization(max_tokens=20, output_sequence_length=4)
    layer.adapt(TEXT)
    model = keras.Sequential(
        [
            keras.Input((1,), dtype="string"),
            layer,
            layers.Embedding(20, 3),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    return model, TEXT[:, None], None


@case(needs="tensorflow")
def text_vectorization_tf_idf():
    layer = layers.TextVectorization(max_tokens=12, output_mode="tf_idf")
    layer.adapt(TEXT)
    model = keras.Sequential([keras.Input((1,), dtype="string"), layer, layers.Dense(1)])
    return model, TEXT[:, None], None


@case(needs="tensorflow")
def string_and_integer_lookup():
    words, numbers = layers.StringLookup(), layers.IntegerLookup()
    words.adapt(["with\nnewline", "plain", "ünï¢ode", "plain"])
    numbers.adapt([7, 7, 9, 11])
    a, b = keras.Input((1,), dtype="string"), keras.Input((1,), dtype="int64")
    model = keras.Model([a, b], [words(a), numbers(b)])
    data = [
        np.array([["plain"], ["with\nnewline"], ["ünï¢ode"], ["unknown"]], dtype=object),
        np.array([[7], [9], [11], [12]]),
    ]
    return model, data, None


@case(needs="tensorflow")
def lookup_with_given_vocabulary():
    layer = layers.StringLookup(vocabulary=["b", "a"], invert=False, num_oov_indices=2)
    model = keras.Sequential([keras.Input((1,), dtype="string"), layer])
    return model, np.array([["a"], ["b"], ["c"]], dtype=object), None


@case(needs="tensorflow")
def hashing_and_category_encoding():
    inputs = keras.Input((1,), dtype="string")
    hidden = layers.CategoryEncoding(5, output_mode="one_hot")(layers.Hashing(5)(inputs))
    return keras.Model(inputs, layers.Dense(1)(hidden)), TEXT[:, None], None


# --- dtypes, flags, quantization ------------------------------------------------------------


@case
def mixed_float16():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Dense(1)])
    twin = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(4, dtype="mixed_float16"),
            layers.Dense(1, dtype="mixed_float16"),
        ]
    )
    twin.set_weights(model.get_weights())
    return trained(twin, optimizer=optimizers.LossScaleOptimizer(optimizers.Adam(0.01)))


@case
def bfloat16():
    hidden = [layers.Dense(4, dtype="bfloat16"), layers.Dense(4, dtype="mixed_bfloat16")]
    return trained(mlp(*hidden))


@case
def float64():
    model = keras.Sequential([keras.Input((6,), dtype="float64"), layers.Dense(1, dtype="float64")])
    return trained(model, X.astype("float64"), Y.astype("float64"))


@case
def frozen_layers():
    model = mlp(layers.Dense(4, name="frozen"), layers.BatchNormalization())
    model.get_layer("frozen").trainable = False
    model.layers[-1].bias.trainable = False
    return trained(model)


@case
def frozen_model():
    model = mlp(layers.Dense(4))
    model.trainable = False
    model.layers[0].trainable = True
    return model, X, None


@case
def regularizers_and_constraints():
    layer = layers.Dense(
        4,
        kernel_regularizer=keras.regularizers.L1L2(0.01, 0.02),
        bias_regularizer="l2",
        kernel_constraint="max_norm",
    )
    return trained(mlp(layer, layers.ActivityRegularization(0.01)))


@case
def lora():
    layer = layers.Dense(6)
    model = mlp(layer)
    layer.enable_lora(2)
    return trained(model)


@case
def quantized_int8():
    model = mlp(layers.Dense(8), layers.Dense(4))
    model.quantize("int8")
    return model, X, None


class WithInnerLayers(layers.Layer):
    """Makes its layers by itself, and says in get_config() what it was given."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.inner = layers.Dense(units)
        self.attention = layers.MultiHeadAttention(2, 3)

    def build(self, shape):
        self.inner.build(shape)
        self.attention.build((*shape[:-1], self.units), (*shape[:-1], self.units))
        self.built = True

    def call(self, inputs):
        hidden = self.inner(inputs)
        return self.attention(hidden, hidden)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def with_inner_layers():
    inner = WithInnerLayers(4)
    model = keras.Sequential([keras.Input((7, 3)), inner, layers.Flatten(), layers.Dense(1)])
    inner.inner.note = {"why": "from outside"}
    return model, [inner.inner, inner.attention.query_dense, inner.attention.output_dense]


@case
def lora_on_inner_layers():
    model, inner = with_inner_layers()
    for layer in inner:
        layer.enable_lora(2, lora_alpha=3)
    return trained(model, SERIES, Y[:16])


@case
def quantized_inner_layers():
    model, _ = with_inner_layers()
    model.quantize("int4")
    return model, SERIES, None


@case
def calibrated_by_gptq():
    embedding, head = layers.Embedding(20, 8), layers.Dense(20)
    block = keras.Sequential([layers.Dense(8), layers.EinsumDense("abc,cd->abd", (None, 8))])
    inputs = keras.Input((5,), dtype="int32")
    model = keras.Model(inputs, head(block(embedding(inputs))))
    config = keras.quantizers.GPTQConfig(
        dataset=[TOKENS[:1].astype("int32"), TOKENS[1:2].astype("int32")],
        tokenizer=lambda text: text,
        num_samples=2,
        sequence_length=5,
        group_size=4,
        quantization_layer_structure={
            "pre_block_layers": [embedding],
            "sequential_blocks": [block],
        },
    )
    model.quantize("gptq", config=config)
    return model, TOKENS, None


# --- optimizers -----------------------------------------------------------------------------


@case
def every_optimizer():
    schedule = optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)
    instances = [
        optimizers.SGD(0.01, momentum=0.9, nesterov=True),
        optimizers.RMSprop(centered=True, momentum=0.1),
        optimizers.AdamW(0.01, use_ema=True, ema_overwrite_frequency=2),
        optimizers.Adam(schedule, amsgrad=True, clipnorm=1.0),
        optimizers.Adam(gradient_accumulation_steps=2),
        optimizers.Nadam(optimizers.schedules.CosineDecay(0.01, 10)),
        optimizers.Adagrad(),
        optimizers.Adadelta(),
        optimizers.Adamax(),
        optimizers.Adafactor(),
        optimizers.Ftrl(l1_regularization_strength=0.01),
        optimizers.Lion(),
        optimizers.Lamb(),
        optimizers.Muon(),
    ]
    return {f"{o.name} {i}": trained(mlp(), optimizer=o)[0] for i, o in enumerate(instances)}, X, Y


@case
def optimizer_changed_after_compile():
    model, x, y = trained(mlp())
    model.optimizer.learning_rate = 0.05
    model.optimizer.clipvalue = 0.1
    return model, x, y


# --- references to the model around an object -----------------------------------------------


class OverModel(losses.Loss):
    def __init__(self, model):
        super().__init__(name="over_model")
        self.model = model

    def call(self, targets, outputs):
        return ops.mean((targets - outputs) ** 2) + ops.mean(ops.abs(self.model(X[:3])))


class WithPenalty(keras.Model):
    def __init__(self):
        super().__init__()
        self.last = layers.Dense(1)
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, inputs):
        return self.last(inputs) * self.scale

    def penalty(self, targets, outputs):
        return ops.mean((targets - outputs) ** 2) + self.scale**2


def residual(model, targets, outputs):
    return ops.mean((targets - outputs) ** 2) + ops.mean(ops.abs(model(X[:3])))


@case
def losses_over_their_own_model():
    closed, partial, instance, method = mlp(), mlp(), mlp(), WithPenalty()
    kernel = closed.layers[0].kernel

    def physics(targets, outputs):
        return residual(closed, targets, outputs) + ops.sum(kernel * kernel)

    def size(targets, outputs):
        return ops.sum(closed.layers[0].kernel)

    trained(closed, loss=physics, metrics=[size])
    trained(partial, loss=functools.partial(residual, partial))
    trained(instance, loss=OverModel(instance))
    trained(method, loss=method.penalty)
    return [closed, partial, instance, method], X, Y


class Tied(layers.Layer):
    """Decodes with the weights of an encoder, to which it refers weakly."""

    def __init__(self, encoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = weakref.ref(encoder)
        self.known = {"all": [weakref.ref(encoder), weakref.WeakMethod(encoder.call)]}
        self.scales = weakref.WeakKeyDictionary({encoder: 2.0})
        self.outer = None
        self.bias = self.add_weight(shape=(6,), initializer="zeros", name="bias")

    def call(self, inputs):
        (encoder, scale), (weak, method) = *self.scales.items(), self.known["all"]
        same = encoder is self.encoder() is weak() is method().__self__
        assert same, "it refers to another encoder"
        assert self.outer is None or self.outer() is not self
        return scale * ops.matmul(inputs, ops.transpose(encoder.kernel)) + self.bias


@case
def weak_references_between_layers():
    encoder = layers.Dense(4)
    inputs = keras.Input((6,))
    flow = encoder(inputs)
    decoder = Tied(encoder)
    model, x, y = trained(keras.Model(inputs, decoder(flow)), y=X)
    decoder.outer = weakref.ref(model)
    vars(model)["watched"] = weakref.proxy(encoder)  # Keras would track these.
    return model, x, y


# --- lone objects ---------------------------------------------------------------------------


@case
def lone_optimizers():
    lone = {}
    for optimizer in (
        optimizers.Adam(0.01),
        optimizers.SGD(optimizers.schedules.InverseTimeDecay(0.1, 1, 0.5), momentum=0.5),
        # On JAX, Keras can apply this one only within a compiled step.
        *([] if BACKEND == "jax" else [optimizers.LossScaleOptimizer(optimizers.RMSprop(0.01))]),
    ):
        variables = [keras.Variable(np.ones((3, 2))), keras.Variable(np.zeros(2))]
        optimizer.build(variables)
        for step in range(3):
            optimizer.apply([ops.ones((3, 2)) * (step + 1), ops.ones(2)], variables)
        lone[optimizer.name] = optimizer
    return {**lone, "fresh": optimizers.Nadam()}, None, None


def apply_to(optimizer, *networks):
    """Apply gradients to the networks in turn; the gradients differ between networks."""
    for scale, network in enumerate(networks, 1):
        variables = network.trainable_variables
        optimizer.apply([ops.ones(v.shape) * (scale / 8) for v in variables], variables)


class Trainer:
    """Holds networks of equal shapes, and an optimizer that trains all of them."""

    def __init__(self, optimizer):
        self.optimizer, self.one, self.two = optimizer, mlp(), mlp()
        optimizer.build([*self.one.trainable_variables, *self.two.trainable_variables])
        apply_to(optimizer, self.one, self.two)


@case
def optimizers_beside_their_models():
    objects = {}
    for optimizer in (
        optimizers.Adam(0.01, use_ema=True),
        optimizers.AdamW(0.01, weight_decay=0.5),
        *([] if BACKEND == "jax" else [optimizers.LossScaleOptimizer(optimizers.Adam(0.01))]),
    ):
        trainer = Trainer(optimizer)
        objects |= {f"one {optimizer.name}": trainer.one, optimizer.name: optimizer}
        objects[f"two {optimizer.name}"] = trainer.two
    model, x, y = trained(mlp())
    return {"beside": model.optimizer, **objects, "model": model}, x, y


class OwnNetworks(keras.Model):
    """Holds networks of equal shapes, and an optimizer that trains both."""

    def __init__(self):
        super().__init__()
        self.one, self.two = mlp(), mlp()
        self.shared = optimizers.Adam(0.01)
        self.shared.build([*self.two.trainable_variables, *self.one.trainable_variables])

    def call(self, inputs):
        return self.one(inputs) + self.two(inputs)


@case
def optimizer_that_models_share():
    shared, one, two = optimizers.Adam(0.01), mlp(), mlp()
    shared.build([*one.trainable_variables, *two.trainable_variables])
    for network in one, two:
        trained(network, optimizer=shared)
    trainer = OwnNetworks()
    trainer(X)
    apply_to(trainer.shared, trainer.one, trainer.two)
    return (
        {"two": two, "one": one, "own": trainer, "held": trainer.shared, "of own": trainer.two},
        X,
        Y,
    )


@case
def lone_layers():
    lone = {
        "dense": layers.Dense(3),
        "norm": layers.BatchNormalization(),
        "dropout": layers.Dropout(0.5, seed=SEED),
        "attention": layers.Dense(2, activation=soft),
        "own": MainLayer(2),
    }
    for layer in lone.values():
        layer(X, training=True)
    return {**lone, "unbuilt": layers.Dense(4)}, X, None


@case
def lone_metrics():
    scores = rng.random((24, 1)).astype("float32")
    hits = (scores > 0.4).astype("float32")
    lone = {}
    for metric in (
        metrics.Mean(),
        metrics.AUC(num_thresholds=10),
        metrics.PrecisionAtRecall(0.5),
        metrics.MeanAbsoluteError(),
        MainMetric(),
        metrics.MeanMetricWrapper(lambda t, p: ops.mean(ops.abs(t - p) * OFFSET, axis=-1)),
    ):
        metric.update_state(*((scores,) if type(metric) is metrics.Mean else (hits, scores)))
        lone[metric.name] = metric
    return lone, scores, hits


@case
def lone_losses():
    return (
        {
            "huber": losses.Huber(0.5),
            "main": MainLoss(1.5),
            "crossentropy": losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
        },
        X,
        X * 0.5,
    )


@case
def models_in_a_container():
    model, x, y = trained(mlp())
    return {"list": [model, model], "history": model.history, "other": trained(mlp())[0]}, x, y


@case
def lone_variables():
    rule = {"regularizer": keras.regularizers.L2(0.1), "constraint": keras.constraints.NonNeg()}
    variables = {
        "plain": keras.Variable(np.ones((2, 3)), name="plain"),
        "flags": keras.Variable([1, 2], dtype="int64", trainable=False, aggregation="sum"),
        "bfloat16": keras.Variable([0.1, 0.2], dtype="bfloat16", autocast=False),
        "bool": keras.Variable([True, False], dtype="bool", trainable=False),
        "ruled": keras.Variable(np.zeros(3)),
    }
    for name, value in rule.items():
        setattr(variables["ruled"], name, value)
    variables["ruled"].overwrite_with_gradient = True
    return {**variables, "twice": [variables["plain"], variables["plain"]]}, None, None


@case
def lone_seed_generators():
    used = keras.random.SeedGenerator(5)
    keras.random.normal((2,), seed=used)
    return {"used": used, "fresh": keras.random.SeedGenerator(), "list": [used]}, None, None


class PlainInitializer(keras.initializers.Initializer):
    """Has no config of its own."""

    def __init__(self, level, shape=lambda value: value):
        self.level, self.shape = level, shape

    def __call__(self, shape, dtype=None):
        return self.shape(ops.ones(shape, dtype) * self.level)


class PlainRegularizer(keras.regularizers.Regularizer):
    def __init__(self, weight):
        self.weight = weight

    def __call__(self, value):
        return self.weight * ops.sum(value)


class PlainSchedule(optimizers.schedules.LearningRateSchedule):
    def __init__(self, function):
        self.function = function

    def __call__(self, step):
        return self.function(step)


@case
def lone_rules():
    initializers, regularizers = keras.initializers, keras.regularizers
    schedules, constraints = optimizers.schedules, keras.constraints
    by_generator = initializers.RandomNormal(seed=keras.random.SeedGenerator(3))
    by_generator((2,))
    rules = [
        initializers.GlorotUniform(),
        initializers.Orthogonal(gain=2.0, seed=7),
        initializers.Identity(gain=3.0),
        by_generator,
        MainInitializer(0.3),
        PlainInitializer(0.2, lambda value: value * OFFSET),
        regularizers.L1L2(0.1, 0.2),
        regularizers.OrthogonalRegularizer(0.1, mode="columns"),
        MainRegularizer(),
        PlainRegularizer(0.5),
        constraints.MinMaxNorm(0.1, 0.9),
        MainConstraint(),
        schedules.PiecewiseConstantDecay([1, 3], [0.3, 0.2, 0.1]),
        schedules.CosineDecayRestarts(0.1, 2),
        PlainSchedule(lambda step: 0.1 * step + OFFSET),
        keras.dtype_policies.DTypePolicy("mixed_bfloat16"),
        keras.dtype_policies.QuantizedDTypePolicy("int8"),
        keras.dtype_policies.DTypePolicyMap(
            policy_map={"dense": keras.dtype_policies.DTypePolicy("mixed_float16")}
        ),
    ]
    return {"list": rules, "dict": {"same": rules[0]}}, None, None


@case
def symbolic_tensors():
    shared = layers.Dense(6, activation="tanh", name="shared")
    inputs = keras.Input((6,), name="inputs")
    hidden = shared(inputs)
    first, second = ops.split(ops.concatenate([hidden, shared(hidden)]), 2, axis=-1)
    outputs = {
        "inputs": inputs,
        "list": [first, second],
        "later": layers.Dense(1)(first * second),
        "model": keras.Model(inputs, second),
        "free": keras.KerasTensor((None, 3), "int32", name="free"),
        "shared": shared,
    }
    return outputs, X, None


@case
def keras_function():
    inputs = keras.Input((6,))
    hidden = layers.Dense(3, name="hidden")(inputs)
    outputs = [ops.exp(hidden), layers.Dense(2)(hidden)]
    return {"function": keras.Function(inputs, outputs), "of": hidden}, X, None


def compiled(function=None, **options):
    """Return the function compiled by `tf.function`; on other backends, the function itself."""
    if function is None:
        return lambda decorated: compiled(decorated, **options)
    return tf.function(function, **options) if BACKEND == "tensorflow" else function


@compiled(reduce_retracing=True)
def used_function(value):
    return ops.tanh(value) * OFFSET


class WithCompiledMethods(keras.Model):
    def __init__(self):
        super().__init__()
        self.last = layers.Dense(1)

    @compiled
    def step(self, inputs):
        self.last.bias.assign_add([1.0])
        return self.last(inputs)

    def call(self, inputs):
        return self.last(inputs)


@case(needs="tensorflow")
def compiled_functions():
    factor = keras.Variable(1.5)

    @tf.function(input_signature=[tf.TensorSpec((None, 6), tf.float32)])
    def scaling(value):
        return value * factor

    model = WithCompiledMethods()
    model(X)
    functions = {
        "used": used_function,
        "signature": scaling,
        "method": model.step,
        "module": importable.compiled,
    }
    for function in functions.values():
        function(X)
    return {**functions, "model": model}, X, None


class MainCallback(keras.callbacks.EarlyStopping):
    def __init__(self, note, **kwargs):
        super().__init__(**kwargs)
        self.note = note
        self.judge = lambda logs: logs["loss"] * OFFSET
        self.judged = []

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self.judged.append(self.judge(logs))


@case
def callbacks_after_use():
    folder = tempfile.mkdtemp(prefix="zoo")
    callbacks = {
        "stopping": keras.callbacks.EarlyStopping(
            "loss", patience=0, min_delta=1e3, restore_best_weights=True
        ),
        "main": MainCallback("mine", monitor="loss"),
        "lambda": keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
        "scheduler": keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * OFFSET),
        "plateau": keras.callbacks.ReduceLROnPlateau("loss", patience=0, min_delta=1e3),
        "log": keras.callbacks.CSVLogger(f"{folder}/log.csv"),
    }
    if BACKEND == "tensorflow":
        callbacks["board"] = keras.callbacks.TensorBoard(f"{folder}/board", histogram_freq=1)
    model = mlp()
    model.compile("adam", "mse", run_eagerly=True)
    for callback in callbacks.values():
        model.fit(X, Y, epochs=2, shuffle=False, verbose=0, callbacks=[callback])
    return {"model": model, **callbacks, "history": model.history}, X, Y


@case
def bound_methods():
    model, x, _ = trained(mlp())
    return {"predict": model.predict_on_batch, "call": model.call, "model": model}, x, None


@case(needs="tensorflow")
def feature_space():
    space = keras.utils.FeatureSpace(
        {"a": "float_normalized", "b": "string_categorical", "c": "integer_hashed"},
        crosses=[keras.utils.FeatureSpace.cross(("b", "c"), crossing_dim=8)],
    )
    data = {
        "a": np.linspace(0, 1, 16).astype("float32"),
        "b": np.array(["x", "y", "x", "z"] * 4),
        "c": np.arange(16),
    }
    space.adapt(tf.data.Dataset.from_tensor_slices(data).batch(4))
    inputs = space.get_encoded_features()
    encoder = keras.Model(space.get_inputs(), inputs)
    return {"space": space, "encoder": encoder}, {k: tf.constant(v) for k, v in data.items()}, None


# --- attributes, state, arguments of constructors -------------------------------------------


class Adversaries(keras.Model):
    """Two models and two optimizers, as in Keras's own examples; no get_config."""

    def __init__(self, one, two, noise):
        super().__init__()
        self.one, self.two, self.noise = one, two, noise
        self.tracker = metrics.Mean(name="tracker")

    def compile(self, one, two):
        super().compile(run_eagerly=True)
        self.one_optimizer, self.two_optimizer = one, two

    def train_step(self, data):
        x, y = data
        for model, optimizer in (self.one, self.one_optimizer), (self.two, self.two_optimizer):
            with tf.GradientTape() as tape:
                loss = ops.mean(ops.square(model(x + self.noise, training=True) - y))
            variables = model.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
            self.tracker.update_state(loss)
        return {"tracker": self.tracker.result()}

    def call(self, inputs):
        return self.one(inputs) + self.two(inputs)


@case(needs="tensorflow")
def adversaries():
    one, two = mlp(layers.Dropout(0.5, seed=SEED)), mlp(layers.Dense(2))
    one, _, _ = trained(one)
    model = Adversaries(one, two, np.linspace(-1, 1, 6).astype("float32"))
    model.compile(optimizers.Adam(0.01), optimizers.SGD(0.1, momentum=0.9))
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    model.build((None, 6))
    return {"model": model, "one": one, "history": one.history}, X, Y


class Configured(keras.Model):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units, self.steps, self.table = units, 0, {"seen": []}
        self.last = layers.Dense(units)

    def train_step(self, *state_and_data):
        self.steps += 1
        self.table["seen"].append(self.steps)
        return super().train_step(*state_and_data)

    def call(self, inputs):
        return self.last(inputs) * (1.0 + self.steps)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@case
def attributes_at_every_level():
    model, x, y = trained(Configured(1))
    model.note, model.last.note = {"by": ["me", np.arange(3)]}, ("inner", 1)
    model.last.parent = types.SimpleNamespace(layer=model.last)
    outer = keras.Sequential([keras.Input((6,)), layers.Dense(6), model])
    outer.layers[0].rule = MainRegularizer()
    outer.compile("sgd", "mse", run_eagerly=True)
    return {"outer": outer, "inner": model, "held": [outer.layers[0].rule]}, x, y


# --- estimators -----------------------------------------------------------------------------


def build_regressor(units=8, outputs=1):
    model = mlp(
        layers.Dense(units, activation="relu"), layers.Dropout(0.2, seed=SEED), outputs=outputs
    )
    model.compile("adam", loss="mse", run_eagerly=True)
    return model


def build_classifier():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, activation="relu"),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", loss="sparse_categorical_crossentropy", run_eagerly=True)
    return model


def regressor(**parameters):
    return KerasRegressor(build_regressor, **{"epochs": 1, "random_state": 0, **parameters})


@case
def wrapper():
    return regressor(units=4).fit(X, Y[:, 0]), X, None


@case
def wrapper_with_lambda():
    width = 5
    return KerasRegressor(lambda: build_regressor(width), epochs=1).fit(X, Y[:, 0]), X, None


@case
def wrapper_with_keras_objects():
    model, initializer = mlp(), keras.initializers.RandomNormal(seed=keras.random.SeedGenerator(2))
    factor = keras.Variable(2.0)

    def build(units=2, callbacks=None, optimizer=None):
        hidden = layers.Dense(6, kernel_initializer=initializer)
        twin = keras.Sequential([keras.Input((6,)), hidden, keras.models.clone_model(model)])
        twin.compile(
            keras.optimizers.SGD.from_config(optimizer.get_config()),
            lambda t, p: ops.mean(ops.square(t - p) * factor),
            run_eagerly=True,
        )
        return twin

    stopping = keras.callbacks.EarlyStopping("loss", patience=0, restore_best_weights=True)
    noted = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epoch * OFFSET)
    estimator = KerasRegressor(
        build, epochs=2, callbacks=[stopping, noted], optimizer=optimizers.SGD(0.01)
    )
    return make_pipeline(StandardScaler(), estimator).fit(X, Y[:, 0]), X, None


@case
def every_kind_in_a_closure():
    model, _, _ = trained(mlp())
    inputs = keras.Input((6,), name="inputs")
    hidden = layers.Dense(2)
    held = {
        "models": [model, keras.Function(inputs, hidden(inputs)), hidden],
        "method": model.predict_on_batch,
        "history": model.history,
        "callback": keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: OFFSET),
        "tensor": inputs,
        "optimizer": optimizers.Adam(optimizers.schedules.CosineDecay(0.1, 3)),
        "metric": metrics.AUC(num_thresholds=5),
        "loss": losses.Huber(0.5),
        "variable": keras.Variable([1.0, 2.0], name="held"),
        "generator": keras.random.SeedGenerator(3),
        "compiled": used_function,
        "rules": [
            MainInitializer(0.3),
            keras.initializers.GlorotUniform(),
            MainRegularizer(),
            keras.constraints.NonNeg(),
            optimizers.schedules.ExponentialDecay(0.1, 2, 0.5),
            keras.dtype_policies.DTypePolicy("mixed_bfloat16"),
        ],
    }

    def tell():
        return held

    return KerasRegressor(tell, epochs=1), X, Y


@case
def wrapper_in_pipeline():
    return make_pipeline(StandardScaler(), regressor()).fit(X, Y[:, 0]), X, None


@case
def classifier():
    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    return KerasClassifier(build_classifier, epochs=1).fit(x[::5], names[::5]), x[::5], None


@case
def wrapper_in_column_transformer():
    def build():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
        model.compile("sgd", loss="mse", run_eagerly=True)
        return model

    columns = ColumnTransformer(
        [
            ("keras", importable.ModelFeatures(KerasRegressor(build, epochs=1)), [0, 1, 2]),
            ("rest", "passthrough", [3, 4, 5]),
        ]
    )
    return make_pipeline(columns, Ridge()).fit(X, Y[:, 0]), X, None


@case
def wrapper_in_stacking():
    stack = StackingRegressor([("keras", regressor()), ("ridge", Ridge())], Ridge(), cv=2)
    return stack.fit(X, Y[:, 0]), X, None


@case
def wrapper_in_bagging():
    return BaggingRegressor(regressor(), n_estimators=2, random_state=0).fit(X, Y[:, 0]), X, None


@case
def wrapper_in_multi_output():
    return MultiOutputRegressor(regressor()).fit(X, Y2), X, None


@case
def wrapper_in_target_transformer():
    return TransformedTargetRegressor(regressor(), transformer=StandardScaler()).fit(X, Y), X, None


@case
def fitted_search():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), regressor()),
        {"kerasregressor__units": [2, 3]},
        cv=2,
        error_score="raise",
    )
    return search.fit(X, Y[:, 0]), X, None


@case
def wrapper_of_keras():
    wrapper = keras.wrappers.SKLearnRegressor(
        importable.build_for_keras, fit_kwargs={"epochs": 2, "verbose": 0}
    )
    return wrapper.fit(X, Y), X, None


@case
def wrapper_of_scikeras():
    from scikeras.wrappers import KerasRegressor as SciKerasRegressor

    return (
        SciKerasRegressor(importable.build_for_keras, epochs=1, verbose=0).fit(X, Y[:, 0]),
        X,
        None,
    )


if __name__ == "__main__":
    import sys

    import transports

    transports.main(sys.argv[1], CASES, sys.argv[2:])
