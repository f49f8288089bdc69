"""Programs like those in SciKeras's documentation; the module of the wrappers is a parameter."""

import contextlib

import keras
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier
from sklearn.metrics import accuracy_score, mean_squared_error
from sklearn.preprocessing import FunctionTransformer, LabelEncoder

rng = np.random.default_rng(0)
X = rng.normal(size=(48, 4)).astype("float32")
IMAGES = rng.random((24, 16)).astype("float32")
Y = X.sum(axis=1)
YES = (X[:, 0] > 0).astype(int)
KINDS = np.digitize(X[:, 1], [-0.5, 0.5])
BOTH = np.column_stack([YES, KINDS])
OPTIONS = {"random_state": 0, "verbose": 0, "epochs": 2}


@contextlib.contextmanager
def deterministic_operations():
    """Let TensorFlow use deterministic kernels, as SciKeras does during a seeded fit."""
    from tensorflow.python.framework import config

    config.enable_op_determinism()
    try:
        yield
    finally:
        config.disable_op_determinism()


def two_heads(meta):
    inputs = keras.Input((meta["n_features_in_"],))
    hidden = keras.layers.Dense(8, "relu")(inputs)
    one = keras.layers.Dense(1, "sigmoid", name="one")(hidden)
    many = keras.layers.Dense(meta["n_classes_"][1], "softmax", name="many")(hidden)
    model = keras.Model(inputs, [one, many])
    model.compile("adam", ["binary_crossentropy", "sparse_categorical_crossentropy"])
    return model


class Heads(TransformerMixin, BaseEstimator):
    """An encoder of two columns of labels as targets of two outputs of unequal shapes."""

    def fit(self, y):
        self.encoders_ = [LabelEncoder().fit(column) for column in y.T]
        return self

    def transform(self, y):
        pairs = zip(self.encoders_, y.T, strict=True)
        return [encoder.transform(column) for encoder, column in pairs]

    def inverse_transform(self, y, return_proba=False):
        if return_proba:
            return y
        positions = (y[0][:, 0] > 0.5).astype(int), y[1].argmax(axis=1)
        pairs = zip(self.encoders_, positions, strict=True)
        return np.column_stack([encoder.inverse_transform(each) for encoder, each in pairs])

    def get_metadata(self):
        return {
            "n_classes_": [len(encoder.classes_) for encoder in self.encoders_],
            "n_outputs_expected_": len(self.encoders_),
        }


def classifier_with_two_heads(wrappers, model=two_heads, **parameters):
    class TwoHeads(wrappers.KerasClassifier):
        @property
        def target_encoder(self):
            return Heads()

        @staticmethod
        def scorer(y_true, y_pred, **kwargs):
            pairs = zip(y_true.T, y_pred.T, strict=True)
            return np.mean([accuracy_score(*pair, **kwargs) for pair in pairs])

    return TwoHeads(model, **{**OPTIONS, **parameters})


def two_inputs():
    left, right = keras.Input((1,), name="left"), keras.Input((3,), name="right")
    parts = [keras.layers.Dense(5, "relu")(each) for each in (left, right)]
    outputs = keras.layers.Dense(1)(keras.layers.Concatenate()(parts))
    model = keras.Model([left, right], outputs)
    model.compile("adam", "mse")
    return model


def split(array):
    return [array[:, :1], array[:, 1:]]


def regressor_with_two_inputs(wrappers, **parameters):
    class TwoInputs(wrappers.KerasRegressor):
        @property
        def feature_encoder(self):
            return FunctionTransformer(func=split)

    return TwoInputs(two_inputs, **{**OPTIONS, **parameters})


