"""The payload of a Keras object: a tuple of plain Python values, with JSON text.

A payload is plain Python: ``(json, weights, compile_config, custom_objects, objects)``. ``json``
is a `str` with two members, ``header`` (protocol, family, versions, the list of weights) and
``config`` (the architecture as Keras writes it); ``weights`` a tuple of arrays in the header's
order (a dtype that NumPy lacks as unsigned integers of the same width, under its true name in the
header); ``compile_config`` a `str` or None; ``custom_objects`` the user's classes and functions;
``objects`` values that no JSON can hold, and layers, which have payloads of their own. Behind the
installation come the identity tokens of the object's variables, those of others that the JSON
refers to by number, and those of parts to which something refers weakly. Further members only ever
get added, with defaults.

When to raise `PROTOCOL`
------------------------
It counts the meanings of a payload, not the releases of this package. Raise it by one when an
older reader would misread what a newer writer wrote: a member changes its meaning, a path in the
list of weights is spelled differently, a new member must not be ignored. Leave it when an older
reader may ignore what is new (an additional key in the header, say).

On raising it: keep the old branch of every reader, by number; add golden files that the last
release of the old number wrote; and say in the changelog which release reads which numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import PayloadError, ReduceError

PROTOCOL = 1
# Plain data: JSON has them as they are, and their types and values tell all about them.
PLAIN = frozenset({bool, int, float, str, type(None)})


def encode(*documents: Any, where: str = "") -> list[str]:
    """Write `documents` as JSON without spaces.

    Keys keep their order: it is the same for the same object, and a user's dictionary may mean
    something by it. What differs between two runs of one program is made equal: Keras marks objects
    that occur more than once with their memory address as ``shared_object_id``, which is numbered
    by first appearance here, and left out where it occurs once.

    Raises
    ------
    ReduceError
        If one of `documents` holds what JSON can't.
    """
    addresses: Counter[int] = Counter()
    has_pairs = False
    with_addresses = [False] * len(documents)
    for number, document in enumerate(documents):
        for node in dictionaries(document):
            has_pairs = has_pairs or not _TEXT.issuperset(map(type, node))
            if "class_name" in node and isinstance(node.get("shared_object_id"), int):
                addresses[node["shared_object_id"]] += 1
                with_addresses[number] = True
    numbers: dict[int, int] = {}
    renumbered: Iterable[Any] = [
        _renumbered(document, addresses, numbers) if has_addresses else document
        for document, has_addresses in zip(documents, with_addresses, strict=True)
    ]
    if has_pairs:
        renumbered = map(_with_pairs, renumbered)
    try:
        return [_encoder.encode(document) for document in renumbered]
    except (TypeError, ValueError) as error:
        raise ReduceError(
            "A config holds a value that JSON can't hold",
            where=where,
            cause=str(error),
            cure="return plain values from get_config(), or Keras objects by way of "
            "keras.saving.serialize_keras_object",
        ) from error


def plain_text(document: Any) -> str:
    """Write a `document` without dictionaries as `encode` does."""
    if isinstance(document, list):
        # The encoder takes a detour for everything but a text.
        return f"[{','.join(map(_encoder.encode, document))}]"
    return _encoder.encode(document)


def decode(text: str) -> Any:
    """Read what `encode` wrote.

    Raises
    ------
    PayloadError
        If `text` is not JSON.
    """
    try:
        return json.loads(text, object_hook=_without_pairs)
    except (TypeError, ValueError) as error:
        raise PayloadError(
            "The payload's JSON can't be read",
            cause=f"the file is damaged or was not written by keras_reduce ({error})",
            cure="write it again from the original object",
        ) from error


def check_protocol(header: dict[str, Any]) -> None:
    """Refuse a payload that this version can't read.

    Raises
    ------
    PayloadError
        If the protocol number is missing or newer than `PROTOCOL`.
    """
    number = header.get("protocol")
    if isinstance(number, int) and 1 <= number <= PROTOCOL:
        return
    written_by = header.get("versions", {}).get("keras_reduce", "an unknown version")
    raise PayloadError(
        f"The payload has protocol number {number!r}, but this version reads 1 to {PROTOCOL}",
        cause=f"it was written by keras_reduce {written_by}",
        cure=f"pip install 'keras_reduce>={written_by}'" if number else "write the payload again",
    )


def dictionaries(document: Any) -> Iterator[dict[Any, Any]]:
    """Yield every dictionary in `document`, in no order, however deep it lies."""
    open_ends = [document]
    while open_ends:
        node = open_ends.pop()
        items = node
        if isinstance(node, dict):
            yield node
            items = node.values()
        for item in items:
            # Most are none, so not by way of isinstance.
            if type(item) not in PLAIN and isinstance(item, _CONTAINERS):
                open_ends.append(item)


_TEXT = {str}
_CONTAINERS = (dict, list, tuple)


def _renumbered(node: Any, addresses: Counter[int], numbers: dict[int, int]) -> Any:
    if isinstance(node, dict):
        copy = {}
        for key, value in node.items():
            if key != "shared_object_id" or "class_name" not in node:
                copy[key] = _renumbered(value, addresses, numbers)
            elif addresses[value] > 1:
                copy[key] = numbers.setdefault(value, len(numbers))
        return copy
    if isinstance(node, (list, tuple)):
        return [_renumbered(value, addresses, numbers) for value in node]
    return node


# Keys of a dictionary that are no strings: JSON would turn them into strings.
_PAIRS = "keras_reduce_pairs"


def _with_pairs(node: Any) -> Any:
    if isinstance(node, dict):
        if all(isinstance(key, str) for key in node):
            return {key: _with_pairs(value) for key, value in node.items()}
        return {_PAIRS: [[key, _with_pairs(value)] for key, value in node.items()]}
    return [_with_pairs(value) for value in node] if isinstance(node, (list, tuple)) else node


def _without_pairs(node: dict[str, Any]) -> dict[Any, Any]:
    if node.keys() != {_PAIRS}:
        return node
    return {_as_key(key): value for key, value in node[_PAIRS]}


def _as_key(key: Any) -> Any:
    # JSON has made lists of tuples; a list was no key.
    return tuple(map(_as_key, key)) if isinstance(key, list) else key


def _plain(value: Any) -> Any:
    # NumPy scalars reach configs through users' arithmetic; the same numbers as Python's own.
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"{value!r} of type {type(value).__qualname__} is not JSON serializable")


_encoder = json.JSONEncoder(separators=(",", ":"), default=_plain)
