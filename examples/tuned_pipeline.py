"""Tune a pipeline, write it to a file, and answer requests from the mapped file.

Several such services on one machine share the memory of the file. Writes ``pipeline.joblib`` into
the current folder. Needs TensorFlow: ``pip install 'keras_reduce[tensorflow]'``.
"""

import json
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import keras
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_reduce

FILE = "pipeline.joblib"


def build(units=8):
    """Return a compiled model."""
    model = keras.Sequential([keras.layers.Dense(units, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.3), "mse")
    return model


def tune(rows, targets):
    """Return the best pipeline of a small grid."""
    regressor = keras_reduce.KerasRegressor(build, epochs=10, random_state=0)
    grid = {"kerasregressor__units": [8, 32]}
    search = GridSearchCV(make_pipeline(StandardScaler(), regressor), grid, cv=3)
    search.fit(rows, targets)
    print(f"tuned: {search.best_params_}")
    return search.best_estimator_


class Service(BaseHTTPRequestHandler):
    """Answers rows of numbers, as JSON, with predictions."""

    pipeline = None

    def do_POST(self):
        """Answer one request."""
        rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps(self.pipeline.predict(np.array(rows)).tolist()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Log nothing."""


def ask(address, rows):
    """Return the predictions of a service for some rows."""
    request = urllib.request.Request(address, json.dumps(rows.tolist()).encode())
    with urllib.request.urlopen(request) as response:
        return np.array(json.load(response))


if __name__ == "__main__":
    keras_reduce.install()
    rows, others, targets, expected = train_test_split(
        *load_diabetes(return_X_y=True), random_state=0
    )
    pipeline = tune(rows, targets)
    keras_reduce.dump(pipeline, FILE)

    Service.pipeline = keras_reduce.load(FILE, mmap_mode="r")
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answers = ask(f"http://127.0.0.1:{server.server_port}", others)
        server.shutdown()
    print(f"served: {len(answers)} predictions from {FILE}")
    print(f"mean absolute error: {np.abs(answers - expected).mean():.0f}")
    print(f"same as before the file: {np.array_equal(answers, pipeline.predict(others))}")
