"""Keras objects in files of `skops.io`: their payloads, without any code.

skops reduces objects to their attributes without a memo, so the cycles of a model exhaust its
recursion limit. Here a Keras object is written once, as its payload: JSON, arrays as members of the
file, and the state that a pickler would set. Further references to it are references in the file.
The nodes that read this are in `skops_nodes`.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import closures, custom_objects, families, identities, reducers, weak_references
from ..audit import trust_policy
from ..core.context import one_call
from ..errors import ReduceError
from ..trusted.config_checks import named_globals

__all__ = ["repairs"]


def repairs() -> Iterable[tuple[Any, str, Callable[[Any], Any]]]:
    """Return the patches of skops: module, name, and a function from the old to the new value."""
    utils: Any = sys.modules["skops.io._utils"]
    # Private: the function that skops calls for each object that it writes.
    return [(utils, "_get_state", lambda original: _writing(original, utils.get_state))]


# The format of the nodes. A reader refuses a later one.
VERSION = 1
# The names of the nodes. skops names one in its error where it is not registered.
KERAS, OBJECT, METHOD, TOKEN, WEAK, ATTRIBUTES, ARRAY = (
    f"{name}Node of keras_reduce.install()"
    for name in ("Keras", "Object", "Method", "Token", "Weak", "Attributes", "Array")
)
# Of skops: a reference to a node that has been written before.
_REFERENCE = "CachedNode"
_CODE = (custom_objects.ByValue, custom_objects.LateCode, closures.Closure)
# skops's memo has objects by id; this key has what is known of the file.
_WRITTEN = "keras_reduce"

State = dict[str, Any]


def is_plain_object(path: str) -> bool:
    """Return whether a path names a class of an estimator, or of a part of one, here or in Keras.

    Its objects are created without its constructor, and then get their attributes.
    """
    return path in trust_policy.CONSTRUCTORS and path.startswith(("keras.", "keras_reduce."))


class _Written:
    """Ids of the objects that a file has, and the number of our nodes that are being written."""

    def __init__(self) -> None:
        self.ids: set[int] = set()
        self.depth = 0


def _require_a_name(obj: Any) -> None:
    """Refuse what skops would write under the name of something else.

    It writes functions and classes without the class that they are in, and the keys of a dictionary
    as those of JSON.
    """
    if isinstance(obj, (types.FunctionType, type)):
        if getattr(sys.modules.get(obj.__module__), obj.__name__, obj) is not obj:
            cause = "skops looks it up by its last name, under which its module has another object"
            raise _refusal(f"{obj.__module__}.{obj.__qualname__}", cause, "rename it; or, ")
    elif isinstance(obj, dict):
        keys = [key for key in obj if isinstance(key, (str, int, float, np.generic))]
        is_changed = any(isinstance(key, (bool, np.bool_)) for key in keys)
        if is_changed or len(set(map(str, keys))) < len(keys):
            raise ReduceError(
                "skops can't carry the keys of a dictionary",
                where=f"{{{', '.join(map(repr, list(obj)[:4]))}}}",
                cause="it writes them as JSON does: False would come back as True, and of 1 and "
                "'1', one would be lost",
                cure=f"use strings, or numbers that differ; or {_OTHER_FORMATS}",
            )


def _writing(original: Callable[..., State], get_state: Callable[..., State]) -> Any:
    """Return the function that replaces skops's function for the state of an object."""

    @functools.wraps(original)
    def state_of(obj: Any, context: Any, *args: Any, **kwargs: Any) -> State:
        def child(value: Any) -> State:
            written.depth += 1
            try:
                return get_state(value, context)
            finally:
                written.depth -= 1

        written = context.memo.setdefault(_WRITTEN, _Written())
        if written.depth:
            _require_a_name(obj)
        if written.depth and _has_added_dtype(obj):
            return _array(obj, child)
        # Parts take their arrays from the snapshot of the whole, in all calls for one file.
        with one_call(get_state.__code__, id(written)):
            state = _state(obj, child, written.ids)
        return original(obj, context, *args, **kwargs) if state is None else state

    return state_of


def _state(obj: Any, child: Callable[[Any], State], written: set[int]) -> State | None:
    """Return the state of a Keras object or of a part of a payload; None for other objects.

    Parameters
    ----------
    obj : object
        The object.
    child : callable
        Returns the state of any object.
    written : set of int
        Ids of the Keras objects and estimators of the file that have been written, or begun.

    Raises
    ------
    ReduceError
        If it can't be carried.
    """
    if isinstance(obj, custom_objects.ByValue) and not _is_code(obj.referent):
        return child(obj.referent)  # Such as a `functools.partial` of an importable function.
    if isinstance(obj, _CODE):
        raise _refusal_of_code(obj)
    if isinstance(obj, types.MethodType) and families.of(obj.__self__) is not None:
        owner = obj.__self__
        return _node(METHOD, type(owner), owner=child(owner), method=obj.__name__)
    if isinstance(obj, identities.Identity):
        return _node(TOKEN, type(obj))
    if isinstance(obj, weak_references.WeakAttribute):
        _, (outline,) = obj.__reduce__()
        return _node(WEAK, type(obj), outline=child(outline))
    if isinstance(obj, reducers.PartAttributes):
        parts = {"owner": obj.owner, "attributes": obj.attributes, "value": obj.value}
        return _node(ATTRIBUTES, type(obj), **{name: child(part) for name, part in parts.items()})
    is_keras = families.of(obj) is not None
    if not (is_keras or is_plain_object(f"{type(obj).__module__}.{type(obj).__qualname__}")):
        return None
    if id(obj) in written:
        return _node(_REFERENCE, type(obj))
    if not is_keras:
        written.add(id(obj))
        attributes = {name: child(value) for name, value in obj.__getstate__().items()}
        return _node(OBJECT, type(obj), attributes=attributes)
    rebuild, *reduced = obj.__reduce__()
    if rebuild not in reducers.REBUILDERS.values():
        return None  # A user-defined class says itself how it is pickled.
    written.add(id(obj))
    return _payload(rebuild, child, *reduced)


