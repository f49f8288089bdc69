"""State of Keras 2 layers that is not in variables: vocabularies, and what layers save by files.

An asset is an array under the path of its layer and a name. Text travels as UTF-8 bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .._shared.assets import Array, counts_of, restore_counts, with_assets
from .framework import keras
from .tree import Tree


def assets(tree: Tree) -> dict[tuple[str, str], Array]:
    """Return the state that is not in variables, as arrays by path and name."""
    return {
        (path, name): array for path, node in tree.own.items() for name, array in _assets_of(node)
    }


def restore_assets(tree: Tree, assets: Mapping[tuple[str, str], Array]) -> None:
    """Give the parts of an object what `assets` returned for its original."""
    for node, named in with_assets(tree, assets):
        if "vocabulary" in named:
            vocabulary = json.loads(named["vocabulary"].tobytes().decode())
            # The weights of the words are a variable, which is carried as such.
            given = {"idf_weights": False} if node.output_mode == "tf_idf" else {}
            node.set_vocabulary(vocabulary, **given)
        counts = {name.removeprefix("counts/"): array for name, array in named.items()}
        if "tokens" in counts:
            restore_counts(node, counts)


def finish(tree: Tree) -> None:
    """Recompute what layers derive from their variables, as Keras does after loading."""
    api = keras().layers
    for node in tree.own.values():
        if isinstance(node, (api.Normalization, api.Discretization)) and node.built:
            node.finalize_state()
        if isinstance(node, (api.StringLookup, api.IntegerLookup)) and node.output_mode == "tf_idf":
            node.idf_weights_const = node.idf_weights.value()  # What it computes with.


def _assets_of(node: Any) -> list[tuple[str, Array]]:
    import numpy as np

    api = keras().layers
    if not isinstance(node, (api.StringLookup, api.IntegerLookup)):
        return []
    # Private: how many tokens there are beside those for padding and for what is unknown.
    if node.lookup_table.size().numpy() == 0:
        return counts_of(node)
    # Without the special tokens, which set_vocabulary() puts in front.
    vocabulary = node.get_vocabulary(include_special_tokens=False)
    items = [token.item() if hasattr(token, "item") else token for token in vocabulary]
    text = np.frombuffer(json.dumps(items).encode(), dtype="uint8")
    return [("vocabulary", text), *counts_of(node)]
