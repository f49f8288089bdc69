"""Lookup of trusted globals."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

import numpy as np

from .. import families
from ..audit import trust_policy
from ..audit.trust_policy import Policy


class Placeholder:
    """Placeholder for a global that is not trusted; it does nothing.

    Parameters
    ----------
    name : str, optional
        Full name of the global.
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
    """Return a trusted global and whether a pickle may call it; else a placeholder and False.

    Raises
    ------
    ImportError, AttributeError
        If it is trusted, but not available.
    """
    full = f"{module}.{name}"
    if not policy.may_be_imported(module, name):
        return Placeholder(full), False
    obj: Any = importlib.import_module(module)
    for part in name.split("."):
        # Through a module, the name would lead to a global of another module.
        if isinstance(obj, types.ModuleType) and obj is not sys.modules[module]:
            policy.refuse(full)
            return Placeholder(), False
        obj = getattr(obj, part)
    if policy.lists(full, exactly=True):
        return obj, True
    defined_name = f"{getattr(obj, '__module__', None)}.{getattr(obj, '__qualname__', None)}"
    if policy.lists(full) and policy.lists(defined_name):
        return obj, True
    if full in trust_policy.CONSTRUCTORS:
        return obj, True
    if full in trust_policy.REFERENCES:
        return obj, False
    is_harmless, may_be_called = _is_harmless(obj, defined_name)
    if not is_harmless:
        policy.refuse(full)
        return Placeholder(), False
    return obj, may_be_called


def _is_harmless(obj: Any, name: str) -> tuple[bool, bool]:
    """Return whether a global of a known package is harmless, and whether it may be called."""
    root, *parts = name.split(".")
    if trust_policy.EXCLUDED & {*parts} or name.startswith(trust_policy.CONNECTING):
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
