"""Classes and functions that are the user's: which travel by reference, which by value.

By reference (module and name) when the receiver can import them, by value (cloudpickle) when they
live in ``__main__``, a notebook or a closure. Inside a payload each gets a key that is unique
there, so that two classes of one name stay two.
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

from .core import keras_backend, transport_detection
from .core.placeholders import Parcel
from .errors import CustomObjectError, KerasReduceError, PayloadError, ReduceError
from .identities import Identity, is_detached
from .weak_references import detached

__all__ = ["ByValue", "Reference", "Table", "by_value", "is_importable", "resolve"]


class Reference(NamedTuple):
    """How one custom object of a payload is found again; a plain tuple in the payload.

    Attributes
    ----------
    key : str
        Its name inside the payload.
    module, qualname : str
        Where it is imported from, or was defined.
    position : int
        Position among the objects that travel by value, or -1: by reference.
    registered_name : str or None
        Name under which Keras knew a class.
    """

    key: str
    module: str
    qualname: str
    position: int
    registered_name: str | None = None


# References, and the objects that travel by value: each in a `ByValue`, or itself where the pickler
# is known to be cloudpickle.
Packed = tuple[tuple[tuple[Any, ...], ...], tuple[Any, ...]]


# A payload that is pickled inside another payload's by-value part must not start one of its own:
# a class whose methods mention a model of that very class as a global would never end. There the
# pickler is our own cloudpickle, to which the live objects can be given.
class Bounds(NamedTuple):
    """What code in a payload must not refer to, as it would come back with a copy of it.

    Attributes
    ----------
    private : container of int
        Ids of what has no payload of its own.
    outermost : int
        Id of what the payload stands for: it is not there yet when the code is rebuilt, nor is
        anything around it.
    parts : container of int
        Ids of all that is below the outermost.
    """

    private: Container[int] = ()
    outermost: int = 0
    parts: Container[int] = ()


class _Nested(threading.local):
    depth = 0
    bounds = Bounds()
    copying = False


_nested = _Nested()


# In the process that wrote them, functions and classes that travel by value come back as
# themselves, as they do in any pickle or copy. Unpickling a class there would undo what has been
# changed on it since. Other callables have a state of their own, and come back as copies.
_tokens: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_own: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_counter = itertools.count()
_process = uuid.uuid4().hex
_RECOGNISABLE = (types.FunctionType, type)


def _token(obj: Any) -> str:
    """Return the token of `obj`, also where it was received with one; empty if it gets none."""
    if not isinstance(obj, _RECOGNISABLE):
        return ""
    if obj not in _tokens:
        # With the number of the process: a forked child inherits what it then sees change.
        token = f"{_process}-{os.getpid()}-{next(_counter)}"
        _tokens[obj] = token
        _own[token] = obj
    return _tokens[obj]


def _recognised(token: str) -> Any:
    """Return the live object of `token` if this process gave it out, else None."""
    given_out_here = token.startswith(f"{_process}-{os.getpid()}-")
    return _own.get(token) if given_out_here else None


@contextlib.contextmanager
def nested(bounds: Bounds | None = None, *, copying: bool = False) -> Iterator[None]:
    """Let this thread pickle code by cloudpickle, which must keep within `bounds`.

    With `copying`, what it refers to goes along with it.
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
    """Functions that tell a pickler of code about the objects around it.

    Modules above this one pass them, which know Keras and the dump that is under way:
    `keras_reduce.families._shared.lookups`.

    Attributes
    ----------
    identified : callable
        Returns the ids of what is below an object that has an identity to be kept, a layer or a
        model; None for any other.
    locate : callable
        Returns the path to an object within the dump that is under way, or an empty text.
    """

    identified: Callable[[Any], Container[int] | None]
    locate: Callable[[Any], str]


