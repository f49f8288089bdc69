"""Dry run of a pickler: paths of all objects that can't be pickled, and what to do about them.

It asks the same reducers as the real one and writes nothing. It keeps a queue of what is left to
visit instead of calling itself, so that no object is too deep for it, and each is found on the
shortest way.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import pickle
import re
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import cloudpickle
import numpy as np

from ..core import context
from ..core.code_objects import root_module
from ..core.context import Transport
from ..core.dispatch import STANDARD
from ..core.payload import PLAIN
from ..core.weights import Snapshot
from ..custom_objects import Bounds, ByValue, _nested, companion
from ..errors import KerasReduceError, ReduceError

__all__ = [
    "Obstacle",
    "check",
    "located",
    "obstacles",
    "root_path",
]


class Obstacle(NamedTuple):
    """An object that a pickler refuses.

    Attributes
    ----------
    path : str
        A Python expression for it; parts in angle brackets, such as ``<closure 'lock'>``, name
        what no expression reaches.
    type : str
        Qualified name of its type; empty where only the path is known.
    why : str
        What the pickler says.
    cure : str
        What to do.
    transports : tuple of str
        The picklers that refuse it: ``pickle``, ``cloudpickle``, ``joblib``, ``deepcopy``.
    """

    path: str
    type: str
    why: str
    cure: str
    transports: tuple[Transport, ...] = ()


def obstacles(
    obj: Any, name: str, transport: Transport, *, by_value: bool = False
) -> Iterator[Obstacle]:
    """Yield the obstacles to pickling `obj`, spelled `name`, those near the root first.

    By the rules of `transport`. For joblib, `by_value` tells whether it carries functions and
    classes by value.
    """
    before, _search.roots = _search.roots, (obj,)
    try:
        for _, _, obstacle in _walk(_pickler(transport, by_value), [(name, obj)]):
            if obstacle:
                yield obstacle._replace(transports=(transport,))
    finally:
        _search.roots = before


def check(owner: Any, values: Mapping[str, Any], *, name: str, skip: Callable[[Any], bool]) -> None:
    """Refuse attributes of `owner` that can't be carried, with the path, which picklers don't tell.

    Carried is what cloudpickle, the most permissive pickler, carries; or what `copy.deepcopy` does,
    where it is at work. Objects that `skip` accepts check themselves. Takes microseconds for plain
    data.

    Raises
    ------
    ReduceError
        For one obstacle, with the path to it from `name`. Not within a dry run of `owner`, which
        lists them all.
    """
    if all(map(_is_plain, values.values())):
        return
    unfit = _unfit(values, skip, "cloudpickle")
    if unfit and is_copying():
        unfit = _unfit(values, skip, "deepcopy")
    visit = _visits.current
    if unfit and visit and visit.obj is owner:
        visit.found += unfit
    elif unfit:
        path, kind, why, cure, _ = unfit[0]
        raise ReduceError(
            f"This {kind or 'object'} can't be carried", where=f"{name}{path}", cause=why, cure=cure
        )


def located(error: ReduceError, obj: Any) -> ReduceError:
    """Return `error`, which knows the place in `obj`, with the place in the graph around it."""
    root, is_inside = root_path(obj), error.where.startswith((".", "["))
    if root:
        where = root + (error.where if is_inside or not error.where else f" ({error.where})")
        return type(error)(error.what, where, error.cause, error.cure)
    if is_inside and not _visits.current:
        where, cure = type(obj).__name__ + error.where, f"{error.cure}; {_WHOLE_PATH}"
        return type(error)(error.what, where, error.cause, cure.removeprefix("; "))
    return error


# The C pickler does not tell what it was given.
_WHOLE_PATH = "keras_reduce.explain, given what you pickle, says where in it this is"


def _unfit(
    values: Mapping[str, Any], skip: Callable[[Any], bool], transport: Transport
) -> list[Obstacle]:
    pickler = _pickler(transport)
    pickler.nested, pickler.is_carried = (_nested.depth, _nested.bounds), skip
    roots = ((f".{name}", value) for name, value in values.items())
    return [obstacle for _, _, obstacle in _walk(pickler, roots, skip) if obstacle]


def is_copying() -> bool:
    """Return whether it is `copy.deepcopy` that asks for a reduce value."""
    if _visits.current:
        return isinstance(_visits.current.pickler, _DryCopier)
    return next((start.transport == "deepcopy" for start in context.starts()), False)


def root_path(obj: Any, name: str = "") -> str:
    """Return the path to `obj` from the root of the dump that is under way, such as ``a.b[1]``.

    To be called when `obj` could not be reduced, while its reducer runs. It never raises. The root
    is spelled `name`, or as its class in lower case. The path is empty if the root is unknown: the
    C pickler leaves no trace on Python's stack, unless a function in Python, such as cloudpickle's,
    has started it.
    """
    if _visits.current:
        return ""  # a dry run is under way, which knows the path itself
    # What failed has an error of its own, which must not be lost over one in here.
    with contextlib.suppress(Exception):
        outermost: dict[str, context.Start] = {}
        for start in context.starts():
            outermost.pop(start.function, None)  # copy.deepcopy calls itself
            outermost[start.function] = start
        roots = [
            (type(start.root).__name__.strip("_").lower(), start)
            for start in reversed(outermost.values())
        ]
        for spelled, (_, transport, by_value, root) in roots:
            pickler = _pickler(transport, by_value)
            for path, visited, _ in _walk(pickler, [(name or spelled, root)]):
                if visited is obj:
                    return path
    return ""


def reaches(roots: Sequence[Any], is_wanted: Callable[[Any], bool]) -> bool:
    """Return whether an object below one of `roots` is, or contains, the one that is wanted.

    To be called while a reducer runs. It never raises.
    """
    if _search.is_on:
        return True  # One search goes through everything.
    outer = _search.roots
    before, _visits.current = _visits.current, None
    _search.is_on, _search.roots = True, tuple(roots)
    try:
        return any(is_wanted(visited) for root in roots for visited in _all_below(root))
    except Exception:
        return False
    finally:
        _search.is_on, _search.roots = False, outer
        _visits.current = before


def is_searching() -> bool:
    """Return whether `reaches` is under way in this thread."""
    return _search.is_on


class _Search(threading.local):
    is_on = False
    roots: tuple[Any, ...] = ()


_search = _Search()


def roots() -> tuple[Any, ...]:
    """Return the root object of the pickler that runs a reducer; empty if it is not known.

    That is so for a pickler written in C, unless a function in Python has started it.
    """
    if _search.roots:
        return _search.roots
    start = context.start_of_pickler()
    return (start.root,) if start else ()


def _all_below(root: Any) -> Iterator[Any]:
    # A snapshot is in a reduce value, and writes nothing.
    for _, visited, _ in _walk(_pickler("cloudpickle"), [("", root)], _is_snapshot):
        yield visited


def _is_snapshot(obj: Any) -> bool:
    return isinstance(obj, Snapshot)


# --- the walk ------------------------------------------------------------------------------------


class _Child(NamedTuple):
    """An object that is yet to be visited.

    Attributes
    ----------
    head : tuple, optional
        Path and value of the opaque object that it is in: obstacles are reported for that object.
    names : _Names, optional
        If it is a container that a reducer made up: the names of that reducer's object.
    """

    pickler: _DryPickler
    path: str
    value: Any
    head: tuple[str, Any] | None = None
    names: _Names | None = None


class _Visit:
    """A call of one object's reducer, and the obstacles that it has met."""

    def __init__(self, pickler: _DryPickler, obj: Any) -> None:
        self.pickler, self.obj = pickler, obj
        self.found: list[Obstacle] = []


