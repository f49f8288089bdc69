"""Templates: object graphs of layers and models that this process has rebuilt before.

Rebuilding from a config runs Keras's constructors, ``build`` and ``compile``. What they make
follows from the payload and from the open scopes, so later loads of one architecture need not run
them: the object graph of the second is kept as a pickle, without variables, and unpickled. The
first load makes no template, which would take as long as the load itself.

Each payload has a template of its own. In the one of a model, the layers that its config lists are
references to the objects that the pickler has rebuilt already; what making the model has changed in
them is kept as a list of changes.

A template is made only of objects of Keras's own, which are copied, and of values that never change
(classes, functions with a name, code), which are shared. With anything else, the payload is rebuilt
from its config each time.
"""

from __future__ import annotations

import collections
import enum
import functools
import inspect
import io
import itertools
import logging
import operator
import pickle
import re
import sys
import threading
import types
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from ...audit import trust_policy
from ...core import array_backends, payload
from ...core.code_objects import root_module
from ...core.payload import PLAIN
from ...identities import Identity, by_number, settle
from . import raw_variables
from .kinds import is_a, is_built_in
from .patches import current
from .private import TEMPLATES

__all__ = ["Request", "clear", "use"]

_log = logging.getLogger(__package__.partition(".")[0])


class _Variable(NamedTuple):
    """Arguments of `raw_variables.Maker` for a variable of a clone."""

    # Of the name, numbers are those of automatic names.
    name: tuple[str | int, ...]
    shape: tuple[int, ...]
    carrier: Any
    dtype: str
    tensorflow_dtype: Any
    options: dict[str, Any]
    is_read: bool


class _Template(NamedTuple):
    """A pickled object graph, and the values of the references in it, by position."""

    content: bytes
    # What all clones share; other references are filled in at their positions.
    constants: tuple[Any, ...]
    # What the automatic names count, and texts: paths of names, numbers for the automatic ones.
    prefixes: tuple[str, ...]
    texts: tuple[tuple[int, tuple[str | int, ...]], ...]
    variables: tuple[tuple[int, _Variable], ...]
    externals: tuple[tuple[int, _Accessor], ...]
    policies: tuple[int, ...]
    # Keys that optimizers have for variables: the position of the key, and of the variable.
    keys: tuple[tuple[int, int], ...]
    others: tuple[int, ...]
    attributes: int
    number: int


_Accessor = tuple[int, tuple[tuple[bool, Any], ...]]
_numbers = itertools.count()


