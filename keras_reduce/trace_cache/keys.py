"""What a trace follows from: two models of one key make the same graph, but for their variables.

Tracing runs Python once and keeps what it did to tensors. So all that it has read is in the graph:
attributes of the model, of its layers, optimizer, metrics and losses, however deep, and the code
of the user's. A key holds all of it, found by a walk over whatever the model can reach. Names that
Keras numbers are left out, objects and variables are known by the order in which they are met, and
what a variable holds is not looked at: a graph takes it from outside. Where the walk meets
something of which it can't be told what tracing would make of it, there is no key.
"""

from __future__ import annotations

import dis
import enum
import functools
import re
import sys
import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..core import code_objects
from ..core.payload import PLAIN
from ..families.keras3.bookkeeping import NOT_IN_GRAPHS
from ..families.keras3.kinds import is_a, is_built_in
from ..families.keras3.tree import is_functional

if TYPE_CHECKING:
    from ..families.protocol import Kind

Role = Literal["train", "test", "predict"]


class TraceKey(NamedTuple):
    """All that a trace of a model follows from.

    Attributes
    ----------
    key : tuple
        Equal for models whose traces are the same but for their variables.
    variables : list of keras.Variable
        What stands for one another in models of the same key.
    has_own_code : bool
        Whether code that is neither Keras's nor TensorFlow's may take part.
    may_write : bool
        Whether such code may leave something behind, so that it matters how often it is run.
    """

    key: tuple[Any, ...]
    variables: list[Any]
    has_own_code: bool
    may_write: bool


def trace_key(model: Any, role: Role, *, by_name: bool = False) -> TraceKey | None:
    """Return what a trace of `model` follows from; None if that can't be told.

    Parameters
    ----------
    model : keras.Model
        On the TensorFlow backend.
    role : {"train", "test", "predict"}
        What is traced. To predict, nothing matters of how the model was compiled.
    by_name : bool, optional
        Whether arrays come by name, in dictionaries.
    """
    walk = _Walk(model, _IN_TRAINING if role == "predict" else frozenset(), by_name)
    try:
        walk.add(model)
        walk.add_surroundings()
    except (_UnclearError, RecursionError):
        return None
    return TraceKey(tuple(walk.found), walk.variables, walk.has_own_code, walk.may_write)


class _UnclearError(Exception):
    """Something may have a part in a trace that no key tells."""


# --- attributes that no graph follows from -----------------------------------------------------

# What recurrent cells make in a call and clear after it: None, where there was nothing before.
_CLEARED = frozenset({"_dropout_mask", "_recurrent_dropout_mask"})
# Of a variable: its initial value, and what it holds now.
_OF_VARIABLES = frozenset({"_initializer", "_value"})
# What only training looks at. A model inside another one is called, but never trained.
_IN_TRAINING = frozenset(
    {
        *("optimizer", "loss", "compiled", "_loss_tracker", "_compile_loss", "_compile_metrics"),
        *("_compute_loss_has_training_arg",),
    }
)
# Kinds of which one object is as good as another that is equal.
_RULES: tuple[Kind, ...] = ("policy", "initializer", "regularizer", "constraint", "schedule")
# Marks in a key; each but once, so that no value of the user's is taken for one.
_AGAIN, _VARIABLE, _OBJECT, _CODE, _CLASS, _END = (object() for _ in range(6))