def _reduce_code(code: types.CodeType) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Reduce a code object as cloudpickle does, but with the name of its file.

    From 3.1.3 on, cloudpickle writes another name. By the true one, tracebacks show the source on
    the other side, and Keras, which quotes a lambda's source in a warning, can tell its config.
    """
    constructor, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    # A new string, as cloudpickle makes: whether an interned one is memoized is left to chance.
    name = "".join(iter(code.co_filename))
    return constructor, (*arguments[:_FILENAME], name, *arguments[_FILENAME + 1 :])


# The position among the arguments of `types.CodeType`, since Python 3.8.
_FILENAME = 10


class ForeignCodePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's pickler, for which modules that no other process can import travel by value.

    cloudpickle takes every module in `sys.modules` for one that can be imported.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Return the reduce value of a function, class or module; NotImplemented for others."""
        if not isinstance(obj, _NAMED_BY_MODULE):
            return super().reducer_override(obj)
        is_module = isinstance(obj, types.ModuleType)
        if is_module and type(obj) is not types.ModuleType and not _has_reducer(obj):
            # One that loads a module when it is used, as `tensorflow.keras` of TensorFlow 2.12.
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
    """Tell whether the class of `obj` defines ``__reduce__`` or ``__reduce_ex__``."""
    names = ("__reduce__", "__reduce_ex__")
    return any(getattr(type(obj), name) is not getattr(object, name) for name in names)


_registration = threading.RLock()


