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
    "keras.src.api_export:get_name_from_symbol": "to find the public name of a class of Keras",
    "keras.src.backend:is_tensor": "to rebuild without Keras's slow check of each value",
    "keras.src.backend.common.global_state:get_global_attribute": "to read the global seed "
    "generator",
    "keras.src.backend.common.global_state:set_global_attribute": "to replace the global seed "
    "generator",
    "keras.src.models.functional:Functional": "to recognize functional models",
    "keras.src.models.functional:copy": "to make a functional model without copying its config",
    "keras.src.ops.node:Node": "to carry a call of a layer in a functional model",
    "keras.src.random.seed_generator:global_seed_generator": "to find the layers that draw from "
    "the global seed generator",
    "keras.src.random.seed_generator:python_random": "to rebuild without drawing from Python's "
    "generator",
    "keras.src.saving.object_registration:get_registered_name": "to name custom code in configs",
    "keras.src.saving.serialization_lib:ObjectSharingScope": "to keep a part that two configs "
    "share one object",
    "keras.src.saving.serialization_lib:_retrieve_class_or_fn": "to find the custom objects of a "
    "config",
    "keras.src.saving.serialization_lib:deserialize_keras_object": "to rebuild parts from configs",
    "keras.src.saving.serialization_lib:get_build_and_compile_config": "to leave the build and "
    "compile configs out of a config, which the payload carries separately",
    "keras.src.saving.serialization_lib:record_object_after_serialization": "to add to a "
    "config what Keras leaves out",
    "keras.src.saving.serialization_lib:serialize_keras_object": "to write parts as configs",
    "keras.src.trainers.compile_utils:MetricsList": "to rebuild the metrics of compile()",
    "keras.src.utils.python_utils:func_dump": "to carry the function of a Lambda by value",
    "keras.src.utils.python_utils:func_load": "to rebuild the function of a Lambda",
    "keras:Layer._flatten_layers": "to walk over the layers of a layer",
    "keras:Layer._lock_state": "to finish a layer after its build()",
    "keras:Layer._post_build": "to finish a layer after its build()",
    "keras.optimizers:Optimizer._var_key": "to match slots with variables",
}
NEEDED_WITH = {
    "tensorflow": {
        "keras:Variable._initialize": "to create a variable from a carried array",
        "keras:Variable._initialize_with_initializer": "to rebuild without running initializers",
    },
    "jax": {"keras:Model.jax_state_sync": "to read the variables of a model in a callback"},
    "numpy": {"keras:Variable._initialize": "to let a variable share the memory of an array"},
    "torch": {"keras:Layer._track_variables": "to register variables in a layer's Torch module"},
}
# What only sharing traces needs, which one can do without.
TRACES = Manifest(
    "Sharing traces",
    "each model is traced separately",
    {
        "keras.src.backend:compute_output_spec": "to build layers before a model is traced",
        "keras.src.backend.common.global_state:GLOBAL_STATE_TRACKER": "to read the open scopes",
        "keras.src.backend.tensorflow.trainer:TensorFlowTrainer.make_predict_function": "to use "
        "the traces of an equal model",
        "keras.src.backend.tensorflow.trainer:TensorFlowTrainer.make_test_function": "as well",
        "keras.src.backend.tensorflow.trainer:TensorFlowTrainer.make_train_function": "as well",
        "keras.src.trainers.data_adapters.array_data_adapter:ArrayDataAdapter.get_tf_dataset": "to "
        "feed arrays through pipelines that were built before",
        "keras.src.trainers.data_adapters.array_slicing:convert_to_sliceable": "as well",
        "tensorflow.python.eager.context:context": "to find TensorFlow's caches of traces",
        "tensorflow.python.eager.context:global_seed": "to put the seed of shuffling into the "
        "cache key",
        "tensorflow.python.eager.record:could_possibly_record": "to detect that a gradient tape "
        "may be recording",
        "tensorflow.python.framework.config:is_op_determinism_enabled": "to put determinism into "
        "the cache key",
        "tensorflow.python.framework.op_def_registry:get": "to find the operations that draw "
        "random numbers",
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
        "keras.src.trainers.data_adapters.array_slicing:train_validation_split": "to split arrays",
        "keras.src.trainers.data_adapters.data_adapter_utils:unpack_x_y_sample_weight": "to unpack "
        "data for validation",
        "keras.src.trainers.data_adapters.array_data_adapter:ArrayDataAdapter": "to check arrays",
        "keras.src.utils.python_utils:pythonify_logs": "to return numbers",
        "keras:Model._flatten_metrics_in_order": "to return results in Keras's order",
        "keras:Model._should_eval": "to validate after the same epochs",
    },
)
KERNELS = Manifest(
    "Keeping and sharing kernels",
    "TensorFlow optimizes graphs again after each seed, and keeps a kernel for each variable",
    {
        "tensorflow.python.eager.context:Context._set_global_seed": "to set a seed",
        "tensorflow.python.eager.context:Context.list_function_names": "to look for functions that "
        "draw random numbers",
        "tensorflow.python.eager.context:Context.get_function_def": "as well",
        "tensorflow.python.ops.gen_random_ops:pywrap_tfe.TFE_Py_FastPathExecute": "to notice when "
        "one of them runs eagerly",
        "tensorflow.python.ops.gen_resource_variable_ops:pywrap_tfe.TFE_Py_FastPathExecute": "to "
        "make variables by one kernel for each shape",
    },
)
STORED = Manifest(
    "Traces of other processes",
    "each process traces for itself",
    {
        "tensorflow.core.framework.function_pb2:FunctionDefLibrary": "to write graphs as bytes",
        "tensorflow.core.framework.optimized_function_graph_pb2:OptimizedFunctionGraph": "to keep "
        "optimized graphs",
        "tensorflow.core.function.polymorphism.function_type:FunctionType": "to make a function "
        "of a stored graph",
        "tensorflow.core.function.trace_type.default_types:Dict": "to write the types of results",
        "tensorflow.core.function.trace_type.default_types:List": "as well",
        "tensorflow.core.function.trace_type.default_types:Tuple": "as well",
        "tensorflow.core.function.trace_type.serialization:SerializedTraceType": "as well",
        "tensorflow.core.function.trace_type.serialization:deserialize": "as well",
        "tensorflow.core.function.trace_type.serialization:serialize": "as well",
        "tensorflow.python.eager.context:Context.add_function_def": "to register a stored graph",
        "tensorflow.python.eager.context:Context.disable_graph_collection": "to get optimized "
        "graphs",
        "tensorflow.python.eager.context:Context.enable_graph_collection": "as well",
        "tensorflow.python.eager.context:Context.export_run_metadata": "as well",
        "tensorflow.python.eager.context:Context.get_function_def": "to write a graph",
        "tensorflow.python.eager.context:Context.has_function": "to find the functions that a "
        "graph calls",
        "tensorflow.python.eager.polymorphic_function.atomic_function:AtomicFunction": "to make a "
        "function of a stored graph",
        "tensorflow.python.eager.polymorphic_function.atomic_function:CallOptions": "as well",
        "tensorflow.python.eager.polymorphic_function.concrete_function:ConcreteFunction._call_flat"
        "": "to store a graph after its first call",
        "tensorflow.python.ops.summary_ops_v2:_current_trace_context": "to leave alone the graphs "
        "that a program records",
    },
)
RAW_VARIABLES = Manifest(
    "Making variables directly",
    "models are loaded at a third of the speed",
    {
        "tensorflow.python.eager.context:anonymous_name": "to name the memory of a variable",
        "tensorflow.python.eager.context:context": "to read the open scopes of names",
        "tensorflow.python.framework.ops:Graph._variable_creator_stack": "to notice code that "
        "takes part in making variables",
        "tensorflow.python.framework.ops:Graph()._container": "as well",
        "tensorflow.python.framework.ops:Graph()._graph_key": "to fill in a variable",
        "tensorflow.python.framework.ops:get_default_graph": "as well",
        "tensorflow.python.framework.ops:uid": "to name a variable",
        "tensorflow.python.ops.handle_data_util:create_handle_data": "to tell the shape of a "
        "variable",
        "tensorflow.python.ops.resource_variable_ops:ResourceVariable": "to make a variable",
        "keras:Variable._map_aggregation": "as well",
        "keras:Variable._map_synchronization": "as well",
    },
)
TEMPLATES = Manifest(
    "Cloning models that were loaded before",
    "each load takes as long as the first",
    {
        **RAW_VARIABLES.names,
        "keras.src.backend.common.global_state:GLOBAL_STATE_TRACKER": "to read the open scopes",
        "keras.src.ops.function:make_node_key": "to copy the calls of a functional model",
        "keras.src.saving.object_registration:GLOBAL_CUSTOM_OBJECTS": "to read what a program has "
        "registered",
        "keras.src.utils.naming:uniquify": "to give automatic names",
        "keras.src.utils.tracking:TrackedDict": "to copy what Keras tracks",
        "keras.src.utils.tracking:TrackedList": "as well",
        "keras.src.utils.tracking:TrackedSet": "as well",
        "keras.src.utils.tracking:Tracker().config": "as well",
        "keras.src.utils.tracking:Tracker().stored_ids": "as well",
        "tensorflow.python.trackable.base:TrackableReference": "to copy what TensorFlow tracks",
        "tensorflow.python.trackable.data_structures:ListWrapper": "as well",
        "tensorflow.python.trackable.data_structures:_DictWrapper": "as well",
        "tensorflow.python.trackable.layer_utils:AttributeSentinel": "as well",
    },
)
LAYOUTS = Manifest(
    "Restoring the layouts of a distribution of Keras",
    "rebuilt variables have the layouts of other paths",
    {"keras:Variable()._layout": "to give a variable the layout of its path"},
)
# All that can be done without.
OPTIONAL = (TRACES, WHOLE_EPOCHS, KERNELS, STORED, RAW_VARIABLES, TEMPLATES)
# On other backends. Without the second, what it is needed for is refused.
PARAMETRIZED = Manifest(
    "Carrying parametrized modules of Torch",
    "Torch refuses to pickle them",
    {
        "torch.nn.utils.parametrize:_inject_new_class": "to make a module of the class that Torch "
        "makes",
        "torch.nn.utils.parametrize:_inject_property": "as well",
    },
)

# What instances have; classes don't say.
ATTRIBUTES = {
    "Layer": {
        "_layers": "to walk over the layers that a layer tracks",
        "_metrics": "to walk over the metrics that a layer tracks",
        "_seed_generators": "to walk over the seed generators that a layer tracks",
        "_tracker": "to replace a layer or variable that a layer tracks",
        "_trainable": "to tell whether a layer itself is frozen",
        "_trainable_variables": "to find the variables of a layer itself",
        "_non_trainable_variables": "as well",
    },
    "Sequential": {
        "_compile_loss": "to carry the state of the losses of compile()",
        "_compile_metrics": "to carry the state of the metrics of compile()",
        "_loss_tracker": "to carry the mean of the loss",
        "_functional": "to tell whether a Sequential is built",
    },
    "Function": {
        "_attributes": "to create a tf.function with the same options",
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
    """Return whether the minor version of Keras is within those that the tests run with."""
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
    """Return whether all is there that sharing traces needs; say once if it is not."""
    import keras

    return keras.backend.backend() == "tensorflow" and not missing() and TRACES.is_complete()