class _Walk:
    def __init__(self, root: Any, left_out: frozenset[str], by_name: bool) -> None:
        self.found: list[Any] = []
        self.variables: list[Any] = []
        self._root, self._left_out, self._by_name = root, left_out, by_name
        # By id, and with the objects, so that their ids stay theirs.
        self._places: dict[int, tuple[int, Any]] = {}
        # What code of the user's reads: of objects, and of its modules.
        self._attributes_read: set[str] = set()
        self._globals_read: set[str] = set()
        self._is_held_by_keras = True
        self.has_own_code = self.may_write = False

    def add(self, value: Any) -> None:
        """Enter `value` and all that it leads to."""
        cls = type(value)
        if cls in _PLAIN:  # Most are, so first.
            if cls in _TEXTS and len(value) > _MOST_BYTES:
                raise _UnclearError
            # With the type: 1, 1.0 and True are equal; and spelled out, as 0.0 and -0.0 are.
            self.found += (cls, repr(value) if cls in _SPELLED else value)
            return
        known = self._places.get(id(value))
        if known is not None:
            self.found += (_AGAIN, known[0])
        elif isinstance(value, _CONTAINERS) and (len(value) > _MOST_ITEMS or not _is_usual(cls)):
            raise _UnclearError
        elif isinstance(value, (list, tuple)):
            self._add_items(value)
        elif isinstance(value, dict):
            self.found += (dict, len(value))
            for key, item in value.items():
                self.add(key)
                self.add(item)
        elif isinstance(value, (set, frozenset)):
            if any(type(item) not in _PLAIN for item in value):
                raise _UnclearError  # The order depends on where they are in memory.
            self._add_items(sorted(value, key=lambda item: (type(item).__name__, repr(item))))
        elif is_a(value, "variable"):
            self._add_variable(value)
        elif isinstance(value, type):
            self._add_class(value)
        elif not self._add_callable(value) and not self._add_data(value):
            self._add_object(value)

    def add_surroundings(self) -> None:
        """Enter what tracing takes from the program, and not from the model.

        Raises
        ------
        _UnclearError
            If there is a scope around it that reaches into calls, or code of the user's reads what
            this walk leaves out.
        """
        import keras
        import tensorflow as tf

        # Private: where Keras keeps its scopes (for autocasting, rematerialization, distribution);
        # where Keras, too, asks for a setting that has no public name; and what looks at each
        # operation that is traced, for debugging.
        from keras.src.backend.common import global_state
        from tensorflow.python.eager import context
        from tensorflow.python.framework.config import is_op_determinism_enabled

        scopes = vars(global_state.GLOBAL_STATE_TRACKER)
        if any(value for name, value in scopes.items() if name in _SCOPES):
            raise _UnclearError
        if tf.distribute.has_strategy() or context.context().op_callbacks:
            raise _UnclearError
        if self._attributes_read & _UNTOLD or self._globals_read & _IMPURE:
            raise _UnclearError
        for setting in (
            keras.config.dtype_policy(),
            keras.config.floatx(),
            keras.config.epsilon(),
            keras.config.image_data_format(),
            scopes.get("flash_attention"),
            is_op_determinism_enabled(),
        ):
            self.add(setting)

    def _note(self, value: Any, *marks: Any) -> None:
        self._places[id(value)] = len(self._places), value
        self.found += marks

    def _add_items(self, items: Any) -> None:
        cls = type(items)
        if hasattr(items, "_fields"):  # A named tuple.
            self._add_class(cls)
            left_out = {"name"} if is_built_in(cls) else ()
            fields = zip(items._fields, items, strict=True)
            items = tuple(item for name, item in fields if name not in left_out)
        self.found += (list if isinstance(items, list) else tuple, len(items))
        for item in items:
            self.add(item)

    def _add_variable(self, variable: Any) -> None:
        self._note(variable, _VARIABLE, type(variable))
        self.variables.append(variable)
        self._add_attributes(variable, NOT_IN_GRAPHS | _OF_VARIABLES)

    def _add_object(self, obj: Any) -> None:
        """Enter an object that is what its class and its attributes say."""
        cls = type(obj)
        if not hasattr(obj, "__dict__") or not _is_seen_through(cls) or _goes_by_names(obj):
            raise _UnclearError
        if is_built_in(cls) and is_a(obj, *_RULES):
            self.found.append(_OBJECT)  # One for two layers says no more than one for each.
        else:
            self._note(obj, _OBJECT)
        self._add_class(cls)
        is_keras = is_built_in(cls)
        left_out = NOT_IN_GRAPHS if any(map(is_built_in, cls.__mro__)) else frozenset()
        if is_a(obj, "metric"):
            left_out -= {"name"}  # By which results are known.
        elif is_a(obj, "model"):
            left_out |= self._left_out if obj is self._root else _IN_TRAINING
            self._add_names(obj)
        elif is_a(obj, "optimizer"):
            self._add_paths(obj)
        elif self._is_held_by_keras and vars(obj).get("_init_seed", 0) is None:
            left_out |= {"seed"}  # Drawn for the initial values, since none was given.
        outer, self._is_held_by_keras = self._is_held_by_keras, is_keras
        self._add_attributes(obj, left_out)
        self._is_held_by_keras = outer

    def _add_names(self, model: Any) -> None:
        """Enter the names by which a model tells inputs and outputs apart.

        One that Keras has given to a single input matters only where arrays come by name.
        """
        if is_functional(model):
            names = [tensor.name for tensor in model.inputs]
            if len(names) > 1 or self._by_name or not _NUMBERED_INPUT.fullmatch(names[0]):
                self.add(names)
            if len(model.output_names) > 1:
                self.add(list(model.output_names))

    def _add_paths(self, optimizer: Any) -> None:
        """Enter the names by which `keras.optimizers.Muon` tells variables apart."""
        patterns = vars(optimizer).get("exclude_layers")
        if patterns is not None:
            paths = [variable.path for variable in optimizer._trainable_variables]
            # By patterns of the user's, which may mean a number; and by "embedding".
            self.add(paths if patterns else [re.sub(r"_\d+(?=/)", "", path) for path in paths])

    def _add_attributes(self, obj: Any, left_out: frozenset[str]) -> None:
        attributes = dict(vars(obj))  # At once: another thread may be setting some.
        for name in sorted(attributes):
            if name not in left_out and (attributes[name] is not None or name not in _CLEARED):
                self.found.append(name)
                self.add(attributes[name])
        self.found.append(_END)
        if len(self.found) > _MOST_ITEMS:
            raise _UnclearError

    def _add_data(self, value: Any) -> bool:
        """Enter what is plain data, but not of Python's own; tell whether it is."""
        import numpy as np
        import tensorflow as tf

        if isinstance(value, np.ndarray):
            is_plain = type(value) is np.ndarray and value.dtype.kind in "biufcSU"
            if not is_plain or value.nbytes > _MOST_BYTES:
                raise _UnclearError
            self.found += (np.ndarray, value.dtype.str, value.shape, value.tobytes())
        elif isinstance(value, np.generic):
            self.found += (type(value), value.tobytes())
        elif isinstance(value, (np.dtype, tf.DType, tf.TensorShape)) or (
            isinstance(value, enum.Enum) and _is_trusted(type(value).__module__)
        ):
            self.found += (type(value), repr(value))
        elif value is tf.distribute.get_strategy():
            self.found.append(type(value))  # The one that stands for none.
        else:
            return False
        return True

    # --- code ----------------------------------------------------------------------------------

    def _add_callable(self, value: Any) -> bool:
        """Enter a function, method or module; tell whether `value` is one."""
        if isinstance(value, types.FunctionType):
            self._add_function(value)
        elif isinstance(value, types.MethodType):
            self.found.append(types.MethodType)
            self.add(value.__func__)
            self.add(value.__self__)
        elif isinstance(value, functools.partial):
            if type(value) is not functools.partial:
                raise _UnclearError
            self.found.append(functools.partial)
            self.add((value.func, value.args, value.keywords, vars(value)))
        elif isinstance(value, types.ModuleType):
            if not _is_trusted(value.__name__):
                raise _UnclearError
            self.found.append(value.__name__)
        elif isinstance(value, types.BuiltinFunctionType):
            self._add_builtin(value)
        else:
            return False
        return True

    def _add_builtin(self, value: Any) -> None:
        owner = getattr(value, "__self__", None)
        self._globals_read.add(value.__name__)
        if value in _SAFE_BUILTINS or (
            _is_trusted(getattr(value, "__module__", None) or _module(owner))
            and (owner is None or isinstance(owner, types.ModuleType))
        ):
            self.found.append(value)
        else:
            raise _UnclearError

    def _add_function(self, function: types.FunctionType) -> None:
        # Not by its own word: a decorated function has the name of what it decorates.
        is_trusted = _is_trusted(function.__globals__.get("__name__"))
        if not is_trusted:
            self.has_own_code = True
        elif self.has_own_code:
            self._globals_read.add(function.__name__)  # It may be the one that calls it.
        # Code is equal if it does the same; a function defined anew for each model has the same.
        self._note(function, _CODE, function.__code__)
        self.add(list(function.__defaults__ or ()))
        self.add(dict(function.__kwdefaults__ or {}))
        self.add(code_objects.closure(function))
        if is_trusted:
            return
        self.add({k: value for k, value in vars(function).items() if k != "__wrapped__"})
        reading = _reading(function.__code__)
        if reading is None:
            raise _UnclearError
        known = code_objects.used_globals(function)
        self.may_write |= reading.may_write and function.__name__ not in _BUILDERS
        self._attributes_read |= reading.attributes
        self._globals_read |= reading.names
        self._globals_read |= {getattr(value, "__name__", "") for value in known.values()}
        self.may_write |= any(map(_draws_a_seed, known.values()))
        for name in reading.names - known.keys():
            if getattr(_BUILTINS, name, None) not in _SAFE_BUILTINS:
                raise _UnclearError
        self.add(known)

    def _add_class(self, cls: type) -> None:
        if id(cls) in self._places:
            self.found += (_AGAIN, self._places[id(cls)][0])
            return
        if _is_trusted(cls.__module__) or cls in _SAFE_BUILTINS:
            self.found.append(cls)
            return
        if type(cls) is not type and not _is_trusted(type(cls).__module__):
            raise _UnclearError
        self.has_own_code = True
        self._note(cls, _CLASS, cls.__qualname__)
        for base in cls.__bases__:
            self._add_class(base)
        left_out = _NOT_TRACED if any(map(is_built_in, cls.__mro__)) else frozenset()
        for name, value in code_objects.members(cls).items():
            if name not in _ABOUT_CLASSES and name not in left_out:
                self.found.append(name)
                self.add(value)
        self.found.append(_END)


