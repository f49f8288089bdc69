"""Transformers of Keras models, with parameters by name and with routed ones."""

import copy
import pickle
import sys
from pathlib import Path

import joblib
import keras
import numpy as np
import pandas as pd
from joblib import parallel_config
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_reduce
from checks import check, main, raises
from keras_reduce import scikeras
from keras_reduce.errors import EstimatorError

# Models of one architecture share traces, which is cheaper than computing eagerly.
keras_reduce.install()
rng = np.random.default_rng(0)
X = rng.normal(size=(40, 5)).astype("float32")
LABELS = (X[:, 0] > 0).astype(int)
WEIGHTS = (np.arange(40) % 3).astype(float)
layers = keras.layers


def sequential(units=2, meta=None, outputs=5):
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(4, "relu"),
            layers.Dense(units, "tanh", name="code"),
            layers.Dense(4, "relu"),
            layers.Dense(outputs),
        ]
    )
    model.compile("adam", "mse")
    return model


def nested(units=2, meta=None):
    """Return a model of models, with a layer before the inner ones."""
    code, samples = keras.Input((units,)), keras.Input((5,))
    encoder = keras.Sequential([keras.Input((5,)), layers.Dense(units, "tanh")], name="code")
    decoder = keras.Model(code, layers.Dense(5)(code), name="decoder")
    model = keras.Model(
        samples, layers.Rescaling(2.0)(decoder(encoder(layers.Rescaling(3.0)(samples))))
    )
    model.compile("adam", "mse")
    return model


class Subclassed(keras.Model):
    def __init__(self, units=2):
        super().__init__()
        self.coder = keras.Sequential([layers.Dense(units, "tanh")])
        self.opener = keras.Sequential([layers.Dense(5)])

    def call(self, inputs):
        return self.opener(self.coder(inputs))


def subclassed(units=2, meta=None):
    model = Subclassed(units)
    model.compile("adam", "mse")
    return model


def named(build=sequential, **parameters):
    return keras_reduce.KerasTransformer(
        build, **{"encoder": "code", "random_state": 0, **parameters}
    )


def routed(build=sequential, **parameters):
    if "units" in parameters:
        parameters["model__units"] = parameters.pop("units")
    return scikeras.KerasTransformer(
        build, **{"encoder": "code", "random_state": 0, "verbose": 0, **parameters}
    )


BOTH = (named, routed)


def weights(estimator):
    return b"".join(each.tobytes() for each in estimator.model_.get_weights())


@check
def codes_and_what_is_made_of_them():
    for make in BOTH:
        for build in (sequential, nested):
            estimator = make(build, units=3, epochs=2)
            codes = estimator.fit_transform(X)
            assert codes.shape == (40, 3)
            assert np.array_equal(estimator.transform(X), codes)
            # A part of the model answers as the model itself does.
            assert np.allclose(estimator.inverse_transform(codes), estimator.predict(X), atol=1e-6)
            ratio = 1 - ((X - estimator.predict(X)) ** 2).sum() / ((X - X.mean(0)) ** 2).sum()
            assert np.isclose(estimator.score(X), ratio)
            assert weights(make(build, units=3, epochs=2).fit(X, LABELS)) == weights(estimator)
            with raises(ValueError, "4 features"):
                estimator.transform(X[:, :4])
    keras.utils.set_random_seed(0)
    native = sequential()
    native.fit(X, X, verbose=0)
    expected = b"".join(each.tobytes() for each in native.get_weights())
    assert weights(named().fit(X)) == weights(routed().fit(X)) == expected


@check
def parts_by_name_or_function():
    for make in BOTH:
        whole = make(sequential, encoder=None).fit(X)
        assert np.array_equal(whole.transform(X), whole.predict(X))
        estimator = make(subclassed, encoder="coder", decoder="opener").fit(X)
        assert np.array_equal(
            estimator.inverse_transform(estimator.transform(X)), estimator.predict(X)
        )

        def first(model):
            return keras.Sequential(model.layers[:2])

        by_function = make(encoder=first, decoder=lambda m: keras.Sequential(m.layers[2:])).fit(X)
        assert np.array_equal(by_function.transform(X), make().fit(X).transform(X))
        assert by_function.inverse_transform(by_function.transform(X)).shape == X.shape
        carried = keras_reduce.loads(keras_reduce.dumps(by_function))
        assert carried.transform(X).tobytes() == by_function.transform(X).tobytes()
        with raises(EstimatorError, "encoder='cod' gives no model", "dense", "code"):
            make(encoder="cod").fit(X).transform(X)
        with raises(EstimatorError, "There is no decoder", "pass decoder"):
            make(subclassed, encoder="coder").fit(X).inverse_transform(X[:, :2])
        # An estimator that is fitted again has parts of its new model.
        estimator = make().fit(X)
        before = estimator.transform(X)
        after = estimator.set_params(random_state=1).fit(X).transform(X)
        assert not np.array_equal(before, after)
    skipping = named(lambda: bypassed()).fit(X)
    with raises(EstimatorError, "can't be computed from the code alone"):
        skipping.inverse_transform(skipping.transform(X))


