"""Generation of Keras that a module is."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import sys


def generation(root: str) -> int:
    """Return the first number of the version of module `root`, 0 if there is none.

    It is not imported: where it has not been yet, the installed package is asked.
    """
    module = sys.modules.get(root)
    version = getattr(module, "__version__", None) or _installed(root)
    first = str(version or "").partition(".")[0]
    return int(first) if first.isdigit() else 0


def _installed(root: str) -> str | None:
    try:
        return importlib.metadata.version(root)
    except importlib.metadata.PackageNotFoundError:
        # A nightly has another name. A finder that keeps modules from being imported raises.
        with contextlib.suppress(ImportError):
            return "3" if root == "keras" and importlib.util.find_spec(root) else None
        return None
