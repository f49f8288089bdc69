"""Unpickler for ``trusted=``, which imports and calls trusted globals only.

Globals that are not trusted are recorded and replaced by a placeholder that does nothing, so that
one error lists all of them. A global that the pickle calls must be known to only build a value, or
be listed by the user; one that it only refers to may also be a library function or a Keras class.
"""

from __future__ import annotations

import _compat_pickle
import enum
import pickle
import types
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from joblib.numpy_pickle import NumpyArrayWrapper

from .. import reducers
from ..audit import trust_policy
from ..audit.trust_policy import Policy
from ..errors import PayloadError, UntrustedError
from ..files.sources import Source
from ..trusted import config_checks
from ..trusted.names import Placeholder, resolve
from . import numpy_states
from .array_unpickler import ArrayUnpickler


def unpickled_by(policy: Policy, source: Source, mapping: Any) -> Any:
    """Return the object in `source`, if all of its globals are trusted.

    Raises
    ------
    UntrustedError
        If they are not.
    """
    try:
        with trust_policy.using(policy):
            obj = _TrustingUnpickler(source, mapping, policy).load()
    except Exception as error:
        # The error may come from a placeholder.
        if policy.refused:
            raise policy.error(source.name) from None
        if isinstance(error, _MisuseError):
            raise UntrustedError(
                "The file misuses trusted globals",
                where=source.name,
                cause=f"{error}: no pickler writes this, so it was crafted or is damaged",
                cure="don't load it; get it from its source again",
            ) from error
        raise
    if policy.refused:
        raise policy.error(source.name)
    return obj


class _MisuseError(pickle.UnpicklingError):
    """A pickle uses trusted globals in a way that no pickler writes."""