def bypassed():
    inputs = keras.Input((5,))
    code = layers.Dense(2, name="code")(inputs)
    model = keras.Model(inputs, layers.Dense(5)(layers.Concatenate()([code, inputs])))
    model.compile("adam", "mse")
    return model


@check
def targets_of_their_own():
    targets = np.column_stack([X[:, 0], X[:, 1] * 2])
    for make in BOTH:
        plain = {"build_fn" if make is named else "model": lambda: sequential(outputs=2)}
        estimator = make(supervised=True).set_params(**plain)
        codes = estimator.fit(X, targets, WEIGHTS).transform(X)
        assert codes.shape == (40, 2)
        assert estimator.predict(X).shape == (40, 2)
        assert not hasattr(estimator, "score")
        assert hasattr(make(), "score")
        with raises(ValueError, "requires y to be passed"):
            estimator.fit(X)
        with raises(EstimatorError, "X is sparse", "sparse_output=False"):
            make().fit(sparse.csr_matrix(X))
        assert estimator.fit(sparse.csr_matrix(X), targets).transform(X).shape == (40, 2)


@check
def training_further_and_held_out_samples():
    for make in BOTH:
        one_by_one = make(shuffle=False)
        for _ in range(2):
            one_by_one = pickle.loads(pickle.dumps(one_by_one.partial_fit(X)))
        assert weights(one_by_one) == weights(make(shuffle=False, epochs=2).fit(X))
        history = make().fit(X, validation_data=(X, None)).history_
        assert "val_loss" in (history if make is routed else history.history)
        twin = copy.deepcopy(one_by_one)
        before = one_by_one.transform(X)
        assert not np.array_equal(twin.partial_fit(X).transform(X), before)
        assert np.array_equal(one_by_one.transform(X), before)


@check
def names_of_the_codes():
    frame = pd.DataFrame(X, columns=list("abcde"))
    for make in BOTH:
        estimator = make().fit(frame)
        assert estimator.feature_names_in_.tolist() == list("abcde")
        names = ["kerastransformer0", "kerastransformer1"]
        assert estimator.get_feature_names_out().tolist() == names
        table = estimator.set_output(transform="pandas").transform(frame)
        assert table.columns.tolist() == names
        assert clone(estimator).fit_transform(frame).columns.tolist() == names


def images():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Conv2D(2, 2, strides=2, name="code"),
            layers.Conv2DTranspose(1, 2, strides=2),
        ]
    )
    model.compile("adam", "mse")
    return model


@check
def images_and_several_inputs():
    pictures = rng.random((12, 4, 4, 1)).astype("float32")
    for make in BOTH:
        estimator = make(images).fit(pictures)
        assert estimator.transform(pictures).shape == (12, 2, 2, 2)
        assert estimator.inverse_transform(estimator.transform(pictures)).shape == pictures.shape
        assert estimator.score(pictures) <= 1


@check
def a_pipeline_in_a_search_over_two_workers():
    for make in BOTH:
        pipeline = make_pipeline(StandardScaler(), make(), LogisticRegression())
        prefix = "kerastransformer__"
        units = f"{prefix}{'model__' if make is routed else ''}units"
        scores = []
        for n_jobs in (1, 2):
            search = GridSearchCV(
                pipeline,
                {units: [1, 3]},
                cv=2,
                n_jobs=n_jobs,
                error_score="raise",
            )
            with parallel_config("keras"):
                scores.append(search.fit(X, LABELS).cv_results_["mean_test_score"].tobytes())
        assert scores[0] == scores[1]
        best = search.best_estimator_[:2]
        expected = {"codes": best.transform(X)}
        joblib.dump(search, FOLDER / f"{make.__name__}.joblib")
        scaled = best[0].transform(X)
        expected["weights"] = weights(best[1].partial_fit(scaled))
        expected["codes_later"] = best.transform(X)
        joblib.dump((X, LABELS, expected), FOLDER / f"{make.__name__}_expected.joblib")


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    main(*sys.argv[2:])
