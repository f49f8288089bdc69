"""What `joblib.hash` sees of Keras objects and of code: the same in every process.

A pickle says more than what an object is: which process its classes come from, which version wrote
it, how a compiler has laid out constants. `joblib.Memory` would never find again what another
process has put down. So joblib's Hasher, a pickler whose output is only hashed, is told of Keras
objects what makes them what they are, and of functions and classes that no import finds (of
``__main__``, lambdas, closures) what their code does: their names alone would make a function that
has been edited hash like the one before.
"""

from __future__ import annotations

import functools
import types
from typing import Any

from .. import families, reducers
from ..core import code_objects
from ..custom_objects import ByValue, is_importable
from ..reducers import PartAttributes
from ..weak_references import WeakAttribute

_CACHED = type(functools.lru_cache(len))

# Nothing calls these; their names stand in the stream that is hashed, and tell the kinds apart.


def _function(*parts: Any) -> None: ...


def _class(*parts: Any) -> None: ...


def _module(*parts: Any) -> None: ...


def _keras_object(*parts: Any) -> None: ...


def _frozenset(*parts: Any) -> None: ...


def _same(obj: Any) -> None: ...


def canonical(obj: Any, *, code: bool = True) -> Any:
    """Return a reduce value for a pickler whose output is hashed; `NotImplemented` for the usual.

    Functions and classes by what their code does only if `code` is true.

    What may lead back to `obj` stands in the state, which a pickler saves after it has taken note
    of `obj`.
    """
    if isinstance(obj, types.FunctionType):
        return NotImplemented if is_importable(obj) or not code else _of_function(obj)
    if isinstance(obj, type):
        return NotImplemented if is_importable(obj) or not code else _of_class(obj)
    if isinstance(obj, types.ModuleType):
        return _module, (obj.__name__,)
    if isinstance(obj, frozenset):
        return _frozenset, (set(obj),)  # Whose order joblib takes care of.
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
    """Return `value`, or its type's name where no pickler takes it.

    A function may well use a lock or an open file; such things have no value to be hashed.
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
    *(bool, int, float, complex, str, bytes, type(None), list, tuple, dict, set, frozenset),
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, type),
    *(types.MappingProxyType, _CACHED),
)


def _text(code: types.CodeType) -> str:
    """Write down what `code` does, but not where it stands.

    As text, since two equal constants may be one object in one process and two in another, which a
    pickler would tell apart.
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
