"""Cache keys of traces: two models with one key have the same graph, except for their variables.

Tracing runs Python once and records its operations on tensors. So the graph depends on everything
that Python has read: attributes of the model, its layers, optimizer, metrics and losses, at any
depth, and user-defined code. A key covers all of it, by a walk over all objects that the model can
reach. Numbered names of Keras are left out, objects and variables are identified by their order in
the walk, and the values of variables are ignored, since they are captured inputs of the graph. If
the walk finds an object whose effect on tracing is unknown, there is no key.
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
    """Cache key of a trace of a model.

    Attributes
    ----------
    key : tuple
        Equal for models whose traces are the same except for their variables.
    variables : list of keras.Variable
        Variables, which correspond by position in models with the same key.
    has_own_code : bool
        Whether code other than Keras's and TensorFlow's may take part.
    may_write : bool
        Whether such code may have side effects, so that the number of its calls matters.
    """

    key: tuple[Any, ...]
    variables: list[Any]
    has_own_code: bool
    may_write: bool


def trace_key(model: Any, role: Role, *, by_name: bool = False) -> TraceKey | None:
    """Return the cache key of a trace of `model`; None if the model can't be cached.

    Parameters
    ----------
    model : keras.Model
        A model on the TensorFlow backend.
    role : {"train", "test", "predict"}
        The traced step. For "predict", the compilation of the model is ignored.
    by_name : bool, optional
        Whether arrays are passed by name, in dictionaries.
    """
    walk = _Walk(model, _IN_TRAINING if role == "predict" else frozenset(), by_name)
    try:
        walk.add(model)
        walk.add_surroundings()
    except (_UnclearError, RecursionError):
        return None
    return TraceKey(tuple(walk.items), walk.variables, walk.has_own_code, walk.may_write)


class _UnclearError(Exception):
    """A trace may depend on an object that no key can cover."""


# --- attributes that no graph depends on -------------------------------------------------------

# What recurrent cells make in a call and clear after it: None, where there was nothing before.
_CLEARED = frozenset({"_dropout_mask", "_recurrent_dropout_mask"})
# Attributes of variables: initializer and current value.
_OF_VARIABLES = frozenset({"_initializer", "_value"})
# Attributes that only training reads. A model inside another one is called, but not trained.
_IN_TRAINING = frozenset(
    {
        "optimizer",
        "loss",
        "compiled",
        "_loss_tracker",
        "_compile_loss",
        "_compile_metrics",
        "_compute_loss_has_training_arg",
    }
)
# Kinds of objects that may be shared between layers without an effect.
_RULES: tuple[Kind, ...] = ("policy", "initializer", "regularizer", "constraint", "schedule")
# Marks in a key: unique objects, so that no value equals one.
_AGAIN, _VARIABLE, _OBJECT, _CODE, _CLASS, _END = (object() for _ in range(6))
# Their names, for other processes.
MARKS = {
    _AGAIN: "again",
    _VARIABLE: "variable",
    _OBJECT: "object",
    _CODE: "code",
    _CLASS: "class",
    _END: "end",
}


class _Walk:
    def __init__(self, root: Any, left_out: frozenset[str], by_name: bool) -> None:
        self.items: list[Any] = []
        self.variables: list[Any] = []
        self._root, self._left_out, self._by_name = root, left_out, by_name
        # By id, with the objects, so that no id is reused.
        self._places: dict[int, tuple[int, Any]] = {}
        # Names that user-defined code reads: of attributes, and of globals.
        self._attributes_read: set[str] = set()
        self._globals_read: set[str] = set()
        self._is_held_by_keras = True
        self.has_own_code = self.may_write = False

    def add(self, value: Any) -> None:
        """Add `value` and all objects that it refers to."""
        cls = type(value)
        if cls in _PLAIN:  # Most are, so first.
            if cls in _TEXTS and len(value) > _MOST_BYTES:
                raise _UnclearError
            # With the type, since 1, 1.0 and True are equal; some as text, since 0.0 and -0.0 are.
            self.items += (cls, repr(value) if cls in _SPELLED else value)
            return
        earlier = self._places.get(id(value))
        if earlier is not None:
            self.items += (_AGAIN, earlier[0])
        elif isinstance(value, _CONTAINERS) and (
            len(value) > _MOST_ITEMS or not _is_determined_by_items(cls)
        ):
            raise _UnclearError
        elif isinstance(value, (list, tuple)):
            self._add_items(value)
        elif isinstance(value, dict):
            self.items += (dict, len(value))
            for key, item in value.items():
                self.add(key)
                self.add(item)
        elif isinstance(value, (set, frozenset)):
            if any(type(item) not in _PLAIN for item in value):
                raise _UnclearError  # The order depends on addresses in memory.
            self._add_items(sorted(value, key=lambda item: (type(item).__name__, repr(item))))
        elif is_a(value, "variable"):
            self._add_variable(value)
        elif isinstance(value, type):
            self._add_class(value)
        elif not self._add_callable(value) and not self._add_data(value):
            self._add_object(value)

    def add_surroundings(self) -> None:
        """Add global settings on which tracing depends.

        Raises
        ------
        _UnclearError
            If a scope is active that affects calls, or user-defined code reads names that this walk
            leaves out.
        """
        import keras
        import tensorflow as tf

        # Private: Keras's scopes (for autocasting, rematerialization, distribution); a setting
        # without a public name; and callbacks for each traced operation, for debugging.
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

    def _remember(self, value: Any, *marks: Any) -> None:
        self._places[id(value)] = len(self._places), value
        self.items += marks

    def _add_items(self, items: Any) -> None:
        cls = type(items)
        if hasattr(items, "_fields"):  # A named tuple.
            self._add_class(cls)
            left_out = {"name"} if is_built_in(cls) else ()
            fields = zip(items._fields, items, strict=True)
            items = tuple(item for name, item in fields if name not in left_out)
        self.items += (list if isinstance(items, list) else tuple, len(items))
        for item in items:
            self.add(item)

    def _add_variable(self, variable: Any) -> None:
        self._remember(variable, _VARIABLE, type(variable))
        self.variables.append(variable)
        self._add_attributes(variable, NOT_IN_GRAPHS | _OF_VARIABLES)

    def _add_object(self, obj: Any) -> None:
        """Add an object that is determined by its class and its attributes."""
        cls = type(obj)
        if (
            not hasattr(obj, "__dict__")
            or not _is_determined_by_attributes(cls)
            or _depends_on_names(obj)
        ):
            raise _UnclearError
        if is_built_in(cls) and is_a(obj, *_RULES):
            self.items.append(_OBJECT)  # Sharing between layers has no effect.
        else:
            self._remember(obj, _OBJECT)
        self._add_class(cls)
        is_keras = is_built_in(cls)
        left_out = NOT_IN_GRAPHS if any(map(is_built_in, cls.__mro__)) else frozenset()
        if is_a(obj, "metric"):
            left_out -= {"name"}  # Results are named by it.
        elif is_a(obj, "model"):
            left_out |= self._left_out if obj is self._root else _IN_TRAINING
            self._add_names(obj)
        elif is_a(obj, "optimizer"):
            self._add_paths(obj)
        elif self._is_held_by_keras and vars(obj).get("_init_seed", 0) is None:
            left_out |= {"seed"}  # Drawn, not given; used for initial values only.
        outer, self._is_held_by_keras = self._is_held_by_keras, is_keras
        self._add_attributes(obj, left_out)
        self._is_held_by_keras = outer

    def _add_names(self, model: Any) -> None:
        """Add the names by which a model distinguishes inputs and outputs.

        The automatic name of a single input matters only if arrays are passed by name.
        """
        if is_functional(model):
            names = [tensor.name for tensor in model.inputs]
            if len(names) > 1 or self._by_name or not _NUMBERED_INPUT.fullmatch(names[0]):
                self.add(names)
            if len(model.output_names) > 1:
                self.add(list(model.output_names))

    def _add_paths(self, optimizer: Any) -> None:
        """Add the paths by which `keras.optimizers.Muon` distinguishes variables."""
        patterns = vars(optimizer).get("exclude_layers")
        if patterns is not None:
            paths = [variable.path for variable in optimizer._trainable_variables]
            # By user-defined patterns, which may match a number; and by "embedding".
            self.add(paths if patterns else [re.sub(r"_\d+(?=/)", "", path) for path in paths])

    def _add_attributes(self, obj: Any, left_out: frozenset[str]) -> None:
        attributes = dict(vars(obj))  # A copy: another thread may set attributes.
        for name in sorted(attributes):
            if name not in left_out and (attributes[name] is not None or name not in _CLEARED):
                self.items.append(name)
                self.add(attributes[name])
        self.items.append(_END)
        if len(self.items) > _MOST_ITEMS:
            raise _UnclearError

    def _add_data(self, value: Any) -> bool:
        """Add plain data of NumPy and TensorFlow; return whether `value` is that."""
        import numpy as np
        import tensorflow as tf

        if isinstance(value, np.ndarray):
            is_plain = type(value) is np.ndarray and value.dtype.kind in "biufcSU"
            if not is_plain or value.nbytes > _MOST_BYTES:
                raise _UnclearError
            self.items += (np.ndarray, value.dtype.str, value.shape, value.tobytes())
        elif isinstance(value, np.generic):
            self.items += (type(value), value.tobytes())
        elif isinstance(value, (np.dtype, tf.DType, tf.TensorShape)) or (
            isinstance(value, enum.Enum) and is_trusted(type(value).__module__)
        ):
            self.items += (type(value), repr(value))
        elif value is tf.distribute.get_strategy():
            self.items.append(type(value))  # The default strategy.
        else:
            return False
        return True

    # --- code ----------------------------------------------------------------------------------

    def _add_callable(self, value: Any) -> bool:
        """Add a function, method or module; return whether `value` is one."""
        if isinstance(value, types.FunctionType):
            self._add_function(value)
        elif isinstance(value, types.MethodType):
            self.items.append(types.MethodType)
            self.add(value.__func__)
            self.add(value.__self__)
        elif isinstance(value, functools.partial):
            if type(value) is not functools.partial:
                raise _UnclearError
            self.items.append(functools.partial)
            self.add((value.func, value.args, value.keywords, vars(value)))
        elif isinstance(value, types.ModuleType):
            if not is_trusted(value.__name__):
                raise _UnclearError
            self.items.append(value.__name__)
        elif isinstance(value, types.BuiltinFunctionType):
            self._add_builtin(value)
        else:
            return False
        return True

    def _add_builtin(self, value: Any) -> None:
        owner = getattr(value, "__self__", None)
        self._globals_read.add(value.__name__)
        if value in _SAFE_BUILTINS or (
            is_trusted(getattr(value, "__module__", None) or _module(owner))
            and (owner is None or isinstance(owner, types.ModuleType))
        ):
            self.items.append(value)
        else:
            raise _UnclearError

    def _add_function(self, function: types.FunctionType) -> None:
        # Not by __module__, which a decorator copies from the decorated function.
        is_of_library = is_trusted(function.__globals__.get("__name__"))
        if not is_of_library:
            self.has_own_code = True
        elif self.has_own_code:
            self._globals_read.add(function.__name__)  # It may call user-defined code.
        # Code objects compare by value: a function that is defined again for each model is equal.
        self._remember(function, _CODE, function.__code__)
        self.add(list(function.__defaults__ or ()))
        self.add(dict(function.__kwdefaults__ or {}))
        self.add(code_objects.closure(function))
        if is_of_library:
            return
        self.add({k: value for k, value in vars(function).items() if k != "__wrapped__"})
        reading = _reading(function.__code__)
        if reading is None:
            raise _UnclearError
        used_globals = code_objects.used_globals(function)
        self.may_write |= reading.may_write and function.__name__ not in _BUILDERS
        self._attributes_read |= reading.attributes
        self._globals_read |= reading.names
        self._globals_read |= {getattr(value, "__name__", "") for value in used_globals.values()}
        self.may_write |= any(map(_draws_a_seed, used_globals.values()))
        for name in reading.names - used_globals.keys():
            if getattr(_BUILTINS, name, None) not in _SAFE_BUILTINS:
                raise _UnclearError
        self.add(used_globals)

    def _add_class(self, cls: type) -> None:
        if id(cls) in self._places:
            self.items += (_AGAIN, self._places[id(cls)][0])
            return
        if is_trusted(cls.__module__) or cls in _SAFE_BUILTINS:
            self.items.append(cls)
            return
        if type(cls) is not type and not is_trusted(type(cls).__module__):
            raise _UnclearError
        self.has_own_code = True
        self._remember(cls, _CLASS, cls.__qualname__)
        for base in cls.__bases__:
            self._add_class(base)
        left_out = _NOT_TRACED if any(map(is_built_in, cls.__mro__)) else frozenset()
        for name, value in code_objects.members(cls).items():
            if name not in _ABOUT_CLASSES and name not in left_out:
                self.items.append(name)
                self.add(value)
        self.items.append(_END)


_PLAIN = PLAIN | {bytes, complex, type(Ellipsis)}
_SPELLED = {float, complex}
_CONTAINERS = (list, tuple, dict, set, frozenset)
_TEXTS = {str, bytes}
# Limits: larger values are too expensive to compare and to keep.
_MOST_BYTES = 1 << 20
_MOST_ITEMS = 500_000
# Private: the names of Keras's active scopes in this thread.
_SCOPES = frozenset(
    {
        "autocast_scope",
        "current_call_ctx",
        "distribution",
        "nnx_enabled",
        "remat_scope_stack",
        "stateless_scope",
        "symbolic_scope",
    }
)
_ABOUT_CLASSES = frozenset({"__doc__", "__annotations__", "__annotate__", "__annotate_func__"})
# Methods that Keras calls outside of steps. A key does not cover calls of them in a step.
_NOT_TRACED = frozenset(
    {
        "get_config",
        "from_config",
        "get_build_config",
        "build_from_config",
        "compile",
        "get_compile_config",
        "compile_from_config",
        "save_own_variables",
        "load_own_variables",
        "save_assets",
        "load_assets",
    }
)
# Names in trusted modules that lead to external or changing state.
_IMPURE = frozenset(
    {
        "random",
        "default_rng",
        "load",
        "loadtxt",
        "fromfile",
        "genfromtxt",
        "memmap",
        "gfile",
        "__dict__",
        "__self__",
        "__globals__",
        "__closure__",
        "__code__",
        "__wrapped__",
        "__getattr__",
        "__getattribute__",
        "attrgetter",
        "methodcaller",
        "datetime64",
        "fromregex",
        "get_file",
        "get_uid",
        "init_scope",
        "load_data",
        "load_model",
        "load_variable",
        "load_weights",
        "scalar",
        "summary",
        "format",
        "format_map",
        "serialize",
        "serialize_keras_object",
        "deserialize",
        "deserialize_keras_object",
        "get_custom_objects",
        "get_registered_object",
        "get_registered_name",
        "custom_object_scope",
        "CustomObjectScope",
        # Names and connections, which a key leaves out.
        "path",
        "input",
        "output",
        "input_names",
        "metrics_names",
        "get_layer",
    }
)
_UNTOLD = NOT_IN_GRAPHS - {"build", "quantize"} | _IN_TRAINING | _NOT_TRACED | _IMPURE
_TRUSTED = frozenset(
    {
        "keras",
        "tensorflow",
        "numpy",
        "ml_dtypes",
        "math",
        "operator",
        "functools",
        "itertools",
        "typing",
        "collections",
        "abc",
        "enum",
        "dataclasses",
        "wrapt",
        "_operator",
        "_functools",
    }
)
_BUILTINS: Any = sys.modules["builtins"]
_SAFE_BUILTINS: frozenset[Any] = frozenset(
    getattr(_BUILTINS, name)
    for name in (
        "abs",
        "all",
        "any",
        "bool",
        "bytes",
        "callable",
        "classmethod",
        "complex",
        "dict",
        "divmod",
        "enumerate",
        "filter",
        "float",
        "frozenset",
        "int",
        "isinstance",
        "issubclass",
        "iter",
        "len",
        "list",
        "map",
        "max",
        "min",
        "next",
        "object",
        "pow",
        "property",
        "range",
        "reversed",
        "round",
        "set",
        "slice",
        "sorted",
        "staticmethod",
        "sum",
        "super",
        "tuple",
        "type",
        "zip",
        "NotImplemented",
        "Ellipsis",
        "Exception",
        "ArithmeticError",
        "AssertionError",
        "AttributeError",
        "IndexError",
        "KeyError",
        "LookupError",
        "NotImplementedError",
        "RuntimeError",
        "StopIteration",
        "TypeError",
        "ValueError",
        "ZeroDivisionError",
    )
)


# Automatic names of inputs.
_NUMBERED_INPUT = re.compile(r"(input_layer|keras_tensor)(_\d+)?")


def _depends_on_names(obj: Any) -> bool:
    """Return whether `obj` depends on names that the key leaves out."""
    import keras

    is_map = isinstance(obj, keras.dtype_policies.DTypePolicyMap)
    return is_map or any(map(vars(obj).get, ("_losses_override", "_exclude_from_weight_decay")))


def _module(owner: Any) -> str:
    return owner.__name__ if isinstance(owner, types.ModuleType) else ""


def is_trusted(module: str | None) -> bool:
    """Return whether tracing code of a module depends on its arguments only."""
    name = module or ""
    return name.partition(".")[0] in _TRUSTED and not name.startswith("numpy.random")


def _is_determined_by_items(cls: type) -> bool:
    """Return whether a container is determined by its items."""
    return cls in _CONTAINERS or hasattr(cls, "_fields") or is_trusted(cls.__module__)


def _is_determined_by_attributes(cls: type) -> bool:
    """Return whether objects of a class are determined by their attributes."""
    may_be = is_built_in(cls) or not is_trusted(cls.__module__)
    return may_be and all(map(_is_written_in_python, cls.__mro__[:-1]))


def _is_written_in_python(cls: type) -> bool:
    heap_type = 1 << 9  # Py_TPFLAGS_HEAPTYPE
    return bool(cls.__flags__ & heap_type) and not _slots(cls)


def _slots(cls: type) -> Iterable[str]:
    slots = vars(cls).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else slots
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _draws_a_seed(value: Any) -> bool:
    """Return whether a call of `value` draws a seed from Python's generator."""
    return "initializers" in str(getattr(value, "__module__", ""))


