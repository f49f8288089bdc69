"""Attributes that Keras 3 keeps for itself on its objects, and which no config knows.

Nearly all are private. What rests on a list of them is named beside it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .._shared.bookkeeping import TRACKING

# Where Keras tracks the variables and the parts of an object, in this order, each with the word for
# one of its parts.
VARIABLES = ("_trainable_variables", "_non_trainable_variables")
PARTS = {"_layers": "layer", "_metrics": "metric", "_seed_generators": "seed_generator"}

# Attributes in which a part is found a second time: paths don't go by them.
SECOND_PLACES = TRACKING | {
    *VARIABLES,
    *PARTS,
    "_tracker",
    "_functional",
    "_compiled_trainable_state",
    "_operations",
    "_operations_by_depth",
    "_nodes",
    "_nodes_by_depth",
}

# What is set after construction: on any object, on models by training. It is never the user's.
SET_LATER = TRACKING | {"_input_shape_arg", "_functional"}
SET_BY_TRAINING = frozenset(
    {
        "history",
        "stop_training",
        "stop_evaluating",
        "stop_predicting",
        "_eval_epoch_iterator",
        "_compiled_trainable_state",
        "_compile_config",
        "_jax_state",
    }
)

# Names and connections, what the class of a layer says, what its last call has left.
_OF_LAYERS = TRACKING | {
    "name",
    "_path",
    "_parent_path",
    "_inbound_nodes",
    "_outbound_nodes",
    "_tracker",
    "_tracked",
    "_lock",
    "_called",
    "_auto_config",
    "build",
    "quantize",
    "_call_signature",
    "call_signature_parameters",
    "_losses",
    "_loss_ids",
    "_losses_override",
}
# What nothing that is written about a layer follows from: layers that differ in it only are alike.
WITHOUT_CONSEQUENCE = _OF_LAYERS | {
    *VARIABLES,
    *PARTS,
    "_input_tensor",
    "_call_context_args",
    "_call_has_context_arg",
    "backend",  # of a seed generator: Keras's module for it
}
# What no graph of a model follows from.
NOT_IN_GRAPHS = (
    _OF_LAYERS
    | SET_BY_TRAINING
    | {
        "_name",
        "_keras_history",
        "record_history",
        "_nodes",
        "_build_shapes_dict",
        "_saved_model_inputs_spec",
        "_saved_model_arg_spec",
        "_trainable_variables_indices",
        "_exclude_from_weight_decay_cache",
        "_initial_seed",
        "output_names",
        "_initial_epoch",
        "train_function",
        "test_function",
        "predict_function",
    }
)

# Of Torch, where layers are modules: where those keep what is set on them, and what they note.
MODULE_STORES = ("_modules", "_parameters", "_buffers")
OF_MODULES = ("_torch_params", "training", "_non_persistent_buffers_set")


class Setting(NamedTuple):
    """A setting that every layer has, and that a program may change."""

    attribute: str  # Where Keras keeps it.
    name: str  # How the code of a class sets it.
    default: Any  # What `keras.Layer` sets.


CONTEXT = Setting("_call_context_args", "_call_context_args", frozenset({"training"}))
SETTINGS = (
    Setting("_input_spec", "input_spec", None),
    Setting("_supports_masking", "supports_masking", False),
    Setting("supports_jit", "supports_jit", True),
    Setting("_convert_input_args", "_convert_input_args", True),
    Setting("_allow_non_tensor_positional_args", "_allow_non_tensor_positional_args", False),
    Setting("_remat_mode", "_remat_mode", None),
    CONTEXT,
)
SETTING_ATTRIBUTES = frozenset(setting.attribute for setting in SETTINGS)

# Attributes of Keras's own that matter where a user-defined class has changed them.
DEFAULTS = {
    **{setting.attribute: setting.default for setting in SETTINGS if setting is not CONTEXT},
    "activity_regularizer": None,
    "autocast": True,
}