_PLAIN = PLAIN | {bytes, complex, type(Ellipsis)}
_SPELLED = {float, complex}
_CONTAINERS = (list, tuple, dict, set, frozenset)
_TEXTS = {str, bytes}
# What is larger is not worth being compared, or kept.
_MOST_BYTES = 1 << 20
_MOST_ITEMS = 500_000
# Private: the names of what Keras keeps of the scopes that are open in this thread.
_SCOPES = frozenset(
    {
        *("autocast_scope", "current_call_ctx", "distribution", "nnx_enabled"),
        *("remat_scope_stack", "stateless_scope", "symbolic_scope"),
    }
)
_ABOUT_CLASSES = frozenset({"__doc__", "__annotations__", "__annotate__", "__annotate_func__"})
# What Keras asks its subclasses for at other times. That a step asks for it is in no key either.
_NOT_TRACED = frozenset(
    {
        *("get_config", "from_config", "get_build_config", "build_from_config", "compile"),
        *("get_compile_config", "compile_from_config", "save_own_variables", "load_own_variables"),
        *("save_assets", "load_assets"),
    }
)
# Attributes by which trusted modules reach what is outside of the program, or differs each time.
_IMPURE = frozenset(
    {
        *("random", "default_rng", "load", "loadtxt", "fromfile", "genfromtxt", "memmap", "gfile"),
        *("__dict__", "__self__", "__globals__", "__closure__", "__code__", "__wrapped__"),
        *("__getattr__", "__getattribute__", "attrgetter", "methodcaller", "datetime64"),
        *("fromregex", "get_file", "get_uid", "init_scope", "load_data", "load_model"),
        *("load_variable", "load_weights", "scalar", "summary", "format", "format_map"),
        *("serialize", "serialize_keras_object", "deserialize"),
        *("deserialize_keras_object", "get_custom_objects", "get_registered_object"),
        *("get_registered_name", "custom_object_scope", "CustomObjectScope"),
        # What shows the names and connections that a key leaves out.
        *("path", "input", "output", "input_names", "metrics_names", "get_layer"),
    }
)
_UNTOLD = NOT_IN_GRAPHS - {"build", "quantize"} | _IN_TRAINING | _NOT_TRACED | _IMPURE
_TRUSTED = frozenset(
    {
        *("keras", "tensorflow", "numpy", "ml_dtypes", "math", "operator", "functools"),
        *("itertools", "typing", "collections", "abc", "enum", "dataclasses", "wrapt"),
        *("_operator", "_functools"),
    }
)
_BUILTINS: Any = sys.modules["builtins"]
_SAFE_BUILTINS: frozenset[Any] = frozenset(
    getattr(_BUILTINS, name)
    for name in (
        *("abs", "all", "any", "bool", "bytes", "callable", "classmethod", "complex", "dict"),
        *("divmod", "enumerate", "filter", "float", "frozenset", "int", "isinstance"),
        *("issubclass", "iter", "len", "list", "map", "max", "min", "next", "object", "pow"),
        *("property", "range", "reversed", "round", "set", "slice", "sorted"),
        *("staticmethod", "sum", "super", "tuple", "type", "zip", "NotImplemented"),
        *("Ellipsis", "Exception", "ArithmeticError", "AssertionError", "AttributeError"),
        *("IndexError", "KeyError", "LookupError", "NotImplementedError", "RuntimeError"),
        *("StopIteration", "TypeError", "ValueError", "ZeroDivisionError"),
    )
)


