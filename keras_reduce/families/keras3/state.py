"""The attributes that pickle shall put back by itself once an object stands.

They may refer to the object, as a `History` does to its model: pickle has memoized it by then.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Iterator
from typing import Any

from ...callables import root_module
from ...errors import ReduceError
from .. import _code
from .._nests import is_data, leaves, unwrapped
from .attributes import describes_itself, is_built_in, is_part, own_attributes
from .kinds import has_config, is_a, is_saveable
from .tree import functional_class


def state(obj: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the attributes of an object that training or the user has set.

    Returns
    -------
    dict, dict
        What pickle puts into ``__dict__``; and attributes with parts in them that Keras tracks, and
        an optimizer may train, so that they have to be there before.

    Raises
    ------
    ReduceError
        If a callback is in the middle of something that no other process can go on with, or the
        object has attributes in slots.
    """
    _refuse_slots(obj)
    if is_a(obj, "callback"):
        return _callback_state(obj), {}
    if travels_by_attributes(obj):
        return dict(vars(obj)), {}
    found = {}
    if is_a(obj, "model"):
        names = ("history", "stop_training")
        found = {name: vars(obj)[name] for name in names if name in vars(obj)}
    tracked: dict[str, Any] = {}
    if is_a(obj, "layer") and not obj.autocast:
        found["autocast"] = False  # A built-in class's config has no place for it.
    if has_config(obj) and describes_itself(obj):
        for name, value in set_by_the_user(obj):
            # Or they are where a module of Torch's keeps what is set on it.
            is_tracked = any(map(is_part, leaves(value))) or name not in vars(obj)
            (tracked if is_tracked else found)[name] = unwrapped(value)
    return found, tracked


def _refuse_slots(obj: Any) -> None:
    cls = type(obj)
    if cls not in _slots:
        members = {name: member for base in cls.__mro__ for name, member in vars(base).items()}
        kind = types.MemberDescriptorType
        _slots[cls] = [name for name, member in members.items() if isinstance(member, kind)]
    for name in _slots[cls]:
        if hasattr(obj, name):
            raise ReduceError(
                f"{cls.__qualname__} keeps attributes in __slots__, which are not carried",
                where=f".{name}",
                cause="Keras objects have a __dict__ in any case",
                cure="remove __slots__ from the class",
            )


_slots: weakref.WeakKeyDictionary[type, list[str]] = weakref.WeakKeyDictionary()


def owner(obj: Any) -> Any:
    """Return the object that code in the attributes of `obj` may refer to: a callback's model."""
    # A callback whose constructor calls no super().__init__() has none before it is used.
    return getattr(obj, "model", None) or obj if is_a(obj, "callback") else obj


def travels_by_attributes(obj: Any) -> bool:
    """Tell whether `obj` is carried as its class and its attributes, without a config.

    Callbacks have no config. Nor have initializers, schedules and the like whose class inherits
    ``get_config()`` from Keras's abstract ones.
    """
    # A seed generator holds a module, which no pickler takes.
    rules = has_config(obj) and not is_saveable(obj) and not is_a(obj, "seed_generator")
    return is_a(obj, "callback") or (rules and not describes_itself(obj))


def set_by_the_user(obj: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is not the constructor's to make again.

    That is, for one, what no code of its class sets: somebody has set it from outside. A class of
    the user's that has a config is taken at its word, but what it has set may have changed since:
    plain data are carried as they are now.
    """
    set_by_keras, set_by_user = _set_by_code(type(obj))
    for name, value in own_attributes(obj).items():
        if is_a(obj, "optimizer") and name == "build":
            continue  # What a lone optimizer that has travelled waits for; see `optimizers`.
        if name not in set_by_keras and (name not in set_by_user or is_data(value, _is_tensor)):
            yield name, value


_known: weakref.WeakKeyDictionary[type, tuple[set[str], set[str]]] = weakref.WeakKeyDictionary()


def _set_by_code(cls: type) -> tuple[set[str], set[str]]:
    """Return what the code of Keras's own classes sets, and that of the user's, below `cls`."""
    if cls not in _known:
        _known[cls] = _look_through(cls)
    return _known[cls]


def _look_through(cls: type) -> tuple[set[str], set[str]]:
    import keras

    by_keras: set[str] = set()
    by_user: set[str] = set()
    # What the constructors of these set, `own_attributes` knows; their methods also replace, for a
    # while, attributes that only classes below them have.
    general = {*keras.Model.__mro__, keras.Sequential, functional_class()}
    for base in cls.__mro__[:-1]:
        if base in general:
            continue
        names = by_keras if is_built_in(base) or root_module(base) in _FRAMEWORKS else by_user
        names |= _code.set_by(base)
    return by_keras, by_user


_FRAMEWORKS = ("tensorflow", "torch", "flax", "jax", "jaxlib")


def _is_tensor(value: Any) -> bool:
    """Tell whether `value` is a tensor with a value, or a variable of TensorFlow's own."""
    root = str(type(value).__module__).partition(".")[0]
    return root in _FRAMEWORKS and hasattr(
        value, "__array__" if root.startswith("jax") else "numpy"
    )


def _callback_state(callback: Any) -> dict[str, Any]:
    import keras

    found = dict(vars(callback))
    if isinstance(callback, keras.callbacks.CSVLogger) and found.get("csv_file") is not None:
        if not found["csv_file"].closed:
            raise ReduceError(
                "A CSVLogger has its file open",
                where=".csv_file",
                cause="it is in the middle of training, or the training was interrupted",
                cure="wait for the end of fit(), or call its on_train_end()",
            )
        found.update(csv_file=None, writer=None)
    if isinstance(callback, keras.callbacks.TensorBoard):
        # Opened again, in a new file of the same folder, with the next thing to write.
        found.update(_writers={}, _summary_module=None, _prev_summary_state=[])
        found["_batch_trace_context"] = None
    if isinstance(callback, keras.callbacks.CallbackList) and found.get("_executor") is not None:
        found["_executor"] = None  # Threads; the next fit() starts others.
        found["_in_begin_end_block_count"] = 0
    return found
