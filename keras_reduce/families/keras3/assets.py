"""State of layers that is not in variables: vocabularies, and what a user's layer saves itself.

An asset is an array under the path of its layer and a name. Text travels as UTF-8 bytes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._shared.assets import Array, counts_of, restore_counts, with_assets
from .kinds import is_built_in
from .patches import current
from .rules import overrides
from .tree import Tree


def assets(tree: Tree) -> dict[tuple[str, str], Array]:
    """Return the state that is not in variables, as arrays by path and name."""
    arrays: dict[tuple[str, str], Array] = {}
    for path, node in tree.own.items():
        for name, array in _assets_of(node, is_alone=node is tree.root):
            arrays[path, name] = array
    return arrays


def restore_assets(tree: Tree, assets: Mapping[tuple[str, str], Array]) -> None:
    """Give the parts of an object what `assets` returned for its original."""
    for node, named in with_assets(tree, assets):
        _restore(node, named)


def finish(tree: Tree) -> None:
    """Recompute what layers derive from their variables.

    Normalization turns its mean and variance into constants; Keras does so after loading, too. A
    FeatureSpace that is adapted makes layers according to the vocabularies.
    """
    import keras

    current.reading.note_filled(tree.own_variables.values())
    for node in tree.own.values():
        if isinstance(node, keras.utils.FeatureSpace) and node._is_adapted:
            node.get_encoded_features()
            node._sublayers_built = True  # Private: adapt() ends so.
        if is_built_in(type(node)) and hasattr(node, "finalize_state") and _has_variables(node):
            node.finalize_state()


# Private: what a lone recurrent cell has drawn and will use again. A recurrent layer draws
# others in each call.
_MASKS = ("_dropout_mask", "_recurrent_dropout_mask")


def _assets_of(node: Any, *, is_alone: bool) -> list[tuple[str, Array]]:
    import keras
    import numpy as np

    if _is_lookup(node):
        return [*_vocabulary_of(node), *counts_of(node)]

    arrays = []
    if isinstance(node, keras.layers.Discretization) and node.summary is not None:
        arrays.append(("summary", np.asarray(node.summary)))
    if is_alone and is_built_in(type(node)):
        for name in _MASKS:
            mask = getattr(node, name, None)
            if mask is not None and keras.ops.is_tensor(mask):
                arrays.append((name, keras.ops.convert_to_numpy(mask)))
    if overrides(node, "save_own_variables") and overrides(node, "load_own_variables"):
        store: dict[str, Any] = {}
        node.save_own_variables(store)
        arrays += [(f"own/{key}", np.asarray(value)) for key, value in store.items()]
    if overrides(node, "save_assets") and overrides(node, "load_assets"):
        with tempfile.TemporaryDirectory() as folder:
            node.save_assets(folder)
            arrays += [
                (f"files/{file.relative_to(folder).as_posix()}", _to_bytes(file.read_bytes()))
                for file in sorted(Path(folder).rglob("*"))
                if file.is_file()
            ]
    return arrays


def _vocabulary_of(lookup: Any) -> list[tuple[str, Array]]:
    """Return the vocabulary of a lookup layer, and the weights of its tokens."""
    import numpy as np

    if lookup.lookup_table.size() == 0:
        return []
    tokens = [_item(token) for token in lookup.get_vocabulary()]
    arrays = [("vocabulary", _to_bytes(json.dumps(tokens)))]
    if lookup.output_mode == "tf_idf":
        arrays.append(("idf_weights", np.asarray(lookup.idf_weights_const)))
    return arrays


def _restore_vocabulary(lookup: Any, named: Mapping[str, Array]) -> None:
    vocabulary = json.loads(named["vocabulary"].tobytes().decode())
    if "idf_weights" not in named:
        lookup.set_vocabulary(vocabulary)
        return
    # The weights may be padded with zeros to max_tokens. Keras takes as many as there are tokens,
    # and pads them again; then all are put in place as Keras's own loading does.
    weights = named["idf_weights"]
    lookup.set_vocabulary(vocabulary, idf_weights=weights[: len(vocabulary)])
    lookup.load_own_variables({"idf_weights": weights})


def _restore(node: Any, named: Mapping[str, Array]) -> None:
    import keras

    if "vocabulary" in named:
        _restore_vocabulary(node, named)
    counts = _below("counts/", named)
    if counts:
        restore_counts(node, counts)
    if "summary" in named:
        node.summary = named["summary"]
    for name in named.keys() & set(_MASKS):
        setattr(node, name, keras.ops.convert_to_tensor(named[name]))
    store = _below("own/", named)
    if store:
        node.load_own_variables(store)
    files = _below("files/", named)
    if files:
        with tempfile.TemporaryDirectory() as folder:
            for name, array in files.items():
                target = Path(folder, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(array.tobytes())
            node.load_assets(folder)


def _below(prefix: str, named: Mapping[str, Array]) -> dict[str, Array]:
    return {
        name.removeprefix(prefix): array for name, array in named.items() if name.startswith(prefix)
    }


def _is_lookup(node: Any) -> bool:
    import keras

    return isinstance(node, (keras.layers.StringLookup, keras.layers.IntegerLookup))


def _item(token: Any) -> Any:
    return token.item() if hasattr(token, "item") else token


def _to_bytes(content: str | bytes) -> Array:
    import numpy as np

    return np.frombuffer(content.encode() if isinstance(content, str) else content, dtype="uint8")


def _has_variables(node: Any) -> bool:
    return bool(getattr(node, "_non_trainable_variables", ()))
