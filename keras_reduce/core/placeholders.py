"""Placeholders for objects that can't be, or must not be, unpickled in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["DeferredCall", "Refused"]


class DeferredCall:
    """Placeholder for an object until it has arrived: how to rebuild it, and its state.

    A scheduler of Dask's unpickles each graph of tasks, to know its nodes, and pickles it again for
    the workers. Keras objects in it stay what they are on the way: a call that is still to be made.
    """

    # So named as to hide no method of the object's: see `__getattr__`.
    __slots__ = ("__arguments__", "__rebuild__", "__state__")

    def __init__(self, rebuild: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.__rebuild__, self.__arguments__ = rebuild, arguments
        self.__state__: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Reduce to what the object itself was reduced to."""
        return self.__rebuild__, self.__arguments__, self.__state__

    def __setstate__(self, state: Any) -> None:
        """Keep the state that an unpickler has for the object."""
        self.__state__ = state

    def __getattr__(self, name: str) -> DeferredCall:
        """Let a method of the object pass as well: a pickler writes it as ``getattr``."""
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return DeferredCall(getattr, (self, name))

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        """Refuse; but schedulers ask whether the function of a task can be called."""
        raise TypeError(f"{self.__rebuild__} is not called before its call reaches a worker")


class Refused:
    """Placeholder for an object that this process must not rebuild: its use raises `error`.

    In place of an error that would end the process, and that the program would never see.
    """

    __slots__ = ("__error__",)

    def __init__(self, error: Exception) -> None:
        self.__error__ = error

    def __reduce__(self) -> tuple[Any, ...]:
        """Reduce to the same."""
        return Refused, (self.__error__,)

    def __setstate__(self, state: Any) -> None:
        """Forget the state that an unpickler has for the object."""

    def __getattr__(self, name: str) -> Any:
        """Raise the error; but let others ask for what is no attribute of the object's."""
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        self.__refuse()

    def __setattr__(self, name: str, value: Any) -> None:
        """Raise the error."""
        if name != "__error__":
            self.__refuse()
        object.__setattr__(self, name, value)

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        """Raise the error."""
        self.__refuse()

    def __refuse(self) -> NoReturn:
        raise self.__error__
