"""Pickling of user-defined classes and functions, by reference or by value.

By reference (module and name) if the receiver can import them, by value (cloudpickle) if they are
defined in ``__main__``, a notebook or a closure. Each gets a key that is unique in its payload, so
that two classes with one name are kept apart.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import io
import itertools
import operator
import os
import pickle
import sys
import threading
import types
import uuid
import weakref
from collections import ChainMap
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import cloudpickle

from .core import context, keras_backend
from .core.placeholders import DeferredCall
from .errors import CustomObjectError, KerasReduceError, PayloadError, ReduceError
from .identities import Identity, is_detached
from .weak_references import detached

__all__ = ["ByValue", "Reference", "Table", "by_value", "is_importable", "resolve"]


class Reference(NamedTuple):
    """Reference to one custom object of a payload; a plain tuple in the payload.

    Attributes
    ----------
    key : str
        Its name inside the payload.
    module, qualname : str
        Module and name to import it from, or where it was defined.
    position : int
        Position among the objects that are pickled by value; -1 if it is pickled by reference.
    registered_name : str or None
        Name under which Keras knew a class.
    """

    key: str
    module: str
    qualname: str
    position: int
    registered_name: str | None = None


# References, and the objects that are pickled by value: each in a `ByValue`, or itself where the
# pickler is known to be cloudpickle.
Packed = tuple[tuple[tuple[Any, ...], ...], tuple[Any, ...]]


# A payload inside the by-value part of another payload must not start a by-value part of its own:
# a class whose methods mention a model of that class as a global would recurse for ever. There the
# pickler is our own cloudpickle, to which the live objects can be given.
class Bounds(NamedTuple):
    """Objects that code in a payload must not refer to, since it would come back with copies.

    Attributes
    ----------
    private : container of int
        Ids of objects that have no payload of their own.
    outermost : int
        Id of the object of the payload: neither it nor an object around it exists yet when the code
        is rebuilt.
    parts : container of int
        Ids of all parts of the outermost object.
    """

    private: Container[int] = ()
    outermost: int = 0
    parts: Container[int] = ()


class _Nested(threading.local):
    depth = 0
    bounds = Bounds()
    copying = False


_nested = _Nested()


# In the process that wrote them, functions and classes that are pickled by value are unpickled as
# the same objects, as with any pickle or copy. Unpickling a class there would undo later changes of
# it. Other callables have a state of their own, and are unpickled as copies.
_tokens: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_own: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_counter = itertools.count()
_process = uuid.uuid4().hex
_RECOGNISABLE = (types.FunctionType, type)


def _token(obj: Any) -> str:
    """Return the token of `obj`, a new one or the one received with it; empty if it has none."""
    if not isinstance(obj, _RECOGNISABLE):
        return ""
    if obj not in _tokens:
        # With the process id: a forked child inherits the tokens, and may then change the objects.
        token = f"{_process}-{os.getpid()}-{next(_counter)}"
        _tokens[obj] = token
        _own[token] = obj
    return _tokens[obj]


def _recognised(token: str) -> Any:
    """Return the live object of `token` if this process created the token, else None."""
    given_out_here = token.startswith(f"{_process}-{os.getpid()}-")
    return _own.get(token) if given_out_here else None


@contextlib.contextmanager
def nested(bounds: Bounds | None = None, *, copying: bool = False) -> Iterator[None]:
    """Pickle code by cloudpickle in this thread, refusing references to `bounds`.

    With `copying`, objects that the code refers to are pickled with it.
    """
    _nested.depth += 1
    outer = _nested.bounds, _nested.copying
    _nested.bounds, _nested.copying = bounds or Bounds(), copying
    try:
        yield
    finally:
        _nested.depth -= 1
        _nested.bounds, _nested.copying = outer


class Lookups(NamedTuple):
    """Functions by which a pickler of code looks up the objects around it.

    Modules that know Keras and the running dump pass them: `keras_reduce.families._shared.lookups`.

    Attributes
    ----------
    identified : callable
        Returns the ids of the parts of a layer or model, whose identity must be kept; None for any
        other object.
    locate : callable
        Returns the path to an object within the running dump, or an empty string.
    """

    identified: Callable[[Any], Container[int] | None]
    locate: Callable[[Any], str]


def _reduce_code(code: types.CodeType) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Reduce a code object as cloudpickle does, but with its file name.

    From 3.1.3 on, cloudpickle writes another name. With the true one, tracebacks show the source on
    the other side, and Keras can show the source of a lambda in its config.
    """
    constructor, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    # A new string, as cloudpickle makes: picklers memoize interned ones in some cases only.
    name = "".join(iter(code.co_filename))
    return constructor, (*arguments[:_FILENAME], name, *arguments[_FILENAME + 1 :])