class _Cache:
    """Templates by key, the most recent ones up to a number of bytes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        with self._lock:
            self._entries: collections.OrderedDict[Any, Any] = collections.OrderedDict()
            self.size = 0

    def get(self, key: Any) -> Any:
        """Return the entry of a key, see `put`; `_UNKNOWN` if there is none."""
        with self._lock:
            entry = self._entries.get(key, _UNKNOWN)
            if entry is not _UNKNOWN:
                self._entries.move_to_end(key)
            return entry

    def put(self, key: Any, template: Any) -> None:
        """Keep a template, None for an object that can have none, or `_SEEN`."""
        with self._lock:
            self._drop(key)
            self._entries[key] = template
            self.size += _size(key, template)
            while self.size > MOST_BYTES:
                self._drop(next(iter(self._entries)))

    def _drop(self, key: Any) -> None:
        if key in self._entries:
            self.size -= _size(key, self._entries.pop(key))

    def __len__(self) -> int:
        return len(self._entries)


_UNKNOWN = object()
# In place of a template: the object was rebuilt once, and gets a template the next time.
_SEEN = object()
MOST_BYTES = 64 * 2**20


def _size(key: Any, template: Any) -> int:
    # A Python object takes about 64 bytes.
    text, compile_config, *_ = key
    is_made = isinstance(template, _Template)
    references = len(template.constants) if is_made else 0
    content = len(template.content) if is_made else 0
    return len(text) + len(compile_config or "") + content + 64 * (references + 16)


cache = _Cache()
_is_on = False


def use(on: bool) -> None:
    """Turn templates on or off, and forget all."""
    global _is_on
    import keras

    _is_on = on and keras.backend.backend() == "tensorflow" and TEMPLATES.is_complete()
    clear()


def clear() -> None:
    """Forget all templates."""
    cache.clear()
    _fresh.clear()


class _Fresh(NamedTuple):
    """State of a layer right after it was rebuilt: its template, and a part of its attributes."""

    template: int
    given: _Given | None
    attributes: int
    autocast: bool | None


# By an object that only the layer or operation has: a weak reference to itself would make it a
# target.
_fresh: weakref.WeakKeyDictionary[Any, _Fresh] = weakref.WeakKeyDictionary()


def _witness(attributes: Mapping[str, Any]) -> Any:
    """Return an object that only the layer or operation with these attributes has."""
    return attributes.get("_tracker") or attributes.get("_auto_config")


def _taken(child: Any) -> tuple[Any, ...] | None:
    """Return a key of a layer that is as it was rebuilt; None if it is not.

    Only once: after the first call it is a part of something.
    """
    attributes = getattr(child, "__dict__", {})
    try:
        fresh = _fresh.pop(_witness(attributes), None)
    except TypeError:  # It is no object of Keras.
        return None
    if fresh is None or (len(attributes), attributes.get("autocast")) != fresh[2:]:
        return None
    return fresh[:2]


class _Given(NamedTuple):
    """Texts of a payload in which equal layers differ: a name, and the JSON of a list of paths."""

    name: str
    paths: str

    def texts(self) -> list[str]:
        """Return the paths and the name, so that the name is at -1, and the first path at -2."""
        paths: list[str] = payload.decode(self.paths)
        return [*reversed(paths), self.name]


def _form(json: str) -> tuple[str, _Given] | None:
    """Return the text of a payload without a name and without a list of paths, and these."""
    place = json.find(_BEFORE_NAME)
    end = json.find('"', place + len(_BEFORE_NAME))
    name = json[place + len(_BEFORE_NAME) : end]
    if place < 0 or not name or "\\" in name or "/" in name:
        return None
    start = json.find(_BEFORE_PATHS, 0, place)
    paths = _PATHS.match(json, start + len(_BEFORE_PATHS)) if start >= 0 else None
    first, last = paths.span() if paths else (0, 0)
    pieces = json[:first], json[last : place + len(_BEFORE_NAME)], json[end:]
    return "\0".join(pieces), _Given(name, json[first:last] or "[]")


# Nothing comes before the name in a config. Names with other characters are not taken apart.
_BEFORE_NAME, _BEFORE_PATHS = '"config":{"name":"', '"paths":'
_PATHS = re.compile(r'\[(?:"[^"\\]*",?)*\]')


class Request:
    """A payload that is to be rebuilt, and the key of its template."""

    def __init__(
        self,
        key: tuple[Any, ...],
        arrays: Sequence[Any],
        children: Sequence[Any],
        tokens: Sequence[Any],
    ) -> None:
        json, *others = key
        self._exact, self._arrays = key, arrays
        self._children, self._tokens = children, tokens
        self._recording: _Recording | None = None
        form = _form(json)
        self._form = key if form is None else (form[0], *others)
        self._given = None if form is None else form[1]

    @classmethod
    def of(
        cls,
        json: str,
        arrays: Sequence[Any],
        compile_config: str | None,
        custom_objects: Any,
        children: Sequence[Any],
        tokens: Sequence[Any],
        targets: Sequence[Any],
    ) -> Request | None:
        """Return the request for a payload; None if it must be rebuilt from its config."""
        if not _is_on:
            return None
        numbers = tuple(map(_taken, children))
        if custom_objects or targets or None in numbers:
            return None
        if any(not isinstance(each, Identity) or each.obj is not None for each in tokens):
            return None
        context = _context()
        if context is None:
            return None
        key = (json, compile_config, numbers, len(tokens), context)
        try:
            hash(key)
        except TypeError:
            return None
        return cls(key, arrays, children, tokens)

    def clone(self, of_variables: Sequence[Any]) -> Any:
        """Return a clone of the template; None if there is none, or it does not fit the arrays."""
        # In this order: what the template of a model refers to stays the same.
        template, given = cache.get(self._exact), None
        if not isinstance(template, _Template) and self._given is not None:
            template, given = cache.get(self._form), self._given
        if not isinstance(template, _Template) or not self._fits(template):
            return None
        try:
            loaded = _loaded(template, given, self._children, self._arrays)
        except Exception:
            _log.debug("A template can't be used", exc_info=True)
            cache.clear()
            return None
        obj, changes, variables, others = loaded
        for holder, name, kind, value in changes:
            if kind == _SET:
                holder.__dict__[name] = value
            else:
                list.extend(holder.__dict__[name], value)
        _note(obj, template, given)
        settle(of_variables, variables)
        for number, other in zip(template.others, others, strict=True):
            by_number(self._tokens, number).settle(other)
        return obj

    def _fits(self, template: _Template) -> bool:
        return len(self._arrays) == len(template.variables) and all(
            array.shape == each.shape and array.dtype == each.carrier
            for array, (_, each) in zip(self._arrays, template.variables, strict=True)
        )

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Watch the rebuilding of the object, if there is to be a template of it."""
        entries = cache.get(self._form), cache.get(self._exact)
        if None in entries:
            yield
            return
        if not self._children and entries == (_UNKNOWN, _UNKNOWN):
            # To make a template takes as long as to rebuild a layer, and most are loaded once.
            cache.put(self._form, _SEEN)
            yield
            return
        self._recording = _Recording(self._children)
        names_before = getattr(current, "names", None)
        current.names = self._recording.names
        try:
            yield
        finally:
            current.names = names_before

    def record(self, obj: Any, document: Mapping[str, Any], variables: Sequence[Any]) -> None:
        """Make the template of an object that has been rebuilt from a payload's JSON."""
        header, architecture = document["header"], document["config"]
        if self._recording is None:
            return
        is_possible = header.keys().isdisjoint(_WITH_EFFECTS) and is_a(
            obj, "layer", "model", "operation"
        )
        attempts: list[tuple[Any, _Given | None]] = [(self._exact, None)]
        if self._given is not None:
            attempts.insert(0, (self._form, self._given))
        for key, given in attempts if is_possible else ():
            texts: list[str] = []
            if given is not None:
                texts = [*reversed(header.get("paths", ())), architecture["config"]["name"]]
                if texts != given.texts():
                    continue
            try:
                template = self._recording.template(key, obj, variables, self._tokens, texts)
            except _NameInDoubtError as error:
                _log.debug("No template for all names of %r: %s", getattr(obj, "name", obj), error)
                continue
            except _NoTemplateError as error:
                _log.debug("No template of %r: %s", getattr(obj, "name", obj), error)
                break
            except Exception:
                _log.debug("No template of %r", getattr(obj, "name", obj), exc_info=True)
                break
            cache.put(key, template)
            _note(obj, template, given)
            return
        cache.put(self._exact, None)


