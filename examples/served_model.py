"""Serve one model from several worker processes, which share the memory of its weights.

Write a model with ``keras_reduce.dump(model, "model.joblib")``, then start one of these servers in
its folder, and send rows as JSON: ``curl -d '[[1.0, 2.0, 3.0]]' localhost:8000``.

    gunicorn --workers 4 --preload --bind localhost:8000 served_model:wsgi
    uvicorn --workers 4 --port 8000 served_model:asgi

Importing Keras before the fork (``--preload``) is safe, and workers share what was imported.
Computing with a model is not: the model is loaded in the worker. Loading maps the file, which takes
milliseconds. Needs TensorFlow and a server: ``pip install 'keras_reduce[tensorflow]' gunicorn
uvicorn``.
"""

import functools
import json
import os

import keras  # noqa: F401  so that gunicorn's workers find it imported
import numpy as np

import keras_reduce

FILE = os.environ.get("MODEL", "model.joblib")


@functools.cache
def model():
    """Load the model, once in each worker. Nothing but parts of Keras is trusted."""
    return keras_reduce.load(FILE, mmap_mode="c", trusted=[])


def answer(body):
    """Return the prediction for rows in JSON, as JSON."""
    rows = np.asarray(json.loads(body), "float32")
    return json.dumps(model().predict(rows, verbose=0).tolist()).encode()


def wsgi(environ, start_response):
    """Answer a request of gunicorn."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [answer(body)]


async def asgi(scope, receive, send):
    """Answer a request of uvicorn, or load the model when the worker starts."""
    if scope["type"] == "lifespan":
        await receive()
        model()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body, is_more = b"", True
    while is_more:
        message = await receive()
        body, is_more = body + message.get("body", b""), message.get("more_body", False)
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer(body)})