class _Reading(NamedTuple):
    names: frozenset[str]  # of globals and built-in functions
    attributes: frozenset[str]
    may_write: bool


@functools.lru_cache(maxsize=1024)
def _reading(code: types.CodeType) -> _Reading | None:
    """Return the names that `code` reads; None if they don't determine its effects."""
    attributes: set[str] = set()
    may_write = False
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        may_write |= name in _WRITING or (
            name == "STORE_DEREF" and instruction.argval in code.co_freevars
        )
        if name in _UNCLEAR_INSTRUCTIONS:
            return None
        if name == "IMPORT_NAME" and not is_trusted(instruction.argval):
            return None
        if "ATTR" in name or "METHOD" in name or name == "IMPORT_FROM":
            attributes.add(str(instruction.argval))
        if (
            name == "LOAD_CONST"
            and isinstance(instruction.argval, str)
            and "%" in instruction.argval
        ):
            return None  # Formatting may show the name of an object.
    for inner in map(_reading, code_objects.inner(code)):
        if inner is None:
            return None
        attributes |= inner.attributes
        may_write |= inner.may_write
    may_write |= not _MUTATORS.isdisjoint(attributes)
    return _Reading(frozenset(code_objects.global_names(code)), frozenset(attributes), may_write)


# Methods that run before tracing.
_BUILDERS = {"__init__", "build"}
_WRITING = {"STORE_ATTR", "DELETE_ATTR", "STORE_SUBSCR", "DELETE_SUBSCR"}
_MUTATORS = frozenset(
    {
        "add",
        "append",
        "appendleft",
        "clear",
        "discard",
        "extend",
        "fill",
        "insert",
        "pop",
        "popitem",
        "popleft",
        "put",
        "remove",
        "reverse",
        "setdefault",
        "sort",
        "update",
        "initializers",
        "SeedGenerator",  # draws a number for a seed
    }
)
_UNCLEAR_INSTRUCTIONS = {
    "STORE_GLOBAL",
    "DELETE_GLOBAL",
    "LOAD_BUILD_CLASS",
    "LOAD_NAME",
    "MATCH_CLASS",
    "FORMAT_VALUE",
    "FORMAT_SIMPLE",
    "FORMAT_WITH_SPEC",
    "CONVERT_VALUE",
}