# Members of a header whose restoring changes more than the object.
_WITH_EFFECTS = frozenset({"assets", "global_seed", "identity", "weak", "weak_in_parts"})


def _note(obj: Any, template: _Template, given: _Given | None) -> None:
    attributes = obj.__dict__
    witness = _witness(attributes)
    if witness is not None:
        _fresh[witness] = _Fresh(
            template.number, given, template.attributes, attributes.get("autocast")
        )


# --- the surroundings -------------------------------------------------------------------------


def _context() -> tuple[Any, ...] | None:
    """Return all that an object graph depends on beside its payload; None if that is not clear."""
    import keras
    from keras.src.backend.common import global_state
    from keras.src.saving import object_registration
    from tensorflow.python.eager import context

    if getattr(current, "reading", None) is not None or trust_policy.active() is not None:
        return None
    if not raw_variables.is_possible() or context.context().scope_name:
        return None
    settings: list[Any] = []
    for name, value in vars(global_state.GLOBAL_STATE_TRACKER).items():
        if name in _WITHOUT_CONSEQUENCE:
            continue
        if name == "dtype_policy" and type(value) is keras.dtype_policies.DTypePolicy:
            value = value.name
        if name == "tracking_on":
            if not value:
                return None
        elif value:
            if type(value) not in PLAIN:
                return None
            settings += (name, value)
    return (
        *settings,
        keras.config.floatx(),
        keras.config.epsilon(),
        keras.config.image_data_format(),
        # What a program registers under the name of a class comes before the class.
        tuple(object_registration.GLOBAL_CUSTOM_OBJECTS.items()),
    )


# Private: Keras's state of a thread that says nothing of the objects that it makes.
_WITHOUT_CONSEQUENCE = frozenset(
    {"object_name_uids", "global_seed_generator", "safe_mode_saving", "interactive_logging"}
)


# --- making a template ------------------------------------------------------------------------


class _NoTemplateError(Exception):
    """Error for an object that a template would not hold whole, or would share by mistake."""


class _NameInDoubtError(_NoTemplateError):
    """Error for a text that contains the name of the object, perhaps by chance."""