# What Keras calls an input that has been given no name.
_NUMBERED_INPUT = re.compile(r"(input_layer|keras_tensor)(_\d+)?")


def _goes_by_names(obj: Any) -> bool:
    """Tell whether names that the key leaves out say how `obj` computes, or what has been left."""
    import keras

    is_map = isinstance(obj, keras.dtype_policies.DTypePolicyMap)
    return is_map or any(map(vars(obj).get, ("_losses_override", "_exclude_from_weight_decay")))


def _module(owner: Any) -> str:
    return owner.__name__ if isinstance(owner, types.ModuleType) else ""


def _is_trusted(module: str | None) -> bool:
    """Tell whether code of a module does the same whenever it is traced with the same arguments."""
    name = module or ""
    return name.partition(".")[0] in _TRUSTED and not name.startswith("numpy.random")


def _is_usual(cls: type) -> bool:
    """Tell whether a container says no more than what is in it."""
    return cls in _CONTAINERS or hasattr(cls, "_fields") or _is_trusted(cls.__module__)


def _is_seen_through(cls: type) -> bool:
    """Tell whether objects of a class keep all that they are in their attributes."""
    may_be = is_built_in(cls) or not _is_trusted(cls.__module__)
    return may_be and all(map(_is_written_in_python, cls.__mro__[:-1]))


