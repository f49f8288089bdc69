"""Comparison of two graphs of objects: types, attributes, and what is one object."""

from __future__ import annotations

import enum
import inspect
import re
import types

import numpy as np
import tensorflow as tf

PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))
# What two objects that are made one after the other have in common: it never changes.
CONSTANT = (
    *PLAIN,
    type,
    types.ModuleType,
    types.CodeType,
    types.BuiltinFunctionType,
    types.GetSetDescriptorType,
    inspect.Signature,
    enum.Enum,
    re.Pattern,
    np.dtype,
    tf.DType,
    tf.TensorShape,
)
# Addresses are larger, all other numbers of a model smaller.
LARGEST = 2**32
_NODE_KEY = re.compile("[0-9]+_ib-[0-9]+")


class Comparison:
    """A walk through two graphs at once, from two objects.

    Parameters
    ----------
    one, other : object
        The objects.

    Attributes
    ----------
    differences : list of str
        Where they differ, and how.
    shared : list of (str, object)
        Objects that are in both graphs, each with its path.
    """

    def __init__(self, one, other):
        self.differences, self.shared = [], []
        self._partners, self._others, self._numbers = {}, set(), []
        self._kept = []  # so that ids stay theirs
        self._keys = {}
        self._waiting = [("", one, other)]
        while self._waiting:
            self._compare(*self._waiting.pop())
        for path, number, partner in self._numbers:
            # Configs contain ids of objects that are gone.
            is_known = number in self._partners or partner in self._others
            if is_known and self._partners.get(number) != partner:
                self.differences.append(f"{path}: ids of objects that are not partners")

    def _compare(self, path, one, other):
        if type(one) is not type(other):
            self._differ(path, f"{type(one)} against {type(other)}")
        elif type(one) in PLAIN:
            self._compare_plain(path, one, other)
        elif isinstance(one, CONSTANT):
            if one != other:
                self._differ(path, f"{one} against {other}")
        elif id(one) in self._partners or id(other) in self._others:
            if self._partners.get(id(one)) != id(other):
                self._differ(path, f"{type(one).__qualname__} is another object than elsewhere")
        else:
            if not isinstance(one, tuple):  # Of equal ones, Python may make one.
                self._partners[id(one)] = id(other)
                self._others.add(id(other))
            self._kept += (one, other)
            if one is other:
                self.shared.append((path, one))
            else:
                self._descend(path, one, other)

    def _partner_of(self, key):
        """Return the partner of an id, or of a key that contains one, in the other graph."""
        if isinstance(key, int):
            return self._partners.get(key, key)
        number, rest = key.split("_")
        return f"{self._partners.get(int(number))}_{rest}"

    def _differ(self, path, how):
        self.differences.append(f"{path or 'the object'}: {how}")

    def _compare_plain(self, path, one, other):
        if type(one) is int and one > LARGEST and other > LARGEST:
            self._numbers.append((path, one, other))
        elif self._keys.get(one, one) != other and not (one != one and other != other):
            self._differ(path, f"{one!r} against {other!r}")

    def _descend(self, path, one, other):
        cls = type(one)
        go = self._waiting.append
        if cls is _Ids:
            if set(map(self._partner_of, one.ids)) != other.ids:
                self._differ(path, "ids of objects that are not partners")
            return
        if cls is types.FunctionType:
            for name in ("__code__", "__defaults__", "__kwdefaults__", "__closure__", "__dict__"):
                go((f"{path}.{name}", getattr(one, name), getattr(other, name)))
            for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
                go((f"{path}.{name}", getattr(one, name), getattr(other, name)))
            is_of_keras = one.__module__.partition(".")[0] == "keras"
            if is_of_keras and one.__globals__ is not other.__globals__:
                self._differ(path, "other globals")
            return
        if cls is types.CellType:
            go((f"{path}.cell_contents", one.cell_contents, other.cell_contents))
            return
        if cls is types.MethodType:
            go((f"{path}.__func__", one.__func__, other.__func__))
            go((f"{path}.__self__", one.__self__, other.__self__))
            return
        if cls is np.ndarray or cls.__name__ == "EagerTensor":
            self._compare_values(path, one, other)
            return
        if cls.__module__.startswith(("weakref", "tensorflow.python.ops.lookup_ops")):
            return
        if cls.__name__ == "_DictWrapper":
            go((f"{path}.__wrapped__", one.__wrapped__, other.__wrapped__))
        elif isinstance(one, dict):
            self._compare_dictionaries(path, one, other)
        elif isinstance(one, (list, tuple)):
            if len(one) != len(other):
                self._differ(path, f"{len(one)} items against {len(other)}")
            for i, pair in enumerate(zip(one, other, strict=False)):
                go((f"{path}[{i}]", *pair))
        elif isinstance(one, (set, frozenset)):
            self._compare_sets(path, one, other)
        elif cls.__name__ == "ResourceVariable":
            self._keys[one._unique_id] = other._unique_id
            self._compare_handles(path, one, other)
        for name in getattr(cls, "__slots__", ()):
            go((f"{path}.{name}", getattr(one, name, None), getattr(other, name, None)))
        if hasattr(one, "__dict__"):
            attributes = [{**vars(each)} for each in (one, other)]
            self._compare_dictionaries(path, *attributes, sign=".")

    def _compare_dictionaries(self, path, one, other, sign=""):
        keys, others = list(one), list(other)
        if len(keys) != len(others):
            missing = [k for k in keys if k not in other] + [k for k in others if k not in one]
            self._differ(path, f"names differ: {missing}")
            return
        for key, other_key in zip(keys, others, strict=True):
            place = f".{key}" if sign else f"[{key!r:.40}]"
            # Last in, first out: the values are compared before the keys, which may be their ids.
            self._waiting.insert(0, (f"a key of {path}: {key!r:.40}", key, other_key))
            self._waiting.append((path + place, one[key], other[other_key]))

    def _compare_sets(self, path, one, other):
        plain = [sorted((x for x in each if type(x) in PLAIN), key=repr) for each in (one, other)]
        if len(one) != len(other):
            self._differ(path, f"{len(one)} members against {len(other)}")
        elif all(map(_holds_id, one)):
            self._waiting.insert(0, (f"{path} (ids)", _Ids(one), _Ids(other)))
        elif plain[0] != plain[1] or len(plain[0]) < len(one):
            self._differ(path, f"{one} against {other}")

    def _compare_handles(self, path, one, other):
        for name in ("_name", "_unique_id"):
            pair = (getattr(each._handle, name) for each in (one, other))
            self._waiting.insert(0, (f"{path}._handle.{name}", *pair))
        for each in (one, other):
            if each._handle._parent_trackable() is not each:
                self._differ(path, "the handle has another variable")
        if str(one._handle._handle_data) != str(other._handle._handle_data):
            self._differ(path, "the handles have other shapes")
        # Not by `read_value`, which notes that.
        values = [
            tf.raw_ops.ReadVariableOp(resource=v._handle, dtype=v.dtype) for v in (one, other)
        ]
        self._compare_values(path, *values)

    def _compare_values(self, path, one, other):
        if getattr(one, "dtype", None) == "resource":
            return
        arrays = [np.asarray(each) for each in (one, other)]
        if arrays[0].dtype != arrays[1].dtype or arrays[0].tobytes() != arrays[1].tobytes():
            self._differ(path, "other values")


def _holds_id(value):
    if type(value) is int:
        return value > LARGEST
    return type(value) is str and _NODE_KEY.fullmatch(value)


class _Ids:
    """A set of ids, or of keys with ids, for the time when all objects are known."""

    def __init__(self, ids):
        self.ids = ids