@contextlib.contextmanager
def _registered_by_value(module: types.ModuleType) -> Iterator[None]:
    """Let cloudpickle carry a module by value; in other threads too, until this ends."""
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
    """Pickles code, but not the objects with an identity that it refers to.

    These are left to the pickler of the whole, which knows whether it has met them before.

    Parameters
    ----------
    lookups : Lookups
        Tell which objects have an identity.
    places : mapping of int to str, optional
        Names for what the receiver will have, by id.

    Attributes
    ----------
    referents : list
        What the code refers to, in the order of their numbers.
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
    """Pickles None in place of all that can't be pickled, to find the referents of the rest."""

    def reducer_override(self, obj: Any) -> Any:
        """Return a reduce value for each object."""
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
    """Unpickles what a `CodePickler` wrote, given what it has left out."""

    def __init__(
        self, blob: bytes, referents: Sequence[Any], places: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(io.BytesIO(blob))
        self._referents, self._places = referents, places or {}

    def persistent_load(self, name: str | int) -> Any:
        """Return what stands in a place, or the referent of a number."""
        if isinstance(name, int):
            return self._referents[name]
        if name not in self._places:
            raise PayloadError(
                "Code refers to a part of an object that was not rebuilt",
                where=name,
                cause="the class that creates this part has changed since",
                cure="load it with the code that wrote it",
            )
        return self._places[name]


def is_nested() -> bool:
    """Tell whether this thread is pickling code for the payload of an object."""
    return _nested.depth > 0


def refuse_own_parts(obj: Any, below: Container[int] = ()) -> None:
    """Refuse `obj` if code that is being packed for its own payload refers to it.

    Parameters
    ----------
    obj : object
        What is being pickled.
    below : container of int
        Ids of what is below it, if that is known yet.

    Raises
    ------
    ReduceError
        If it does.
    """
    private, outermost, parts = _nested.bounds
    if id(obj) in (parts if _nested.copying else private) or outermost in below:
        raise ReduceError(
            "A function or class that travels by value refers to the object that it belongs to",
            where=getattr(obj, "name", ""),
            cause="its closure, globals or attributes hold the model, or a part of it that is no "
            "layer of its own, so that it would come back with a copy, which training then leaves "
            "behind",
            cure="let it refer to layers only; or, if it is handed to compile(), to the model, and "
            "by way of that to model.optimizer. Or override compute_loss() in a subclass of "
            "keras.Model, with add_weight() for free parameters",
        )


def is_importable(obj: Any) -> bool:
    """Tell whether another process that imports the same modules finds `obj` by its name."""
    module_name = getattr(obj, "__module__", None)
    qualname = getattr(obj, "__qualname__", None)
    if not module_name or not qualname:
        return False
    return found_as(obj, module_name, qualname)


def found_as(obj: Any, module_name: str, qualname: str) -> bool:
    """Tell whether `obj` is what a module that is imported and can be again calls so."""
    # "__mp_main__" is what multiprocessing calls the main module in a spawned child.
    if module_name in ("__main__", "__mp_main__") or _is_registered_by_value(module_name):
        return False
    if not can_be_imported_again(module_name):
        return False
    found: Any = sys.modules.get(module_name)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found is obj


def can_be_imported_again(module_name: str) -> bool:
    """Tell whether a module that is in `sys.modules` comes from something that has its name.

    A module that the program has made, by `types.ModuleType` or from a file of another name, is not
    found by any other process. Only the root is looked at: packages in C make modules below them.
    """
    root = module_name.partition(".")[0]
    module = sys.modules.get(root)
    if type(module) is not types.ModuleType or root in sys.builtin_module_names:
        return True  # A library's own kind of module, which it will make again.
    if getattr(module, "__path__", None) is not None:
        return True
    specification = getattr(module, "__spec__", None)
    file = getattr(module, "__file__", None) or getattr(specification, "origin", None)
    if file is None or specification is None:
        return file is not None and _stem(file) == root
    return not specification.has_location or _stem(file) == root


def _stem(file: str) -> str:
    """Return the name under which a module that is in `file` is imported."""
    return Path(file).name.partition(".")[0]


def _is_registered_by_value(module_name: str) -> bool:
    # The user's own choice, made with cloudpickle.register_pickle_by_value.
    registered = cloudpickle.list_registry_pickle_by_value()
    parts = module_name.split(".")
    return any(".".join(parts[: i + 1]) in registered for i in range(len(parts)))


class Table:
    """The custom objects of one payload, gathered while it is written.

    Parameters
    ----------
    outermost : object
        What the payload stands for.
    lookups : Lookups
        For the code that travels by value.

    Attributes
    ----------
    objects : list
        Values inside the payload that are the pickler's to carry.
    state : dict
        Attributes of the outermost object that the pickler shall put back once it stands, since
        they may refer to it.
    unchecked : dict
        Those of `objects` of which it is not known whether a pickler takes them, by path.
    is_compiling : bool
        Whether what is entered at the moment is needed when the object has been built, and not
        before.
    identities : list of Identity
        Tokens of objects that the payload refers to, and does not hold.
    tree : families.Tree, optional
        The outermost object and all that is below it.
    weak : dict
        Nests of parts and weak references, which are taken apart, by path.
    links : dict
        Attributes that hold another part of the outermost object, as ``path:attribute``, with the
        path of that part.
    extended : set of str
        Paths of parts on which a program has set variables or other parts.
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
        """True if some code is needed only when the object has been built."""
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
            # What multiprocessing calls the main module in a child; the same in each process here.
            # A class that was made by `exec` may have no module.
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
        """The classes, functions and other callables entered so far."""
        return [obj for obj, _ in self._entries.values()]

    def entrust(self, value: Any, path: str = "") -> int:
        """Leave `value` to the pickler; return the number under which it comes back.

        Parameters
        ----------
        value : object
            Anything.
        path : str
            A Python expression for it below the outermost object, without a dot in front, such as
            ``held[0]``. Given if nothing else has checked that a pickler takes it.
        """
        if path:
            self.unchecked[path] = value
        self.objects.append(value)
        return len(self.objects) - 1

    def entrust_weak(self, value: Any, path: str) -> int:
        """Leave a nest with weak references and with parts of the outermost object to the pickler.

        What comes back has a `WeakAttribute` in the place of each reference.
        """
        if is_detached():
            return self.entrust(value)  # A shallow copy holds the very references.
        self.weak[path] = detached(value)
        return self.entrust(self.weak[path], path)

    def child(self, part: Any) -> int:
        """Return the number of a part that has a payload of its own, entering it when it is new."""
        if id(part) not in self._children:
            self._children[id(part)] = self.entrust(part)
        return self._children[id(part)]

    def identity(self, obj: Any) -> int:
        """Return the number of the identity token of `obj`, entering it when it is new."""
        return self.token(Identity.of(obj))

    def token(self, identity: Identity) -> int:
        """Return the number of an identity token, entering it when it is new."""
        number = self._numbers.setdefault(id(identity), len(self.identities))
        if number == len(self.identities):
            self.identities.append(identity)
        return number

    def stripped(self, value: Any, names: Sequence[str]) -> int:
        """Return the number under which `value` comes back without some of its attributes."""
        if id(value) not in self._stripped:
            plain = object.__new__(type(value))
            vars(plain).update({n: v for n, v in vars(value).items() if n not in names})
            self._stripped[id(value)] = self.entrust(plain, f"<{type(value).__name__}>")
        return self._stripped[id(value)]

    @property
    def children(self) -> list[Any]:
        """The parts that have payloads of their own."""
        return [self.objects[number] for number in self._children.values()]

    def is_outermost(self, obj: Any) -> bool:
        """Tell whether `obj` is what the payload stands for."""
        return obj is self._outermost

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Enter what is needed to compile the object, once that has been built."""
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
        """Return the references and what travels by value, or None when the table is empty.

        Parameters
        ----------
        bounds : Bounds, optional
            What code that travels by value must not refer to.
        places : mapping of int to str, optional
            Names, by id, for parts of the object to which code that is compiled into it may refer.
        carries_code : bool
            Whether the pickler that asks carries code by itself.
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
            found = LateCode.of(obj, self._lookups, bounds, places or {})
            # What is compiled into a model may be beside it, too. The pickler keeps it one object
            # if it gets the object itself.
            return found or (obj if by_value.is_left_to_pickler(carries_code) else by_value)

        return references, tuple(map(packed, objects))


def resolve(packed: Packed | None) -> dict[str, tuple[Any, str | None]]:
    """Return what `Table.pack` packed: key -> (object, name registered with Keras).

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
        found: Any = importlib.import_module(module)
        for name in qualname.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise CustomObjectError(
            f"{qualname!r} can't be imported from module {module!r}",
            where=key,
            cause=f"{error}. The module is not installed or not on sys.path of this process, or "
            "another version of it is",
            cure=f"make {module!r} importable here; or, where the payload is written, call "
            f"cloudpickle.register_pickle_by_value({module.split('.')[0]}) to ship the code itself",
        ) from error
    return found


class ByValue:
    """A function, class or other callable on its way through a pickler that knows references only.

    Plain `pickle` writes functions as module and name, whatever their type's reducer says. What is
    unpickled is the callable itself. There is one of these for each callable, so that a pickler
    writes the code of what it meets twice once.

    Parameters
    ----------
    referent : object
        The callable.
    lookups : Lookups
        Tell about the objects that its code refers to.
    bounds : Bounds
        What its code must not refer to.
    """

    _known: ClassVar[weakref.WeakValueDictionary[int, ByValue]] = weakref.WeakValueDictionary()

    def __init__(self, referent: Any, lookups: Lookups, bounds: Bounds) -> None:
        self.referent, self.lookups, self.bounds = referent, lookups, bounds

    @classmethod
    def of(cls, obj: Any, lookups: Lookups, bounds: Bounds | None = None) -> ByValue:
        """Return the one for `obj`, as long as somebody, such as a pickler, holds it."""
        found = cls._known.get(id(obj))
        if found is None or found.referent is not obj:
            found = cls._known[id(obj)] = cls(obj, lookups, bounds or Bounds())
        found.bounds = bounds or found.bounds
        return found

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Reduce to the code, and the objects with an identity that it refers to.

        Raises
        ------
        ReduceError
            If the code refers to something that can't be carried.
        """
        obj = self.referent
        try:
            pickler = self._dumped(CodePickler)
        except KerasReduceError:
            raise
        except Exception as error:
            raise self._refusal(error) from error
        # A function of this process refers to its own objects; a copy shall to their copies.
        token = "" if pickler.referents else _token(obj)
        return rebuild_by_value, (
            *(pickler.file.getvalue(), _name(obj), token),
            tuple(pickler.referents),
            keras_backend.current() or "",
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return the callable itself, as any copy does, or one that refers to copies.

        Raises
        ------
        ReduceError
            If it refers to an object that is copied, and can't be rebuilt.
        """
        if self.copied_referents() is None:
            return self.referent
        rebuild, arguments = self.__reduce__()
        return rebuild(*copy.deepcopy(arguments, memo))

    def is_left_to_pickler(self, carries_code: bool) -> bool:
        """Tell whether a pickler can carry the callable itself, and keep what it refers to apart.

        Parameters
        ----------
        carries_code : bool
            Whether the pickler carries code by value.
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
            return False  # It fails in the same way where it is asked for, with its place.
        # Code that is written by value names cloudpickle as what reads it.
        has_code = b"cloudpickle" in pickler.file.getvalue()
        return not pickler.referents and (carries_code or not has_code)

    def copied_referents(self) -> tuple[Any, ...] | None:
        """Return the objects to be copied to which the callable refers; None if it is shared."""
        if isinstance(self.referent, type):
            return None
        try:
            return tuple(self._dumped(CodePickler).referents)
        except KerasReduceError:
            raise
        except Exception as error:
            # No pickler takes what it refers to, but a copy shares the function with all of it.
            if self._dumped(_LenientCodePickler).referents:
                raise self._refusal(error) from error
            return None

    def _dumped(self, kind: type[CodePickler]) -> CodePickler:
        # A class may well mention, as a global, a model with a layer of that very class. What a
        # class refers to is no part of its instances, so a copy must do.
        with nested(self.bounds, copying=isinstance(self.referent, type)):
            pickler = kind(self.lookups)
            pickler.dump(self.referent)
        return pickler

    def _refusal(self, error: Exception) -> ReduceError:
        name = _name(self.referent)
        module = getattr(self.referent, "__module__", "")
        return ReduceError(
            f"{name!r} must travel by value, but can't be pickled",
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
        What cloudpickle made of it.
    name : str
        Its qualified name.
    token : str
        A name that only the process that wrote it can resolve; empty for a callable with a state
        of its own, which comes back as a copy.
    referents : sequence
        What the code refers to by number.
    backend : str
        That of the Keras which the program had that wrote it, if it had one. The code may import
        Keras.

    Raises
    ------
    CustomObjectError
        If the code can't be rebuilt in this process.
    """
    if transport_detection.is_passing():
        return Parcel(rebuild_by_value, (blob, name, token, referents, backend))
    live = _recognised(token)
    if live is not None:
        return live
    keras_backend.prefer(backend)
    try:
        obj = CodeUnpickler(blob, referents).load()
    except Exception as error:
        raise _unreadable(name, error) from error
    if isinstance(obj, type):
        obj.__qualname__ = name  # cloudpickle carries the bare name only
    if token and isinstance(obj, _RECOGNISABLE):
        _tokens.setdefault(obj, token)
    return obj


def _unreadable(name: str, error: Exception) -> CustomObjectError:
    return CustomObjectError(
        "Custom code that travels by value can't be rebuilt here",
        where=name,
        cause=f"{type(error).__name__}: {error}. Bytecode only loads in the minor version "
        f"of Python that wrote it (this is {sys.version.split()[0]}), and what the code "
        "imports must be installed here",
        cure="load it with the Python that wrote it, install what is missing, or move the "
        "code into an importable module and write the file again",
    )


class LateCode:
    """Code that is compiled into an object and refers to it, such as a loss over its own model.

    It can be rebuilt only when the object has been built. In the pickle, names of places stand for
    the object and its parts.

    Parameters
    ----------
    blob : bytes
        The code.
    name : str
        Its qualified name, for messages.
    referents : tuple
        Other objects with an identity that the code refers to.
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
        """Return the one for `obj`; None if it refers to none of the `places`."""
        with nested(bounds):
            pickler = CodePickler(lookups, places)
            try:
                pickler.dump(obj)
            except KerasReduceError:
                raise
            except Exception:
                return None  # It fails in the same way as a `ByValue`, with its place.
        if not pickler.placed:
            return None
        referents = tuple(pickler.referents)
        return cls(pickler.file.getvalue(), _name(obj), referents, keras_backend.current() or "")

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Reduce to the same."""
        return rebuild_late_code, (self.blob, self.name, self.referents, self.backend)

    def resolve(self, places: Mapping[str, Any]) -> Any:
        """Return the callable, given what is in the places.

        Raises
        ------
        PayloadError
            If there is nothing in one of them.
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
    if transport_detection.is_passing():
        return Parcel(rebuild_late_code, (blob, name, referents, backend))
    keras_backend.prefer(backend)
    return LateCode(blob, name, referents, backend)


def by_value(obj: Any, lookups: Lookups, bounds: Bounds | None = None, levels: int = 4) -> Any:
    """Return `obj`, or a `ByValue` for it if it is code that a receiver can't import.

    A list, tuple or dictionary with such code in it, down to a number of `levels`, comes back as
    another one. The code must keep within `bounds`.
    """
    if _nested.depth:
        return obj
    if levels and type(obj) in (list, tuple, dict):
        items = obj.values() if isinstance(obj, dict) else obj
        found = [by_value(item, lookups, bounds, levels - 1) for item in items]
        if all(map(operator.is_, found, items)):
            return obj
        return dict(zip(obj, found, strict=True)) if isinstance(obj, dict) else type(obj)(found)
    return ByValue.of(obj, lookups, bounds) if _is_foreign_code(obj) else obj


def has_foreign_code(obj: Any, levels: int = 4) -> bool:
    """Tell whether `by_value` would return another object than `obj`."""
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
    # An instance of a class from __main__: its pickle would name a class the receiver lacks. One
    # with a reducer of its own (a Keras model is callable, too) knows better than we do.
    has_reducer = any("__reduce__" in vars(cls) for cls in type(obj).__mro__[:-1])
    return callable(obj) and not has_reducer and not is_importable(type(obj))


def companion() -> ForeignCodePickler:
    """Return a pickler that is asked for its reduce values only; it writes nothing."""
    return ForeignCodePickler(io.BytesIO())
