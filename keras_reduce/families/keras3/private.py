"""Names that Keras and TensorFlow don't promise to keep, and the versions that were tested.

A release may take any of them away. Then objects are refused, with a message that says what to
install, rather than half of them being lost. What only serves sharing traces is done without.
"""

from __future__ import annotations

import functools
from typing import Any

from ..._version import __version__
from ...core.private_names import Manifest, find
from ...errors import FrameworkError

# The one place for these: the oldest and the newest minor versions that the tests run with.
TESTED = "3.13", "3.15"

# What nothing can be carried without: names, as `find` takes them, and what each is needed for.
NEEDED = {
    "keras.src.api_export:get_name_from_symbol": "the public name of a class of Keras",
    "keras.src.backend:is_tensor": "whether a value is a tensor of the backend",
    "keras.src.backend.common.global_state:get_global_attribute": "the global seed generator",
    "keras.src.backend.common.global_state:set_global_attribute": "to put one in its place",
    "keras.src.models.functional:Functional": "whether a model is made of a graph of calls",
    "keras.src.models.functional:copy": "to make a functional model without copying its config",
    "keras.src.ops.node:Node": "a call of a layer in such a graph",
    "keras.src.random.seed_generator:global_seed_generator": "whether a layer draws from it",
    "keras.src.random.seed_generator:python_random": "to rebuild without drawing seeds",
    "keras.src.saving.object_registration:get_registered_name": "to name custom code in configs",
    "keras.src.saving.serialization_lib:ObjectSharingScope": "to keep a shared part shared",
    "keras.src.saving.serialization_lib:_retrieve_class_or_fn": "to find custom code by its name",
    "keras.src.saving.serialization_lib:deserialize_keras_object": "to make parts of configs",
    "keras.src.saving.serialization_lib:get_build_and_compile_config": "to leave it out: it is "
    "carried apart",
    "keras.src.saving.serialization_lib:record_object_after_serialization": "to complete a config",
    "keras.src.saving.serialization_lib:serialize_keras_object": "to describe parts by configs",
    "keras.src.trainers.compile_utils:MetricsList": "what compile() makes of metrics",
    "keras.src.utils.python_utils:func_dump": "to carry the code of a Lambda by value",
    "keras.src.utils.python_utils:func_load": "to bring it back",
    "keras:Layer._flatten_layers": "the layers below one",
    "keras:Layer._lock_state": "to end the building of a layer",
    "keras:Layer._post_build": "what follows a layer's build()",
    "keras.optimizers:Optimizer._var_key": "which slots belong to which variable",
}
NEEDED_WITH = {
    "tensorflow": {
        "keras:Variable._initialize": "to make a variable of a carried array",
        "keras:Variable._initialize_with_initializer": "to run no initializer when rebuilding",
    },
    "jax": {"keras:Model.jax_state_sync": "to read variables in a callback"},
    "torch": {"keras:Layer._track_variables": "to enter variables into a module of Torch's"},
}
# What only sharing traces needs, which one can do without.
TRACES = Manifest(
    "Sharing traces",
    "each model is traced separately",
    {
        "keras.src.backend:compute_output_spec": "to build parts before they are traced",
        "keras.src.backend.common.global_state:GLOBAL_STATE_TRACKER": "the scopes that are open",
        "keras.src.backend.tensorflow.trainer:TensorFlowTrainer.make_predict_function": "to take "
        "the traces of a model that is alike",
        "keras.src.backend.tensorflow.trainer:TensorFlowTrainer.make_test_function": "as well",
        "keras.src.backend.tensorflow.trainer:TensorFlowTrainer.make_train_function": "as well",
        "keras.src.trainers.data_adapters.array_data_adapter:ArrayDataAdapter.get_tf_dataset": "to "
        "feed arrays through pipelines that were traced before",
        "keras.src.trainers.data_adapters.array_slicing:convert_to_sliceable": "as well",
        "tensorflow.python.eager.context:context": "the caches of TensorFlow's that hold traces",
        "tensorflow.python.eager.context:global_seed": "by which pipelines shuffle",
        "tensorflow.python.eager.record:stop_recording": "whether a tape may be watching",
        "tensorflow.python.framework.config:is_op_determinism_enabled": "by which traces differ",
        "tensorflow.python.framework.op_def_registry:get": "which operations draw numbers",
    },
)

