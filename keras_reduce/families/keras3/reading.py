"""From configs back to Keras 3 objects, custom ones found by their keys."""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ...audit import trust_policy
from ...core import array_backends, context
from ...core.payload import PLAIN
from ...errors import PayloadError
from ...identities import Identity, by_number
from .._shared.patches import Patch
from .._shared.registered import register, resolved
from . import raw_variables
from .assembled import put_together
from .attributes import rebuild
from .harmless import is_harmless
from .kinds import is_built_in
from .patches import READING, current
from .private import TEMPLATES
from .tree import Tree, nodes


def deserialize(config: Any) -> Any:
    """Return the object that `config` describes."""
    from keras.src.saving import serialization_lib

    # Through the module, where `reading` has put its own. A pickle that is trusted as a whole gains
    # nothing from Keras's own check of a part of it.
    is_trusted = trust_policy.active() is None
    return serialization_lib.deserialize_keras_object(config, safe_mode=not is_trusted)


def make(architecture: dict[str, Any]) -> Any:
    """Return an object like the one that `writing.architecture` was given."""
    by_key, objects = current.reading.by_key, current.reading.objects
    if "assembly" in architecture:
        kind, plain, numbers = architecture["assembly"]
        return put_together(kind, plain, tuple(objects[number] for number in numbers))
    if "class" in architecture:
        cls = by_key[architecture["class"]]
        return cls.__new__(cls)
    return deserialize(architecture)


@contextmanager
def reading(
    custom_objects: Mapping[str, tuple[Any, str | None]],
    objects: tuple[Any, ...] = (),
    identities: tuple[Any, ...] = (),
) -> Iterator[None]:
    """Let Keras find `custom_objects` by their keys, and the others by number, in this thread."""
    import keras
    from keras.src.saving.serialization_lib import ObjectSharingScope

    for obj, name in custom_objects.values():
        register(keras.saving, obj, name)
    by_key = {key: obj for key, (obj, _) in custom_objects.items()}
    work = Reading(by_key, objects, identities)
    work.registered_names = {key: name for key, (_, name) in custom_objects.items()}
    scope = keras.saving.custom_object_scope(work.by_key)
    # Private: within the scope, configs with one shared_object_id make one object.
    with READING(reading=work), scope, ObjectSharingScope():
        try:
            yield
        finally:
            work.fill()


class Reading:
    """State of a thread while it rebuilds an object.

    User-defined classes and functions by key; by number, the objects that the pickler has rebuilt
    already, and identity tokens of those that it has or is going to.
    """

    def __init__(
        self,
        by_key: Mapping[str, Any],
        objects: tuple[Any, ...],
        identities: tuple[Any, ...] = (),
    ) -> None:
        self.by_key, self.objects, self.identities = by_key, objects, identities
        self.registered_names: dict[str, str | None] = {}
        self.root: Any = None
        # Objects in configs that another payload of the same pickle has rebuilt before, by id;
        # those of which that has filled the variables, see `structure`.
        self.reused: dict[int, Any] = {}
        self.filled: list[Any] = []
        self._made: set[int] = set()
        self._empty: list[tuple[Any, Any]] = []

    @contextmanager
    def compiling(self, root: Any, tree: Tree) -> Iterator[None]:
        """Let configs find the object `root`, and code that refers to it, while it is compiled."""
        import keras

        by_key = resolved(self.by_key, tree)
        for key, obj in by_key.items():
            register(keras.saving, obj, self.registered_names.get(key))
        self.root, self.by_key = root, {**self.by_key, **by_key}
        # All of them: an inner scope hides those of the outer one.
        with keras.saving.custom_object_scope(self.by_key):
            yield

    def identified(self, identity: Identity, make: Callable[[], Any]) -> Any:
        """Return the object of an identity token, made now unless another payload had it, too."""
        if identity.obj is None:
            identity.settle(make())
            self._made.add(id(identity))
        elif id(identity) not in self._made:
            self.reused[id(identity.obj)] = identity.obj
        return identity.obj

    def put_off(self, variable: Any, initializer: Any) -> None:
        """Take note of a variable that waits for its value."""
        self._empty.append((variable, initializer))

    def note_filled(self, variables: Iterable[Any]) -> None:
        """Take note that `variables` have got their values, which to find out takes long."""
        filled = set(map(id, variables))
        self._empty = [pair for pair in self._empty if id(pair[0]) not in filled]

    def fill(self) -> None:
        """Give variables that have got no value what they would have begun with.

        The program may keep some for itself: a model that is made once and then held by a module.
        """
        for variable, initializer in self._empty:
            if array_backends.is_placeholder(variable):
                variable.assign(initializer(variable._shape, dtype=variable._dtype))