class _Visits(threading.local):
    current: _Visit | None = None


_visits = _Visits()

# What is in the way inside of these are locks and handles that their user has not made.
_OPAQUE = re.compile(
    r"threading\.\w+|tensorflow\.python\.(data|client|distribute|framework)\..*|orbax\..*"
)


def _walk(
    pickler: _DryPickler,
    roots: Iterable[tuple[str, Any]],
    skip: Callable[[Any], bool] = lambda _: False,
) -> Iterator[tuple[str, Any, Obstacle | None]]:
    """Yield path, value, None for each object before it is reduced; then for each obstacle."""
    left = deque(_Child(pickler, path, value) for path, value in roots if not _is_plain(value))
    told: set[str] = set()
    while left:
        child = left.popleft()
        if id(child.value) in child.pickler.memo or skip(child.value):
            continue
        yield child.path, child.value, None
        if child.head is None and _OPAQUE.fullmatch(_type_name(child.value)):
            child = child._replace(head=(child.path, child.value))
        for obstacle in child.pickler.visit(child):
            if child.head is None:
                yield child.path, child.value, obstacle
            elif child.head[0] not in told:
                path, value = child.head
                told.add(path)
                why = f"cannot pickle {type(value).__qualname__!r} object"
                yield path, value, Obstacle(path, _type_name(value), why, _cure(value))
        left += child.pickler.children


