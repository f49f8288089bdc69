"""Search on a cluster of Dask: the same program, with another backend of joblib.

A real cluster has its address in ``Client("tcp://...")``. Needs Dask and TensorFlow:
``pip install 'keras_reduce[dask,tensorflow]'``.
"""

from distributed import Client
from joblib import parallel_config
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_reduce


def build(units=8):
    """Return a compiled model. Keras is imported here, so that the client need not wait for it."""
    import keras

    model = keras.Sequential([keras.layers.Dense(units, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    return model


if __name__ == "__main__":
    keras_reduce.install()
    regressor = keras_reduce.KerasRegressor(build, epochs=20, random_state=0)
    pipeline = make_pipeline(StandardScaler(), regressor)
    search = GridSearchCV(pipeline, {"kerasregressor__units": [4, 16]}, cv=3)
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        # Names a worker that lacks the package, or has another Keras.
        client.register_plugin(keras_reduce.dask.plugin())
        with parallel_config("dask", n_jobs=-1):
            search.fit(*load_diabetes(return_X_y=True))
        print(f"{len(client.nthreads())} workers")
    fits = len(search.cv_results_["params"]) * search.n_splits_
    print(f"{fits} fits, best: {search.best_params_}, R^2 {search.best_score_:.2f}")
    predictions = search.predict(load_diabetes().data)
    print(f"{len(predictions)} predictions of the model that came back")
