"""Classes and functions of Keras 2's own that a file loaded with ``trusted=`` may name."""

from __future__ import annotations

from typing import Any

from .framework import is_built_in
from .kinds import bases

# Classes that run code of their config's, or read, write or send something once they are used.
_NOT_THESE = frozenset(
    {
        "ClassMethod",
        "InstanceMethod",
        "InstanceProperty",
        "Lambda",
        "SlicingOpLambda",
        "TFOpLambda",
        "TensorFlowOpLayer",
        "BackupAndRestore",
        "CSVLogger",
        "ModelCheckpoint",
        "RemoteMonitor",
        "TensorBoard",
    }
)
# Private: where functions are defined that map tensors to tensors.
_HOMES = ("activations", "constraints", "initializers", "losses", "metrics", "regularizers")


def is_harmless(obj: Any) -> bool:
    """Return whether `obj` is a class that models are made of, or a function of tensors."""
    if isinstance(obj, type):
        kinds = tuple(cls for classes in bases().values() for cls in classes)
        is_part = is_built_in(obj) and issubclass(obj, kinds)
        return is_part and not any(cls.__name__ in _NOT_THESE for cls in obj.__mro__)
    root, *rest = str(getattr(obj, "__module__", "")).split(".")
    home = next((part for part in rest if part != "src"), "")
    return callable(obj) and root in ("keras", "tf_keras") and home in _HOMES