# Types of plain data: every pickler carries it, and no copy of it makes a difference.
SCALARS = {
    type(None),
    type(...),
    type(NotImplemented),
    bool,
    int,
    float,
    complex,
    range,
    str,
    bytes,
    bytearray,
    pickle.PickleBuffer,
    *(kind for kind in np.sctypeDict.values() if kind not in (np.object_, np.void)),
}


def _is_plain(value: Any, levels: int = 3) -> bool:
    """Return whether `value` is data that every pickler carries; cheap also where there is much."""
    kind = type(value)
    if kind in SCALARS:
        return True
    if kind in (np.ndarray, np.memmap):
        return not value.dtype.hasobject
    if kind is dict:
        return _is_plain(list(value), levels) and _is_plain(list(value.values()), levels)
    if kind not in (list, tuple, set, frozenset) or not levels:
        return False
    return SCALARS.issuperset(map(type, value)) or all(_is_plain(v, levels - 1) for v in value)


# --- names ---------------------------------------------------------------------------------------


class _Names:
    """The names under which an object's attributes, and the items in these, can be reached."""

    def __init__(self, owner: Any, path: str) -> None:
        self._owner, self._path = owner, path

    def find(self, value: Any) -> str | None:
        """Return the path of `value`, or None if it is neither an attribute nor in one."""
        fallback = None
        if isinstance(value, ByValue):
            value = value.referent
            kind = "class" if isinstance(value, type) else "function"
            fallback = f".<{kind} {getattr(value, '__qualname__', _type_name(value))!r}>"
        path = self._known.get(id(value), fallback)
        return None if path is None else self._path + path

    @functools.cached_property
    def _known(self) -> dict[int, str]:
        owner = self._owner
        public, private = self._members = _members(owner)  # held, so that ids stay their own
        paths: dict[int, str] = {}
        _add_items(paths, "", owner)
        for members in (public, private):
            for name, value in members.items():
                paths.setdefault(id(value), f".{name}")
            for name, value in members.items():
                _add_items(paths, f".{name}", value)
            if members is public and _is_of_keras(owner):
                # A property, of what a model holds in private.
                _add_items(paths, ".layers", getattr(owner, "layers", ()))
        return paths


_MANY = 1000  # Among more items than these it takes too long to look for one.


def _add_items(paths: dict[int, str], path: str, value: Any, levels: int = 2) -> None:
    if not levels or not isinstance(value, (list, tuple, dict)) or len(value) > _MANY:
        return
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        paths.setdefault(id(item), f"{path}[{_spelled(key)}]")
        _add_items(paths, f"{path}[{_spelled(key)}]", item, levels - 1)


