"""The arrays of an object: collected under their paths, restored under the same paths.

Everything numeric is a weight here: layer variables, optimizer slots and iterations, random seeds,
metric state; and assets such as vocabularies, as arrays of bytes. What a restored object has and a
payload lacks, or the reverse, is an error: nothing is ever left at a random start.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from ..errors import PayloadError
from . import array_backends, context

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np

    Array = np.ndarray[Any, Any]

Assets = dict[tuple[str, str], "Array"]


class Snapshot:
    """Values of all variables below an object at one moment, while the object is being written.

    Parts of the object have payloads of their own, which a pickler asks for one after the other,
    while another thread may be training. All of them take their arrays from here. What is written
    later must not, so a part finds only the snapshot of a dump that is under way:

    - It is an empty iterator, for the place of the list items in a reduce value. A pickler comes to
      it when it is done with the parts, and drops it, while it keeps all else for its memo.
    - The call of the pickler (`pickle.dumps`, say) has to be the same. Code that asks for a reduce
      value itself, as picklers written in Python do, may keep it: its parts are read again. Ours,
      which is written in Python too, says by `context.one_call` that it keeps none.

    Parameters
    ----------
    variables : iterable
        Keras variables.
    parts : iterable
        The object and all that is below it, the object first.
    backend : str
        Keras backend that made the variables.

    Attributes
    ----------
    prepared : dict
        Room for what has been found out about parts before a pickler comes to them, by id.
    """

    _alive = threading.local()

    def __init__(self, variables: Iterable[Any], parts: Iterable[Any], backend: str) -> None:
        # With the objects, so that their ids stay theirs.
        self._arrays = {id(v): (v, array_backends.read(v, backend)) for v in variables}
        self._root, *below = parts
        self._parts = {id(part): part for part in below}
        self.prepared: dict[int, Any] = {}
        self._call = context.call_of_a_pickler()
        if self._call is not None:
            others = [each for each in self._references() if each() is not None]
            self._alive.references = [*others, weakref.ref(self)]

    @property
    def is_whole(self) -> bool:
        """True if each variable had a value: in a graph that is being traced it has none yet."""
        return all(array_backends.has_room(v, array.shape) for v, array in self._arrays.values())

    @property
    def variables(self) -> set[int]:
        """The ids of the variables."""
        return set(self._arrays)

    @classmethod
    def around(cls, part: Any) -> Snapshot | None:
        """Return the snapshot of an object that this thread is writing, with `part` below it."""
        for reference in cls._references():
            snapshot = reference()
            if snapshot is None or id(part) not in snapshot._parts:
                continue
            if snapshot._call == context.call_of_a_pickler():
                return snapshot
        return None

    @classmethod
    def _references(cls) -> list[weakref.ref[Snapshot]]:
        """Return references to the snapshots of this thread."""
        references: list[weakref.ref[Snapshot]] = getattr(cls._alive, "references", [])
        return references

    def holds(self, part: Any) -> bool:
        """Return whether `part` is the object that is being written, or below it."""
        return part is self._root or id(part) in self._parts

    @classmethod
    def drop_all(cls) -> None:
        """Forget this thread's snapshots, as what they are for has failed."""
        vars(cls._alive).clear()

    def array(self, variable: Any, backend: str) -> Array:
        """Return the array of `variable`; its present values if it was not there yet."""
        entry = self._arrays.get(id(variable))
        return array_backends.read(variable, backend) if entry is None else entry[1]

    def __iter__(self) -> Snapshot:
        """Return itself, as iterators do."""
        return self

    def __next__(self) -> Any:
        """End: the pickler is done with the parts."""
        self.end()
        raise StopIteration

    def end(self) -> None:
        """Stop serving values from this snapshot."""
        self._parts, self.prepared = {}, {}


def read(
    variables: Iterable[Any], backend: str, snapshot: Snapshot | None = None
) -> tuple[Array, ...]:
    """Return the arrays of `variables`, as they are now or were at the moment of a `snapshot`."""
    if snapshot is None:
        return tuple(array_backends.read(variable, backend) for variable in variables)
    return tuple(snapshot.array(variable, backend) for variable in variables)


