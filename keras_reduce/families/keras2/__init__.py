"""Keras 2: TensorFlow's own until 2.15, and tf_keras, which lives beside Keras 3.

`framework` tells which of the two is there; `tree` names everything below an object; `configs`
turns objects into configs and back, `attributes` those that no config describes; `compilation`,
`optimizers`, `structure` and `assets` add what a config leaves out.
"""

# ruff: noqa: F401, F811 - what is imported are answers of the family, see `protocol.Family`.

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .._shared.tree import payloads_below
from .assets import assets, finish, restore_assets
from .compilation import compilation
from .configs import architecture, reading, writing
from .framework import keras, root
from .harmless import is_harmless
from .kinds import is_a, kind, public_classes
from .rules import left_out, owner
from .state import await_state, state
from .structure import construct, structure
from .tree import Tree, identities
from .wrappers import repairs

NAME = "keras2"


def check() -> None:
    """Do nothing: no release changes Keras 2 any more, and the tests run with the last ones."""


def untested() -> str:
    """Return nothing; see `check`."""
    return ""


def base_classes() -> tuple[type, ...]:
    """Return the classes that define how all others of this family are reduced."""
    return public_classes()


def shortcuts() -> Iterator[tuple[type, str]]:
    """Return the methods by which Keras's classes are copied past their ``__reduce__``."""
    for cls in public_classes():
        for name in ("__deepcopy__", "__copy__"):
            if name in vars(cls):
                yield cls, name


def versions() -> dict[str, str]:
    """Return the versions of Keras and of TensorFlow."""
    import tensorflow as tf

    return {root(): str(keras().__version__), "tensorflow": str(tf.__version__)}


def backend() -> str:
    """Return "tensorflow", which is all that Keras 2 has."""
    return "tensorflow"


def set_random_seed(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow."""
    keras().utils.set_random_seed(seed)


def is_model(obj: Any) -> bool:
    """Return whether `obj` is a Keras 2 model."""
    return is_a(obj, "model")


def survey(root: Any, children: Iterable[Any] = ()) -> Tree:
    """Return the tree below `root`, of which `children` (or their paths) travel apart."""
    return Tree(root, children)


def unfilled(tree: Tree, values: dict[str, Any]) -> dict[str, Any]:
    """Return `values`: each payload of an object lists all of its variables."""
    return values


def layer_cache_key(obj: Any) -> None:
    """Return None: each object is looked at."""


def form(
    architecture: dict[str, Any], structure: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both as they are; see `layer_cache_key`."""
    return architecture, structure