def _members(obj: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the public and the private attributes of `obj`, with slots and those of C types."""
    attributes = dict(getattr(obj, "__dict__", {}))
    for store in ("_modules", "_parameters", "_buffers"):
        # Where a module of Torch, as a layer is one there, keeps what is set on it.
        if isinstance(attributes.get(store), dict):
            attributes = {**attributes[store], **attributes}
    for cls in type(obj).__mro__:
        for name, member in vars(cls).items():
            if isinstance(member, types.MemberDescriptorType) and hasattr(obj, name):
                attributes.setdefault(name, getattr(obj, name))
    attributes["__class__"] = type(obj)
    if isinstance(obj, type):
        attributes["__bases__"] = obj.__bases__
    elif isinstance(obj, types.BuiltinMethodType):
        attributes["__self__"] = obj.__self__
    public = {name: value for name, value in attributes.items() if not name.startswith("_")}
    return public, {name: value for name, value in attributes.items() if name not in public}


def _is_of_keras(obj: Any) -> bool:
    roots = {root_module(base) for base in type(obj).__mro__}
    return not roots.isdisjoint({"keras", "tf_keras"})


def _spelled(key: Any) -> str:
    parts = key if type(key) is tuple else (key,)
    plain = all(type(part) in PLAIN or type(part) is bytes for part in parts)
    return repr(key) if plain else f"<{_type_name(key)}>"


def _type_name(obj: Any) -> str:
    return _full_name(type(obj)).removeprefix("builtins.")


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


# --- the picklers --------------------------------------------------------------------------------


def _pickler(transport: Transport, by_value: bool = False) -> _DryPickler:
    kind = _DryCopier if transport == "deepcopy" else _DryPickler
    pickler = kind(types.SimpleNamespace(write=len), kind.PROTOCOL)
    if transport == "cloudpickle" or (transport == "joblib" and by_value):
        pickler.reducer_override = companion().reducer_override
        pickler.dispatch_table = cloudpickle.Pickler.dispatch_table
    return pickler


# The C pickler in Python. Its name is private, but joblib has built on it for years.
class _DryPickler(pickle._Pickler):
    """Pickler that visits one object at a time, and lists in `children` what it would save next.

    Attributes
    ----------
    children : list of _Child
        What the object consists of, but for plain data.
    nested : tuple
        What `custom_objects` knows while this pickler is at work.
    """

    PROTOCOL = 5  # of which arrays lend their memory
    reducer_override: Any
    dispatch_table: Any
    memo: dict[int, Any]
    children: list[_Child]
    nested: tuple[int, Bounds] = (0, Bounds())
    is_carried: Callable[[Any], bool] = staticmethod(lambda _: False)

    def visit(self, child: _Child) -> list[Obstacle]:
        """Ask an object's reducer what it consists of; return the obstacles to that."""
        self._here, self.children = child, []
        visit = _Visit(self, child.value)
        before = _visits.current, _nested.depth, _nested.bounds
        _visits.current, (_nested.depth, _nested.bounds) = visit, self.nested
        try:
            super().save(child.value)  # type: ignore[misc]
        except Exception as error:
            visit.found.append(_obstacle(child.value, error))
        finally:
            _visits.current, _nested.depth, _nested.bounds = before
        self.memo[id(child.value)] = 0, child.value  # held, so that the id stays its own
        return [obstacle._replace(path=child.path + obstacle.path) for obstacle in visit.found]

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        """Do nothing: what comes this way is the module and name of a reference."""

    def memoize(self, obj: Any) -> None:
        """Do nothing: `visit` remembers."""

    def save_reduce(
        self,
        func: Any,
        args: Any,
        state: Any = None,
        listitems: Any = None,
        dictitems: Any = None,
        state_setter: Any = None,
        *,
        obj: Any = None,
    ) -> None:
        """Note what a reducer has returned."""
        if not callable(func) or not isinstance(args, tuple):
            raise pickle.PicklingError("its reducer returned neither a name nor a call")
        names = _Names(obj, self._here.path)
        if not isinstance(obj, types.FunctionType):  # whose state says it all
            self._add_call(func, args, names)
        for index, item in enumerate(listitems or ()):
            self._add(f"[{index}]", item)
        self._add_entries(dictitems or ())
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        if all(isinstance(part, dict | None) for part in parts):
            for name, value in ((n, v) for part in parts if part for n, v in part.items()):
                self._add_attribute(obj, name, value)
        else:
            self._add(".<state>", state, names)

    def _add(
        self,
        suffix: str,
        value: Any,
        names: _Names | None = None,
        pickler: _DryPickler | None = None,
    ) -> None:
        if _is_plain(value):
            return
        known_path = names.find(value) if names else None
        path = known_path or self._here.path + suffix
        names = None if known_path else names
        self.children.append(_Child(pickler or self, path, value, self._here.head, names))

    def _add_call(self, func: Any, args: tuple[Any, ...], names: _Names) -> None:
        self._add(".<reducer>", func, names)
        for index, argument in enumerate(args):
            self._add(f".<argument {index}>", argument, names)

    def _add_entries(self, entries: Iterable[tuple[Any, Any]]) -> None:
        for key, value in entries:
            self._add(f".<key {_spelled(key)}>", key)
            self._add(f"[{_spelled(key)}]", value, self._here.names)

    def _add_attribute(self, obj: Any, name: Any, value: Any) -> None:
        if isinstance(obj, types.FunctionType) and name == "__globals__":
            for variable, content in value.items():
                self._add(f".<global {variable!r}>", content)
        elif isinstance(obj, types.FunctionType) and name == "__closure__":
            for variable, cell in zip(obj.__code__.co_freevars, value or (), strict=True):
                with contextlib.suppress(ValueError):  # an empty cell
                    self._add(f".<closure {variable!r}>", cell.cell_contents)
        elif type(value) in STAND_INS:
            for path, inner in STAND_INS[type(value)](value).items():
                self._add(f".{path}", inner)
        elif name == "_sk_params":
            self._add(".sk_params", value)  # our estimators' own name for it
        else:
            self._add(f".{name}", value)

    def _save_items(self, obj: Any) -> None:
        for index, item in enumerate(obj):
            self._add(f"[{index}]", item, self._here.names)

    def _save_entries(self, obj: Any) -> None:
        self._add_entries(obj.items())

    def _save_members(self, obj: Any) -> None:
        for item in obj:
            self._add(".<item>", item, self._here.names)

    def _save_array(self, obj: Any) -> None:
        for index, item in zip(np.ndindex(obj.shape), obj.ravel().tolist(), strict=True):
            self._add(f"[{', '.join(map(str, index))}]", item)

    def _save_by_value(self, obj: Any) -> None:
        # Its own reducer runs a pickler that stops at the first obstacle.
        pickler = _pickler("cloudpickle")
        pickler.nested = 1, obj.bounds
        self._add("", obj.referent, pickler=pickler)

    dispatch: ClassVar[dict[type, Any]] = {
        **STANDARD,
        **dict.fromkeys((list, tuple), _save_items),
        **dict.fromkeys((set, frozenset), _save_members),
        dict: _save_entries,
        np.ndarray: _save_array,
        ByValue: _save_by_value,
    }


# Type of a value in a state that holds other attributes as well -> function that returns them by
# path.
STAND_INS: dict[type, Callable[[Any], Mapping[str, Any]]] = {}


class _DryCopier(_DryPickler):
    """Dry run of `copy.deepcopy`, to which functions and classes are atoms."""

    PROTOCOL = 4  # which copy.deepcopy asks for

    def reducer_override(self, obj: Any) -> Any:
        """Take an object's word for it that it copies itself; ours copy their attributes."""
        method = None if isinstance(obj, type) else getattr(obj, "__deepcopy__", None)
        if method is None or type(obj) in self.dispatch:
            return NotImplemented
        is_ours = getattr(method, "__module__", "").partition(".")[0] == context.PACKAGE
        return (object, (), getattr(obj, "__dict__", {})) if is_ours else ""

    def save_global(self, obj: Any, name: Any = None) -> None:
        """Do nothing: what reduces to a name is an atom."""

    def _add_call(self, func: Any, args: tuple[Any, ...], names: _Names) -> None:
        super()._add_call(None, args, names)

    def _save_method(self, obj: Any) -> None:
        self._add(".__self__", obj.__self__)

    def _save_by_value(self, obj: Any) -> None:
        try:
            referents = obj.copied_referents()
        except ReduceError:
            super()._save_by_value(obj)  # which leads to what is in the way
            return
        for referent in referents or ():
            self._add("", referent)

    def _save_atom(self, obj: Any) -> None:
        pass

    def _save_weak(self, obj: Any) -> None:
        # An atom to copy.deepcopy: the copy would go on with a part of the original.
        if self.is_carried(obj()):
            raise TypeError(f"cannot copy a weak reference to {type(obj()).__qualname__!r}")

    dispatch: ClassVar[dict[type, Any]] = {
        **dict.fromkeys(copy._deepcopy_dispatch, _save_atom),  # type: ignore[attr-defined]
        **{
            kind: _DryPickler.dispatch[kind]
            for kind in (list, tuple, dict, set, frozenset, np.ndarray)
        },
        types.MethodType: _save_method,
        weakref.ref: _save_weak,
        ByValue: _save_by_value,
    }


# --- what to say ---------------------------------------------------------------------------------

# Qualified name of a type, as a pattern -> what to do about an object of that type.
_CURES = {
    r"builtins\.(function|type)": "move it to the top level of a module that the reader can "
    "import; or use cloudpickle, or joblib.dump after keras_reduce.install(), which carry code "
    "by value",
    r"_thread\..*|threading\.(?!Thread$).*|multiprocessing\.synchronize\..*": "leave it out of the "
    "state: drop it in __getstate__, and make a new one in __setstate__",
    r"threading\.Thread": "leave it out of the state, and start one where it is needed",
    r"builtins\.(async_)?generator|builtins\.coroutine": "keep a function that makes it, or a list "
    "of what it yields",
    r"_io\..*|tempfile\..*": "keep its path, and open it where it is used",
    r"_?socket\..*|_?ssl\..*": "keep the address, and connect where it is used",
    r"sqlite3\..*": "keep the path of the database, and connect where it is used",
    r"builtins\.module": "import it in the function that uses it, or keep its name",
    r"tensorflow\.python\.data\..*": "keep what it is made from (arrays, names of files), or a "
    "function that makes it, and hand it to fit()",
    r"tensorflow\.python\.distribute\..*": "make it in the function that builds the model, as a "
    "strategy can't leave its process; a model that was made in its scope can",
    r"tensorflow\..*(Graph|Session|ConcreteFunction)": "make it where it is used: neither graphs "
    "nor sessions leave their process",
    r"orbax\..*": "make a new callback where training goes on, for the same directory",
    r"weakref\..*|builtins\.weak.*": "keep the object itself, or leave it out of the state",
}
_GENERIC = (
    "leave it out of the state: drop it in the __getstate__ of the class that holds it, or give "
    "its own class a __reduce__"
)


def _cure(obj: Any) -> str:
    names = [_full_name(base) for base in type(obj).__mro__]
    matching = (
        cure for kind, cure in _CURES.items() if any(re.fullmatch(kind, name) for name in names)
    )
    return next(matching, _GENERIC)


# A place in an object, such as "model.note[2]": how it is called, and the way from there.
_PLACE = re.compile(r"[\w' ]*?((?:\.\w+|\.<[^>]+>|\[[^\]]+\])+)")


def _obstacle(obj: Any, error: Exception) -> Obstacle:
    """Return the obstacle that `error`, raised by the reducer of `obj`, describes."""
    if not isinstance(error, KerasReduceError):
        why = re.sub(r" at 0x[0-9a-f]+", "", str(error)).strip().partition("\n")[0]
        if not why or not isinstance(error, (TypeError, AttributeError, pickle.PicklingError)):
            why = f"{type(error).__name__}: {why}".removesuffix(": ")
        return Obstacle("", _type_name(obj), why, _cure(obj))
    place = _PLACE.fullmatch(error.where)
    path, kind, what = (place[1], "", error.what) if place else ("", _type_name(obj), error.what)
    if error.where and not place:
        what = f"{what} - at {error.where}"
    return Obstacle(
        path, kind, f"{what}: {error.cause}".removesuffix(": "), error.cure or _cure(obj)
    )