class _Recording:
    """Children of an object before it is rebuilt, and the names that are given meanwhile."""

    def __init__(self, children: Sequence[Any]) -> None:
        # Automatic names that Keras gives meanwhile, each with what it counts.
        self.names: list[tuple[str, str]] = []
        self._reached = _reached(children)
        self._before = [(each, _contents(each)) for each, _ in self._reached.values()]

    def template(
        self,
        key: tuple[Any, ...],
        obj: Any,
        variables: Sequence[Any],
        tokens: Sequence[Any],
        texts: Sequence[str],
    ) -> _Template:
        """Return the template of `obj`, which has these `variables` in the payload's order.

        With positions for the `texts`, see `_Given.texts`, which are not in the `key`.

        Raises
        ------
        _NoTemplateError
            If the object can't have one.
        """
        others = {i: token.obj for i, token in enumerate(tokens) if token.obj is not None}
        text = f"{key[0]}{key[1] or ''}"
        pickler = _Pickler(text, self.names, texts, self._reached, variables)
        changes = self._changes()
        pickler.dump((obj, changes, tuple(variables), tuple(others.values())))
        return pickler.template(tuple(others), len(vars(obj)))

    def _changes(self) -> list[tuple[Any, str, int, Any]]:
        """Return the changes in the children: holder, attribute, kind, and value."""
        changes: list[tuple[Any, str, int, Any]] = []
        grown: dict[int, list[Any]] = {}
        for each, before in self._before:
            now = _contents(each)
            plain = _plain_class(each)
            if plain is list and len(now) > len(before):
                grown[id(each)] = now[len(before) :]
                now = now[: len(before)]
            if plain is not None and not _is_same(before, now):
                raise _NoTemplateError(f"a {type(each).__qualname__} of a child has changed")
        for each, before in self._before:
            if _plain_class(each) is not None:
                continue
            if not before.keys() <= vars(each).keys():
                raise _NoTemplateError("a child has lost an attribute")
            for name, value in vars(each).items():
                is_same = name in before and before[name] is value
                if is_same and id(value) in grown:
                    changes.append((each, name, _EXTEND, grown.pop(id(value))))
                elif not is_same and not _is_equal(before.get(name, _UNKNOWN), value):
                    changes.append((each, name, _SET, value))
        if grown:
            raise _NoTemplateError("a list below an attribute of a child has changed")
        return changes


_SET, _EXTEND = 0, 1


def _contents(value: Any) -> Any:
    """Return a copy of a container, or of the attributes of an object."""
    plain = _plain_class(value)
    return dict(vars(value)) if plain is None else plain(value)


def _plain_class(value: Any) -> Any:
    """Return the built-in class of a container; None for other objects.

    TensorFlow's wrappers of lists and dictionaries are objects, whose content is an attribute.
    """
    cls = type(value)
    is_wrapper = cls in _wrapper_classes()
    return (
        None if is_wrapper else next((each for each in _CONTAINERS if issubclass(cls, each)), None)
    )


def _is_equal(one: Any, other: Any) -> bool:
    return type(one) in PLAIN and type(one) is type(other) and one == other


def _is_same(before: Any, now: Any) -> bool:
    if isinstance(now, set):
        return bool(before == now)
    if isinstance(now, dict):
        before, now = [*before, *before.values()], [*now, *now.values()]
    return len(before) == len(now) and all(map(operator.is_, before, now))


def _reached(children: Sequence[Any]) -> dict[int, tuple[Any, _Accessor]]:
    """Return all objects below the children that may change, by id, with how to get there."""
    reached: dict[int, tuple[Any, _Accessor]] = {}
    waiting: collections.deque[tuple[Any, _Accessor]] = collections.deque(
        (child, (number, ())) for number, child in enumerate(children)
    )
    seen = set()
    while waiting:
        value, (number, steps) = waiting.popleft()
        if type(value) in PLAIN or id(value) in seen:
            continue
        seen.add(id(value))
        cls = type(value)
        plain = tuple if issubclass(cls, tuple) else _plain_class(value)
        inner: Iterable[tuple[bool, Any, Any]] = ()
        if plain is dict:
            inner = [(False, key, item) for key, item in value.items()]
        elif plain in (list, tuple):
            inner = [(False, key, item) for key, item in enumerate(value)]
        elif plain is None:
            if cls not in _wrapper_classes() and not (
                is_built_in(cls) and hasattr(value, "__dict__")
            ):
                continue
            inner = [(True, key, item) for key, item in vars(value).items()]
        if plain is not tuple:
            reached[id(value)] = value, (number, steps)
        for is_attribute, key, item in inner:
            if type(item) not in PLAIN:
                waiting.append((item, (number, (*steps, (is_attribute, key)))))
    return reached


