"""Reduce values for `joblib.hash` that are the same in every process.

A pickle depends on more than the value of an object: on the process of its classes, on versions, on
the identity of constants. `joblib.Memory` would not find results of another process. So joblib's
Hasher, a pickler whose output is only hashed, gets the content of Keras objects, and the code of
functions and classes that can't be imported (of ``__main__``, lambdas, closures): by their names
alone, an edited function would hash like the one before.
"""

from __future__ import annotations

import copyreg
import functools
import types
from typing import Any

from joblib.hashing import Hasher

from .. import families, reducers
from ..core import code_objects
from ..custom_objects import ByValue, is_importable
from ..reducers import PartAttributes
from ..weak_references import WeakAttribute
from .joblib_plain_dumps import is_probably_importable

_CACHED = type(functools.lru_cache(len))

# These are never called; their names in the hashed stream distinguish the kinds.


def _function(*parts: Any) -> None: ...


def _class(*parts: Any) -> None: ...


def _module(*parts: Any) -> None: ...


def _keras_object(*parts: Any) -> None: ...


def _frozenset(*parts: Any) -> None: ...


def _same(obj: Any) -> None: ...


def canonical(obj: Any, *, code: bool = True) -> Any:
    """Return a reduce value for a pickler whose output is hashed; `NotImplemented` for the usual.

    Functions and classes are hashed by their code only if `code` is true.

    Parts that may refer to `obj` are in the state, which a pickler saves after it has memoized
    `obj`.
    """
    if isinstance(obj, types.FunctionType):
        return NotImplemented if is_importable(obj) or not code else _of_function(obj)
    if isinstance(obj, type):
        return NotImplemented if is_importable(obj) or not code else _of_class(obj)
    if isinstance(obj, types.ModuleType):
        return _module, (obj.__name__,)
    if isinstance(obj, frozenset):
        # joblib hashes sets independently of their order.
        return _frozenset, (set(obj),) if type(obj) is frozenset else (set(obj), type(obj))
    if isinstance(obj, types.MappingProxyType):
        return _same, (dict(obj),)
    if isinstance(obj, _CACHED):
        return _same, (obj.__wrapped__,)
    if isinstance(obj, ByValue):
        return _same, (obj.referent,)
    if isinstance(obj, PartAttributes):
        return _same, ((obj.attributes, obj.value),)
    if isinstance(obj, WeakAttribute):
        return _same, (obj.plain(),)
    if families.of(obj) is not None and not reducers.says_itself(obj, *_METHODS):
        parts, state = reducers.fingerprint(obj)
        return _keras_object, parts, state
    return NotImplemented


_METHODS = ("__reduce_ex__", "__reduce__", "__getstate__")


# --- in programs without Keras ------------------------------------------------------------------


def begin_plainly(hasher: Any, *, code: bool) -> None:
    """Let a new Hasher use joblib's own methods until code must be hashed by its content.

    The hashes are the same as by `canonical`, which costs a call for each object.
    """
    hasher.reducer_override = None
    hasher.dispatch, hasher.dispatch_table = _dispatch(code), _REDUCERS
    if code:
        hasher.save_global = types.MethodType(_save_global, hasher)


def _dispatch(code: bool) -> dict[type, Any]:
    table = {**Hasher.dispatch, **dict.fromkeys(_CANONICAL, _save_canonically)}
    return {**table, types.FunctionType: _save_code, type: _save_code} if code else table


_CANONICAL = (
    types.ModuleType,
    frozenset,
    types.MappingProxyType,
    _CACHED,
    ByValue,
    PartAttributes,
    WeakAttribute,
)


def _save_canonically(hasher: Any, obj: Any) -> None:
    hasher.save_reduce(*canonical(obj), obj=obj)


def _save_code(hasher: Any, obj: Any) -> None:
    hasher.save_global(obj)


def _save_global(hasher: Any, obj: Any, name: str | None = None, **options: Any) -> None:
    is_code = name is None and isinstance(obj, (types.FunctionType, type))
    if is_code and not is_probably_importable(obj):
        for attribute in ("reducer_override", "dispatch", "dispatch_table", "save_global"):
            vars(hasher).pop(attribute, None)
        hasher.save(obj)
    else:
        Hasher.save_global(hasher, obj, name, **options)


class _Reducers:
    """Table of reducers: that of copyreg, and `canonical` for the classes that it is for."""

    def get(self, kind: type, default: Any = None) -> Any:
        if issubclass(kind, _CANONICAL):
            return canonical
        return copyreg.dispatch_table.get(kind, default)


_REDUCERS = _Reducers()


# --- by content ---------------------------------------------------------------------------------


def _of_function(function: types.FunctionType) -> tuple[Any, ...]:
    state = {
        "closure": {n: _hashable(value) for n, value in code_objects.closure(function).items()},
        "globals": {
            n: _hashable(value) for n, value in code_objects.used_globals(function).items()
        },
        "defaults": function.__defaults__,
        "keyword_defaults": function.__kwdefaults__,
        "attributes": {
            name: _hashable(value)
            for name, value in vars(function).items()
            if name != "__wrapped__"
        },
    }
    return _function, (_text(function.__code__),), state


def _of_class(cls: type) -> tuple[Any, ...]:
    state = {name: _hashable(value) for name, value in code_objects.members(cls).items()}
    return _class, (cls.__qualname__,), {"bases": cls.__bases__, "attributes": state}


def _hashable(value: Any) -> Any:
    """Return `value`, or the name of its type if it can't be pickled.

    A function may use a lock or an open file, which have no value to hash.
    """
    if isinstance(value, _USUAL) or families.of(value) is not None:
        return value
    if hasattr(value, "__array_interface__"):
        return value
    if isinstance(value, memoryview):
        return bytes(value)
    try:
        value.__reduce_ex__(3)
    except Exception:
        return f"{type(value).__module__}.{type(value).__qualname__}"
    return value


_USUAL = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    list,
    tuple,
    dict,
    set,
    frozenset,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    type,
    types.MappingProxyType,
    _CACHED,
)


def _text(code: types.CodeType) -> str:
    """Return a text of `code` without its file and line numbers.

    Text, since two equal constants may be one object in one process and two in another, which a
    pickler would distinguish.
    """
    constants = ", ".join(map(_constant, code.co_consts))
    numbers = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return f"{numbers} {names} {code.co_code.hex()} {code.co_exceptiontable.hex()} [{constants}]"


def _constant(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return _text(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant, value))})"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(_constant, value)))}}}"
    return repr(value)
