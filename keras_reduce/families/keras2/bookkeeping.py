"""Attributes that Keras 2 keeps for itself on its objects, and which no config knows."""

from __future__ import annotations

from typing import Any

from .._shared.bookkeeping import TRACKING

# Attributes in which a part is found a second time: paths don't go by them.
SECOND_PLACES = TRACKING | {
    "_trainable_weights",
    "_non_trainable_weights",
    "_metrics",
    "_updates",
    "_losses",
    "_unconditional_checkpoint_dependencies",
    "_inbound_nodes_value",
    "_checkpoint",
    "_outbound_nodes_value",
    "_input_layers",
    "_output_layers",
    "_network_nodes",
    "_nodes_by_depth",
    "_layer_call_argspecs",
    "_input_coordinates",
    "_output_coordinates",
    "_compiled_trainable_state",
    "_created_nodes",
    "_auto_config",
    "inputs",
    "outputs",
    "_nested_inputs",
    "_nested_outputs",
    "_feed_inputs",
    "history",
    "train_function",
    "test_function",
    "predict_function",
    "train_tf_function",
}

# What `load_model` sets on what it finds in a SavedModel: its functions, and how it was written.
LEFT_BY_LOADING = frozenset(
    {
        "_serialized_attributes",
        "signatures",
        "keras_api",
        "graph_debug_info",
        "tensorflow_version",
        "tensorflow_git_version",
    }
)

# What Keras's own constructors set on layers, and a program or a user-defined class may change.
DEFAULTS: dict[str, Any] = {
    "_dynamic": False,
    "_autocast": True,
    "_stateful": False,
    "_supports_masking": False,
    "_activity_regularizer": None,
    "_input_spec": None,
}

# Attributes of Keras's own classes that their configs don't mention, and what they are by default.
LEFT_OUT: dict[str, dict[str, Any]] = {
    "AlphaDropout": {"noise_shape": None},
    "BatchNormalization": {"synchronized": False},
    "Embedding": {"sparse": False, "_use_one_hot_matmul": False},
    "Normalization": {"invert": False},
    "SpatialDropout2D": {"data_format": ""},  # By default, what the program has set for all.
    "SpatialDropout3D": {"data_format": ""},
    "StackedRNNCells": {"reverse_state_order": False},
    "Adam": {"adaptive_epsilon": False},
}