class _Reference:
    """A value that is written in place of the id of an object, or of a key of one of its calls."""

    def __init__(self, target: Any, call: int | None = None) -> None:
        self.target, self.call = target, call


class _Pickler(pickle.Pickler):
    """Pickler of an object graph, with positions in a list in place of references.

    Parameters
    ----------
    text : str
        That of the payload.
    names : sequence of (str, str)
        Automatic names that were given during the rebuilding, each with what it counts.
    given : sequence of str
        Texts of the payload that are not in `text`: paths of variables, and a name.
    reached : mapping
        Objects that were there before, see `_reached`.
    variables : sequence
        Variables of the payload.
    """

    def __init__(
        self,
        text: str,
        names: Sequence[tuple[str, str]],
        given: Sequence[str],
        reached: Mapping[int, tuple[Any, _Accessor]],
        variables: Sequence[Any],
    ) -> None:
        self._file = io.BytesIO()
        super().__init__(self._file, 5)
        self._text, self._names, self._reached = text, names, reached
        self._constants: list[Any] = []
        self._positions: dict[int, int] = {}
        self._name_ids = {id(name): number for number, (_, name) in enumerate(names)}
        # Counted from the end, where they are added.
        self._name_ids |= {id(each): number - len(given) for number, each in enumerate(given)}
        self._given_name, self._given_paths = (given[-1] if given else ""), given[-2::-1]
        if self._given_name and re.search(f'"{re.escape(self._given_name)}["/]', text):
            raise _NameInDoubtError("it is in other places of its payload")
        self._given_path_of = {
            id(variable): path for variable, path in zip(variables, self._given_paths, strict=False)
        }
        # Automatic names of before: the object may not have them for its own.
        self._without_names: set[str] = set()
        self._earlier = {
            each.name for each, _ in reached.values() if is_a(each, "tensor", "seed_generator")
        }
        self._name_numbers = {name: number for number, (_, name) in enumerate(names)}
        # What a text must contain to contain one of all these names.
        stems = {prefix for prefix, _ in names} | {_NUMBER.sub("", name) for name in self._earlier}
        stems |= {self._given_name} - {""}
        self._suspects = re.compile("|".join(map(re.escape, stems)) or "(?!)")
        self._texts: dict[int, tuple[str | int, ...]] = {}
        self._externals: dict[int, _Accessor] = {}
        self._policies: list[int] = []
        self._key_positions: dict[int, int] = {}
        self._globals: set[int] = set()
        # Objects by id, of which ids may occur.
        self._identified = {id(each): each for each, _ in reached.values()}
        self._values: dict[int, tuple[int, _Variable]] = {}
        self._keyed = {
            vars(each._value).get("_unique_id"): each
            for each, _ in reached.values()
            if is_a(each, "variable")
        }
        for variable in variables:
            self._identified[id(variable)] = variable
            value = _value_of(variable)
            self._keyed[value._unique_id] = value
            position = self._position(value)
            self._constants[position] = None
            self._values[position] = (position, self._specification(variable, value))
        import keras
        import tensorflow as tf

        self._policy = keras.config.dtype_policy()
        self._strategy = tf.distribute.get_strategy()

    def template(self, others: tuple[int, ...], attributes: int) -> _Template:
        """Return the template, once the object has been dumped."""
        return _Template(
            self._file.getvalue(),
            tuple(self._constants),
            tuple(prefix for prefix, _ in self._names),
            tuple(self._texts.items()),
            tuple(self._values.values()),
            tuple(self._externals.items()),
            tuple(self._policies),
            tuple(self._key_positions.items()),
            others,
            attributes,
            next(_numbers),
        )

    def _position(self, value: Any) -> int:
        """Return the position of a value, with a new one unless it has one."""
        if id(value) not in self._positions:
            self._positions[id(value)] = len(self._constants)
            self._constants.append(value)
        return self._positions[id(value)]

    def persistent_id(self, obj: Any) -> int | None:
        """Return the position of an object that is not copied."""
        cls = type(obj)
        if cls is str:
            return self._position_of_name(obj)
        if cls is int and abs(obj) > _LARGEST:
            raise _NoTemplateError(f"{obj} may be the id of an object")
        if cls in PLAIN or cls is _Reference:
            return None
        position = self._positions.get(id(obj))
        if position is not None:
            return position
        if id(obj) in self._reached:
            position = self._position(obj)
            self._constants[position] = None
            self._externals[position] = self._reached[id(obj)][1]
            return position
        if obj is self._policy:
            position = self._position(obj)
            self._constants[position] = None
            self._policies.append(position)
            return position
        if cls in _PICKLED_AS_IS and id(obj) not in self._globals:
            return None
        if id(obj) in self._globals or obj is self._strategy or _is_constant(obj):
            return self._position(obj)
        return None

    def _position_of_name(self, text: str) -> int | None:
        if id(text) in self._globals:
            return self._position(text)
        if text in self._keyed:
            return self._position_of_key(text)
        number = self._name_ids.get(id(text))
        parts: tuple[str | int, ...] = () if number is None else (number,)
        if number is None:
            if text in self._without_names or self._suspects.search(text) is None:
                self._without_names.add(text)
                return None
            if text not in self._text:
                if text in self._earlier:
                    raise _NoTemplateError(f"{text!r} may be the name of a part")
                parts = self._parts(text)
        if all(type(part) is str for part in parts):
            return None
        position = self._position(text)
        self._constants[position] = None
        self._texts[position] = parts
        return position

    def _parts(self, path: str) -> tuple[str | int, ...]:
        """Return the names in a path of scopes, numbers for automatic ones."""
        parts: list[str | int] = []
        for place, name in enumerate(path.split("/")):
            number = self._name_numbers.get(name)
            if self._given_name and self._given_name in name:
                # The scope of a layer, or something that happens to be called like it.
                if place or "/" not in path or name != self._given_name:
                    raise _NameInDoubtError(f"it is in {path!r}")
                parts.append(-1)
                continue
            if number is None:
                if any(each in name for each in self._name_numbers if each[-1:].isdecimal()):
                    raise _NoTemplateError(f"{path!r} may contain an automatic name")
                parts.append(name)
                continue
            if f'"name":"{name}"' in self._text:
                raise _NoTemplateError(f"{name!r} in {path!r} may have been given by the payload")
            parts.append(number)
        return tuple(parts)

    def _position_of_key(self, text: str) -> int:
        position = self._positions.get(id(text))
        if position is None:
            variable = self.persistent_id(self._keyed[text])
            assert variable is not None
            position = self._position(text)
            self._constants[position] = None
            self._key_positions[position] = variable
        return position

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is copied."""
        cls = type(obj)
        if cls is _Reference:
            if obj.call is not None:
                return _make_node_key(), (obj.target, obj.call)
            return id, (obj.target,)
        if cls is types.FunctionType:
            return self._function(obj)
        if cls is types.MethodType:
            function = obj.__func__
            if any(
                function is each
                for cls in type(obj.__self__).__mro__
                for each in vars(cls).values()
            ):
                self._globals.add(id(function))
            return types.MethodType, (function, obj.__self__)
        if cls is types.CellType:
            return types.CellType, (obj.cell_contents,)
        if cls in _tracked_classes():
            return self._tracked(obj)
        if cls in _wrapper_classes():
            return self._wrapper(obj)
        if cls is _sentinel_class():
            return _sentinel(obj)
        if not is_built_in(cls):
            if cls in _copied_classes():
                return NotImplemented
            raise _NoTemplateError(f"it has a {cls.__module__}.{cls.__qualname__}")
        if issubclass(cls, tuple):
            return NotImplemented
        if issubclass(cls, _CONTAINERS) or hasattr(cls, "__setstate__") or _has_slots(cls):
            raise _NoTemplateError(f"it has a {cls.__module__}.{cls.__qualname__}")
        if hasattr(cls, "__getattr__"):  # Pickle would ask it for a method.
            return object.__new__, (cls,), self._state(obj), None, None, _set_attributes
        return object.__new__, (cls,), self._state(obj)

    def _function(self, function: types.FunctionType) -> Any:
        if root_module(function) not in _ROOTS:
            raise _NoTemplateError(f"it has the function {function.__qualname__}")
        self._globals.add(id(function.__globals__))
        arguments = (
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        # Texts of the code, which may contain the name of a layer.
        for text in (function.__doc__, function.__module__, function.__name__):
            self._globals.add(id(text))
        plain = types.FunctionType(*arguments)
        slots = {
            name: getattr(function, name)
            for name in ("__qualname__", "__doc__", "__module__", "__kwdefaults__")
            if getattr(function, name) != getattr(plain, name)
        }
        annotations = function.__annotations__
        # A wrapper has those of the function inside, which is a class's.
        inner = vars(function).get("__wrapped__")
        is_shared = getattr(inner, "__annotations__", None) is annotations
        if is_shared:
            self._globals.add(id(annotations))
        if annotations or is_shared:
            slots["__annotations__"] = annotations
        attributes = dict(vars(function)) or None
        if not slots and attributes is None:
            used = arguments if function.__closure__ else arguments[: 4 if arguments[3] else 3]
            return types.FunctionType, used
        return types.FunctionType, arguments, (attributes, slots)

    def _tracked(self, container: Any) -> Any:
        if vars(container).keys() != {"tracker"}:
            raise _NoTemplateError("a list or dictionary has attributes")
        plain = next(cls for cls in _CONTAINERS if isinstance(container, cls))
        content = self._identifying(plain(container))
        return _tracked, (type(container), plain, container.tracker, content)

    def _wrapper(self, wrapper: Any) -> Any:
        cls, attributes = type(wrapper), dict(vars(wrapper))
        if issubclass(cls, list):
            return list.__new__, (cls,), attributes
        # A proxy of a dictionary, the documentation of which it has as its own.
        attributes.pop("__doc__", None)
        return _wrapped, (cls, wrapper.__wrapped__), attributes, None, None, _set_attributes

    def _state(self, obj: Any) -> dict[str, Any]:
        attributes = dict(vars(obj))
        if type(obj) is _tracker_class():
            for _, store in attributes["config"].values():
                self._identified.update((id(part), part) for part in store)
        for part in attributes.get("_operations") or ():
            self._identified[id(part)] = part
        path = self._given_path_of.get(id(obj))
        if path is not None:
            if attributes["_path"] != path:
                raise _NoTemplateError("a variable has another path than its payload says")
            attributes["_path"] = path
        return {name: self._identifying(value) for name, value in attributes.items()}

    def _identifying(self, value: Any) -> Any:
        """Return a plain dictionary or set with references in place of ids of objects."""
        cls = type(value)
        if cls is set:
            references = set(map(self._as_reference, value))
            if references != value:
                return references
        elif cls is dict:
            items = [
                (self._as_reference(key), self._identifying(item)) for key, item in value.items()
            ]
            if any(
                key is not old or item is not before
                for (key, item), (old, before) in zip(items, value.items(), strict=True)
            ):
                return dict(items)
        return value

    def _as_reference(self, value: Any) -> Any:
        if type(value) is str and (match := _NODE_KEY.fullmatch(value)):
            operation = self._identified.get(int(match[1]))
            if operation is None:
                raise _NoTemplateError(f"{value!r} may contain the id of an object")
            return _Reference(operation, int(match[2]))
        if type(value) is not int or value <= _LARGEST:
            return value
        if value not in self._identified:
            raise _NoTemplateError(f"{value} may be the id of an object")
        return _Reference(self._identified[value])

    def _specification(self, variable: Any, value: Any) -> _Variable:
        import numpy as np

        return _Variable(
            self._parts(value._handle_name.removesuffix(":0")),
            tuple(variable._shape),
            np.dtype(array_backends.carrier(variable._dtype)),
            variable._dtype,
            value.dtype,
            {
                "trainable": value.trainable,
                "aggregation": value.aggregation,
                "synchronization": value.synchronization,
            },
            value._variable_read,
        )


_LARGEST = 2**32
_NUMBER = re.compile("_[0-9]+$")
_ROOTS = ("keras", "tensorflow")
# Private: how a functional model calls the calls of its operations, by their ids.
_NODE_KEY = re.compile("([0-9]+)_ib-([0-9]+)")


@functools.cache
def _make_node_key() -> Any:
    from keras.src.ops.function import make_node_key

    return make_node_key


_CONTAINERS = (list, dict, set)
_PICKLED_AS_IS = frozenset({list, dict, set, tuple, frozenset})


@functools.cache
def _copied_classes() -> frozenset[type]:
    """Return the classes of other libraries, the objects of which pickle copies."""
    from tensorflow.python.trackable.base import TrackableReference

    named = (collections.defaultdict, collections.OrderedDict, functools.partial)
    return frozenset({*named, TrackableReference})


@functools.cache
def _tracked_classes() -> frozenset[type]:
    from keras.src.utils import tracking

    return frozenset({tracking.TrackedList, tracking.TrackedDict, tracking.TrackedSet})


@functools.cache
def _tracker_class() -> type:
    from keras.src.utils import tracking

    cls: type = tracking.Tracker
    return cls


def _tracked(cls: type, plain: Any, tracker: Any, content: Any) -> Any:
    """Return a container that Keras tracks, past its constructor, which would track the content."""
    container = plain.__new__(cls)
    plain.__init__(container, content)
    container.tracker = tracker
    return container


@functools.cache
def _wrapper_classes() -> tuple[type, ...]:
    """Return TensorFlow's wrappers of lists and dictionaries, which Keras does not track."""
    from tensorflow.python.trackable import data_structures

    return data_structures.ListWrapper, data_structures._DictWrapper


