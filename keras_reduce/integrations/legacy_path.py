"""Import path of the wrappers of TensorFlow until 2.12.

`enable` makes ``tensorflow.keras.wrappers.scikit_learn`` and ``keras.wrappers.scikit_learn``
importable where they have been removed, so that programs written for them run unchanged. Their
contents are those of `keras_reduce.legacy`, which is imported only then.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..core.import_hooks import ImportHooks

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["disable", "enable"]

# The packages that had the module, and the one that TensorFlow's lazy `tf.keras` loads.
_PACKAGES = ("keras.wrappers", "tensorflow.keras.wrappers", "keras._tf_keras.keras.wrappers")
_MODULES = tuple(f"{package}.scikit_learn" for package in _PACKAGES)


class _Finder:
    """Finder and loader of the removed modules.

    It is the last in ``sys.meta_path``, so that existing modules take precedence. The package that
    contains a module may be missing as well.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in (*_PACKAGES, *_MODULES):
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(fullname, self, is_package=fullname in _PACKAGES)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ in _MODULES:
            from .. import legacy

            vars(module).update({name: getattr(legacy, name) for name in legacy.__all__})


def _import(name: str) -> None:
    importlib.import_module(name)


_finder = _Finder()
_hooks = ImportHooks()


def enable() -> None:
    """Enable the old import path, without importing a framework; repeated calls do nothing.

    An existing module, as in TensorFlow 2.12, is not changed. Programs that use
    ``tf.keras.wrappers.scikit_learn.KerasRegressor`` without importing the module work as well.
    """
    if _finder in sys.meta_path:
        return
    sys.meta_path.append(_finder)
    for package, module in zip(_PACKAGES, _MODULES, strict=True):
        # An attribute access imports nothing, so the submodule is imported with its package.
        _hooks.when_imported(package, partial(_import, module))


def disable() -> None:
    """Undo `enable`; do nothing if it was not called."""
    _hooks.clear()
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    for name in (*_MODULES, *_PACKAGES):
        module = sys.modules.get(name)
        if module is None or getattr(module.__spec__, "loader", None) is not _finder:
            continue
        del sys.modules[name]
        parent, _, attribute = name.rpartition(".")
        if vars(sys.modules[parent]).get(attribute) is module:
            delattr(sys.modules[parent], attribute)
