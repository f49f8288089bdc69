"""Contents of functions and classes: closures, globals, constants, members, defining module."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
import types
import weakref
from typing import Any


def content(cell: types.CellType) -> Any:
    """Return the contents of a closure's cell; None if it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def closure(function: types.FunctionType) -> dict[str, Any]:
    """Return the closure variables of `function`, by name."""
    cells = function.__closure__ or ()
    return {
        name: content(cell) for name, cell in zip(function.__code__.co_freevars, cells, strict=True)
    }


def used_globals(function: types.FunctionType) -> dict[str, Any]:
    """Return the existing globals that `function` and its inner functions use, by name."""
    namespace = function.__globals__
    return {name: namespace[name] for name in global_names(function.__code__) if name in namespace}


@functools.lru_cache(maxsize=1024)
def global_names(code: types.CodeType) -> tuple[str, ...]:
    """Return the names of the globals that `code` uses, without names of attributes."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname in _GLOBAL_ACCESS}
    return tuple(sorted(names.union(*map(global_names, inner(code)))))


_GLOBAL_ACCESS = {"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"}


def inner(code: types.CodeType) -> list[types.CodeType]:
    """Return the code of functions and classes within `code`."""
    return [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]


def texts(code: types.CodeType) -> set[str]:
    """Return the texts among the constants of `code`."""
    return {constant for constant in code.co_consts if isinstance(constant, str)}


def root_module(obj: Any) -> str:
    """Return the root of the module that defines a class or function; empty if that is unknown.

    ``__module__`` can be set to any value, and for code that ``exec`` runs in a dictionary without
    a ``__name__`` it is "builtins". So it is verified.
    """
    try:
        root = _roots.get(obj)
        if root is None:
            root = _roots[obj] = _root_module(obj)
    except TypeError:  # It supports no weak references.
        root = _root_module(obj)
    return root


_roots: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def _root_module(obj: Any) -> str:
    root = str(getattr(obj, "__module__", None) or "").partition(".")[0]
    return root if _is_defined_in(obj, root) else ""


def _is_defined_in(obj: Any, root: str) -> bool:
    """Return whether `obj` can be looked up by its name, or its code is from a module of `root`."""
    is_compiled = not isinstance(obj, (type, types.FunctionType))
    if is_compiled or (isinstance(obj, type) and not obj.__flags__ & _HEAP_TYPE):
        return True
    referent: Any = sys.modules.get(obj.__module__)
    for name in obj.__qualname__.split("."):
        referent = getattr(referent, name, None)
    if referent is obj:
        return True
    if isinstance(obj, type) and issubclass(obj, tuple) and hasattr(obj, "_fields"):
        return True  # Named tuples may be bound to another name, as in Keras.
    values = vars(obj).values() if isinstance(obj, type) else (obj,)
    functions = [inspect.unwrap(value) for value in values if isinstance(value, types.FunctionType)]
    roots = {str(f.__globals__.get("__name__")).partition(".")[0] for f in functions}
    # A class without functions may be written in C, or be a plain subclass.
    return roots == {root} if roots else root not in ("keras", "tf_keras", "builtins")


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: the class is made by a class statement or the like.


def members(cls: type) -> dict[str, Any]:
    """Return the members that a class body defines, with the functions of descriptors."""
    return {
        name: _opened(value)
        for name, value in vars(cls).items()
        if name not in _BOOKKEEPING and not isinstance(value, _DESCRIPTORS)
    }


# Members that Python adds to each class, redundant for a comparison.
_BOOKKEEPING = frozenset(
    {
        "__dict__",
        "__weakref__",
        "__module__",
        "__qualname__",
        "__firstlineno__",
        "__static_attributes__",
        "__annotations_cache__",
        "_abc_impl",
        "__abstractmethods__",
    }
)
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)


def _opened(value: Any) -> Any:
    """Return the functions of a descriptor, which can't be pickled."""
    if isinstance(value, property):
        return ("property", value.fget, value.fset, value.fdel)
    if isinstance(value, (staticmethod, classmethod)):
        return (type(value).__name__, value.__func__)
    if isinstance(value, functools.cached_property):
        return ("cached_property", value.func)
    return value
