"""Rules by which the attributes of an object are carried: by its config, one by one, or not at all.

A class that is user-defined is taken at its word if its config describes its objects. If it
inherits ``get_config`` from Keras, they travel as their attributes, unless some of these can't be
carried, such as lookup tables, tokenizers and compiled functions: then the constructor has to make
those again.
"""

from __future__ import annotations

import inspect
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from ...custom_objects import Table
from ...dry_run import dry_pickler
from ...errors import ReduceError
from .. import protocol
from . import assigned_attributes, compile_methods, completeness
from .lookups import LOOKUPS
from .nests import is_data
from .patches import Patches


class Rules:
    """Rules that both generations of Keras share; a family fills in what differs.

    While configs are made, Keras works with `patches`.
    """

    # Attributes that Keras's own constructors set and a user-defined class may change.
    DEFAULTS: ClassVar[Mapping[str, Any]]
    # Attributes of layers that are carried apart.
    SETTINGS: ClassVar[frozenset[str]] = frozenset()
    # Kinds of objects that have neither variables nor parts.
    WITHOUT_PARTS: ClassVar[tuple[protocol.Kind, ...]]

    is_a: Callable[..., bool]  # Is an object of one of these kinds?
    is_built_in: Callable[[Any], bool]  # Is a class Keras's own?
    is_framework: Callable[[Any], bool]  # Or of what Keras computes with?
    is_container: Callable[[Any], bool]  # Is an object a functional or a sequential model?
    is_compiled: Callable[[Any], bool]
    # Is something a tensor with a value that other processes can have?
    is_tensor: Callable[[Any], bool]
    # Is something a part of an object, or has any in it? Has it weak references that are carried?
    holds_parts: Callable[[Any], bool]
    holds_weak: Callable[[Any], bool]
    # Is an object of a kind whose constructor may make some attributes again?
    may_be_remade: Callable[[Any], bool]
    # Does the constructor of a model's class take nothing that Keras forgets?
    takes_no_arguments: Callable[[type], bool]
    # The attributes of an object, as they are at this moment; which of them are Keras's own.
    attributes_of: Callable[[Any], dict[str, Any]]
    internal_names: Callable[[Any], frozenset[str]]
    # Classes whose get_config() knows nothing of what their subclasses hold; those of which
    # `internal_names` knows what they set, so that their code need not be read.
    abstract_classes: Callable[[], tuple[type, ...]]
    general_classes: Callable[[], frozenset[type]]

    def __init__(self, patches: Patches) -> None:
        self._patches, self._current = patches, patches.current
        self._set_by_code: weakref.WeakKeyDictionary[type, tuple[set[str], set[str]]] = (
            weakref.WeakKeyDictionary()
        )

    def compiles_from_config(self, model: Any) -> bool:
        """Return whether a user-defined class says how its models are compiled by a config."""
        return False

    def modules_in(self, obj: Any, attributes: Mapping[str, Any]) -> tuple[set[str], set[str]]:
        """Return the `attributes` that only a constructor can make, and others that it should."""
        return set(), set()

    def is_made_by_config(self, obj: Any) -> bool:
        """Return whether `obj` is of Keras's own class, and its config describes it."""
        return self.is_built_in(type(obj))

    def has_identity(self, obj: Any) -> bool:
        """Return whether a config that holds `obj` says which one it is.

        That is so for what is compiled into a model: something beside the model may hold it, too.
        """
        return self.is_a(obj, "optimizer", "metric", "loss")

    def owner(self, obj: Any) -> Any:
        """Return the object that code in the attributes of `obj` refers to: a callback's model."""
        # A callback whose constructor calls no super().__init__() has none before it is used.
        return getattr(obj, "model", None) or obj if self.is_a(obj, "callback") else obj

    # --- configs ------------------------------------------------------------------------------

    def overrides(self, obj: Any, method: str) -> bool:
        """Return whether a user-defined class, and not Keras's own, defines `method` of `obj`."""
        cls = type(obj)
        is_own = not self.is_built_in(cls) and hasattr(obj, method)
        return is_own and not self.is_built_in(completeness.owner(cls, method))

    def describes_itself(self, obj: Any) -> bool:
        """Return whether `obj` is described by its config.

        That is so if the config is the word of its class, not a guess of its bases, and the
        constructor can be called with it; or if some of its attributes can't be carried.
        """
        if self.has_last_word(type(obj)) and not self.left_out(obj):
            return True
        return self.left_to_constructor(obj) is not None

    def has_last_word(self, cls: type) -> bool:
        """Return whether `cls` defines the config of its objects, and not just a base class."""
        if self.is_built_in(cls):
            return True
        if not hasattr(cls, "get_config"):
            return False
        config, init = (completeness.owner(cls, name) for name in ("get_config", "__init__"))
        # A constructor below get_config() takes what that knows nothing of.
        is_last = not issubclass(init, config) or init is config
        return is_last and config not in self.abstract_classes()

    def left_out(self, obj: Any) -> list[str]:
        """Return the constructor arguments for which the config of a user-defined class fails."""
        if self.is_container(obj) or not self.overrides(obj, "get_config"):
            return []
        noted = getattr(self._current, "gaps", None)
        names: list[str] = _once({} if noted is None else noted, obj, [], self._gaps)
        return names

    def _gaps(self, obj: Any) -> list[str]:
        return completeness.left_out(obj, self._plain_config, self.is_built_in)

    def _plain_config(self, obj: Any) -> dict[str, Any] | None:
        """Return ``get_config()`` as it is while a payload is written; None if that fails.

        With a table that is thrown away: that of the payload must not see objects before their
        time.
        """
        try:
            with warnings.catch_warnings(), self._patches.writing(Table(obj, LOOKUPS)):
                warnings.simplefilter("ignore")
                config = obj.get_config()
        except Exception:
            return None  # Where the config is needed, the error will tell.
        return config if isinstance(config, dict) else None

    def travels_by_attributes(self, obj: Any) -> bool:
        """Return whether `obj` is carried as its class and its attributes, without a config.

        Callbacks have no config. Nor have initializers, schedules and the like whose class
        inherits ``get_config()`` from Keras's abstract ones.
        """
        if self.is_a(obj, "callback"):
            return True
        return self.is_a(obj, *self.WITHOUT_PARTS) and not self.describes_itself(obj)

    # --- attributes that a constructor has to make again --------------------------------------

    def left_to_constructor(self, obj: Any) -> frozenset[str] | None:
        """Return the attributes that the constructor of `obj` has to make again.

        None if its class says that it is described by its config, or if it is not to be: if all
        attributes can be carried, or the constructor can't be called. Known only while the object,
        or one that holds it, is written.
        """
        noted = getattr(self._current, "remade", None)
        if noted is None or not self.may_be_remade(obj) or self.has_last_word(type(obj)):
            return None
        names: frozenset[str] | None = _once(noted, obj, None, self._remade)
        return names

    def _remade(self, obj: Any) -> frozenset[str] | None:
        candidates = {
            name: value
            for name, value in self.own_attributes(obj).items()
            if not is_data(value, self.is_tensor) and not self.holds_parts(value)
        }
        left, others = self.modules_in(obj, candidates)
        left |= {n for n, v in candidates.items() if n not in left and not is_carried(n, v)}
        set_by_classes = set[str]().union(*self.set_by_code(type(obj)))
        if not left or not left <= set_by_classes or not self._fits_constructor(obj):
            return None
        return frozenset(left | others & set_by_classes)

    def _fits_constructor(self, obj: Any) -> bool:
        """Return whether the constructor of `obj` can be called with what its config holds."""
        # Keras records the defaults of a model's constructor in place of what was given.
        has_defaults = self.is_a(obj, "model") and not self.overrides(obj, "get_config")
        if has_defaults and not self.takes_no_arguments(type(obj)):
            return False
        table = self._current.table
        self._current.table = table.empty(obj)  # What the config lists is not wanted here.
        try:
            config = obj.get_config()
            if not self.overrides(obj, "from_config"):  # Which may take any config.
                inspect.signature(type(obj).__init__).bind(None, **config)
        except (NotImplementedError, TypeError, ValueError, ReduceError):
            return False
        finally:
            self._current.table = table
        return True

    def set_by_code(self, cls: type) -> tuple[set[str], set[str]]:
        """Return the attributes that Keras's own classes set, and that others set, up to `cls`."""
        if cls not in self._set_by_code:
            by_keras: set[str] = set()
            by_user: set[str] = set()
            general = self.general_classes()
            for base in cls.__mro__[:-1]:
                if base not in general:
                    names = by_keras if self.is_framework(base) else by_user
                    names |= assigned_attributes.set_by(base)
            self._set_by_code[cls] = by_keras, by_user
        return self._set_by_code[cls]

    # --- attributes that are carried ----------------------------------------------------------

    def own_attributes(self, obj: Any) -> dict[str, Any]:
        """Return the attributes that are not Keras's own."""
        internal = self.internal_names(obj)
        defaults = {} if self.is_made_by_config(obj) else self.DEFAULTS
        return {
            name: value
            for name, value in self.attributes_of(obj).items()
            if name not in internal or (name in defaults and value != defaults[name])
        }

    def set_by_the_user(self, obj: Any) -> Iterator[tuple[str, Any]]:
        """Yield the attributes of `obj` that its constructor does not make again.

        That is, for one, what no code of its class sets: it was set from outside. A user-defined
        class that has a config is taken at its word, but what it has set may have changed since:
        plain data are carried as they are now. Where the config knows less, and is used since some
        attributes can't be carried, all others are.
        """
        by_keras, by_user = self.set_by_code(type(obj))
        left = self.left_to_constructor(obj)
        by_compile = self._set_by_compile(obj)
        is_set_again = not by_compile or (
            self.is_compiled(obj) and not self.is_compiled_plainly(obj)
        )
        for name, value in self.own_attributes(obj).items():
            if name in self.SETTINGS and self.is_a(obj, "layer"):
                continue
            if self.holds_parts(value):
                may_be_carried = name in by_compile and not is_set_again
            elif self.holds_weak(value):
                may_be_carried = name not in by_keras
            elif left is not None and name not in by_keras:
                may_be_carried = name not in left
            elif name in by_compile:
                may_be_carried = self._is_carried(name, value)
            else:
                may_be_carried = name not in by_keras and is_data(value, self.is_tensor)
            if may_be_carried or name not in by_keras | by_user:
                yield name, value

    def _is_carried(self, name: str, value: Any) -> bool:
        return is_data(value, self.is_tensor) or is_carried(name, value)

    # --- user-defined compile() ---------------------------------------------------------------

    def _set_by_compile(self, obj: Any) -> frozenset[str]:
        """Return the attributes that a ``compile()`` sets whose arguments Keras doesn't record."""
        if not self._has_own_compile(obj):
            return frozenset()
        return compile_methods.attributes(type(obj), self.is_built_in) - {"optimizer", "loss"}

    def _has_own_compile(self, obj: Any) -> bool:
        is_own = self.is_a(obj, "model") and self.overrides(obj, "compile")
        return is_own and not self.compiles_from_config(obj)

    def is_compiled_plainly(self, model: Any) -> bool:
        """Return whether a model is compiled again by Keras's own method, past a user-defined one.

        What the user-defined one has set on it is carried as attributes then.
        """
        if not self.describes_itself(model):
            return True
        if not self._has_own_compile(model):
            return False
        return not compile_methods.is_repeatable(model, self.is_built_in, self.lost_by_compiling)

    def lost_by_compiling(self, model: Any) -> list[str]:
        """Return the attributes set by a user-defined ``compile()`` that no pickler carries."""
        by_compile = self._set_by_compile(model)
        return [
            name
            for name, value in self.own_attributes(model).items()
            if name in by_compile
            and not (self.holds_parts(value) or self.holds_weak(value))
            and not self._is_carried(name, value)
        ]


def is_carried(name: str, value: Any) -> bool:
    """Return whether a pickler carries an attribute of this `name` and `value`."""
    try:
        dry_pickler.check(
            None, {name: value}, name="", skip=lambda item: protocol.of(item) is not None
        )
    except ReduceError:
        return False
    return True


def _once(noted: dict[int, Any], obj: Any, meanwhile: Any, find: Callable[[Any], Any]) -> Any:
    """Return ``find(obj)``, called once while this thread writes a payload."""
    if id(obj) not in noted:
        noted[id(obj)] = obj, meanwhile  # For what asks meanwhile; held, so that the id stays.
        noted[id(obj)] = obj, find(obj)
    return noted[id(obj)][1]
