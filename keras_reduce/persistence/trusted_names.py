"""What the names in a file stand for, if that is trusted."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

import numpy as np

from .. import families
from ..audit import trust_policy
from ..audit.trust_policy import Policy


class Nothing:
    """What takes the place of all that is not trusted.

    Parameters
    ----------
    name : str, optional
        What it takes the place of.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Do nothing."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Do nothing."""

    def append(self, value: Any) -> None:
        """Do nothing."""

    def extend(self, values: Any) -> None:
        """Do nothing."""

    def add(self, value: Any) -> None:
        """Do nothing."""


def resolve(policy: Policy, module: str, name: str) -> tuple[Any, bool]:
    """Return what is named, and whether a pickle may call it; else what does nothing.

    Raises
    ------
    ImportError, AttributeError
        If it is trusted, but not here.
    """
    full = f"{module}.{name}"
    if not policy.may_be_imported(module, name):
        return Nothing(full), False
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        # By way of a module, a name would be one of another module.
        if isinstance(found, types.ModuleType) and found is not sys.modules[module]:
            policy.refuse(full)
            return Nothing(), False
        found = getattr(found, part)
    if policy.lists(full, exactly=True):
        return found, True
    own = f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', None)}"
    if policy.lists(full) and policy.lists(own):
        return found, True
    if full in trust_policy.CONSTRUCTORS:
        return found, True
    if full in trust_policy.REFERENCES:
        return found, False
    is_known, may_be_called = _is_known(found, own)
    if not is_known:
        policy.refuse(full)
        return Nothing(), False
    return found, may_be_called


def _is_known(obj: Any, name: str) -> tuple[bool, bool]:
    """Return whether something of a package that is known is harmless, and whether to be called."""
    root, *parts = name.split(".")
    if trust_policy.APART & {*parts} or name.startswith(trust_policy.CONNECTING):
        return False, False
    if isinstance(obj, np.ufunc):
        return True, False
    if root == "numpy":
        return isinstance(obj, type) and issubclass(obj, np.generic | np.dtype), False
    if root == "scipy":
        return isinstance(obj, type) and name.startswith("scipy.sparse."), True
    if root == "sklearn":
        is_class = isinstance(obj, type)
        return is_class or name.startswith(_FUNCTIONS_OF_SKLEARN), is_class
    family = families.of_module(root) if root in sys.modules and root in families.ROOTS else None
    return family is not None and family.is_harmless(obj), False


_FUNCTIONS_OF_SKLEARN = tuple(
    f"sklearn.{name}."
    for name in ("cluster", "feature_selection", "metrics", "preprocessing", "utils.extmath")
)
