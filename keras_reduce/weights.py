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
    from collections.abc import Sequence

    import numpy as np

    from .families import Family
    from .payload import Weight

# Between the path of a layer and the name of an asset that belongs to it.
ASSET = "@"


def collect(family: Family, obj: Any) -> tuple[list[Weight], tuple[np.ndarray[Any, Any], ...]]:
    """Return the list of weights for the header, and the arrays in the same order."""
    backend = family.backend()
    entries: list[Weight] = []
    arrays: list[np.ndarray[Any, Any]] = []
    for path, variable in family.variables(obj).items():
        array = tensors.read(variable, backend)
        entries.append((path, array.shape, tensors.true_dtype(array, variable)))
        arrays.append(array)
    for path, array in family.assets(obj).items():
        entries.append((path, array.shape, str(array.dtype)))
        arrays.append(array)
    return entries, tuple(arrays)


def restore(
    family: Family,
    obj: Any,
    entries: Sequence[Any],
    arrays: Sequence[np.ndarray[Any, Any]],
) -> None:
    """Give `obj` the arrays that `collect` took from its original.

    Raises
    ------
    PayloadError
        If paths, shapes or dtypes disagree; nothing has been written then.
    """
    if len(entries) != len(arrays):
        raise PayloadError(
            f"The header lists {len(entries)} weights, the payload holds {len(arrays)}",
            cause="the payload is damaged or was put together by hand",
            cure="write it anew from the original object",
        )
    variables: dict[str, tuple[np.ndarray[Any, Any], str]] = {}
    assets: dict[str, np.ndarray[Any, Any]] = {}
    for (path, shape, dtype), array in zip(entries, arrays, strict=True):
        if tuple(shape) != array.shape:
            raise PayloadError(
                f"The header gives a weight the shape {tuple(shape)}, its array has {array.shape}",
                where=path,
                cause="the payload is damaged or was put together by hand",
                cure="write it anew from the original object",
            )
        if ASSET in path:
            assets[path] = array
        else:
            variables[path] = (array, dtype)

    # Assets first: some create variables, and a user's own loading method may write rounded
    # values into variables that the exact ones must then overwrite.
    family.restore_assets(obj, assets)
    targets = family.variables(obj)
    _check_paths(set(targets), set(variables))
    for path, variable in targets.items():
        array, _ = variables[path]
        if tuple(variable.shape) != array.shape:
            raise PayloadError(
                f"A weight of shape {array.shape} meets a variable of shape "
                f"{tuple(variable.shape)}",
                where=path,
                cause="the class that builds this variable has changed since the payload was "
                "written",
                cure="load it with the code that wrote it",
            )
    for path, variable in targets.items():
        tensors.write(variable, *variables[path])
    family.finish(obj)


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