def _is_written_in_python(cls: type) -> bool:
    heap_type = 1 << 9  # Py_TPFLAGS_HEAPTYPE
    return bool(cls.__flags__ & heap_type) and not _slots(cls)


def _slots(cls: type) -> Iterable[str]:
    slots = vars(cls).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else slots
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _draws_a_seed(value: Any) -> bool:
    """Tell whether to call `value` takes a number from Python's generator, for a seed."""
    return "initializers" in str(getattr(value, "__module__", ""))


class _Reading(NamedTuple):
    names: frozenset[str]  # of globals and built-in functions
    attributes: frozenset[str]
    may_write: bool


@functools.lru_cache(maxsize=1024)
def _reading(code: types.CodeType) -> _Reading | None:
    """Return what `code` reads by name; None if it does something that no list of names tells."""
    attributes: set[str] = set()
    may_write = False
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        may_write |= name in _WRITING or (
            name == "STORE_DEREF" and instruction.argval in code.co_freevars
        )
        if name in _UNCLEAR_INSTRUCTIONS:
            return None
        if name == "IMPORT_NAME" and not _is_trusted(instruction.argval):
            return None
        if "ATTR" in name or "METHOD" in name or name == "IMPORT_FROM":
            attributes.add(str(instruction.argval))
        if (
            name == "LOAD_CONST"
            and isinstance(instruction.argval, str)
            and "%" in instruction.argval
        ):
            return None  # Formatting shows what an object calls itself.
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = _reading(constant)
            if inner is None:
                return None
            attributes |= inner.attributes
            may_write |= inner.may_write
    may_write |= not _MUTATORS.isdisjoint(attributes)
    return _Reading(frozenset(code_objects.global_names(code)), frozenset(attributes), may_write)


# Methods that no trace runs: what they write is there before.
_BUILDERS = {"__init__", "build"}
_WRITING = {"STORE_ATTR", "DELETE_ATTR", "STORE_SUBSCR", "DELETE_SUBSCR"}
_MUTATORS = frozenset(
    {
        *("add", "append", "appendleft", "clear", "discard", "extend", "fill", "insert", "pop"),
        *("popitem", "popleft", "put", "remove", "reverse", "setdefault", "sort", "update"),
        *("initializers", "SeedGenerator"),  # which draw a number for a seed
    }
)
_UNCLEAR_INSTRUCTIONS = {
    *("STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_BUILD_CLASS", "LOAD_NAME", "MATCH_CLASS"),
    *("FORMAT_VALUE", "FORMAT_SIMPLE", "FORMAT_WITH_SPEC", "CONVERT_VALUE"),
}
