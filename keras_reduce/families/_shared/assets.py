"""Assets: state that is not in variables, such as the counts that a lookup layer gathers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ...errors import PayloadError
from .tree import Tree

if TYPE_CHECKING:
    import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"


def with_assets(
    tree: Tree, assets: Mapping[tuple[str, str], Array]
) -> Iterator[tuple[Any, dict[str, Array]]]:
    """Yield the parts that have `assets`, given by path and name, with theirs by name.

    Raises
    ------
    PayloadError
        If an asset belongs to a part that is not there.
    """
    by_path: dict[str, dict[str, Array]] = {}
    for (path, name), array in assets.items():
        by_path.setdefault(path, {})[name] = array
    for path, named in by_path.items():
        if path not in tree.nodes:
            raise PayloadError(
                "The payload holds an asset for a layer that was not rebuilt",
                where=path,
                cause="the class that creates this layer has changed since",
                cure="load it with the code that wrote it",
            )
        yield tree.nodes[path], named


def counts_of(lookup: Any) -> list[tuple[str, Array]]:
    """Return the counts of a lookup layer since its vocabulary was made, by name.

    The tables that hold it are private in both generations of Keras.
    """
    import numpy as np

    if lookup._has_input_vocabulary:
        return []
    tokens, counts = (tensor.numpy() for tensor in lookup.token_counts.export())
    # Sorted: a table has no order that is the same in every process.
    order = np.argsort(tokens)
    texts = json.dumps([_text(token) for token in tokens[order].tolist()])
    arrays = [
        ("counts/tokens", np.frombuffer(texts.encode(), dtype="uint8")),
        ("counts/tokens_seen", counts[order]),
    ]
    if lookup.output_mode == "tf_idf":
        documents = lookup.token_document_counts.lookup(tokens[order]).numpy()
        number = np.asarray(lookup.num_documents)
        arrays += [("counts/documents_with_token", documents), ("counts/documents", number)]
    return arrays if any(array.any() for _, array in arrays[1:]) else []


def restore_counts(lookup: Any, named: Mapping[str, Array]) -> None:
    """Give a lookup layer what `counts_of` returned, by names without ``counts/``."""
    import tensorflow as tf

    items = [_token(item) for item in json.loads(named["tokens"].tobytes().decode())]
    tokens = tf.constant(items, lookup.vocabulary_dtype, shape=(len(items),))
    lookup.token_counts.insert(tokens, tf.constant(named["tokens_seen"]))
    if "documents" in named:
        lookup.token_document_counts.insert(tokens, tf.constant(named["documents_with_token"]))
        lookup.num_documents.assign(named["documents"])


def _text(token: Any) -> Any:
    # Not all that a program counts is UTF-8.
    return token.decode(errors="surrogateescape") if isinstance(token, bytes) else token


def _token(text: Any) -> Any:
    return text.encode(errors="surrogateescape") if isinstance(text, str) else text
