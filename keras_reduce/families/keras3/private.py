"""Names that Keras and TensorFlow don't promise to keep, and the versions that were tested.

A release may take any of them away. Then objects are refused, with a message that says what to
install, rather than half of them being lost. What only serves sharing traces is done without.
"""

from __future__ import annotations

import functools
from typing import Any

from ..._version import __version__
from ...core.private_names import find
from ...errors import FrameworkError

# The one place for these: the oldest and the newest minor versions that the tests run with.
TESTED = "3.13", "3.15"

# Modules, and what is used of them.
_NEEDED = (
    "keras.src.api_export:get_name_from_symbol",
    "keras.src.backend:is_tensor",
    "keras.src.backend.common.global_state:get_global_attribute",
    "keras.src.backend.common.global_state:set_global_attribute",
    "keras.src.models.functional:Functional",
    "keras.src.models.functional:copy",
    "keras.src.ops.node:Node",
    "keras.src.random.seed_generator:global_seed_generator",
    "keras.src.random.seed_generator:python_random",
    "keras.src.saving.object_registration:get_registered_name",
    "keras.src.saving.serialization_lib:ObjectSharingScope",
    "keras.src.saving.serialization_lib:_retrieve_class_or_fn",
    "keras.src.saving.serialization_lib:deserialize_keras_object",
    "keras.src.saving.serialization_lib:get_build_and_compile_config",
    "keras.src.saving.serialization_lib:record_object_after_serialization",
    "keras.src.saving.serialization_lib:serialize_keras_object",
    "keras.src.trainers.compile_utils:MetricsList",
    "keras.src.utils.python_utils:func_dump",
    "keras.src.utils.python_utils:func_load",
    "keras:Layer._flatten_layers",
    "keras:Layer._lock_state",
    "keras:Layer._post_build",
    "keras.optimizers:Optimizer._var_key",
)
_NEEDED_WITH = {
    "tensorflow": (
        "keras:Variable._initialize",
        "keras:Variable._initialize_with_initializer",
    ),
    "jax": ("keras:Model.jax_state_sync",),
    "torch": ("keras:Layer._track_variables",),
}
_NEEDED_FOR_TRACES = (
    "keras.src.backend:compute_output_spec",
    "keras.src.backend.common.global_state:GLOBAL_STATE_TRACKER",
    "keras.src.backend.tensorflow.trainer:TensorFlowTrainer.make_predict_function",
    "keras.src.backend.tensorflow.trainer:TensorFlowTrainer.make_test_function",
    "keras.src.backend.tensorflow.trainer:TensorFlowTrainer.make_train_function",
    "keras.src.trainers.data_adapters.array_data_adapter:ArrayDataAdapter.get_tf_dataset",
    "keras.src.trainers.data_adapters.array_slicing:convert_to_sliceable",
    "tensorflow.python.eager.context:context",
    "tensorflow.python.eager.context:global_seed",
    "tensorflow.python.eager.record:stop_recording",
    "tensorflow.python.framework.config:is_op_determinism_enabled",
    "tensorflow.python.framework.op_def_registry:get",
)

# What instances have; classes don't say.
_ATTRIBUTES_OF_LAYERS = (
    *("_layers", "_metrics", "_seed_generators", "_tracker", "_trainable"),
    *("_trainable_variables", "_non_trainable_variables"),
)
_ATTRIBUTES_OF_MODELS = ("_compile_loss", "_compile_metrics", "_loss_tracker")
_ATTRIBUTES_OF_SEQUENTIALS = ("_functional",)
_ATTRIBUTES_OF_TF_FUNCTIONS = (
    *("_attributes", "_autograph", "_experimental_autograph_options", "_jit_compile"),
    "_reduce_retracing",
)


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
    found = set(map(id, tree.variables.values()))
    lost = [str(variable.path) for variable in root.variables if id(variable) not in found]
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
    needed = (*_NEEDED, *_NEEDED_WITH.get(backend, ()))
    names = [name for name in needed if find(name) is None]
    layer, sequential = (
        # Named, so that no counter of automatic names moves.
        cls(name="keras_reduce_specimen")
        for cls in (keras.layers.Layer, keras.Sequential)
    )
    specimens = [
        (layer, _ATTRIBUTES_OF_LAYERS),
        (sequential, (*_ATTRIBUTES_OF_MODELS, *_ATTRIBUTES_OF_SEQUENTIALS)),
    ]
    if backend == "tensorflow":
        import tensorflow as tf

        specimens.append((tf.function(len), _ATTRIBUTES_OF_TF_FUNCTIONS))
    for specimen, attributes in specimens:
        kind = type(specimen).__qualname__
        names += [f"{kind}.{name}" for name in attributes if not hasattr(specimen, name)]
    return tuple(name.replace(":", ".") for name in names)


@functools.cache
def can_share_traces() -> bool:
    """Tell whether all is there that sharing traces needs, which one can do without."""
    return not missing() and all(find(name) is not None for name in _NEEDED_FOR_TRACES)