def _payload(
    rebuild: Callable[..., Any],
    child: Callable[[Any], State],
    arguments: tuple[Any, ...],
    state: State | None = None,
    snapshot: Iterable[Any] | None = None,
) -> State:
    """Return the node of a reduce value."""
    padded: tuple[Any, ...] = (*arguments, *[None] * 9)
    json, arrays, compile_config, custom, objects, _, *tokens = padded[:9]
    of_variables, of_others, of_targets = (each or () for each in tokens)
    references, by_value = custom or ((), ())
    for each in named_globals(json, compile_config, custom):
        if each.reason:
            raise _refusal(each.path, f"no list of trusted types can allow it: {each.reason}")
    # The order is that of reading: the state may refer to the object.
    node = _node(
        KERAS,
        rebuild,
        version=VERSION,
        json=json,
        compile_config=compile_config,
        custom_objects=[list(reference) for reference in references],
        code=[child(each) for each in by_value],
        arrays=[child(np.asarray(array)) for array in arrays],
        objects=[child(each) for each in objects or ()],
        of_variables=[None if each is None else child(each) for each in of_variables],
        of_others=[child(each) for each in of_others],
        of_targets=[[path, child(each)] for path, each in of_targets],
    )
    node["state"] = {name: child(value) for name, value in (state or {}).items()}
    for _ in snapshot or ():  # It ends by being iterated, as a pickler does.
        pass
    return node


def _has_added_dtype(obj: Any) -> bool:
    """Return whether an array or a scalar has a dtype of another package, such as bfloat16.

    skops writes arrays with `numpy.save`, which writes such a dtype as one of raw bytes.
    """
    return isinstance(obj, (np.ndarray, np.generic)) and (
        obj.dtype.isbuiltin == 2 or any(field[0].isbuiltin == 2 for field in _fields(obj.dtype))
    )


def _fields(dtype: Any) -> Iterable[Any]:
    return dtype.fields.values() if dtype.fields else ()


def _array(obj: Any, child: Callable[[Any], State]) -> State:
    """Return the node of an array or a scalar with a dtype of another package."""
    if obj.dtype.fields or type(obj) not in (np.ndarray, obj.dtype.type):
        raise ReduceError(
            "skops can't carry an array",
            where=f"{type(obj).__name__} of {obj.dtype}",
            cause="it would come back as one of raw bytes",
            cure=f"use a plain array of one dtype; or {_OTHER_FORMATS}",
        )
    bits = np.asarray(obj).view(f"u{obj.dtype.itemsize}")
    return _node(ARRAY, type(obj), dtype=obj.dtype.name, bits=child(bits))


def _is_code(obj: Any) -> bool:
    """Return whether `obj` is, or holds, a function or class that a reader can't import."""
    is_definition = isinstance(obj, (types.FunctionType, type))
    return is_definition or not custom_objects.is_importable(type(obj)) or _has_code(obj)


def _has_code(obj: Any) -> bool:
    if isinstance(obj, functools.partial):
        return any(map(custom_objects.has_foreign_code, (obj.func, *obj.args, obj.keywords)))
    return custom_objects.has_foreign_code(vars(obj)) if hasattr(obj, "__dict__") else False


def _node(loader: str, cls: Any, **content: Any) -> State:
    """Return a node for an object of a class, or of a rebuilder."""
    names = {"__class__": cls.__qualname__, "__module__": cls.__module__, "__loader__": loader}
    return {**names, **content}


def _refusal_of_code(reducer: Any) -> ReduceError:
    referent = getattr(reducer, "referent", None)
    name = getattr(referent, "__qualname__", type(referent).__qualname__)
    module = getattr(referent, "__module__", "")
    where = f"{module}.{name}" if referent is not None else reducer.name
    return _refusal(where, _BY_VALUE, _CURE_OF_CODE)


_BY_VALUE = (
    "a reader can't import it, so that it must be pickled by value, and files of skops hold no code"
)
_CURE_OF_CODE = "move it into a module that readers can import; or, "


def _refusal(name: str, cause: str, cure: str = "") -> ReduceError:
    return ReduceError(
        "skops can't carry this code",
        where=name,
        cause=cause,
        cure=f"{cure}{_OTHER_FORMATS}",
    )


_OTHER_FORMATS = (
    "if you trust all who can write the file, use another format: keras_reduce.dump(obj, path), or "
    'in MLflow log_model(..., serialization_format="cloudpickle")'
)