# The position among the arguments of `types.CodeType`, since Python 3.8.
_FILENAME = 10


class ForeignCodePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's pickler that writes modules by value if no other process can import them.

    cloudpickle assumes that every module in `sys.modules` can be imported.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Return the reduce value of a function, class or module; NotImplemented for others."""
        if not isinstance(obj, _NAMED_BY_MODULE):
            return super().reducer_override(obj)
        is_module = isinstance(obj, types.ModuleType)
        if is_module and type(obj) is not types.ModuleType and not _has_reducer(obj):
            # A lazy module, such as `tensorflow.keras` of TensorFlow 2.12.
            return importlib.import_module, (obj.__name__,)
        name = str(obj.__name__ if is_module else getattr(obj, "__module__", None))
        module = sys.modules.get(name)
        if module is None or name == "__main__" or can_be_imported_again(name):
            return super().reducer_override(obj)
        with _registered_by_value(module):
            if is_module:
                return self.dispatch_table[types.ModuleType](obj)
            return super().reducer_override(obj)


_NAMED_BY_MODULE = (types.FunctionType, type, types.ModuleType)


def _has_reducer(obj: Any) -> bool:
    """Return whether the class of `obj` defines ``__reduce__`` or ``__reduce_ex__``."""
    names = ("__reduce__", "__reduce_ex__")
    return any(getattr(type(obj), name) is not getattr(object, name) for name in names)


_registration = threading.RLock()


@contextlib.contextmanager
def _registered_by_value(module: types.ModuleType) -> Iterator[None]:
    """Register a module with cloudpickle for pickling by value, in all threads, in this block."""
    with _registration:
        if _is_registered_by_value(module.__name__):
            yield
            return
        cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            cloudpickle.unregister_pickle_by_value(module)


class CodePickler(ForeignCodePickler):
    """Pickler of code that leaves out the objects with an identity to which the code refers.

    Those are left to the outer pickler, whose memo knows whether they have been pickled before.

    Parameters
    ----------
    lookups : Lookups
        Functions that tell which objects have an identity.
    places : mapping of int to str, optional
        Names for objects that the receiver will have, by id.

    Attributes
    ----------
    referents : list
        Objects that the code refers to, in the order of their numbers.
    placed : bool
        Whether one of the `places` was met.
    """

    dispatch_table: ClassVar = ChainMap(
        {types.CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table
    )

    def __init__(self, lookups: Lookups, places: Mapping[int, str] | None = None) -> None:
        self.file = io.BytesIO()
        super().__init__(self.file)
        self.referents: list[Any] = []
        self.placed = False
        self._lookups, self._places = lookups, places or {}
        self._numbers: dict[int, int] = {}

    def persistent_id(self, obj: Any) -> str | int | None:
        """Return the place of `obj`, or its number among the referents; None for anything else."""
        if isinstance(obj, _NEVER_IDENTIFIED):
            return None
        place = self._places.get(id(obj))
        if place is not None:
            self.placed = True
            return place
        if _nested.copying:
            return None
        if id(obj) not in self._numbers:
            below = self._lookups.identified(obj)
            if below is None:
                return None
            refuse_own_parts(obj, below)
            self._numbers[id(obj)] = len(self.referents)
            self.referents.append(obj)
        return self._numbers[id(obj)]


class _LenientCodePickler(CodePickler):
    """Pickler that writes None for what can't be pickled, to find the referents of the rest."""

    def reducer_override(self, obj: Any) -> Any:
        """Return a reduce value for any object."""
        reduced = super().reducer_override(obj)
        if reduced is not NotImplemented or isinstance(obj, (type, types.FunctionType)):
            return reduced
        try:
            reducer = self.dispatch_table.get(type(obj))
            return reducer(obj) if reducer else obj.__reduce_ex__(pickle.DEFAULT_PROTOCOL)
        except Exception:
            return type(None), ()


