"""Patches of joblib: code by value, arrays and failures in dumps, hashes, the backend."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from ..core import keras_backend
from ..core.replacements import Replacements

__all__ = [
    "carry_code_by_value",
    "forget_backend",
    "hash_by_content",
    "keep_dumps_whole",
    "offer_backend",
]


def carry_code_by_value(replaced: Replacements, setup: Callable[[], Any]) -> None:
    """Let joblib's pickler, a Python class, reduce functions and classes like cloudpickle."""
    import cloudpickle
    from joblib.numpy_pickle import NumpyPickler

    from ..core.dispatch import standardized
    from ..custom_objects import companion

    def reducer_override(self: Any, obj: Any) -> Any:
        pickler = vars(self).get("_keras_reduce_companion")
        if pickler is None:
            pickler = self._keras_reduce_companion = companion()
            # Code objects and cells of functions need cloudpickle's reducers as well. Set on the
            # pickler, since a subclass may have its own table.
            self.dispatch = standardized(type(self))
        return pickler.reducer_override(obj)

    replaced.set(NumpyPickler, "reducer_override", reducer_override)
    # Reducers for cells, code objects and other parts of functions; includes copyreg's table.
    replaced.set(NumpyPickler, "dispatch_table", cloudpickle.Pickler.dispatch_table)


def keep_dumps_whole(replaced: Replacements, setup: Callable[[], Any]) -> None:
    """Make `joblib.dump` remove the output of a failed dump, and keep the identity of arrays."""
    from joblib.numpy_pickle import NumpyPickler

    def dump(self: Any, obj: Any) -> None:
        # Imported on first use.
        from .joblib_dumps import dump_whole
        from .joblib_plain_dumps import dump_plainly

        if type(self) is NumpyPickler and not keras_backend.is_in_use():
            plain_dump = functools.partial(dump_plainly, dump=original_dump, save=original_save)
            dump_whole(self, obj, plain_dump)
        else:
            dump_whole(self, obj, original_dump)

    def save(self: Any, obj: Any) -> None:
        from .joblib_dumps import save_in_one_pickle

        save_in_one_pickle(self, obj, original_save)

    original_dump, original_save = NumpyPickler.dump, NumpyPickler.save
    replaced.set(NumpyPickler, "dump", functools.wraps(original_dump)(dump))
    replaced.set(NumpyPickler, "save", functools.wraps(original_save)(save))


def hash_by_content(replaced: Replacements, setup: Callable[[], Any]) -> None:
    """Make joblib's Hasher, a Python class, hash Keras objects and code by their content."""
    from joblib.hashing import Hasher, NumpyHasher
    from joblib.numpy_pickle import NumpyPickler

    from ..core.dispatch import standardized

    def hashes_code() -> bool:
        # Set by `carry_code_by_value`: one option controls both.
        return "reducer_override" in vars(NumpyPickler)

    def reducer_override(self: Any, obj: Any) -> Any:
        # Imported on first use, since many programs never hash.
        from .joblib_hashing import canonical

        if isinstance(obj, _PLAIN):
            return NotImplemented
        return canonical(obj, code=hashes_code())

    def hash(self: Any, *args: Any, **kwargs: Any) -> Any:
        from .joblib_hashing import begin_plainly

        if type(self) in (Hasher, NumpyHasher) and not keras_backend.is_in_use():
            begin_plainly(self, code=hashes_code())
        return original_hash(self, *args, **kwargs)

    original_hash = Hasher.hash
    replaced.set(Hasher, "hash", functools.wraps(original_hash)(hash))
    replaced.set(Hasher, "reducer_override", reducer_override)
    # The hash of an object must not depend on what was imported before joblib.
    replaced.set(Hasher, "dispatch", standardized(Hasher))


_PLAIN = (str, int, float, bytes, tuple, list, dict, type(None))


# joblib's default backend must have a name of its own: "keras" is what a program asks for.
_DEFAULT = "keras-if-used"


def offer_backend(
    replaced: Replacements, make: Callable[..., Any], make_default: Callable[..., Any] | None
) -> None:
    """Register `make` with joblib as the backend "keras", and `make_default` as its default."""
    from joblib import parallel

    parallel.BACKENDS["keras"] = make
    if make_default is not None:
        parallel.BACKENDS[_DEFAULT] = make_default
        replaced.when_undone(lambda: _remove(_DEFAULT, make_default))
        replaced.set(parallel, "DEFAULT_BACKEND", _DEFAULT)


def forget_backend(make: Callable[..., Any]) -> None:
    """Remove the backend from joblib, unless other code has replaced it."""
    _remove("keras", make)


def _remove(name: str, make: Callable[..., Any]) -> None:
    joblib = sys.modules.get("joblib.parallel")
    backends = getattr(joblib, "BACKENDS", {})
    if backends.get(name) is make:
        del backends[name]
