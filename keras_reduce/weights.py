"""The arrays of an object: collected under their paths, restored under the same paths.

Everything numeric is a weight here: layer variables, optimizer slots and iterations, random seeds,
metric state; and assets such as vocabularies, as arrays of bytes. What a restored object has and a
payload lacks, or the reverse, is an error: nothing is ever left at a random start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import tensors
from .errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from .payload import Weight

    Array = np.ndarray[Any, Any]

# Between the path of a layer and the name of an asset that belongs to it.
ASSET = "@"


def collect(
    variables: Mapping[str, Any], assets: Mapping[str, Array], backend: str
) -> tuple[list[Weight], tuple[Array, ...]]:
    """Return the list of weights for the header, and the arrays in the same order.

    Parameters
    ----------
    variables : mapping
        Variables by path.
    assets : mapping
        Arrays by path, with an `ASSET` in each path.
    backend : str
        Keras backend that made the variables.
    """
    entries: list[Weight] = []
    arrays: list[Array] = []
    for path, variable in variables.items():
        array = tensors.read(variable, backend)
        entries.append((path, array.shape, tensors.dtype_name(variable)))
        arrays.append(array)
    for path, array in assets.items():
        entries.append((path, array.shape, str(array.dtype)))
        arrays.append(array)
    return entries, tuple(arrays)


def pair(
    entries: Sequence[Any], arrays: Sequence[Array]
) -> tuple[dict[str, tuple[Array, str]], dict[str, Array]]:
    """Return what `collect` was given, as arrays by path: for variables (with dtype), for assets.

    Raises
    ------
    PayloadError
        If the header's list and the arrays disagree.
    """
    if len(entries) != len(arrays):
        raise PayloadError(
            f"The header lists {len(entries)} weights, the payload holds {len(arrays)}",
            **_DAMAGED,
        )
    variables: dict[str, tuple[Array, str]] = {}
    assets: dict[str, Array] = {}
    for (path, shape, dtype), array in zip(entries, arrays, strict=True):
        if tuple(shape) != array.shape or tensors.carrier(dtype) != array.dtype:
            raise PayloadError(
                f"The header gives a weight as {dtype}{tuple(shape)}, its array is "
                f"{array.dtype}{array.shape}",
                where=path,
                **_DAMAGED,
            )
        if ASSET in path:
            assets[path] = array
        else:
            variables[path] = (array, dtype)
    return variables, assets


def assign(targets: Mapping[str, Any], values: Mapping[str, tuple[Array, str]]) -> None:
    """Give the variables `targets` the `values` that stand under the same paths.

    Raises
    ------
    PayloadError
        If paths, shapes or dtypes disagree; nothing has been written then.
    """
    _check_paths(set(targets), set(values))
    for path, variable in targets.items():
        array, dtype = values[path]
        if tuple(variable.shape) != array.shape or tensors.dtype_name(variable) != dtype:
            raise PayloadError(
                f"A weight {dtype}{array.shape} meets a variable "
                f"{tensors.dtype_name(variable)}{tuple(variable.shape)}",
                where=path,
                cause="the class that builds this variable has changed since the payload was "
                "written",
                cure="load it with the code that wrote it",
            )
    for path, variable in targets.items():
        tensors.write(variable, *values[path])


_DAMAGED = {
    "cause": "the payload is damaged or was put together by hand",
    "cure": "write it anew from the original object",
}


def _check_paths(built: set[str], carried: set[str]) -> None:
    if built == carried:
        return
    lacking, surplus = sorted(built - carried), sorted(carried - built)
    parts = []
    if lacking:
        parts.append(f"no weights for {_shortened(lacking)}")
    if surplus:
        parts.append(f"weights that have no variable: {_shortened(surplus)}")
    raise PayloadError(
        "The rebuilt object and its payload disagree: " + "; ".join(parts),
        where=(lacking or surplus)[0],
        cause="the class that creates these variables has changed, or creates them outside "
        "__init__() and build()",
        cure="load it with the code that wrote it, or create all state in build() and, if build() "
        "needs more than a shape, implement get_build_config() and build_from_config()",
    )


def _shortened(paths: list[str]) -> str:
    shown = ", ".join(paths[:5])
    return f"{shown} and {len(paths) - 5} more" if len(paths) > 5 else shown
