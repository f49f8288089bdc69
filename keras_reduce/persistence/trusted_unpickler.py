"""An unpickler that lets through what is trusted, and finds out what else there is.

Whatever is not trusted is replaced by something that does nothing, and noted; so a file tells all
that it needs at once. What a pickle calls must be known as something that only builds a value, or
be in the user's list; what it merely names may be a function of some library, or a class of Keras.
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
from . import config_checks, numpy_states
from .array_unpickler import ArrayUnpickler
from .trusted_names import Nothing, resolve


def unpickled_by(policy: Policy, source: Source, mapping: Any) -> Any:
    """Return the object in `source`, if all of it is trusted.

    Raises
    ------
    UntrustedError
        If it is not.
    """
    try:
        with trust_policy.in_force(policy):
            found = _TrustingUnpickler(source, mapping, policy).load()
    except Exception as error:
        # What does nothing may have come where something was needed.
        if policy.refused:
            raise policy.error(source.name) from None
        if isinstance(error, _MisuseError):
            raise UntrustedError(
                "The file does with what is trusted what no pickler does",
                where=source.name,
                cause=f"{error}: it was made by hand, or is damaged",
                cure="don't load it; get it again from where it comes from",
            ) from error
        raise
    if policy.refused:
        raise policy.error(source.name)
    return found


class _MisuseError(pickle.UnpicklingError):
    """A pickle does with what is trusted what no pickler does."""


class _TrustingUnpickler(ArrayUnpickler):
    dispatch: ClassVar = dict(ArrayUnpickler.dispatch)

    def __init__(self, source: Source, mapping: Any, policy: Policy) -> None:
        super().__init__(source, mapping)
        self._policy = policy
        # By id, and held, since an id alone is soon another's.
        self._callable: dict[int, Any] = {}
        self._names: dict[int, str] = {}
        self._most = source.size + 1000

    def find_class(self, module: str, name: str) -> Any:
        """Return what is named, if it is trusted."""
        if self.proto < 3:
            module, name = _name_of_today(module, name)
        if module == reducers.__name__ and name.startswith("rebuild_") and hasattr(reducers, name):
            return self._known(_Rebuilder(getattr(reducers, name), self._policy), name)
        if (module, name) == ("keras_reduce.registry", "receive"):
            return self._known(_set_nothing_up, name)
        if (module, name) == ("numpy", "memmap"):
            # Of arrays that were mapped when they were written. By itself it would open files.
            return np.ndarray
        found, may_be_called = resolve(self._policy, module, name)
        if may_be_called:
            return self._known(found, f"{module}.{name}")
        self._names[id(found)] = f"{module}.{name}"
        return found

    def _known(self, obj: Any, name: str) -> Any:
        self._callable[id(obj)], self._names[id(obj)] = obj, name
        return obj

    def get_extension(self, code: int) -> None:
        """Refuse a number that stands for a name."""
        self._policy.refuse(f"extension {code}", "a number in place of a name")
        self.append(Nothing())

    def objects(self) -> Any:
        """Return what is in an array of objects."""
        return _TrustingUnpickler(self._source, None, self._policy).load()

    def array(self, wrapper: NumpyArrayWrapper) -> np.ndarray[Any, Any]:
        """Return the array that follows, if the wrapper is as joblib makes it."""
        shape, subclass = wrapper.shape, wrapper.subclass
        is_sound = (
            isinstance(wrapper.dtype, np.dtype)
            and type(shape) is tuple
            and all(type(length) is int and length >= 0 for length in shape)
            and wrapper.order in ("C", "F")
            and subclass in (np.ndarray, np.matrix)
        )
        if not is_sound:
            raise _MisuseError("the description of an array is none of joblib's")
        return super().array(wrapper)

    # --- what is called ----------------------------------------------------------------------

    def _may_call(self, function: Any, arguments: tuple[Any, ...]) -> bool:
        if isinstance(function, Nothing):
            if function.name in _CODE:
                # By its own name rather than by that of what carries it.
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
            raise _MisuseError(f"{name} is called as no pickler calls it")
        self._check_size(arguments)
        return True

    def is_callable(self, obj: Any) -> bool:
        """Return whether a pickle may call `obj`."""
        return self._callable.get(id(obj), _ABSENT) is obj

    def _check_size(self, obj: Any) -> None:
        """Refuse what is small in a file and takes ages to hash: tuples of the same tuples."""
        waiting, count = [obj], 0
        while waiting:
            node = waiting.pop()
            if type(node) in (tuple, list, frozenset):
                count += len(node)
                if count > self._most:
                    raise _MisuseError("it holds more than its size allows for")
                waiting.extend(node)

    def load_reduce(self) -> None:
        """Call what may be called."""
        arguments, function = self.stack.pop(), self.stack.pop()
        is_trusted = self._may_call(function, arguments)
        if is_trusted and not self.is_plain(function, _has_own_init):
            raise _MisuseError(f"{_spelled(function)} is called as no pickler calls it")
        self.append(function(*arguments) if is_trusted else Nothing())

    dispatch[pickle.REDUCE[0]] = load_reduce

    def is_plain(self, cls: Any, does_work: Callable[[type], bool]) -> bool:
        """Return whether nothing but memory of its own changes when an object is made of a class.

        Constructors in Python convert, allocate, call and connect, and are none of a pickler's
        business: it makes an object without them, and then sets its state.
        """
        name = self._names.get(id(cls), "")
        is_exact = name in trust_policy.CONSTRUCTORS or self._policy.lists(name)
        return is_exact or not isinstance(cls, type) or not does_work(cls)

    def _new(self, cls: Any, arguments: Any, named: dict[str, Any]) -> None:
        is_trusted = self._may_call(cls, arguments)
        if is_trusted and not isinstance(cls, type):
            raise _MisuseError("an object is made of something that is no class")
        if is_trusted and (arguments or named) and not self.is_plain(cls, _has_own_new):
            raise _MisuseError(f"{_spelled(cls)} is made as no pickler makes it")
        self.append(cls.__new__(cls, *arguments, **named) if is_trusted else Nothing())

    def load_newobj(self) -> None:
        """Make an object of a class that may be called."""
        arguments, cls = self.stack.pop(), self.stack.pop()
        self._new(cls, arguments, {})

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self) -> None:
        """Make an object of a class that may be called."""
        named, arguments, cls = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self._new(cls, arguments, named)

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def _instantiate(self, klass: Any, args: Any) -> None:
        arguments = tuple(args)
        is_trusted = self._may_call(klass, arguments)
        if is_trusted and not self.is_plain(klass, _has_own_init):
            raise _MisuseError(f"{_spelled(klass)} is called as no pickler calls it")
        self.append(klass(*arguments) if is_trusted else Nothing())

    def load_build(self) -> None:
        """Give an object its state; classes and functions have none that a pickle may set."""
        if isinstance(self.stack[-2], _STATELESS):
            raise _MisuseError("a class, function or module is to be changed")
        if not numpy_states.is_sound(self.stack[-2], self.stack[-1]):
            kind = type(self.stack[-2]).__qualname__
            raise _MisuseError(f"the state of a {kind} is none that NumPy writes")
        super().load_build()
        if not numpy_states.is_sparse_and_sound(self.stack[-1]):
            raise _MisuseError("a sparse matrix has indices outside of it")

    dispatch[pickle.BUILD[0]] = load_build

    def _check_container(self, obj: Any, kinds: tuple[type, ...]) -> None:
        """Refuse items for what is no container: others do something with them, in C at that."""
        name = f"{type(obj).__module__}.{type(obj).__qualname__}"
        if not (isinstance(obj, (*kinds, Nothing)) or self._policy.lists(name)):
            raise _MisuseError(f"items are put into a {name}, as no pickler does")

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
        """Set an item, unless its key takes ages to hash."""
        self._check_container(self.stack[-3], (dict,))
        self._check_size(self.stack[-2])
        super().load_setitem()

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        """Set items, unless a key takes ages to hash."""
        self._check_container(self.metastack[-1][-1], (dict,))
        for key in self.stack[::2]:
            self._check_size(key)
        super().load_setitems()

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_additems(self) -> None:
        """Add to a set, unless that takes ages."""
        self._check_container(self.metastack[-1][-1], (set,))
        self._check_size(self.stack)
        super().load_additems()

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def load_dict(self) -> None:
        """Make a dictionary, unless that takes ages."""
        self._check_size(self.stack)
        super().load_dict()

    dispatch[pickle.DICT[0]] = load_dict

    def load_frozenset(self) -> None:
        """Make a set, unless that takes ages."""
        self._check_size(self.stack)
        super().load_frozenset()

    dispatch[pickle.FROZENSET[0]] = load_frozenset


def _has_own_init(cls: type) -> bool:
    """Return whether a class has a constructor in Python; pickles call compiled ones."""
    if issubclass(cls, enum.Enum | BaseException):
        return isinstance(cls.__init__, types.FunctionType) and issubclass(cls, BaseException)
    return isinstance(cls.__init__, types.FunctionType) or _has_own_new(cls)


def _has_own_new(cls: type) -> bool:
    # Named tuples have one in Python that does no more than the one of tuple.
    is_record = issubclass(cls, tuple) and hasattr(cls, "_fields")
    return isinstance(cls.__new__, types.FunctionType) and not is_record


def _spelled(cls: Any) -> str:
    return f"{getattr(cls, '__module__', '')}.{getattr(cls, '__qualname__', cls)}"


_ABSENT = object()
_CODE = tuple(f"keras_reduce.custom_objects.rebuild_{kind}" for kind in ("by_value", "late_code"))
_STATELESS = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, np.ufunc)
_BASES = (object, dict, list, tuple, str, int, float, set, frozenset)


# How picklers call what could do more if it were called otherwise. By name, as in a file.
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
    """A function of `reducers` that looks at a payload before it rebuilds anything."""

    def __init__(self, function: Callable[..., Any], policy: Policy) -> None:
        self._function, self._policy = function, policy

    def __call__(self, *payload: Any) -> Any:
        padded: tuple[Any, ...] = (*payload, *[None] * 9)
        json, arrays, compile_config, custom_objects, objects, _, *tokens = padded[:9]
        are_arrays = type(arrays) is tuple and all(type(each) in _ARRAYS for each in arrays)
        if not (are_arrays and isinstance(json, str) and isinstance(objects, tuple | None)):
            if self._policy.refused:
                return Nothing()
            raise PayloadError(
                "A payload is none that this package writes",
                cause="it was damaged, or made by hand",
                cure="write it anew from the original object",
            )
        config_checks.check(self._policy, json, compile_config, custom_objects)
        if self._policy.refused:
            return Nothing()
        pairs = tokens.pop()
        pairs = pairs if type(pairs) is tuple else ()
        tokens.append(tuple(p for p in pairs if type(p) is tuple and len(p) == _PAIR))
        given = json, arrays, compile_config, custom_objects, objects or (), None
        return self._function(*given, *(t if type(t) is tuple else () for t in tokens))


_PAIR = 2
_ARRAYS = (np.ndarray, np.memmap)


def _set_nothing_up(*options: Any) -> None:
    """Stand for what would set up a worker."""


# --- names -----------------------------------------------------------------------------------


def _name_of_today(module: str, name: str) -> tuple[str, str]:
    """Return the name that something has in Python 3, as `pickle` does."""
    names, modules = _compat_pickle.NAME_MAPPING, _compat_pickle.IMPORT_MAPPING
    if (module, name) in names:
        return names[module, name]
    return modules.get(module, module), name