@READING.points
def _points() -> list[Patch]:
    # Private: where the class of a config is looked up, at every depth and by every route; where
    # lambdas are unpacked; the one place where Keras draws seeds that were not given (rebuilding
    # must not advance the program's random numbers); and what a new layer asks of each value that
    # it is given, which takes a seventh of the time of a small one.
    import keras
    from keras.src import backend as keras_backend
    from keras.src.random import seed_generator
    from keras.src.saving import serialization_lib
    from keras.src.utils import naming, python_utils

    points: list[Patch] = [
        (keras_backend, "is_tensor", _quick_is_tensor),
        (serialization_lib, "_retrieve_class_or_fn", _mended_class),
        (python_utils, "func_load", _keyed_lambda),
        (seed_generator, "python_random", _PrivateRandom),
    ]
    if keras.backend.backend() == "tensorflow":
        # And where a variable gets its first values, which rebuilding overwrites.
        points.append((keras.Variable, "_initialize_with_initializer", _uninitialized))
        # And where it gives automatic names, which a template has to give again.
        if TEMPLATES.is_complete():
            points.append((naming, "uniquify", _noting_names))
    return points


def _noting_names(original: Callable[[str], str]) -> Callable[[str], str]:
    def uniquify(name: str) -> str:
        unique = original(name)
        names = getattr(current, "names", None)
        if names is None:
            return unique
        unique = "".join([*unique])  # A text of its own, by which to tell it from equal ones.
        names.append((name, unique))
        return unique

    return uniquify


def _mended_class(original: Callable[..., Any]) -> Callable[..., Any]:
    def _retrieve_class_or_fn(
        name: str, registered_name: str, module: str, obj_type: str, full_config: Any, **more: Any
    ) -> Any:
        reading = getattr(current, "reading", None)
        if reading is not None and "keras_reduce_child" in full_config:
            return _Child(_child_of(full_config))
        if reading is not None and "keras_reduce_root" in full_config:
            return _Child(reading.root)
        target = original(name, registered_name, module, obj_type, full_config, **more)
        policy = trust_policy.active()
        if policy is not None:
            is_own = reading is not None and any(target is obj for obj in reading.by_key.values())
            policy.require(target, f"{module}.{name}", is_own or is_harmless(target))
        is_class = isinstance(target, type) and hasattr(target, "from_config")
        if reading is None or not is_class:
            return target
        return _Constructor(target, full_config)

    return _retrieve_class_or_fn


def _child_of(config: Mapping[str, Any]) -> Any:
    """Return the object that a config refers to: a child, or a layer that the child has made."""
    child = current.reading.objects[config["keras_reduce_child"]]
    path = config.get("keras_reduce_part")
    if path is None:
        return child
    parts = nodes(child)
    if path not in parts:
        raise PayloadError(
            "A layer that another layer shares was not made again",
            where=path,
            cause=f"the class {type(child).__qualname__}, whose constructor made it, has changed "
            "since",
            cure="load it with the code that wrote it",
        )
    return parts[path]


class _Child:
    """An object that the pickler has rebuilt already, in place of its class."""

    def __init__(self, obj: Any) -> None:
        self._obj = obj

    def from_config(self, _: dict[str, Any]) -> Any:
        """Return the object."""
        return self._obj


