"""Dispatch tables for picklers in Python, independent of entries of other libraries.

dill adds its functions to `pickle._Pickler.dispatch` when it is imported, and TensorFlow imports
dill if it is installed. The picklers of joblib and of this package are subclasses of that class:
with such a table they write ``dill._dill`` into files, and pickle locks and open files.
"""

from __future__ import annotations

import copyreg
import functools
import pickle
import types
from collections.abc import Callable
from typing import Any

Save = Callable[[Any, Any], None]

# Private by its name, but joblib has used it for years. These are the methods of the standard
# library, even if the class's own table was changed; a test compares both in a fresh process.
_Pickler: Any = pickle._Pickler

STANDARD: dict[type, Save] = {
    type(None): _Pickler.save_none,
    bool: _Pickler.save_bool,
    int: _Pickler.save_long,
    float: _Pickler.save_float,
    bytes: _Pickler.save_bytes,
    bytearray: _Pickler.save_bytearray,
    pickle.PickleBuffer: _Pickler.save_picklebuffer,
    str: _Pickler.save_str,
    tuple: _Pickler.save_tuple,
    list: _Pickler.save_list,
    dict: _Pickler.save_dict,
    set: _Pickler.save_set,
    frozenset: _Pickler.save_frozenset,
    types.FunctionType: _Pickler.save_global,
    type: _Pickler.save_type,
}


def standardized(pickler_class: type) -> dict[type, Save]:
    """Return the dispatch table of a pickler class with the entries of the standard library.

    Entries that the class doesn't share with `pickle._Pickler` are kept. An entry that another
    library has added there for a further type is used only for objects that can't be pickled
    without it, since the program may rely on it.
    """
    shared = _Pickler.dispatch
    table = dict(STANDARD)
    for kind, save in pickler_class.dispatch.items():  # type: ignore[attr-defined]
        if shared.get(kind) is not save:
            table[kind] = save
        elif kind not in STANDARD:
            table[kind] = functools.partial(_save_as_last_resort, save)
    return table


def _save_as_last_resort(save: Save, pickler: Any, obj: Any) -> None:
    """Save `obj` by its reducer, or by `save` if its reducer fails."""
    reducer = getattr(pickler, "dispatch_table", copyreg.dispatch_table).get(type(obj))
    try:
        reduced = reducer(obj) if reducer else obj.__reduce_ex__(pickler.proto)
    except Exception:
        save(pickler, obj)
        return
    if isinstance(reduced, str):
        pickler.save_global(obj, reduced)
    else:
        pickler.save_reduce(*reduced, obj=obj)
