"""Pickles that pass through a process which has no use for what is in them.

A scheduler of Dask's unpickles each graph of tasks, to know its nodes, and pickles it again for the
workers. Keras objects in it stay what they are on the way: a call that is still to be made.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

__all__ = ["Parcel", "are_passing"]


class Parcel:
    """What stands for an object until it has arrived: how to rebuild it, and its state.

    Parameters
    ----------
    rebuild : callable
        What an unpickler calls.
    arguments : tuple
        With what.
    """

    def __init__(self, rebuild: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.rebuild, self.arguments = rebuild, arguments
        self.state: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Reduce to what the object itself was reduced to."""
        return self.rebuild, self.arguments, self.state

    def __setstate__(self, state: Any) -> None:
        """Keep the state that an unpickler has for the object."""
        self.state = state

    def __getattr__(self, name: str) -> Parcel:
        """Let a method of the object pass as well: a pickler writes it as ``getattr``."""
        if name.startswith("_"):
            raise AttributeError(name)
        return Parcel(getattr, (self, name))

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        """Refuse; but schedulers ask whether the function of a task can be called."""
        raise TypeError(f"{self.rebuild} has not been called yet: this is on its way elsewhere")


def are_passing() -> bool:
    """Tell whether what is being unpickled is on its way through a scheduler."""
    if "distributed.scheduler" not in sys.modules:
        return False
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        # Private: the method that unpickles a graph.
        if (
            frame.f_code.co_name == "update_graph"
            and frame.f_globals.get("__name__") == "distributed.scheduler"
        ):
            return True
        frame = frame.f_back
    return False
