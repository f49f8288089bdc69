"""What a family must answer, and how one is found."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Protocol, cast

from ..errors import FrameworkError

# Root module of each family's framework -> the adapter that speaks for it. A family counts as
# loaded once its root module is in ``sys.modules``: asking must never import a framework.
_ADAPTERS = {"keras": "keras3"}


class Family(Protocol):
    """One generation of Keras, as the rest of the package sees it.

    Adapters are modules of identical shape; a module satisfies this protocol by its functions.
    """

    NAME: str
    ROOT_MODULE: str

    def set_random_seed(self, seed: int) -> None:
        """Seed Python, NumPy and the framework, as ``keras.utils.set_random_seed`` does."""
        ...

    def owns(self, obj: Any) -> bool:
        """Tell whether `obj` is an instance of one of this family's classes."""
        ...

    def is_model(self, obj: Any) -> bool:
        """Tell whether `obj` is a model of this family."""
        ...


def by_name(name: str) -> Family:
    """Return the family called `name`, as a payload's header spells it."""
    if name not in _ADAPTERS.values():
        raise FrameworkError(
            f"Unknown Keras family {name!r}",
            cause="the payload was written by a newer version of keras_reduce",
            cure="upgrade keras_reduce: pip install -U keras_reduce",
        )
    return cast(Family, importlib.import_module(f"{__package__}.{name}"))


def loaded() -> tuple[Family, ...]:
    """Return the families whose framework this process has imported."""
    return tuple(by_name(name) for root, name in _ADAPTERS.items() if root in sys.modules)


def of(obj: Any) -> Family | None:
    """Return the family that `obj` belongs to, or None."""
    for family in loaded():
        if family.owns(obj):
            return family
    return None


def active() -> Family:
    """Return the family that code written today means by "Keras"."""
    return by_name("keras3")