_NEVER_IDENTIFIED = (str, int, float, bytes, tuple, list, dict, type(None), type, types.CodeType)


class CodeUnpickler(pickle.Unpickler):
    """Unpickler for the output of a `CodePickler`, given the objects that it left out."""

    def __init__(
        self, blob: bytes, referents: Sequence[Any], places: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(io.BytesIO(blob))
        self._referents, self._places = referents, places or {}

    def persistent_load(self, name: str | int) -> Any:
        """Return the object in a place, or the referent of a number."""
        if isinstance(name, int):
            return self._referents[name]
        if name not in self._places:
            raise PayloadError(
                "Code refers to a part of an object that was not rebuilt",
                where=name,
                cause="the class that creates this part has changed since the pickle was written",
                cure="load it with the version of the class that wrote it",
            )
        return self._places[name]


def is_nested() -> bool:
    """Return whether this thread is pickling the code of a payload."""
    return _nested.depth > 0


def refuse_own_parts(obj: Any, below: Container[int] = ()) -> None:
    """Refuse `obj` if code in its own payload refers to it.

    Parameters
    ----------
    obj : object
        The object that is pickled.
    below : container of int
        Ids of its parts, if they are known yet.

    Raises
    ------
    ReduceError
        If code in its own payload refers to `obj`.
    """
    private, outermost, parts = _nested.bounds
    if id(obj) in (parts if _nested.copying else private) or outermost in below:
        raise ReduceError(
            "Code that is pickled by value refers to the object that it belongs to",
            where=getattr(obj, "name", ""),
            cause="its closure, globals or attributes hold the model, or a part of it that is no "
            "layer. The code would come back with a copy of that, which further training does not "
            "update",
            cure="refer to layers only; code that is passed to compile() may also refer to the "
            "model, and through it to model.optimizer. Or override compute_loss() in a subclass of "
            "keras.Model, with add_weight() for free parameters",
        )


def is_importable(obj: Any) -> bool:
    """Return whether another process can import `obj` by its module and name."""
    module_name = getattr(obj, "__module__", None)
    qualname = getattr(obj, "__qualname__", None)
    if not module_name or not qualname:
        return False
    return found_as(obj, module_name, qualname)


def found_as(obj: Any, module_name: str, qualname: str) -> bool:
    """Return whether an importable module has `obj` under this name."""
    # "__mp_main__" is what multiprocessing calls the main module in a spawned child.
    if module_name in ("__main__", "__mp_main__") or _is_registered_by_value(module_name):
        return False
    if not can_be_imported_again(module_name):
        return False
    value: Any = sys.modules.get(module_name)
    for name in qualname.split("."):
        value = getattr(value, name, None)
    return value is obj


def can_be_imported_again(module_name: str) -> bool:
    """Return whether another process can import a module of `sys.modules` by its name.

    It can't if the program created the module, by `types.ModuleType` or from a file with another
    name. Only the root package is checked, since packages in C create submodules.
    """
    root = module_name.partition(".")[0]
    module = sys.modules.get(root)
    if type(module) is not types.ModuleType or root in sys.builtin_module_names:
        return True  # A special kind of module, which its library creates.
    if getattr(module, "__path__", None) is not None:
        return True
    specification = getattr(module, "__spec__", None)
    file = getattr(module, "__file__", None) or getattr(specification, "origin", None)
    if file is None or specification is None:
        return file is not None and _stem(file) == root
    return not specification.has_location or _stem(file) == root


def _stem(file: str) -> str:
    """Return the name under which the module in `file` is imported."""
    return Path(file).name.partition(".")[0]


def _is_registered_by_value(module_name: str) -> bool:
    # By the user, with cloudpickle.register_pickle_by_value.
    registered = cloudpickle.list_registry_pickle_by_value()
    parts = module_name.split(".")
    return any(".".join(parts[: i + 1]) in registered for i in range(len(parts)))


class Table:
    """Custom objects of one payload, collected while it is written.

    Parameters
    ----------
    outermost : object
        The object of the payload.
    lookups : Lookups
        For the code that is pickled by value.

    Attributes
    ----------
    objects : list
        Values of the payload that are left to the pickler.
    state : dict
        Attributes of the outermost object that the unpickler sets once the object is rebuilt, since
        they may refer to it.
    unchecked : dict
        Those of `objects` that may not be picklable, by path.
    is_compiling : bool
        Whether objects entered now are needed only after the outermost object has been built.
    identities : list of Identity
        Identity tokens of objects that the payload refers to but does not contain.
    tree : families.Tree, optional
        The outermost object and its parts.
    weak : dict
        Nests of parts and weak references, detached, by path.
    links : dict
        Attributes that hold another part of the outermost object: ``path:attribute`` to the path of
        that part.
    extended : set of str
        Paths of parts on which the program has set variables or other parts.
    """

    def __init__(self, outermost: Any, lookups: Lookups) -> None:
        self.objects: list[Any] = []
        self.state: dict[str, Any] = {}
        self.unchecked: dict[str, Any] = {}
        self.tree: Any = None
        self.links: dict[str, str] = {}
        self.weak: dict[str, Any] = {}
        self.extended: set[str] = set()
        self.identities: list[Identity] = []
        self._numbers: dict[int, int] = {}
        self._outermost, self._lookups = outermost, lookups
        self._children: dict[int, int] = {}
        self._stripped: dict[int, int] = {}
        self._keys: dict[int, str] = {}
        self._late: set[str] = set()
        self.is_compiling = False
        self._entries: dict[str, tuple[Any, Reference]] = {}
        self._by_value: list[str] = []

    @property
    def has_late_code(self) -> bool:
        """True if some code is needed only after the object has been built."""
        return bool(self._late)

    def empty(self, outermost: Any) -> Table:
        """Return an empty table for the payload of another object."""
        return Table(outermost, self._lookups)

    def key(
        self,
        obj: Any,
        registered_name: str | None = None,
        location: tuple[str, str] | None = None,
    ) -> str:
        """Return the key of `obj`, entering it when it is new.

        Parameters
        ----------
        obj : object
            A class, a function, or another callable.
        registered_name : str, optional
            Name under which Keras knows a class.
        location : tuple of str, optional
            Module and name to import it from, if not from its own module.
        """
        if id(obj) not in self._keys:
            named = obj if hasattr(obj, "__qualname__") else type(obj)
            module, qualname = location or (named.__module__, named.__qualname__)
            # multiprocessing calls the main module of a child "__mp_main__". A class created by
            # `exec` may have no module.
            module = "__main__" if module in (None, "__mp_main__") else module
            base = key = f"{module}:{qualname}"
            repetition = 1
            while key in self._entries:
                key = f"{base}#{repetition}"
                repetition += 1
            by_value = location is None and not is_importable(obj)
            self._keys[id(obj)] = key
            self._entries[key] = obj, Reference(key, module, qualname, -1, registered_name)
            if by_value:
                self._by_value.append(key)
            if by_value and self.is_compiling:
                self._late.add(key)
        elif not self.is_compiling:
            self._late.discard(self._keys[id(obj)])
        return self._keys[id(obj)]

    @property
    def code(self) -> list[Any]:
        """Classes, functions and other callables entered so far."""
        return [obj for obj, _ in self._entries.values()]

    def defer_to_pickler(self, value: Any, path: str = "") -> int:
        """Leave `value` to the pickler; return its number among the objects.

        Parameters
        ----------
        value : object
            Any object.
        path : str
            Expression for it below the outermost object, without a leading dot, such as
            ``held[0]``. Given if nothing else has checked that it can be pickled.
        """
        if path:
            self.unchecked[path] = value
        self.objects.append(value)
        return len(self.objects) - 1

    def defer_weak_to_pickler(self, value: Any, path: str) -> int:
        """Leave a nest with weak references and with parts of the outermost object to the pickler.

        It is unpickled with a `WeakAttribute` in place of each reference.
        """
        if is_detached():
            return self.defer_to_pickler(value)  # A shallow copy holds the same references.
        self.weak[path] = detached(value)
        return self.defer_to_pickler(self.weak[path], path)

    def child(self, part: Any) -> int:
        """Return the number of a part that has its own payload; enter it if it is new."""
        if id(part) not in self._children:
            self._children[id(part)] = self.defer_to_pickler(part)
        return self._children[id(part)]

    def identity(self, obj: Any) -> int:
        """Return the number of the identity token of `obj`; enter it if it is new."""
        return self.token(Identity.of(obj))

    def token(self, identity: Identity) -> int:
        """Return the number of an identity token; enter it if it is new."""
        number = self._numbers.setdefault(id(identity), len(self.identities))
        if number == len(self.identities):
            self.identities.append(identity)
        return number

    def stripped(self, value: Any, names: Sequence[str]) -> int:
        """Leave a copy of `value` without some attributes to the pickler; return its number."""
        if id(value) not in self._stripped:
            plain = object.__new__(type(value))
            vars(plain).update({n: v for n, v in vars(value).items() if n not in names})
            self._stripped[id(value)] = self.defer_to_pickler(plain, f"<{type(value).__name__}>")
        return self._stripped[id(value)]

    @property
    def children(self) -> list[Any]:
        """Parts that have their own payloads."""
        return [self.objects[number] for number in self._children.values()]

    def is_outermost(self, obj: Any) -> bool:
        """Return whether `obj` is the object of the payload."""
        return obj is self._outermost

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Mark objects entered in this block as needed only after the object has been built."""
        self.is_compiling = True
        try:
            yield
        finally:
            self.is_compiling = False

    def pack(
        self,
        bounds: Bounds | None = None,
        places: Mapping[int, str] | None = None,
        *,
        carries_code: bool = False,
    ) -> Packed | None:
        """Return the references and the objects pickled by value; None if the table is empty.

        Parameters
        ----------
        bounds : Bounds, optional
            Objects that code pickled by value must not refer to.
        places : mapping of int to str, optional
            Names, by id, of parts of the object to which code passed to ``compile()`` may refer.
        carries_code : bool
            Whether the current pickler writes code by value itself.
        """
        if not self._entries:
            return None
        objects = [self._entries[key][0] for key in self._by_value]
        positions = {key: position for position, key in enumerate(self._by_value)}
        references = tuple(
            tuple(reference._replace(position=positions.get(key, -1)))
            for key, (_, reference) in self._entries.items()
        )
        if _nested.depth:
            return references, tuple(objects)
        late = {id(self._entries[key][0]) for key in self._late} if places else set()

        def packed(obj: Any) -> Any:
            by_value = ByValue.of(obj, self._lookups, bounds)
            if id(obj) not in late:
                return by_value
            late_code = LateCode.of(obj, self._lookups, bounds, places or {})
            # The program may also pickle such an object beside the model. The pickler keeps it one
            # object if it gets the object itself.
            return late_code or (obj if by_value.is_left_to_pickler(carries_code) else by_value)

        return references, tuple(map(packed, objects))


def resolve(packed: Packed | None) -> dict[str, tuple[Any, str | None]]:
    """Return the objects of `Table.pack`: key to (object, name registered with Keras).

    Raises
    ------
    CustomObjectError
        If an object can't be imported here.
    """
    if packed is None:
        return {}
    references = [Reference(*reference) for reference in packed[0]]
    return {
        ref.key: (
            packed[1][ref.position]
            if ref.position >= 0
            else _imported(ref.key, ref.module, ref.qualname),
            ref.registered_name,
        )
        for ref in references
    }


def _imported(key: str, module: str, qualname: str) -> Any:
    try:
        value: Any = importlib.import_module(module)
        for name in qualname.split("."):
            value = getattr(value, name)
    except (ImportError, AttributeError) as error:
        raise CustomObjectError(
            f"{qualname!r} can't be imported from module {module!r}",
            where=key,
            cause=f"{error}. The module is not installed here, not on sys.path, or has another "
            "version",
            cure=f"make {module!r} importable here; or call cloudpickle.register_pickle_by_value("
            f"{module.split('.')[0]}) before pickling, to pickle its code by value",
        ) from error
    return value


class ByValue:
    """Reducer that lets plain `pickle` carry a function, class or other callable by value.

    Plain `pickle` writes functions as module and name and ignores reducers of their type. This
    object is unpickled as the callable itself. There is only one for each callable, so that a
    pickler writes the code once.

    Parameters
    ----------
    referent : object
        The callable.
    lookups : Lookups
        For the objects to which its code refers.
    bounds : Bounds
        Objects that its code must not refer to.
    """

    _reducers: ClassVar[weakref.WeakValueDictionary[int, ByValue]] = weakref.WeakValueDictionary()

    def __init__(self, referent: Any, lookups: Lookups, bounds: Bounds) -> None:
        self.referent, self.lookups, self.bounds = referent, lookups, bounds

    @classmethod
    def of(cls, obj: Any, lookups: Lookups, bounds: Bounds | None = None) -> ByValue:
        """Return the reducer of `obj`, the same one while a pickler or another object holds it."""
        reducer = cls._reducers.get(id(obj))
        if reducer is None or reducer.referent is not obj:
            reducer = cls._reducers[id(obj)] = cls(obj, lookups, bounds or Bounds())
        reducer.bounds = bounds or reducer.bounds
        return reducer

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return a rebuilder with the code and the objects with an identity that it refers to.

        Raises
        ------
        ReduceError
            If the code refers to an object that can't be carried.
        """
        obj = self.referent
        try:
            pickler = self._dumped(CodePickler)
        except KerasReduceError:
            raise
        except Exception as error:
            raise self._refusal(error) from error
        # With referents, the function is copied: the copy must refer to their copies.
        token = "" if pickler.referents else _token(obj)
        return rebuild_by_value, (
            pickler.file.getvalue(),
            _name(obj),
            token,
            tuple(pickler.referents),
            keras_backend.current() or "",
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return the callable itself, or a new one if it refers to objects that are copied.

        Raises
        ------
        ReduceError
            If it refers to an object that is copied, but can't be pickled itself.
        """
        if self.copied_referents() is None:
            return self.referent
        rebuild, arguments = self.__reduce__()
        return rebuild(*copy.deepcopy(arguments, memo))

    def is_left_to_pickler(self, carries_code: bool) -> bool:
        """Return whether the pickler can carry the callable itself, without this reducer.

        Parameters
        ----------
        carries_code : bool
            Whether the pickler writes code by value itself.
        """
        obj = self.referent
        if isinstance(obj, type):
            return False  # It comes back as the same class by its token.
        named = obj if hasattr(obj, "__qualname__") else type(obj)
        module = str(getattr(named, "__module__", None))
        if module in sys.modules and not (module == "__main__" or can_be_imported_again(module)):
            return False  # cloudpickle would name the module.
        try:
            pickler = self._dumped(CodePickler)
        except Exception:
            return False  # It will fail in the same way when pickled, then with its place.
        # Code written by value needs cloudpickle to be read.
        has_code = b"cloudpickle" in pickler.file.getvalue()
        return not pickler.referents and (carries_code or not has_code)

    def copied_referents(self) -> tuple[Any, ...] | None:
        """Return the objects to copy to which the callable refers; None if it is shared."""
        if isinstance(self.referent, type):
            return None
        try:
            return tuple(self._dumped(CodePickler).referents)
        except KerasReduceError:
            raise
        except Exception as error:
            # It refers to objects that can't be pickled, but a copy can share the function.
            if self._dumped(_LenientCodePickler).referents:
                raise self._refusal(error) from error
            return None

    def _dumped(self, kind: type[CodePickler]) -> CodePickler:
        # A class may mention, as a global, a model with a layer of that class. The globals of a
        # class are no part of its instances, so copies of them are acceptable.
        with nested(self.bounds, copying=isinstance(self.referent, type)):
            pickler = kind(self.lookups)
            pickler.dump(self.referent)
        return pickler

    def _refusal(self, error: Exception) -> ReduceError:
        name = _name(self.referent)
        module = getattr(self.referent, "__module__", "")
        return ReduceError(
            f"{name!r} must be pickled by value, but can't be",
            where=self.lookups.locate(self) or f"{module}:{name}",
            cause=f"{type(error).__name__}: {error}",
            cure="move it into a module that the receiver can import, or remove what can't be "
            "pickled (an open file, a lock, a session) from its closure, globals or attributes",
        )


def rebuild_by_value(
    blob: bytes,
    name: str = "",
    token: str = "",
    referents: Sequence[Any] = (),
    backend: str = "",
) -> Any:
    """Rebuild the callable that a `ByValue` carried; its path is wire format.

    Parameters
    ----------
    blob : bytes
        The output of cloudpickle.
    name : str
        Qualified name of the callable.
    token : str
        A token that only the process that wrote it can resolve; empty for a callable with a state
        of its own, which is unpickled as a copy.
    referents : sequence
        Objects to which the code refers by number.
    backend : str
        Keras backend of the program that wrote it, if it had imported Keras: the code may import
        Keras.

    Raises
    ------
    CustomObjectError
        If the code can't be rebuilt in this process.
    """
    if context.is_passing():
        return DeferredCall(rebuild_by_value, (blob, name, token, referents, backend))
    live = _recognised(token)
    if live is not None:
        return live
    keras_backend.prefer(backend)
    try:
        obj = CodeUnpickler(blob, referents).load()
    except Exception as error:
        raise _unreadable(name, error) from error
    if isinstance(obj, type):
        obj.__qualname__ = name  # cloudpickle restores the bare name only
    if token and isinstance(obj, _RECOGNISABLE):
        _tokens.setdefault(obj, token)
    return obj


def _unreadable(name: str, error: Exception) -> CustomObjectError:
    return CustomObjectError(
        "Code that was pickled by value can't be rebuilt",
        where=name,
        cause=f"{type(error).__name__}: {error}. Bytecode needs the minor version of Python that "
        f"wrote it (this is {sys.version.split()[0]}) and the modules that the code imports",
        cure="load it with the Python that wrote it, install missing modules, or move the code "
        "into an importable module and write the file again",
    )


class LateCode:
    """Reducer of code that is passed to ``compile()`` and refers to the model, such as a loss.

    It can be rebuilt only after the model has been built. The pickle refers to the model and its
    parts by place.

    Parameters
    ----------
    blob : bytes
        The pickled code.
    name : str
        Its qualified name, for messages.
    referents : tuple
        Other objects with an identity token that the code refers to.
    backend : str
        As for `rebuild_by_value`.
    """

    def __init__(
        self, blob: bytes, name: str, referents: tuple[Any, ...] = (), backend: str = ""
    ) -> None:
        self.blob, self.name, self.referents, self.backend = blob, name, referents, backend

    @classmethod
    def of(
        cls, obj: Any, lookups: Lookups, bounds: Bounds | None, places: Mapping[int, str]
    ) -> LateCode | None:
        """Return the reducer of `obj`; None if `obj` refers to none of the `places`."""
        with nested(bounds):
            pickler = CodePickler(lookups, places)
            try:
                pickler.dump(obj)
            except KerasReduceError:
                raise
            except Exception:
                return None  # A `ByValue` will fail in the same way, with its place.
        if not pickler.placed:
            return None
        referents = tuple(pickler.referents)
        return cls(pickler.file.getvalue(), _name(obj), referents, keras_backend.current() or "")

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return a rebuilder of this object."""
        return rebuild_late_code, (self.blob, self.name, self.referents, self.backend)

    def resolve(self, places: Mapping[str, Any]) -> Any:
        """Return the callable, given the objects in the places.

        Raises
        ------
        PayloadError
            If a place has no object.
        CustomObjectError
            If the code can't be rebuilt in this process.
        """
        try:
            return CodeUnpickler(self.blob, self.referents, places).load()
        except PayloadError:
            raise
        except Exception as error:
            raise _unreadable(self.name, error) from error


def rebuild_late_code(
    blob: bytes, name: str = "", referents: tuple[Any, ...] = (), backend: str = ""
) -> Any:
    """Rebuild a `LateCode`; its path is wire format."""
    if context.is_passing():
        return DeferredCall(rebuild_late_code, (blob, name, referents, backend))
    keras_backend.prefer(backend)
    return LateCode(blob, name, referents, backend)


def by_value(obj: Any, lookups: Lookups, bounds: Bounds | None = None, levels: int = 4) -> Any:
    """Return `obj`, or a `ByValue` if it is code that a receiver can't import.

    A list, tuple or dictionary that contains such code, down to a number of `levels`, is replaced
    by a new one. The code must not refer to the objects of `bounds`.
    """
    if _nested.depth:
        return obj
    if levels and type(obj) in (list, tuple, dict):
        items = obj.values() if isinstance(obj, dict) else obj
        reducers = [by_value(item, lookups, bounds, levels - 1) for item in items]
        if all(map(operator.is_, reducers, items)):
            return obj
        if isinstance(obj, dict):
            return dict(zip(obj, reducers, strict=True))
        return type(obj)(reducers)
    return ByValue.of(obj, lookups, bounds) if _is_foreign_code(obj) else obj


def has_foreign_code(obj: Any, levels: int = 4) -> bool:
    """Return whether `by_value` would return another object than `obj`."""
    if _nested.depth:
        return False
    if levels and type(obj) in (list, tuple, dict):
        items = obj.values() if isinstance(obj, dict) else obj
        return any(has_foreign_code(item, levels - 1) for item in items)
    return _is_foreign_code(obj)


def _name(obj: Any) -> str:
    return str(getattr(obj, "__qualname__", None) or type(obj).__qualname__)


def _is_foreign_code(obj: Any) -> bool:
    if isinstance(obj, functools.partial):
        return any(map(_is_foreign_code, (obj.func, *obj.args, *obj.keywords.values())))
    if isinstance(obj, types.MethodType):
        owner = obj.__self__ if isinstance(obj.__self__, type) else type(obj.__self__)
        return not is_importable(owner)
    if isinstance(obj, (types.FunctionType, type)):
        return not is_importable(obj)
    # The pickle of an instance of a class of __main__ would name a class that the receiver lacks.
    # One with a reducer of its own, such as a Keras model, is left to that.
    has_reducer = any("__reduce__" in vars(cls) for cls in type(obj).__mro__[:-1])
    return callable(obj) and not has_reducer and not is_importable(type(obj))


def companion() -> ForeignCodePickler:
    """Return a pickler of which only the reduce values are used; it writes nothing."""
    return ForeignCodePickler(io.BytesIO())
