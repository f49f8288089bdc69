"""Objects from names, classes and routed parameters: optimizers, losses, metrics, callbacks.

A parameter such as ``loss__delta=2.0`` belongs to the class that is given as ``loss``. In a list or
dict, ``metrics__0__name`` belongs to one item, and ``metrics__name`` to all of them. An argument
that is itself a class, or contains classes, gets parameters in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import EstimatorTypeError
from .parameters import routed, title

__all__ = ["constructed"]


def constructed(
    value: Any,
    parameters: Mapping[str, Any],
    where: str,
    by_name: Callable[..., Any] | None = None,
    common: Mapping[str, Any] | None = None,
) -> Any:
    """Return `value` with each class in it replaced by an instance.

    Parameters
    ----------
    value : object
        A class, a name, any other object, or a list, tuple or dict of these.
    parameters : mapping
        Routed parameters without the prefix of `value`.
    where : str
        The parameter that gave `value`, for error messages.
    by_name : callable, optional
        Function that returns the class or object for a name; it gets ``has_parameters`` as well. If
        left out, strings stay strings.
    common : mapping, optional
        Parameters of all items of the list or dict around `value`; its own take precedence.

    Raises
    ------
    EstimatorTypeError
        If there are parameters for an object that is not a class.
    """
    direct = {name: each for name, each in parameters.items() if "__" not in name}
    arguments = {**(common or {}), **direct}
    if isinstance(value, (list, tuple, dict)):
        items = dict(value.items() if isinstance(value, dict) else enumerate(value))
        done = {
            key: constructed(
                item,
                routed(parameters, str(key), deep=True),
                f"{where}[{key!r}]",
                by_name,
                arguments,
            )
            for key, item in items.items()
        }
        if all(done[key] is item for key, item in items.items()):
            return value  # The container may be one that the program looks at later.
        return done if isinstance(value, dict) else type(value)(done.values())
    if isinstance(value, str) and by_name is not None:
        value = by_name(value, has_parameters=bool(arguments))
    if isinstance(value, type):
        parts = {
            name: constructed(each, routed(parameters, name, deep=True), f"{where}.{name}")
            for name, each in arguments.items()
        }
        positional = sorted((int(name), name) for name in parts if name.isdigit())
        by_keyword = {name: each for name, each in parts.items() if not name.isdigit()}
        return value(*(parts[name] for _, name in positional), **by_keyword)
    if arguments:
        raise EstimatorTypeError(
            f"{title(value)} does not accept parameters because it's not a class",
            where=where,
            cause=f"the routed parameters are {', '.join(sorted(arguments))}",
            cure="pass the class, or a name of one; or give the object its parameters "
            "when you create it",
        )
    return value