@functools.cache
def _sentinel_class() -> type:
    from tensorflow.python.trackable import layer_utils

    cls: type = layer_utils.AttributeSentinel
    return cls


def _sentinel(sentinel: Any) -> Any:
    """Return how the part of such a wrapper that notices changes is copied: by its constructor."""
    if sentinel._parents or any(each.in_cached_state for each in sentinel.attributes.values()):
        raise _NoTemplateError("a list or dictionary of TensorFlow has been looked at")
    return _sentinel_class(), (sentinel.always_propagate,)


def _wrapped(cls: Any, content: Any) -> Any:
    """Return a wrapper of a dictionary, past its constructor."""
    wrapper = cls.__new__(cls)
    cls.__mro__[_proxy_place(cls)].__init__(wrapper, content)
    return wrapper


@functools.cache
def _proxy_place(cls: Any) -> int:
    return next(i for i, base in enumerate(cls.__mro__) if base.__name__ == "ObjectProxy")


def _set_attributes(obj: Any, attributes: dict[str, Any]) -> None:
    vars(obj).update(attributes)


def _has_slots(cls: type) -> bool:
    return any(vars(base).get("__slots__") for base in cls.__mro__)


def _value_of(variable: Any) -> Any:
    """Return the variable of TensorFlow behind one of Keras, which `raw_variables` can make."""
    import keras

    value = getattr(variable, "_value", None)
    if type(variable) is not keras.Variable or not raw_variables.is_like(value):
        raise _NoTemplateError("it has a variable of another kind")
    return value