# What only the faster ways of training with shared traces need.
WHOLE_EPOCHS = Manifest(
    "Training by whole epochs",
    "each batch is a call of a graph",
    {
        "keras.src.backend.tensorflow.trainer:TensorFlowTrainer.fit": "to train by whole epochs",
        "keras.src.backend.tensorflow.trainer:TensorFlowTrainer.evaluate": "as well",
        "keras.src.backend.tensorflow.trainer:TensorFlowTrainer.predict": "to predict without a "
        "pipeline of data",
        "keras.src.backend.tensorflow.trainer:convert_to_np_if_not_ragged": "as well",
        "keras.src.backend.tensorflow.trainer:potentially_ragged_concat": "as well",
        "keras.src.trainers.data_adapters:array_slicing.convert_to_sliceable": "to convert arrays "
        "as pipelines do",
        "keras.src.trainers.data_adapters:array_slicing.train_validation_split": "to split them",
        "keras.src.trainers.data_adapters:data_adapter_utils.unpack_x_y_sample_weight": "to unpack "
        "data for validation",
        "keras.src.trainers.data_adapters.array_data_adapter:ArrayDataAdapter": "to check arrays",
        "keras.src.utils.python_utils:pythonify_logs": "to return numbers",
        "keras:Model._flatten_metrics_in_order": "the order of results",
        "keras:Model._should_eval": "the epochs with a validation",
    },
)
KERNELS = Manifest(
    "Seeding that keeps optimized graphs",
    "TensorFlow optimizes all graphs again after each seed",
    {
        "tensorflow.python.eager.context:Context._set_global_seed": "to set a seed",
        "tensorflow.python.eager.context:Context.list_function_names": "to look for functions that "
        "draw random numbers",
        "tensorflow.python.eager.context:Context.get_function_def": "as well",
        "tensorflow.python.ops.gen_random_ops:pywrap_tfe.TFE_Py_FastPathExecute": "to notice when "
        "one of them runs eagerly",
    },
)

# What instances have; classes don't say.
ATTRIBUTES = {
    "Layer": {
        "_layers": "the layers that Keras tracks in one",
        "_metrics": "its metrics",
        "_seed_generators": "its seed generators",
        "_tracker": "what tracks them",
        "_trainable": "whether the layer itself is frozen",
        "_trainable_variables": "its own variables",
        "_non_trainable_variables": "as well",
    },
    "Sequential": {
        "_compile_loss": "what compile() made of losses",
        "_compile_metrics": "what it made of metrics",
        "_loss_tracker": "the mean of the loss",
        "_functional": "whether the model has been built",
    },
    "Function": {
        "_attributes": "how a tf.function was made",
        "_autograph": "as well",
        "_experimental_autograph_options": "as well",
        "_jit_compile": "as well",
        "_reduce_retracing": "as well",
    },
}


def check() -> None:
    """Refuse a Keras that lacks what is needed.

    Raises
    ------
    FrameworkError
        If a name is gone.
    """
    names = missing()
    if names:
        raise _refusal(f"{', '.join(names)} can't be found there")


def check_found(tree: Any) -> None:
    """Compare what was found below an object with what Keras itself says of it in public.

    Only where Keras is another than was tested: attributes of another name would be passed over,
    and what they hold be lost.

    Raises
    ------
    FrameworkError
        If variables are missing.
    """
    if is_tested():
        return
    import keras

    root = tree.root
    if not isinstance(root, (keras.Layer, keras.metrics.Metric, keras.optimizers.Optimizer)):
        return
    visited = set(map(id, tree.variables.values()))
    lost = [str(variable.path) for variable in root.variables if id(variable) not in visited]
    if lost:
        shown = ", ".join(lost[:3])
        raise _refusal(f"it keeps variables where they aren't looked for ({shown})")


def untested() -> str:
    """Return a sentence about the version of Keras if it is none that was tested, else nothing."""
    return "" if is_tested() else f"Keras {_version()} is untested: {_what_was_tested()}"


def _refusal(cause: str) -> FrameworkError:
    oldest, newest = TESTED
    major, minor = newest.split(".")
    return FrameworkError(
        f"keras_reduce {__version__} can't work with Keras {_version()}",
        cause=f"{cause}. {_what_was_tested()}",
        cure=f"pip install --upgrade keras_reduce; or, if there is no newer one, "
        f"pip install 'keras>={oldest},<{major}.{int(minor) + 1}'",
    )


def _what_was_tested() -> str:
    return "keras_reduce {} was tested with Keras {} to {}".format(__version__, *TESTED)


def _version() -> str:
    import keras

    return str(keras.__version__)


@functools.cache
def is_tested() -> bool:
    """Tell whether the tests run with this minor version of Keras, or with older and newer ones."""
    from packaging.version import Version

    oldest, newest = map(Version, TESTED)
    return oldest.release <= Version(_version()).release[:2] <= newest.release


@functools.cache
def missing() -> tuple[str, ...]:
    """Return the names that are gone without which nothing can be carried."""
    import keras

    backend = keras.backend.backend()
    needed = (*NEEDED, *NEEDED_WITH.get(backend, ()))
    names = [name for name in needed if find(name) is None]
    # Named, so that no counter of automatic names moves.
    classes = (keras.layers.Layer, keras.Sequential)
    specimens = [cls(name="keras_reduce_specimen") for cls in classes]
    if backend == "tensorflow":
        import tensorflow as tf

        specimens.append(tf.function(len))
    for specimen in specimens:
        kind = type(specimen).__qualname__
        names += [f"{kind}.{name}" for name in ATTRIBUTES[kind] if not hasattr(specimen, name)]
    return tuple(name.replace(":", ".") for name in names)


@functools.cache
def can_share_traces() -> bool:
    """Tell whether all is there that sharing traces needs; say once if it is not."""
    import keras

    return keras.backend.backend() == "tensorflow" and not missing() and TRACES.is_complete()
