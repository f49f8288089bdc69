"""Keras 3, on any of its backends.

`tree` names everything below an object; `writing` and `reading` turn objects into configs and back,
`attributes` those that no config describes; `structure`, `compilation` and `assets` add what a
config leaves out; `layer_cache_key` finds layers whose config is known already; `private` lists the
private names of Keras that all of them use. This module puts them together into a family.
"""

# ruff: noqa: F401 - what is imported are answers of the family, see `protocol.Family`.

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from ...core import context
from . import private
from .assets import assets, finish, restore_assets
from .compilation import compilation
from .harmless import is_harmless
from .kinds import is_a, kind, public_classes
from .layer_cache_key import form, layer_cache_key
from .private import check, untested
from .reading import reading
from .rules import left_out, owner
from .seeds import remembering
from .state import state
from .structure import construct, payloads_below, structure, unfilled
from .tree import Tree, identities
from .writing import architecture, writing

NAME = "keras3"


def base_classes() -> tuple[type, ...]:
    """Return the classes whose ``__reduce__`` all other Keras classes inherit."""
    # Keras 3 has one class at the root of all, which defines __reduce__; it has no public name,
    # so it is found through those that have one.
    classes = {
        next((base for base in root.__mro__[:-1] if "__reduce__" in vars(base)), root)
        for root in public_classes()
    }
    return tuple(sorted(classes, key=lambda cls: cls.__qualname__))


def repairs() -> Iterable[tuple[Any, str, Callable[[Any], Any]]]:
    """Return the functions of Keras that lose data, and how they are mended."""
    if private.missing():
        return  # Nothing is carried: see `check`.
    import keras

    for cls in keras.wrappers.SKLearnRegressor.__mro__:
        # SKLBase.__sklearn_clone__ leaves fit_kwargs out, so that each clone that
        # cross-validation makes trains with Keras's default number of epochs.
        if "__sklearn_clone__" in vars(cls) and cls.__module__.partition(".")[0] == "keras":
            yield cls, "__sklearn_clone__", _clone_with_fit_kwargs
    # Private: there is no other way to the generator of another thread.
    from keras.src.random import seed_generator

    yield seed_generator, "global_seed_generator", remembering


def shortcuts() -> Iterable[tuple[type, str]]:
    """Return nothing: objects of Keras 3 are copied by their ``__reduce__``."""
    return ()


def _clone_with_fit_kwargs(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def __sklearn_clone__(self: Any) -> Any:  # noqa: N807
        clone = original(self)
        if getattr(clone, "fit_kwargs", None) is None and self.fit_kwargs is not None:
            clone.fit_kwargs = dict(self.fit_kwargs)
        return clone

    return __sklearn_clone__


def versions() -> dict[str, str]:
    """Return the versions of Keras and of the framework that computes for it."""
    import keras

    framework = sys.modules.get(backend())
    by_name = {"keras": keras.version(), "backend": backend()}
    if framework is not None and hasattr(framework, "__version__"):
        by_name[backend()] = str(framework.__version__)
    return by_name


def backend() -> str:
    """Return the name of Keras's backend in this process."""
    import keras

    return str(keras.backend.backend())


def set_random_seed(seed: int) -> None:
    """Seed Python, NumPy and the framework."""
    import keras

    keras.utils.set_random_seed(seed)


def is_model(obj: Any) -> bool:
    """Return whether `obj` is a Keras 3 model."""
    return is_a(obj, "model")


def await_state(obj: Any) -> None:
    """Do nothing: objects of Keras 3 take a state as any object does."""


def survey(root: Any, children: Iterable[Any] = ()) -> Tree:
    """Return the tree below `root`, of which `children` (or their paths) travel apart."""
    tree = Tree(root, children)
    private.check_found(tree)
    for node in tree.nodes.values():
        # Private: on JAX, `fit` takes the values out of the variables while it runs, and puts them
        # back for callbacks that ask.
        values = vars(node).get("_jax_state")
        if not values or vars(node).get("_jax_state_synced") is not False:
            continue
        # Read before the question whether another thread trains: if that thread has ended one `fit`
        # since and begun another, these are not the values of the new one.
        if not _is_at_work(node) and vars(node).get("_jax_state") is values:
            node.jax_state_sync()
    return tree


def _is_at_work(model: Any) -> bool:
    """Return whether another thread is training `model`; to put values back would spoil that."""
    return context.runs_elsewhere(_AT_WORK, lambda part: part is model)


_AT_WORK = frozenset(
    {
        "fit",
        "evaluate",
        "predict",
        "train_on_batch",
        "test_on_batch",
        "predict_on_batch",
    }
)
