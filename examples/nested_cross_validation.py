"""Nested cross-validation: a search in each outer fold, in two workers, with a bar of progress.

The bar shows on a terminal and in notebooks (extra ``progress``). With a ``random_state``, the
scores are the same with any number of workers. Needs TensorFlow:
``pip install 'keras_reduce[tensorflow,progress]'``.
"""

import keras
from joblib import parallel_config
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_reduce


def build(meta, units=8):
    """Return a compiled model for as many classes as there are."""
    layers = [keras.layers.Dense(units, "relu"), keras.layers.Dense(meta["n_classes_"], "softmax")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
    return model


if __name__ == "__main__":
    keras_reduce.install(prestart=True)
    classifier = keras_reduce.KerasClassifier(build, epochs=10, random_state=0)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), classifier),
        {"kerasclassifier__units": [4, 16]},
        cv=2,
    )
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    with parallel_config("keras", n_jobs=2, progress=True, retries=1):
        result = cross_validate(
            search, *load_iris(return_X_y=True), cv=folds, return_estimator=True
        )
    for score, fitted in zip(result["test_score"], result["estimator"], strict=True):
        print(f"accuracy {score:.3f} with {fitted.best_params_}")
    print(f"mean accuracy {result['test_score'].mean():.3f}")
