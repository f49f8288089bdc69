"""Placeholders for objects that must not be rebuilt in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["Parcel", "Refused"]


class Parcel:
    """Deferred call of a rebuilder, with the state of the object.

    Dask's scheduler unpickles each graph of tasks, and pickles it again for the workers. Keras
    objects in it are not rebuilt there: the rebuilder is called by the worker.

    Parameters
    ----------
    rebuild : callable
        The rebuilder that an unpickler calls.
    arguments : tuple
        Its arguments.
    """

    # Special names, so that they hide no method of the object: see `__getattr__`.
    __slots__ = ("__arguments__", "__rebuild__", "__state__")

    def __init__(self, rebuild: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.__rebuild__, self.__arguments__ = rebuild, arguments
        self.__state__: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the reduce value of the object itself."""
        return self.__rebuild__, self.__arguments__, self.__state__

    def __setstate__(self, state: Any) -> None:
        """Keep the state of the object."""
        self.__state__ = state

    def __getattr__(self, name: str) -> Parcel:
        """Return a deferred call for a method of the object, pickled as ``getattr``."""
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Parcel(getattr, (self, name))

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        """Raise an error; schedulers check that the function of a task is callable."""
        raise TypeError(f"{self.__rebuild__} is called on a worker only, not in this process")


class Refused:
    """Placeholder for an object that this process must not rebuild; any use raises the reason.

    Used where raising the error at once would end the process without a report.

    Parameters
    ----------
    error : Exception
        The error to raise.
    """

    __slots__ = ("__error__",)

    def __init__(self, error: Exception) -> None:
        self.__error__ = error

    def __reduce__(self) -> tuple[Any, ...]:
        """Return a rebuilder of this placeholder."""
        return Refused, (self.__error__,)

    def __setstate__(self, state: Any) -> None:
        """Ignore the state of the object."""

    def __getattr__(self, name: str) -> Any:
        """Raise the error, except for special names, which are looked up to test for protocols."""
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