class _Constructor:
    """A class as Keras's deserialization uses it: to call ``from_config``, and mend the result."""

    def __init__(self, cls: Any, config: dict[str, Any]) -> None:
        self._cls, self._config = cls, config

    def from_config(self, inner: dict[str, Any]) -> Any:
        """Return the object that the whole config describes."""
        number = self._config.get("keras_reduce_identity")
        if number is None:
            return self._made(inner)
        identity = by_number(current.reading.identities, number)
        return current.reading.identified(identity, lambda: self._made(inner))

    def _made(self, inner: dict[str, Any]) -> Any:
        if "keras_reduce" in self._config:
            description, objects = self._config["keras_reduce"], current.reading.objects
            return rebuild(self._cls, description, deserialize, objects)
        _shift_nodes(inner)
        policy_name = inner.get("keras_reduce_name")
        if policy_name is not None:
            inner = {name: inner[name] for name in inner if name != "keras_reduce_name"}
        for name in self._config.get("keras_reduce_live", ()):
            inner = {**inner, name: deserialize(inner[name])}
        if is_built_in(self._cls):
            # Constructors that keep the config of these as it is: it would say nothing later on.
            given = {name: inner[name] for name in _KEPT if isinstance(inner.get(name), dict)}
            inner = inner | {name: deserialize(value) for name, value in given.items()}
        if isinstance(self._config.get("build_config"), dict):
            # Mutated, as it is read after this. JSON has made lists of shapes (ConvLSTM minds).
            shapes = self._config["build_config"]
            self._config["build_config"] = {key: _as_shape(value) for key, value in shapes.items()}
        # Sequential.from_config drops the policy that its get_config() has.
        policy = self._config.get("dtype") or inner.get("dtype" if "layers" in inner else "")
        with _dtype_policy(policy):
            obj = from_config(self._cls, inner)
        for name, number in self._config.get("keras_reduce_attributes", {}).items():
            setattr(obj, name, current.reading.objects[number])
        for name in self._config.get("keras_reduce_of_root", ()):
            setattr(obj, name, current.reading.root)
        if policy_name is not None:
            obj._name = policy_name  # Private, of a dtype policy.
        name = self._config.get("name")
        if isinstance(name, str) and getattr(obj, "name", name) != name:
            obj.name = name
        return obj


_KEPT = ("seed", "window", "default_policy", "module")


def from_config(cls: Any, config: dict[str, Any]) -> Any:
    """Call ``cls.from_config``; but build a sequential model once only.

    ``Sequential.from_config`` builds it again with each layer that it adds.
    """
    import keras

    if cls is keras.layers.TorchModuleWrapper:
        # Whose from_config() takes a pickle of the module in place of the module.
        return cls(**config)
    if cls is not keras.Sequential:
        return _from_config_of_another_version(cls, config)
    layers = [deserialize(layer) for layer in config["layers"]]
    model = keras.Sequential(layers, name=config["name"])
    shape = config.get("build_input_shape")
    if shape and not model._functional:  # Private: as in the original.
        model.build(shape)
    return model


def _from_config_of_another_version(cls: Any, config: dict[str, Any]) -> Any:
    """Call ``cls.from_config`` with a `config` that any version of Keras may have written.

    A newer one may write arguments that this one has not yet. Left out are those that say that all
    is as before; any other is for the constructor to refuse.
    """
    try:
        return cls.from_config(dict(config))
    except (TypeError, ValueError):
        unknown = config.keys() - _arguments(cls) if is_built_in(cls) else set()
        unused = {n for n in unknown if config[n] is None or config[n] == _AS_BEFORE.get(n)}
        if not unused:
            raise
        return cls.from_config({n: value for n, value in config.items() if n not in unused})


# Arguments that came after the oldest version that is supported, and their defaults. What is None
# by default needs no mention.
_AS_BEFORE = {
    "oov_method": "floormod",
    "renorm": False,
    "renorm_momentum": 0.99,
    "use_gate": False,
}


def _arguments(cls: type) -> set[str]:
    """Return the names of the arguments of a class's constructor, and of those below it."""
    constructors = (vars(base)["__init__"] for base in cls.__mro__[:-1] if "__init__" in vars(base))
    # Keras wraps some.
    signatures = (inspect.signature(constructor).parameters for constructor in constructors)
    return {name for parameters in signatures for name in parameters}


def _as_shape(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(item, int | None) for item in value):
        return tuple(value)
    return [_as_shape(item) for item in value] if isinstance(value, list) else value