def image_model(meta):
    layers = [keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 2), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(meta["n_classes_"], "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def classifier_of_images(wrappers, **parameters):
    class Images(wrappers.KerasClassifier):
        @property
        def feature_encoder(self):
            return FunctionTransformer(func=lambda array: array.reshape(-1, 4, 4, 1))

    return Images(image_model, **{**OPTIONS, **parameters})


def autoencoder(wrappers, **parameters):
    class AutoEncoder(wrappers.BaseWrapper, TransformerMixin):
        def _keras_build_fn(self, size, meta):
            width = meta["n_features_in_"]
            inputs = keras.Input((width,))
            encoder = keras.Model(inputs, keras.layers.Dense(size, "relu")(inputs))
            code = keras.Input((size,))
            decoder = keras.Model(code, keras.layers.Dense(width, "sigmoid")(code))
            whole = keras.Input((width,))
            self.encoder_ = wrappers.BaseWrapper(encoder, verbose=self.verbose)
            self.decoder_ = wrappers.BaseWrapper(decoder, verbose=self.verbose)
            return keras.Model(whole, decoder(encoder(whole)))

        def _initialize(self, X, y=None):  # noqa: N803
            data, _ = super()._initialize(X=X, y=y)
            self.decoder_.initialize(self.encoder_.initialize(data).predict(data))
            return data, data

        def fit(self, X, y=None, *, sample_weight=None):  # noqa: N803
            super().fit(X=X, y=X, sample_weight=sample_weight)
            return self

        def score(self, X, y=None):  # noqa: N803
            return 1 - mean_squared_error(self.predict(X), X)

        def transform(self, X):  # noqa: N803
            return self.encoder_.predict(self.feature_encoder_.transform(X))

        def inverse_transform(self, code):
            return self.feature_encoder_.inverse_transform(self.decoder_.predict(code))

    return AutoEncoder(
        **{"size": 3, "loss": "binary_crossentropy", "optimizer": "adam", **OPTIONS, **parameters}
    )


def moons_model(sizes, meta, compile_kwargs):
    model = keras.Sequential([keras.Input((meta["n_features_in_"],))])
    for size in sizes:
        model.add(keras.layers.Dense(size, "relu"))
    is_binary = meta["target_type_"] == "binary"
    units = 1 if is_binary else meta["n_classes_"]
    model.add(keras.layers.Dense(units, "sigmoid" if is_binary else "softmax"))
    loss = "binary_crossentropy" if is_binary else "sparse_categorical_crossentropy"
    model.compile(compile_kwargs["optimizer"], loss)
    return model


def moons_classifier(wrappers, **parameters):
    adam = {"optimizer": "adam", "optimizer__learning_rate": 0.03}
    return wrappers.KerasClassifier(moons_model, sizes=(8,), **adam, **{**OPTIONS, **parameters})


def self_contained(wrappers, **parameters):
    class MLPClassifier(wrappers.KerasClassifier):
        def __init__(self, sizes=(8,), optimizer="adam", epochs=2, verbose=0, **kwargs):
            super().__init__(**kwargs)
            self.sizes = sizes
            self.optimizer = optimizer
            self.epochs = epochs
            self.verbose = verbose

        def _keras_build_fn(self, compile_kwargs):
            meta = {name: getattr(self, name) for name in ("n_features_in_", "n_classes_")}
            meta["target_type_"] = self.target_type_
            return moons_model(self.sizes, meta, compile_kwargs)

    return MLPClassifier(random_state=0, **parameters)


# Each with its estimator, and its data.
TUTORIALS = {
    "two_heads": (classifier_with_two_heads, X, BOTH),
    "two_inputs": (regressor_with_two_inputs, X, Y),
    "images": (classifier_of_images, IMAGES, KINDS[:24]),
    "autoencoder": (autoencoder, IMAGES, IMAGES),
    "moons": (moons_classifier, X, YES),
    "self_contained": (self_contained, X, KINDS),
    "boosting": (
        lambda wrappers: AdaBoostClassifier(
            moons_classifier(wrappers, epochs=9), n_estimators=2, random_state=0
        ),
        X,
        YES,
    ),
    "bagging": (
        lambda wrappers: BaggingClassifier(moons_classifier(wrappers), 2, random_state=0),
        X,
        YES,
    ),
}
