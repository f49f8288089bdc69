"""Classes and functions of Keras 3's own that a file loaded with ``trusted=`` may name."""

from __future__ import annotations

from typing import Any

from .kinds import bases, is_built_in

# Classes that run code of their config's, or read, write or send something once they are used.
_NOT_THESE = frozenset(
    {
        "FlaxLayer",
        "JaxLayer",
        "Lambda",
        "TFSMLayer",
        "TorchModuleWrapper",
        "BackupAndRestore",
        "CSVLogger",
        "ModelCheckpoint",
        "RemoteMonitor",
        "TensorBoard",
    }
)
# Private: where functions are defined that map tensors to tensors.
_HOMES = tuple(
    f"keras.src.{name}"
    for name in ("activations", "constraints", "initializers", "losses", "metrics", "ops")
)

# Private: where classes without a base class in common are defined, of which layers are made.
_PARTS = ("keras.src.quantizers.", "keras.src.layers.preprocessing.feature_space")


def is_harmless(obj: Any) -> bool:
    """Return whether `obj` is a class that models are made of, or a function of tensors."""
    if isinstance(obj, type):
        is_of_a_kind = issubclass(obj, tuple(bases().values()))
        is_part = is_built_in(obj) and (is_of_a_kind or obj.__module__.startswith(_PARTS))
        return is_part and not any(cls.__name__ in _NOT_THESE for cls in obj.__mro__)
    module = str(getattr(obj, "__module__", ""))
    return callable(obj) and any(f"{module}.".startswith(f"{home}.") for home in _HOMES)