class _TrustingUnpickler(ArrayUnpickler):
    dispatch: ClassVar = dict(ArrayUnpickler.dispatch)

    def __init__(self, source: Source, mapping: Any, policy: Policy) -> None:
        super().__init__(source, mapping)
        self._policy = policy
        # By id; the objects are kept alive, so that no id is reused.
        self._callable: dict[int, Any] = {}
        self._names: dict[int, str] = {}
        self._most = source.size + 1000

    def find_class(self, module: str, name: str) -> Any:
        """Return the global of this name if it is trusted, else a placeholder."""
        if self.proto < 3:
            module, name = _python3_name(module, name)
        if module == reducers.__name__ and name.startswith("rebuild_") and hasattr(reducers, name):
            return self._remember_callable(_Rebuilder(getattr(reducers, name), self._policy), name)
        if (module, name) == ("keras_reduce.registry", "receive"):
            return self._remember_callable(_receive_nothing, name)
        if (module, name) == ("numpy", "memmap"):
            # For arrays that were mapped when they were written; memmap itself would open files.
            return np.ndarray
        obj, may_be_called = resolve(self._policy, module, name)
        if may_be_called:
            return self._remember_callable(obj, f"{module}.{name}")
        self._names[id(obj)] = f"{module}.{name}"
        return obj

    def _remember_callable(self, obj: Any, name: str) -> Any:
        self._callable[id(obj)], self._names[id(obj)] = obj, name
        return obj

    def get_extension(self, code: int) -> None:
        """Refuse a `copyreg` extension code."""
        self._policy.refuse(f"extension {code}", "a number in place of a name")
        self.append(Placeholder())

    def objects(self) -> Any:
        """Return the contents of an array of objects."""
        return _TrustingUnpickler(self._source, None, self._policy).load()

    def array(self, wrapper: NumpyArrayWrapper) -> np.ndarray[Any, Any]:
        """Return the array that follows, if the wrapper is one that joblib writes."""
        shape, subclass = wrapper.shape, wrapper.subclass
        is_sound = (
            isinstance(wrapper.dtype, np.dtype)
            and type(shape) is tuple
            and all(type(length) is int and length >= 0 for length in shape)
            and wrapper.order in ("C", "F")
            and subclass in (np.ndarray, np.matrix)
        )
        if not is_sound:
            raise _MisuseError("the wrapper of an array is not one that joblib writes")
        return super().array(wrapper)

    # --- what is called ----------------------------------------------------------------------

    def _may_call(self, function: Any, arguments: tuple[Any, ...]) -> bool:
        if isinstance(function, Placeholder):
            if function.name in _CODE:
                # Report the name of the code instead of that of its rebuilder.
                self._policy.refused.pop(function.name, None)
                named = arguments[1] if type(arguments) is tuple and len(arguments) > 1 else "code"
                self._policy.refuse(str(named), "code that is in the file itself")
            return False
        name = self._names.get(id(function), type(function).__qualname__)
        if self._callable.get(id(function), _ABSENT) is not function:
            self._policy.refuse(name, "" if id(function) in self._names else "called, not named")
            return False
        check = _CHECKS.get(name)
        if type(arguments) is not tuple or (check is not None and not check(self, *arguments)):
            raise _MisuseError(f"{name} is called in a way that no pickler writes")
        self._check_size(arguments)
        return True

    def is_callable(self, obj: Any) -> bool:
        """Return whether a pickle may call `obj`."""
        return self._callable.get(id(obj), _ABSENT) is obj

    def _check_size(self, obj: Any) -> None:
        """Refuse nested tuples of the same tuples, which take exponential time to hash."""
        waiting, count = [obj], 0
        while waiting:
            node = waiting.pop()
            if type(node) in (tuple, list, frozenset):
                count += len(node)
                if count > self._most:
                    raise _MisuseError("it holds more than its size allows for")
                waiting.extend(node)

    def load_reduce(self) -> None:
        """Call a function if it may be called."""
        arguments, function = self.stack.pop(), self.stack.pop()
        is_trusted = self._may_call(function, arguments)
        if is_trusted and not self.is_plain(function, _has_own_init):
            raise _MisuseError(f"{_full_name(function)} is called in a way that no pickler writes")
        self.append(function(*arguments) if is_trusted else Placeholder())

    dispatch[pickle.REDUCE[0]] = load_reduce

    def is_plain(self, cls: Any, does_work: Callable[[type], bool]) -> bool:
        """Return whether instantiating a class has no effects other than a new object.

        Constructors in Python may convert, allocate, call and connect. Picklers don't call them:
        they create an object without, and then set its state.
        """
        name = self._names.get(id(cls), "")
        is_exact = name in trust_policy.CONSTRUCTORS or self._policy.lists(name)
        return is_exact or not isinstance(cls, type) or not does_work(cls)

    def _new(self, cls: Any, arguments: Any, named: dict[str, Any]) -> None:
        is_trusted = self._may_call(cls, arguments)
        if is_trusted and not isinstance(cls, type):
            raise _MisuseError("an object is created from something that is no class")
        if is_trusted and (arguments or named) and not self.is_plain(cls, _has_own_new):
            raise _MisuseError(f"{_full_name(cls)} is created in a way that no pickler writes")
        self.append(cls.__new__(cls, *arguments, **named) if is_trusted else Placeholder())

    def load_newobj(self) -> None:
        """Create an object of a class that may be called."""
        arguments, cls = self.stack.pop(), self.stack.pop()
        self._new(cls, arguments, {})

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self) -> None:
        """Create an object of a class that may be called."""
        named, arguments, cls = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self._new(cls, arguments, named)

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def _instantiate(self, klass: Any, args: Any) -> None:
        arguments = tuple(args)
        is_trusted = self._may_call(klass, arguments)
        if is_trusted and not self.is_plain(klass, _has_own_init):
            raise _MisuseError(f"{_full_name(klass)} is called in a way that no pickler writes")
        self.append(klass(*arguments) if is_trusted else Placeholder())

    def load_build(self) -> None:
        """Set the state of an object, except for classes, functions and modules."""
        if isinstance(self.stack[-2], _STATELESS):
            raise _MisuseError("the state of a class, function or module is set")
        if not numpy_states.is_sound(self.stack[-2], self.stack[-1]):
            kind = type(self.stack[-2]).__qualname__
            raise _MisuseError(f"the state of a {kind} is not one that NumPy writes")
        super().load_build()
        if not numpy_states.is_sparse_and_sound(self.stack[-1]):
            raise _MisuseError("a sparse matrix has indices outside of it")

    dispatch[pickle.BUILD[0]] = load_build

    def _check_container(self, obj: Any, kinds: tuple[type, ...]) -> None:
        """Refuse items for objects other than containers, whose methods may have effects."""
        name = f"{type(obj).__module__}.{type(obj).__qualname__}"
        if not (isinstance(obj, (*kinds, Placeholder)) or self._policy.lists(name)):
            raise _MisuseError(f"items are added to a {name}")

    def load_append(self) -> None:
        """Add an item to a list."""
        self._check_container(self.stack[-2], (list, deque))
        super().load_append()

    dispatch[pickle.APPEND[0]] = load_append

    def load_appends(self) -> None:
        """Add items to a list."""
        self._check_container(self.metastack[-1][-1], (list, deque))
        super().load_appends()

    dispatch[pickle.APPENDS[0]] = load_appends

    def load_setitem(self) -> None:
        """Set an item, unless its key takes too long to hash."""
        self._check_container(self.stack[-3], (dict,))
        self._check_size(self.stack[-2])
        super().load_setitem()

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        """Set items, unless a key takes too long to hash."""
        self._check_container(self.metastack[-1][-1], (dict,))
        for key in self.stack[::2]:
            self._check_size(key)
        super().load_setitems()

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_additems(self) -> None:
        """Add to a set, unless an item takes too long to hash."""
        self._check_container(self.metastack[-1][-1], (set,))
        self._check_size(self.stack)
        super().load_additems()

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def load_dict(self) -> None:
        """Make a dictionary, unless a key takes too long to hash."""
        self._check_size(self.stack)
        super().load_dict()

    dispatch[pickle.DICT[0]] = load_dict

    def load_frozenset(self) -> None:
        """Make a set, unless an item takes too long to hash."""
        self._check_size(self.stack)
        super().load_frozenset()

    dispatch[pickle.FROZENSET[0]] = load_frozenset


