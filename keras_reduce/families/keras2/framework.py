"""The Keras 2 of this process: Keras 2 itself, or tf_keras, which lives beside Keras 3."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from typing import Any

from ...core.code_objects import root_module
from .._shared.versions import generation

# The key by which configs tell what is written by this package, and of which kind it is.
MARK = "keras_reduce"
# Modules whose classes are not user-defined.
_FRAMEWORKS = ("keras", "tf_keras", "tensorflow")


@functools.cache
def root() -> str:
    """Return the name of the module that is Keras 2 here."""
    return "keras" if generation("keras") == 2 else "tf_keras"


@functools.cache
def keras() -> Any:
    """Return the public API of Keras 2, which TensorFlow shows as ``tensorflow.keras``."""
    # The module `keras` itself shows next to nothing of it before 2.16.
    return importlib.import_module("tf_keras" if root() == "tf_keras" else "keras.api._v2.keras")


@functools.cache
def private(name: str) -> Any:
    """Return a module of Keras 2 that is not public, such as ``engine.functional``."""
    # Until 2.12 they were in the root of the package.
    inner = f"{root()}.src"
    package = inner if importlib.util.find_spec(inner) else root()
    return importlib.import_module(f"{package}.{name}")


def is_built_in(cls: Any) -> bool:
    """Return whether a class or function is Keras's own, or TensorFlow's."""
    return root_module(cls) in _FRAMEWORKS


def location(obj: Any) -> tuple[str, str] | None:
    """Return the module and the name by which `located` finds a class or function of Keras.

    By its public name where it has one, which is the same for Keras 2 and tf_keras; for a private
    one, the module counts from the root of the package.
    """
    if root_module(obj) != root():
        return None
    # Private: the name under which Keras exports it.
    from tensorflow.python.util import tf_export

    public = tf_export.get_canonical_name_for_symbol(obj, api_name="keras") or ""
    module, _, name = public.rpartition(".")
    if module and _found(module, name) is obj:
        return module, name
    module = obj.__module__.removeprefix(f"{root()}.").removeprefix("src.")
    module, name = f"private.{module}", obj.__qualname__
    return (module, name) if _found(module, name) is obj else None


def located(module: str, name: str) -> Any:
    """Return the object at a place that `location` has returned.

    Raises
    ------
    AttributeError
        If this version of Keras has no such thing.
    """
    obj = _found(module, name)
    if obj is None:
        raise AttributeError(f"{root()} has no {module}.{name}")
    return obj


def _found(module: str, name: str) -> Any:
    start, _, rest = module.partition(".")
    if start == "private":
        try:
            holder: Any = private(rest)
        except ImportError:
            return None
        return functools.reduce(lambda at, step: getattr(at, step, None), name.split("."), holder)
    steps = [*(rest.split(".") if rest else ()), name]
    return functools.reduce(lambda at, step: getattr(at, step, None), steps, keras())