def collect(
    variables: Mapping[str, Any], assets: Assets, backend: str, snapshot: Snapshot | None = None
) -> tuple[dict[str, list[Any]], tuple[Array, ...]]:
    """Return the two lists for the header, and the arrays in their order, variables first.

    The variables have what `snapshot` holds of them, if there is one, or what they hold now.
    """
    arrays = read(variables.values(), backend, snapshot)
    lists: dict[str, list[Any]] = {
        "weights": [
            (path, array.shape, array_backends.dtype_name(variable))
            for (path, variable), array in zip(variables.items(), arrays, strict=True)
        ]
    }
    if assets:
        lists["assets"] = [
            (path, name, array.shape, str(array.dtype)) for (path, name), array in assets.items()
        ]
    return lists, (*arrays, *assets.values())


def pair(
    header: Mapping[str, Any], arrays: Sequence[Array]
) -> tuple[dict[str, tuple[Array, str]], Assets]:
    """Return the arrays that `collect` was given, by path: of variables (with dtype), of assets.

    Raises
    ------
    PayloadError
        If the header's lists and the arrays disagree.
    """
    listed, extra = header["weights"], header.get("assets", ())
    if len(listed) + len(extra) != len(arrays):
        raise PayloadError(
            f"The header lists {len(listed) + len(extra)} weights, the payload holds {len(arrays)}",
            **_DAMAGED,
        )
    variables: dict[str, tuple[Array, str]] = {}
    for (path, shape, dtype), array in zip(listed, arrays, strict=False):
        _check_array(array, path, shape, dtype)
        variables[path] = (array, dtype)
    assets: Assets = {}
    for (path, name, shape, dtype), array in zip(extra, arrays[len(listed) :], strict=True):
        _check_array(array, f"{path} ({name})", shape, dtype)
        assets[path, name] = array
    return variables, assets


def _check_array(array: Array, where: str, shape: Sequence[int], dtype: str) -> None:
    if tuple(shape) != array.shape or array_backends.carrier(dtype) != array.dtype:
        raise PayloadError(
            f"The header gives a weight as {dtype}{tuple(shape)}, its array is "
            f"{array.dtype}{array.shape}",
            where=where,
            **_DAMAGED,
        )


def assign(
    targets: Mapping[str, Any],
    values: Mapping[str, tuple[Array, str]],
    backend: str,
    written_on: str = "",
) -> None:
    """Give the variables `targets` the `values`, arrays with their dtypes, of the same paths.

    Without a copy where the backend allows it: the arrays must not change afterwards. On another
    backend than `written_on`, integers may have another width.

    Raises
    ------
    PayloadError
        If paths, shapes or dtypes disagree; nothing has been written then.
    """
    _check_paths(set(targets), set(values))
    if written_on not in ("", backend):
        values = {path: _here(targets[path], *value) for path, value in values.items()}
    for path, variable in targets.items():
        array, dtype = values[path]
        if (
            not array_backends.has_room(variable, array.shape)
            or array_backends.dtype_name(variable) != dtype
        ):
            raise PayloadError(
                f"A weight {dtype}{array.shape} does not fit the variable "
                f"{array_backends.dtype_name(variable)}{tuple(variable.shape)}",
                where=path,
                cause="the class that builds this variable has changed since the payload was "
                "written",
                cure="load it with the code that wrote it",
            )
    for path, variable in targets.items():
        array_backends.write(variable, *values[path], backend)


def _here(variable: Any, array: Array, dtype: str) -> tuple[Array, str]:
    """Return an array from another backend with the dtype that a variable has on this one."""
    wanted = array_backends.dtype_name(variable)
    # Private: what Keras calls the state of a seed generator, 32 bits however wide it is.
    is_seed = variable.name == "seed_generator_state"
    converted = None if dtype == wanted else array_backends.converted(array, wanted, wraps=is_seed)
    return (array, dtype) if converted is None else (converted, wanted)


def transfer(sources: Mapping[str, Any], targets: Mapping[str, Any], backend: str) -> None:
    """Give the variables `targets` the values of the variables `sources` under the same paths.

    Raises
    ------
    PayloadError
        If paths, shapes or dtypes disagree.
    """
    lists, arrays = collect(sources, {}, backend)
    assign(targets, pair(lists, arrays)[0], backend)


_DAMAGED = {
    "cause": "the payload is damaged or was put together by hand",
    "cure": "write it again from the original object",
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
        cause="the class that creates these variables has changed since, or creates them in a way "
        "that keras_reduce does not carry: outside __init__() and build(), say",
        cure="load it with the code that wrote it; or create all state in build() and, if build() "
        "needs more than a shape, implement get_build_config() and build_from_config()",
    )


def _shortened(paths: list[str]) -> str:
    shown = ", ".join(paths[:5])
    return f"{shown} and {len(paths) - 5} more" if len(paths) > 5 else shown
