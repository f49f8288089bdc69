"""Hand a model over with a signature: a receiver with the key loads it, and nothing else.

Writes ``handover.key`` and ``handover.joblib`` into the current folder. Needs TensorFlow:
``pip install 'keras_reduce[tensorflow]'``.
"""

import secrets
from pathlib import Path

import keras
import numpy as np

import keras_reduce

KEY, FILE = Path("handover.key"), Path("handover.joblib")


def send():
    """Train a model and write it with a signature; return its predictions."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 3))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    model.fit(rows, rows @ [1.0, -2.0, 0.5], epochs=20, verbose=0)
    keras_reduce.dump({"model": model, "by": "the sender"}, FILE, key=KEY)
    return model.predict(rows[:4], verbose=0), rows[:4]


def receive():
    """Load the file if it is signed and holds nothing but known parts."""
    return keras_reduce.load(FILE, key=KEY, trusted=[])


if __name__ == "__main__":
    # Both sides have the same secret. It is kept apart from the file.
    KEY.touch(0o600)
    KEY.write_bytes(secrets.token_bytes(32))

    expected, rows = send()
    received = receive()
    answers = received["model"].predict(rows, verbose=0)
    print(f"received from {received['by']}; same answers: {np.array_equal(answers, expected)}")

    changed = bytearray(FILE.read_bytes())
    changed[len(changed) // 2] ^= 1
    FILE.write_bytes(changed)
    try:
        receive()
    except keras_reduce.SignatureError as error:
        print(f"one bit changed: {error.what}")

    keras_reduce.dump({"model": "of another sender"}, FILE)
    try:
        receive()
    except keras_reduce.SignatureError as error:
        print(f"written without the key: {error.what}")
