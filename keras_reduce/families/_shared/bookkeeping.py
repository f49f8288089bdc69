"""Attributes in which TensorFlow notes what an object of Keras holds, of either generation."""

TRACKING = frozenset(
    {
        "_obj_reference_counts_dict",
        "_self_name_based_restores",
        "_self_saveable_object_factories",
        "_self_setattr_tracking",
        "_self_tracked_trackables",
        "_self_unconditional_checkpoint_dependencies",
        "_self_unconditional_dependency_names",
        "_self_unconditional_deferred_dependencies",
        "_self_update_uid",
    }
)