def _has_own_init(cls: type) -> bool:
    """Return whether a class has a constructor in Python; pickles call compiled ones."""
    if issubclass(cls, enum.Enum | BaseException):
        return isinstance(cls.__init__, types.FunctionType) and issubclass(cls, BaseException)
    return isinstance(cls.__init__, types.FunctionType) or _has_own_new(cls)


def _has_own_new(cls: type) -> bool:
    # That of named tuples, in Python, does no more than that of tuple.
    is_record = issubclass(cls, tuple) and hasattr(cls, "_fields")
    return isinstance(cls.__new__, types.FunctionType) and not is_record


def _full_name(cls: Any) -> str:
    return f"{getattr(cls, '__module__', '')}.{getattr(cls, '__qualname__', cls)}"


_ABSENT = object()
_CODE = tuple(f"keras_reduce.custom_objects.rebuild_{kind}" for kind in ("by_value", "late_code"))
_STATELESS = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, np.ufunc)
_BASES = (object, dict, list, tuple, str, int, float, set, frozenset)


# Checks of the arguments of callables that could do harm with others than picklers write.
_CHECKS: dict[str, Callable[..., bool]] = {
    "builtins.bytes": lambda _, *given: not given,
    "keras_reduce.identities.rebuild_identity": lambda _, *given: not given,
    "builtins.bytearray": lambda _, *given: not given or type(given[0]) in (bytes, str, list),
    "_codecs.encode": lambda _, *given: given[1:] == ("latin1",),
    "copyreg._reconstructor": lambda self, cls, base, state: (
        self.is_callable(cls) and base in _BASES
    ),
    "copyreg.__newobj__": lambda self, cls, *given: (
        self.is_callable(cls)
        and isinstance(cls, type)
        and (not given or self.is_plain(cls, _has_own_new))
    ),
    "collections.defaultdict": lambda _, *given: not given or isinstance(given[0], type | None),
    **{
        f"numpy.random._pickle.__{kind}_ctor": lambda self, first="MT19937", *more: (
            (isinstance(first, str | np.random.BitGenerator) or self.is_callable(first))
            and all(map(self.is_callable, more))
        )
        for kind in ("bit_generator", "generator", "randomstate")
    },
    **{
        f"sklearn.{name}.newObj": lambda self, cls: self.is_callable(cls) and isinstance(cls, type)
        for name in ("metrics._dist_metrics", "neighbors._ball_tree", "neighbors._kd_tree")
    },
    "numpy.ma.core._mareconstruct": lambda _, cls, base, shape, *more: tuple(shape) in ((), (0,)),
    **{
        f"numpy.{core}.multiarray._reconstruct": lambda _, cls, shape, *more: (
            tuple(shape) in ((), (0,))
        )
        for core in ("core", "_core")
    },
}


class _Rebuilder:
    """Rebuilder of `reducers` that checks a payload before it rebuilds anything."""

    def __init__(self, function: Callable[..., Any], policy: Policy) -> None:
        self._function, self._policy = function, policy

    def __call__(self, *payload: Any) -> Any:
        padded: tuple[Any, ...] = (*payload, *[None] * 9)
        json, arrays, compile_config, custom_objects, objects, _, *tokens = padded[:9]
        are_arrays = type(arrays) is tuple and all(type(each) in _ARRAYS for each in arrays)
        if not (are_arrays and isinstance(json, str) and isinstance(objects, tuple | None)):
            if self._policy.refused:
                return Placeholder()
            raise PayloadError(
                "A payload is not one that this package writes",
                cause="it was damaged or crafted",
                cure="write it again from the original object",
            )
        config_checks.check(self._policy, json, compile_config, custom_objects)
        if self._policy.refused:
            return Placeholder()
        pairs = tokens.pop()
        pairs = pairs if type(pairs) is tuple else ()
        tokens.append(tuple(p for p in pairs if type(p) is tuple and len(p) == _PAIR))
        given = json, arrays, compile_config, custom_objects, objects or (), None
        return self._function(*given, *(t if type(t) is tuple else () for t in tokens))


_PAIR = 2
_ARRAYS = (np.ndarray, np.memmap)


def _receive_nothing(*options: Any) -> None:
    """Do nothing, instead of `keras_reduce.registry.receive`."""


# --- names -----------------------------------------------------------------------------------


def _python3_name(module: str, name: str) -> tuple[str, str]:
    """Return the Python 3 name of a global of Python 2, as `pickle` does."""
    names, modules = _compat_pickle.NAME_MAPPING, _compat_pickle.IMPORT_MAPPING
    if (module, name) in names:
        return names[module, name]
    return modules.get(module, module), name
