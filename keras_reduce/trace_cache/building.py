"""Building ahead of a trace: what Keras would build while it traces the first step of a model."""

from __future__ import annotations

import functools
from typing import Any

from ..families.keras3.kinds import is_built_in
from ..families.keras3.tree import is_container
from .keys import Role, TraceKey, trace_key


def build_ahead(model: Any, role: Role, data: Any, followed: TraceKey) -> bool:
    """Build what Keras would build while tracing the first step; return whether all is built.

    That is: layers without an input shape, metrics and losses, slots of the optimizer. No
    user-defined code is run. User-defined code that may write is excluded, since a built model is
    traced once instead of twice.

    Parameters
    ----------
    model : keras.Model
        The model.
    role : {"train", "test", "predict"}
        The step that will be traced.
    data : nest of tf.TensorSpec
        A batch of what the step is called with.
    followed : TraceKey
        Cache key of the trace.
    """
    if not steps_are_keras_own(model):
        return False
    has_no_slots = model.optimizer is not None and not model.optimizer.built
    # Private, both: the containers of compiled metrics and losses.
    compiled = (model._compile_metrics, model._compile_loss)
    unbuilt = [part for part in compiled if part is not None and not part.built]
    has_unbuilt_layers = not all(layer.built for layer in model._flatten_layers())
    if followed.may_write and (has_unbuilt_layers or unbuilt or (role == "train" and has_no_slots)):
        return False
    if (has_unbuilt_layers or unbuilt) and not _build_parts(model, unbuilt, data):
        return False
    if role == "train" and has_no_slots:
        model.optimizer.build(model.trainable_variables)
    return True


def _build_parts(model: Any, unbuilt: list[Any], data: Any) -> bool:
    """Build Keras's own layers, metrics and losses; return whether all are built."""
    import keras

    def symbolic(spec: Any) -> Any:
        return keras.KerasTensor(spec.shape, keras.backend.standardize_dtype(spec.dtype))

    inputs, targets, _ = keras.utils.unpack_x_y_sample_weight(
        keras.tree.map_structure(symbolic, data)
    )
    if not all(layer.built for layer in model._flatten_layers()):
        forward = trace_key(model, "predict")
        if forward is None or forward.has_own_code:
            return False
        # Private: Keras itself builds layers in this way on JAX and Torch.
        keras.src.backend.compute_output_spec(model, inputs, training=False)
        if not all(layer.built for layer in model._flatten_layers()):
            return False
    if not is_container(model):
        return False  # Its outputs are not known without a call.
    # Private, both: the functional model within a sequential one; the outputs of a functional one.
    # New symbolic tensors, since those of a trace have no Keras history either.
    functional = getattr(model, "_functional", None) or model
    outputs = keras.tree.map_structure(symbolic, functional._outputs_struct)
    # The choice of metrics may depend on a size that is known only while tracing.
    if any(None in tensor.shape[1:] for tensor in keras.tree.flatten(outputs)):
        return False
    for part in unbuilt:
        part.build(targets, outputs)
    return True


def steps_are_keras_own(model: Any) -> bool:
    """Return whether user-defined code takes part in a step in layers, losses and metrics only."""
    return all(
        is_built_in(next(cls for cls in type(model).__mro__ if name in vars(cls)))
        and name not in vars(model)
        for name in _steps()
    )


@functools.cache
def _steps() -> frozenset[str]:
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

    names = {name for cls in TensorFlowTrainer.__mro__[:2] for name in vars(cls)}
    return frozenset(name for name in names if not name.startswith("__")) - {
        "compile",
        "fit",
        "evaluate",
        "predict",
        "compile_from_config",
        "get_compile_config",
        "loss",  # an old method, hidden by the attribute
    }