def _keyed_lambda(original: Callable[..., Any]) -> Callable[..., Any]:
    def func_load(code: Any, *arguments: Any, **more: Any) -> Any:
        reading = getattr(current, "reading", None)
        key = code[0] if isinstance(code, (list, tuple)) else code
        if reading is not None and isinstance(key, str) and key in reading.by_key:
            return reading.by_key[key]
        policy = trust_policy.active()
        if policy is not None:
            policy.refuse("a lambda in a config", "code that is in the file itself")
            raise policy.error("func_load")
        return original(code, *arguments, **more)

    return func_load


def _uninitialized(original: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    def _initialize_with_initializer(variable: Any, initializer: Any) -> None:
        reading = getattr(current, "reading", None)
        is_ours = reading is not None and _is_made_by_keras() and tf.executing_eagerly()
        tensor = array_backends.placeholder(variable._shape, variable._dtype) if is_ours else None
        if reading is None or tensor is None:
            original(variable, initializer)
        else:
            _begin_with(variable, tensor)
            reading.put_off(variable, initializer)

    return _initialize_with_initializer


def _begin_with(variable: Any, tensor: Any) -> None:
    """Give a new variable of Keras one of TensorFlow that holds `tensor`."""
    if not raw_variables.is_possible():
        variable._initialize(tensor)
        return
    # Private: what `Variable._initialize` sets.
    variable._value = raw_variables.Maker()(
        variable._name,
        variable._shape,
        tensor.dtype,
        tensor,
        trainable=variable._trainable,
        aggregation=variable._map_aggregation(variable._aggregation),
        synchronization=variable._map_synchronization(variable._synchronization),
    )


def _is_made_by_keras() -> bool:
    """Return whether a class of Keras's own is making a variable.

    A user-defined one may go on at once to compute something from the values.
    """
    module = context.calling_module(_PLUMBING, depth=3)
    return module.partition(".")[0] in ("keras", "keras_reduce")


# Private: modules on the way from a class that asks for a variable to the variable.
_PLUMBING = (
    "keras.src.backend",
    "keras.src.layers.layer",
    "keras.src.utils",
    "tensorflow",
    "keras.src.metrics.metric",
    "keras.src.optimizers.base_optimizer",
)


def _quick_is_tensor(original: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Answer at once for what a layer is asked of most; TensorFlow asks a protocol class (slow)."""
    import keras

    plain = PLAIN | {list, tuple, dict, keras.KerasTensor}

    def is_tensor(x: Any) -> bool:
        return type(x) not in plain and original(x)

    return is_tensor


def _shift_nodes(config: dict[str, Any]) -> None:
    """Mend the references of a functional config to layers that another model has called before.

    A functional config counts the calls of a layer within its own model. A layer that comes out of
    the sharing scope has calls already, so that Keras would wire the wrong ones together.
    """
    if not {"layers", "output_layers"} <= config.keys():
        return
    earlier_calls: dict[str, int] = {}
    for layer in config["layers"]:
        number = layer.get("keras_reduce_child")
        if number is not None and layer["inbound_nodes"]:
            earlier_calls[layer["name"]] = len(_child_of(layer)._inbound_nodes)
    if not earlier_calls:
        return

    def shift(reference: list[Any]) -> None:
        reference[1] += earlier_calls.get(reference[0], 0)

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if node.get("class_name") == "__keras_tensor__":
                walk(node["config"]["keras_history"])
                return
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            if len(node) == 3 and isinstance(node[0], str):
                shift(node)
                return
            for value in node:
                walk(value)

    walk([layer["inbound_nodes"] for layer in config["layers"]])
    walk([config["input_layers"], config["output_layers"]])


@contextmanager
def _dtype_policy(policy: Any) -> Iterator[None]:
    """Let this thread's new layers have `policy`, for one whose config leaves it out."""
    if policy is None:
        yield
        return
    import keras

    outer = keras.config.dtype_policy()
    keras.config.set_dtype_policy(deserialize(policy))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(outer)


class _PrivateRandom:
    """The module `random`, except for a thread that rebuilds an object."""

    def __init__(self, original: Any) -> None:
        self._original = original

    @functools.cached_property
    def _private(self) -> random.Random:
        return random.Random(0)  # Made when it is needed, as seeding takes long.

    def __getattr__(self, name: str) -> Any:
        source = self._private if getattr(current, "reading", None) else self._original
        return getattr(source, name)
