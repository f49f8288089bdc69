"""Nodes by which `skops.io` reads what `skops` has written; imported once skops is.

A node is created, and says which names it needs, before anything is imported. Then skops asks it
for its object, which is rebuilt under the trust policy of `keras_reduce.load`, with the names that
the user trusts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
from skops.io._audit import NODE_TYPE_MAPPING, UNINITIALIZED, Node, get_tree
from skops.io._protocol import PROTOCOL
from skops.io._utils import get_type_paths

from .. import families, identities, reducers, weak_references
from ..audit import trust_policy
from ..errors import PayloadError
from ..trusted import config_checks
from ..trusted.names import resolve
from . import skops

__all__ = ["register"]


class _Node(Node):  # type: ignore[misc]  # skops has no types where it isn't installed
    """Base of all nodes: they need no name for themselves, and rebuild an object once.

    Attributes in the arguments of a rebuilder may lead back to the object, as those of a model do
    that keeps its history in a list. Then it is rebuilt within itself, as by a pickler, and the
    outer attempt returns what the inner one has made.
    """

    _depth = 0
    _constructed: Any  # Private: where skops keeps the object of a node.

    def __init__(self, state: Any, load_context: Any, trusted: Any = None) -> None:
        super().__init__(state, load_context, trusted)
        self._context, self._names = load_context, trusted
        try:
            self._read(state)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise _damaged(f"{type(error).__name__}: {error}") from error

    def _read(self, state: Any) -> None:
        """Create the nodes below, and enter them in `children`."""

    def is_self_safe(self) -> bool:
        """Return True, since this class is part of this package."""
        return True

    def _child(self, state: Any) -> Node:
        return get_tree(state, self._context, self._names)

    def _children(self, states: Iterable[Any]) -> list[Node]:
        return [self._child(state) for state in states]

    def _values(self, states: dict[str, Any]) -> dict[str, Node]:
        return {name: self._child(state) for name, state in states.items()}

    def _policy(self) -> trust_policy.Policy:
        # skops knows exact names only.
        names = [name for name in get_type_paths(self._names) if name[-1:] not in ("", ".", "*")]
        return trust_policy.Policy(names)

    def _construct(self) -> Any:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _damaged("an object is a part of itself")
        return self._rebuild()

    def _rebuild(self) -> Any:
        raise NotImplementedError

    def _set_state(self, obj: Any, state: dict[str, Any]) -> None:
        """Set the attributes of an object, which may refer to it."""
        setter = getattr(obj, "__setstate__", None)
        if setter is not None:
            setter(state)
        else:
            vars(obj).update(state)


# There is one level for each way back to the object.
_DEEPEST = 20


def _constructed(nodes: dict[str, Node]) -> dict[str, Any]:
    return {name: node.construct() for name, node in nodes.items()}


class _KerasNode(_Node):
    """A Keras object: the arguments of its rebuilder, and its state."""

    def _read(self, state: Any) -> None:
        if state["version"] != skops.VERSION:
            raise PayloadError(
                f"A node of the skops file has version {state['version']!r}, but this version of "
                f"keras_reduce reads {skops.VERSION}",
                cause="it was written by a later version",
                cure="pip install -U keras_reduce",
            )
        self._function = _rebuilder(self.module_name, self.class_name)
        references = tuple(tuple(reference) for reference in state["custom_objects"])
        self._texts = state["json"], state["compile_config"]
        self._references = (references, ()) if references else None
        self._code = self._children(state["code"])
        if any(position >= len(self._code) for _, _, _, position, *_ in references):
            raise _damaged("it refers to code that it doesn't hold")
        self._arrays = self._children(state["arrays"])
        self._objects = self._children(state["objects"])
        self._of_variables = [each and self._child(each) for each in state["of_variables"]]
        self._of_others = self._children(state["of_others"])
        self._of_targets = [(path, self._child(each)) for path, each in state["of_targets"]]
        self._state = self._values(state["state"])
        self.children = {
            "code": self._code,
            "arrays": self._arrays,
            "objects": self._objects,
            "state": self._state,
        }
        self._globals = list(config_checks.named_globals(*self._texts, self._references))

    def get_unsafe_set(self) -> set[str]:
        """Return the names of classes and functions to trust, of this object and those in it."""
        unsafe: set[str] = super().get_unsafe_set()
        return unsafe | {each.path for each in self._globals if _is_foreign(each)}

    def _rebuild(self) -> Any:
        policy = self._policy()
        config_checks.check(policy, *self._texts, self._references)
        if policy.refused:
            raise policy.error("the skops file")
        code = tuple(node.construct() for node in self._code)
        arrays = tuple(node.construct() for node in self._arrays)
        objects = tuple(node.construct() for node in self._objects)
        variables = tuple(each and each.construct() for each in self._of_variables)
        others = tuple(each.construct() for each in self._of_others)
        targets = tuple((path, each.construct()) for path, each in self._of_targets)
        json, compile_config = self._texts
        custom_objects = self._references and (self._references[0], code)
        given = (json, arrays, compile_config, custom_objects, objects, None)
        if self._constructed is not UNINITIALIZED:
            return self._constructed
        with trust_policy.using(policy):
            obj = self._constructed = self._function(*given, variables, others, targets)
            if self._state:
                self._set_state(obj, _constructed(self._state))
        return obj


def _rebuilder(module: str, name: str) -> Callable[..., Any]:
    if module != reducers.__name__ or name not in reducers.REBUILDERS:
        raise _damaged(f"{module}.{name} is no rebuilder")
    return reducers.REBUILDERS[name]


def _is_foreign(each: config_checks.NamedGlobal) -> bool:
    """Return whether the user must trust a name, which this package does not know."""
    return bool(each.reason) or trust_policy.classify(each.module, each.name)[0] == "foreign"


class _ObjectNode(_Node):
    """An estimator of this package or of Keras, or a part of one: class and attributes."""

    def _read(self, state: Any) -> None:
        if not skops.is_plain_object(f"{self.module_name}.{self.class_name}"):
            raise _damaged(f"{self.module_name}.{self.class_name} is no estimator")
        self._attributes = self._values(state["attributes"])
        self.children = {"attributes": self._attributes}

    def _rebuild(self) -> Any:
        cls, _ = resolve(self._policy(), self.module_name, self.class_name)
        obj = self._constructed = cls.__new__(cls)
        self._set_state(obj, _constructed(self._attributes))
        return obj


class _MethodNode(_Node):
    """A bound method of a Keras object."""

    def _read(self, state: Any) -> None:
        self._owner, self._method = self._child(state["owner"]), str(state["method"])
        self.children = {"owner": self._owner}

    def get_unsafe_set(self) -> set[str]:
        """Return the names to trust, with that of the method, as skops does."""
        unsafe: set[str] = super().get_unsafe_set()
        return unsafe | {f"{self.module_name}.{self.class_name}.{self._method}"}

    def _rebuild(self) -> Any:
        owner = self._owner.construct()
        cls = type(owner)
        if (cls.__module__, cls.__qualname__) != (self.module_name, self.class_name):
            raise _damaged(f"a {cls.__qualname__} is not the {self.class_name} that it names")
        return getattr(owner, self._method)


class _ArrayNode(_Node):
    """An array or a scalar with a dtype of `ml_dtypes`, which Keras requires."""

    def _read(self, state: Any) -> None:
        self._bits = self._child(state["bits"])
        self._is_scalar = self.class_name != np.ndarray.__name__
        self._dtype = np.dtype(getattr(ml_dtypes, state["dtype"]))
        if self._dtype.isbuiltin != 2:  # Any class would be the dtype of objects.
            raise _damaged(f"{state['dtype']!r} is no dtype of ml_dtypes")
        self.children = {"bits": self._bits}

    def _rebuild(self) -> Any:
        array = self._bits.construct().view(self._dtype)
        return array[()] if self._is_scalar else array


class _TokenNode(_Node):
    def _rebuild(self) -> Any:
        return identities.rebuild_identity()


class _WeakNode(_Node):
    def _read(self, state: Any) -> None:
        self._outline = self._child(state["outline"])
        self.children = {"outline": self._outline}

    def _rebuild(self) -> Any:
        return weak_references.rebuild_weak_attribute(self._outline.construct())


class _AttributesNode(_Node):
    _parts: ClassVar = ("owner", "attributes", "value")

    def _read(self, state: Any) -> None:
        self.children = self._values({name: state[name] for name in self._parts})

    def _rebuild(self) -> Any:
        owner, attributes, value = (self.children[name].construct() for name in self._parts)
        if families.of(owner) is None or not isinstance(attributes, dict):
            raise _damaged("attributes of parts belong to no Keras object")
        return reducers.rebuild_part_attributes(owner, attributes, value)


def _damaged(cause: str) -> PayloadError:
    return PayloadError(
        "A node of the skops file is not one that this package writes",
        cause=f"it was damaged or crafted: {cause}",
        cure="write it again from the original object",
    )


_NODES = {
    skops.KERAS: _KerasNode,
    skops.OBJECT: _ObjectNode,
    skops.METHOD: _MethodNode,
    skops.TOKEN: _TokenNode,
    skops.WEAK: _WeakNode,
    skops.ATTRIBUTES: _AttributesNode,
    skops.ARRAY: _ArrayNode,
}


def register() -> Callable[[], None]:
    """Register the nodes with skops; return a function that removes them."""
    nodes = {(name, PROTOCOL): node for name, node in _NODES.items()}
    NODE_TYPE_MAPPING.update(nodes)

    def remove() -> None:
        for key in nodes:
            NODE_TYPE_MAPPING.pop(key, None)

    return remove