def _is_constant(value: Any) -> bool:
    """Return whether clones may share `value`, since it never changes."""
    if isinstance(value, type):
        return True
    if isinstance(value, types.FunctionType):
        return value in (_tracked, _wrapped, _set_attributes) or _is_importable(value)
    if isinstance(value, types.BuiltinFunctionType):
        return isinstance(value.__self__, (type, types.ModuleType, type(None)))
    return isinstance(value, _constant_classes())


@functools.cache
def _constant_classes() -> tuple[type, ...]:
    import numpy as np
    import tensorflow as tf

    named = (types.ModuleType, types.CodeType, inspect.Signature, enum.Enum, re.Pattern)
    return (*named, np.dtype, tf.DType, tf.TensorShape)


def _is_importable(function: types.FunctionType) -> bool:
    """Return whether a function of Keras or TensorFlow is found in its module by its name."""
    if root_module(function) not in _ROOTS:
        return False
    value: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        value = getattr(value, name, None)
    return value is function


# --- using it ---------------------------------------------------------------------------------


def _loaded(
    template: _Template, given: _Given | None, children: Sequence[Any], arrays: Sequence[Any]
) -> Any:
    """Return the content of a template, with the arrays for its variables."""
    import keras

    # Private: what gives automatic names.
    from keras.src.utils import naming

    values = list(template.constants)
    names = [naming.uniquify(prefix) for prefix in template.prefixes]
    if given is not None:
        names += given.texts()
    for position, parts in template.texts:
        values[position] = _path(parts, names)
    make_variable = raw_variables.Maker()
    for array, (position, each) in zip(arrays, template.variables, strict=True):
        values[position] = make_variable(
            _path(each.name, names),
            each.shape,
            each.tensorflow_dtype,
            array_backends.as_tensor(array, each.dtype),
            **each.options,
        )
        if each.is_read:
            values[position]._variable_read = True
    for position, (number, steps) in template.externals:
        value = children[number]
        for is_attribute, key in steps:
            value = value.__dict__[key] if is_attribute else value[key]
        values[position] = value
    for position in template.policies:
        values[position] = keras.config.dtype_policy()
    for position, variable in template.keys:
        value = values[variable]
        values[position] = vars(value).get("_value", value)._unique_id
    unpickler = pickle.Unpickler(io.BytesIO(template.content))
    unpickler.persistent_load = values.__getitem__  # type: ignore[method-assign]
    return unpickler.load()


def _path(parts: tuple[str | int, ...], names: Sequence[str]) -> str:
    return "/".join([part if isinstance(part, str) else names[part] for part in parts])
