"""The import path of the wrappers that TensorFlow shipped until 2.12.

`enable` makes ``tensorflow.keras.wrappers.scikit_learn`` and ``keras.wrappers.scikit_learn``
importable where they are gone, so that a program written for them runs as it is. What it gets there
is `keras_reduce.legacy`, imported only then.
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

# Where the module was, and what TensorFlow's lazy `tf.keras` loads in place of itself.
_PACKAGES = ("keras.wrappers", "tensorflow.keras.wrappers", "keras._tf_keras.keras.wrappers")
_MODULES = tuple(f"{package}.scikit_learn" for package in _PACKAGES)


class _Finder:
    """Finder and loader of the modules that are gone.

    The last of ``sys.meta_path``, so a module that exists is found before it gets here. The package
    around them may be missing as well.
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
    """Make the old import path work; imports no framework, and may be called again.

    A module that exists, as in TensorFlow 2.12, is left alone. Programs that say
    ``tf.keras.wrappers.scikit_learn.KerasRegressor`` without an import of their own work too.
    """
    if _finder in sys.meta_path:
        return
    sys.meta_path.append(_finder)
    for package, module in zip(_PACKAGES, _MODULES, strict=True):
        # An attribute access imports nothing, so the submodule comes along with its package.
        _hooks.when_imported(package, partial(_import, module))


def disable() -> None:
    """Put everything back as it was before `enable`; without effect if that was not called."""
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
