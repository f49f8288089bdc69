"""Probes of Keras 2 objects: outputs, state, and further training; see `probes`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import keras_reduce
from keras_reduce import families, reducers
from keras_reduce.families.keras2.framework import keras
from probes import difference, flat

__all__ = ["advance", "clear_session", "difference", "probe"]


def clear_session() -> None:
    """Clear the global state that Keras keeps of earlier models."""
    keras().backend.clear_session()


def parts(obj: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every Keras object in a nest of containers and estimators."""
    if families.of(obj) is not None:
        yield path, obj
    elif isinstance(obj, dict):
        for key, value in obj.items():
            yield from parts(value, f"{path}/{key}")
    elif isinstance(obj, (list, tuple)):
        for position, value in enumerate(obj):
            yield from parts(value, f"{path}/{position}")
    elif hasattr(obj, "get_params"):
        for name, value in sorted(vars(obj).items()):
            yield from parts(value, f"{path}/{name}")


def probe(obj: Any, x: Any, y: Any) -> dict[str, np.ndarray]:
    """Return the outputs and the state of `obj` as it is now."""
    facts: dict[str, np.ndarray] = {}
    if hasattr(obj, "predict") and hasattr(obj, "get_params"):
        facts["predict"] = np.asarray(obj.predict(x))
    facts["identities"] = np.asarray(_identities(obj))
    for path, part in parts(obj):
        facts[f"{path} description"] = np.asarray(_description(part))
        facts.update(flat(f"{path} state", _state(part), np.asarray))
        facts.update(flat(f"{path} answer", _answer(part, x, y), np.asarray))
    return facts


def advance(obj: Any, x: Any, y: Any) -> dict[str, np.ndarray]:
    """Train `obj`, or the objects in it, some more; return the outcome and the new state."""
    facts: dict[str, np.ndarray] = {}
    seen: set[int] = set()
    for path, part in parts(obj):
        if id(part) not in seen:
            seen.add(id(part))
            facts.update(flat(f"{path} advance", _advance(part, x, y), np.asarray))
            facts.update(flat(f"{path} state", _state(part), np.asarray))
    return facts


def _identities(obj: Any) -> list[int]:
    held = [part for _, part in parts(obj)]
    for part in list(held):
        held += part.layers if isinstance(part, keras().Model) else []
        held.append(getattr(getattr(part, "history", None), "model", None))
    ids = list(map(id, held))
    return [ids.index(number) for number in ids]


def _description(part: Any) -> str:
    """Return the JSON of the payload of `part`, which must come back complete."""
    with keras_reduce.installed():  # Without an installation, layers of Keras 2 have no reducer.
        _, (json, _, compile_config, _, objects), *_ = reducers.reduce(part)
    return f"{json}{compile_config}{[_description(each) for each in objects if families.of(each)]}"


def _state(part: Any) -> dict[str, Any]:
    family = families.of(part)
    state: dict[str, Any] = {
        path: variable.numpy() for path, variable in family.survey(part).variables.items()
    }
    if isinstance(part, keras().layers.Layer) and part.built:
        state["names"] = [variable.name for variable in part.variables]
        state["trainable"] = [variable.name for variable in part.trainable_variables]
    if isinstance(part, keras().Model) and part._is_compiled:
        state["metrics"] = part.metrics_names
        state["epochs"] = getattr(getattr(part, "history", None), "epoch", [])
    return state


def _answer(part: Any, x: Any, y: Any) -> Any:
    api = keras()
    if isinstance(part, api.Model):
        return part.predict_on_batch(_batch(x)) if part.built else 0
    if isinstance(part, api.metrics.Metric):
        return part.result()
    if isinstance(part, api.layers.Layer):
        return part(x) if part.built else 0
    if isinstance(part, api.losses.Loss):
        return part(y, x)
    if isinstance(part, api.optimizers.schedules.LearningRateSchedule):
        return [part(step) for step in range(4)]
    if isinstance(part, api.initializers.Initializer):
        return part((3, 3))
    if isinstance(part, (api.regularizers.Regularizer, api.constraints.Constraint)):
        return part(np.arange(16.0, dtype="float32").reshape(4, 4))
    if isinstance(part, api.callbacks.Callback):
        return {k: v for k, v in vars(part).items() if isinstance(v, (int, float, str, list))}
    return 0


def _batch(data: Any) -> Any:
    """Return a batch of `data`: without the input pipeline of `fit`, which takes 0.1 s."""
    import tensorflow as tf

    return tf.nest.map_structure(lambda array: array[:8], data)


def _advance(part: Any, x: Any, y: Any) -> Any:
    import tensorflow as tf

    api = keras()
    if isinstance(part, api.Model):
        if not part.built or not part._is_compiled:
            return 0
        if type(part).train_step is not api.Model.train_step:  # Some accept no sample weights.
            return part.fit(x, y, batch_size=8, shuffle=False, verbose=0).history
        part.reset_metrics()
        return part.train_on_batch(*_batch((x, y)), reset_metrics=False, return_dict=True)
    if isinstance(part, api.metrics.Metric):
        part.update_state(*((x,) if type(part) is api.metrics.Mean else (y, x)))
        return part.result()
    if isinstance(part, api.optimizers.Optimizer):
        variables = [tf.Variable(np.ones((3, 2), "float32")), tf.Variable(np.ones(2, "float32"))]
        if hasattr(part, "_index_dict"):
            part._index_dict.clear()  # The original was built for other variables.
            part._index_dict.update({v._unique_id: i for i, v in enumerate(variables)})
        part.apply_gradients([(tf.ones((3, 2)), variables[0]), (tf.ones(2), variables[1])])
        return [variable.numpy() for variable in variables]
    return 0
