"""Interface of a family, one generation of Keras, and the lookup of an object's family."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

from ..core import keras_backend
from ..errors import FrameworkError
from ._shared.tree import Tree
from ._shared.versions import generation

if TYPE_CHECKING:
    import numpy as np

    from ..custom_objects import Table
    from ..identities import Identity

Kind = Literal[
    "model",
    "layer",
    "function",
    "operation",
    "optimizer",
    "metric",
    "loss",
    "initializer",
    "regularizer",
    "constraint",
    "schedule",
    "policy",
    "callback",
    "seed_generator",
    "variable",
    "tensor",
    "node",
    "tf_function",
]

# The adapter that speaks for each generation of Keras, by root module and first number of its
# version. A family counts as loaded once its root module is in ``sys.modules``: asking must never
# import a framework.
_ADAPTERS = {("keras", 3): "keras3", ("keras", 2): "keras2", ("tf_keras", 2): "keras2"}
ROOTS = tuple(dict.fromkeys(root for root, _ in _ADAPTERS))


class LayerCacheKey(NamedTuple):
    """Cache key of a layer, and the values in which layers of the same key differ."""

    key: tuple[Any, ...]  # Equal for layers of which the same is written, but for names and arrays.
    names: dict[str, Any]  # What replaces the marks that `Family.form` inserts.
    variables: list[Any]  # In the order in which they are written.
    # The same, with None in the place of those that no optimizer has slots for.
    trainable: list[Any]


class Family(Protocol):
    """One generation of Keras, as the rest of the package sees it.

    Adapters are modules of identical shape; a module satisfies this protocol by its functions.
    """

    NAME: str

    # Raise `FrameworkError` if the framework lacks what this adapter takes from it.
    check: Callable[[], None]
    # Return a sentence about the framework's version if it is none that was tested.
    untested: Callable[[], str]
    # Tell which kind of this family's objects `obj` is; None if it is none that we carry.
    kind: Callable[[Any], Kind | None]
    # Return the classes that define how all others of this family are reduced.
    base_classes: Callable[[], tuple[type, ...]]
    # Return the public classes of which everything that we carry is a subclass.
    public_classes: Callable[[], tuple[type, ...]]
    # Return what loses data in the framework: class or module, name, old -> new function.
    repairs: Callable[[], Iterable[tuple[Any, str, Callable[[Any], Any]]]]
    # Return the methods by which objects are copied past their ``__reduce__``.
    shortcuts: Callable[[], Iterable[tuple[type, str]]]
    # Return the versions that a payload's header records.
    versions: Callable[[], dict[str, str]]
    # Return the name of the array library below Keras.
    backend: Callable[[], str]
    # Seed Python, NumPy and the framework, as ``keras.utils.set_random_seed`` does.
    set_random_seed: Callable[[int], None]
    # Tell whether `obj` is a model of this family.
    is_model: Callable[[Any], bool]
    # Tell whether `obj` is a class that models are made of, or a function of tensors.
    is_harmless: Callable[[Any], bool]
    # Enter the user's classes and functions into `table` while configs are made.
    writing: Callable[[Table], AbstractContextManager[None]]
    # Let configs find `custom_objects`, `objects` and identity tokens meanwhile.
    reading: Callable[..., AbstractContextManager[None]]
    # Return what is below `root`, of which `children` (or their paths) travel apart.
    survey: Callable[..., Tree]
    # Return the config from which `construct` makes an object like `obj`.
    architecture: Callable[[Any], dict[str, Any]]
    # Return what the config leaves out and `construct` needs to create the same variables. Under
    # ``children`` the numbers of the parts that have payloads of their own, by path.
    structure: Callable[[Tree, Table], dict[str, Any]]
    # Return how an object, and models inside it, were compiled; None if nothing was.
    compilation: Callable[[Tree], dict[str, Any] | None]
    # Return a new object with all its variables created, their values to be overwritten.
    construct: Callable[[dict[str, Any], dict[str, Any], dict[str, Any] | None, Sequence[Any]], Any]
    # Return the constructor arguments for which the config of `obj` can't make it.
    left_out: Callable[[Any], list[str]]
    # Return the cache key of `obj`, which covers all but names and arrays; None if it has none.
    layer_cache_key: Callable[[Any], LayerCacheKey | None]
    # Return architecture and structure of an object that has a cache key, without its names.
    form: Callable[[dict[str, Any], dict[str, Any]], tuple[dict[str, Any], dict[str, Any]]]
    # Return the tokens of a tree's own variables, in their order; None for variables that no
    # optimizer has slots for.
    identities: Callable[[Tree], list[Identity | None]]
    # Return the parts that have payloads of their own, themselves or their paths.
    payloads_below: Callable[[Mapping[str, Any]], Iterable[Any]]
    # Return `values`, by path, without those that another payload has given already.
    unfilled: Callable[[Tree, dict[str, Any]], dict[str, Any]]
    # Return the state that is not in variables, as arrays by path and name.
    assets: Callable[[Tree], dict[tuple[str, str], np.ndarray[Any, Any]]]
    # Give an object the arrays that `assets` returned for its original.
    restore_assets: Callable[[Tree, Mapping[tuple[str, str], np.ndarray[Any, Any]]], None]
    # Bring what an object derives from its variables up to date with them.
    finish: Callable[[Tree], None]
    # Let a rebuilt object take the state that a pickler is about to give it.
    await_state: Callable[[Any], None]
    # Return the object that code in the attributes of `obj` may refer to.
    owner: Callable[[Any], Any]
    # Return attributes: those that pickle shall put back, and those that `construct` shall. The
    # latter by the numbers under ``tracked`` in the structure; an attribute of a part that has no
    # payload of its own, see `tree`, is named ``path:attribute``.
    state: Callable[[Any, Tree], tuple[dict[str, Any], dict[str, Any]]]


@functools.cache
def by_name(name: str) -> Family:
    """Return the family called `name`, as a payload's header spells it.

    Raises
    ------
    FrameworkError
        If this version of the package doesn't know it.
    """
    if name not in _ADAPTERS.values():
        raise FrameworkError(
            f"Unknown Keras family {name!r}",
            cause="the payload was written by a newer version of keras_reduce",
            cure="upgrade keras_reduce: pip install -U keras_reduce",
        )
    return cast(Family, importlib.import_module(f"{__package__}.{name}"))


def required(name: str, backend: str = "") -> Family:
    """Return the family called `name` with its framework imported.

    The object was written where Keras computed with `backend`.

    Raises
    ------
    FrameworkError
        If the family is unknown, or its framework can't be imported here, or is a version that
        lacks what is needed of it.
    """
    family = by_name(name)
    roots = [root for (root, _), adapter in _ADAPTERS.items() if adapter == name]
    root = next((root for root in roots if _speaks_for(root) == name), roots[-1])
    try:
        if generation(root) and _speaks_for(root) != name:
            raise ImportError(f"{root} is of generation {generation(root)}")
        importlib.import_module(root)
    except ImportError as error:
        wanted = keras_backend.expected()
        install = _INSTALL.get(name, f"pip install {root} {wanted}")
        cure = f"install what is missing, for example: {install}"
        if backend not in ("", wanted):
            cure += (
                f"; or compute with what the object was made with: set KERAS_BACKEND={backend} "
                "before the program imports Keras"
            )
        raise FrameworkError(
            f"Keras objects of the family {name!r} can't be rebuilt without {root!r}",
            cause=f"{error}. Keras, or {wanted}, with which it is to compute, is not installed in "
            f"{sys.prefix}, or is one of another generation",
            cure=cure,
        ) from error
    family.check()
    return family


_INSTALL = {"keras2": "pip install tf_keras tensorflow"}


def loaded() -> tuple[Family, ...]:
    """Return the families whose framework this process has imported."""
    return _by_names(*[_adapter(root) for root in ROOTS if root in sys.modules])


@functools.cache
def _by_names(*names: str | None) -> tuple[Family, ...]:
    return tuple(by_name(name) for name in dict.fromkeys(names) if name is not None)


def of_module(root: str) -> Family | None:
    """Return the family that speaks for an imported module, None if there is none."""
    name = _adapter(root)
    return None if name is None else by_name(name)


def _speaks_for(root: str) -> str | None:
    """Return the name of the adapter for a module, imported or not; None if there is none."""
    return _ADAPTERS.get((root, generation(root)))


def _adapter(root: str) -> str | None:
    """Return the cached result of `_speaks_for`: every object that is pickled asks for it."""
    if root not in _adapters:
        if not hasattr(sys.modules[root], "__version__"):
            return _speaks_for(root)  # Still being imported.
        _adapters[root] = _speaks_for(root)
    return _adapters[root]


_adapters: dict[str, str | None] = {}


def of(obj: Any) -> Family | None:
    """Return the family that carries `obj`, or None."""
    for family in loaded():
        if family.kind(obj) is not None:
            return family
    return None


def active() -> Family:
    """Return the family that a program means by "Keras": what the module `keras` is."""
    return by_name("keras2" if generation("keras") == 2 else "keras3")
