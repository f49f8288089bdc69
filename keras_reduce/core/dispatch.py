"""Dispatch tables for picklers in Python, independent of entries that other libraries have made.

dill writes its functions into `pickle._Pickler.dispatch` when it is imported; TensorFlow imports
dill wherever it is installed. The picklers of joblib and of this package are subclasses of that
class: by such a table they write ``dill._dill`` into files, and pickle locks and open files.
"""

from __future__ import annotations

import copyreg
import functools
import pickle
import types
from collections.abc import Callable
from typing import Any

Save = Callable[[Any, Any], None]

# Private by its name, but joblib has built on it for years. The methods are those of the standard
# library, whatever the class's own table has by now; a test compares the two in a fresh process.
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
    """Return the dispatch table of a pickler's class with the entries of the standard library.

    Entries that the class doesn't share with `pickle._Pickler` are its own, and stay. An entry that
    another library has made there for a further type is used only for an object that can't be
    pickled without it, as the program may rely on that.
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
