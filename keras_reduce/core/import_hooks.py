"""Hooks that run after the import of a module, without importing it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

Hook = Callable[[], None]


class ImportHooks:
    """Finder that finds no modules itself, but calls hooks after other finders' imports.

    It is in ``sys.meta_path`` only while a hook is waiting. It has the methods of
    `importlib.abc.MetaPathFinder`, whose import would take most of the import time of this package.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[Hook]] = {}
        self._thread = threading.local()

    def when_imported(self, name: str, hook: Hook) -> None:
        """Call `hook` now if module `name` is imported, else after its import."""
        module = sys.modules.get(name)
        if module is None:
            self._waiting.setdefault(name, []).append(hook)
            if self not in sys.meta_path:
                sys.meta_path.insert(0, self)
            return
        if getattr(module.__spec__, "_initializing", False):
            # Another thread is importing it; wait for that thread.
            importlib.import_module(name)
        hook()

    def clear(self) -> None:
        """Remove all waiting hooks."""
        self._waiting.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the other finders, with a loader that calls the hooks."""
        if fullname not in self._waiting or getattr(self._thread, "searching", False):
            return None
        self._thread.searching = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._thread.searching = False
        if spec is not None and hasattr(spec.loader, "exec_module"):
            assert spec.loader is not None
            report = _ReportingLoader(spec.loader, lambda: self._imported(fullname))
            spec.loader = cast("Loader", report)
        return spec

    def _imported(self, name: str) -> None:
        hooks = self._waiting.pop(name, [])
        if not self._waiting:
            self.clear()
        for hook in hooks:
            hook()


class _ReportingLoader:
    """Wrapper of a loader for one import."""

    def __init__(self, loader: Loader, report: Hook) -> None:
        self._loader, self._report = loader, report

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Restore the real loader first: the module, or pkgutil, may use its methods.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._report()
