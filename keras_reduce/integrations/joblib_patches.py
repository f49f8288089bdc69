"""Patches of joblib: code by value, arrays and failures in dumps, hashes, the backend."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from ..core.replacements import Replacements

__all__ = [
    "carry_code_by_value",
    "forget_backend",
    "hash_by_content",
    "keep_dumps_whole",
    "offer_backend",
]


def carry_code_by_value(replaced: Replacements, order: Callable[[], Any]) -> None:
    """Teach joblib's pickler, a Python class, what cloudpickle knows of functions and classes."""
    import cloudpickle
    from joblib.numpy_pickle import NumpyPickler

    from ..core.dispatch import standardized
    from ..custom_objects import companion

    def reducer_override(self: Any, obj: Any) -> Any:
        pickler = vars(self).get("_keras_reduce_companion")
        if pickler is None:
            pickler = self._keras_reduce_companion = companion()
            # Code objects and cells, of which functions consist, are cloudpickle's as well. Set on
            # the pickler, as a subclass may have a table of its own.
            self.dispatch = standardized(type(self))
        return pickler.reducer_override(obj)

    replaced.set(NumpyPickler, "reducer_override", reducer_override)
    # Cells, code objects and the like, of which functions consist; copyreg's table is part of it.
    replaced.set(NumpyPickler, "dispatch_table", cloudpickle.Pickler.dispatch_table)


def keep_dumps_whole(replaced: Replacements, order: Callable[[], Any]) -> None:
    """Let a `joblib.dump` that fails take back what it has written, and keep one object one."""
    from joblib.numpy_pickle import NumpyPickler

    def dump(self: Any, obj: Any) -> None:
        # Imported when it is first needed.
        from .joblib_dumps import dump_whole

        dump_whole(self, obj, original_dump)

    def save(self: Any, obj: Any) -> None:
        from .joblib_dumps import save_in_one_pickle

        save_in_one_pickle(self, obj, original_save)

    original_dump, original_save = NumpyPickler.dump, NumpyPickler.save
    replaced.set(NumpyPickler, "dump", functools.wraps(original_dump)(dump))
    replaced.set(NumpyPickler, "save", functools.wraps(original_save)(save))


def hash_by_content(replaced: Replacements, order: Callable[[], Any]) -> None:
    """Tell joblib's Hasher, a Python class as well, what makes two objects the same."""
    from joblib.hashing import Hasher
    from joblib.numpy_pickle import NumpyPickler

    from ..core.dispatch import standardized

    def reducer_override(self: Any, obj: Any) -> Any:
        # Imported when it is first needed: most programs never hash.
        from .joblib_hashing import canonical

        if isinstance(obj, _PLAIN):
            return NotImplemented
        # Which `carry_code_by_value` sets: the option is one for both.
        return canonical(obj, code="reducer_override" in vars(NumpyPickler))

    replaced.set(Hasher, "reducer_override", reducer_override)
    # The hash of an object must not depend on what was imported before joblib.
    replaced.set(Hasher, "dispatch", standardized(Hasher))


_PLAIN = (str, int, float, bytes, tuple, list, dict, type(None))


def offer_backend(replaced: Replacements, make: Callable[..., Any], *, is_default: bool) -> None:
    """Make the backend "keras", made by `make`, known to joblib, and its default if wished."""
    from joblib import parallel

    parallel.BACKENDS["keras"] = make
    if is_default:
        replaced.set(parallel, "DEFAULT_BACKEND", "keras")


def forget_backend(make: Callable[..., Any]) -> None:
    """Make the backend unknown to joblib, unless somebody has entered another by its name."""
    joblib = sys.modules.get("joblib.parallel")
    backends = getattr(joblib, "BACKENDS", {})
    if backends.get("keras") is make:
        del backends["keras"]
