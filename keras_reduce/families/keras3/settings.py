"""Settings that Keras keeps on every layer, and that no config knows.

Such as ``input_spec`` or ``supports_masking``. The class of a layer sets them when it is made or
built, and a program may set them afterwards. A header has those that may differ from what the class
sets, so that most layers need none.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from ...core.payload import PLAIN
from .._shared import assigned_attributes
from .bookkeeping import CONTEXT, SETTING_ATTRIBUTES, SETTINGS, Setting
from .rules import describes_itself

_NAMES = SETTING_ATTRIBUTES | {setting.name for setting in SETTINGS}


def settings(
    layer: Any,
    encode: Callable[[Any, str], Any],
    *,
    is_root: bool = False,
    owner_name: str = "",
) -> dict[str, Any]:
    """Return the settings of a layer that its class may not make again, encoded.

    By `encode`, see `attributes.encoder`. With its name, unless it has a payload of its own
    (`is_root`), or has that of what it is a part of (`owner_name`): some constructors hand their
    own name on to the layers that they make.
    """
    changed: dict[str, Any] = {}
    # Layers that travel by their attributes carry all others among these.
    by_class = _usual(type(layer))
    for setting, usual in by_class if describes_itself(layer) else by_class[-1:]:
        value = vars(layer).get(setting.attribute, setting.default)
        if not _is_usual(value, usual):
            changed[setting.attribute] = _encoded(value, encode, setting.attribute)
    if not (is_root or layer.name == owner_name or is_automatic_name(layer)):
        changed["name"] = layer.name
    return changed


def restore_settings(layer: Any, settings: Mapping[str, Any], decode: Callable[[Any], Any]) -> None:
    """Give a rebuilt layer the settings that `settings` returned."""
    import keras

    for attribute, encoded in settings.items():
        value = _decoded(encoded, decode)
        if attribute == CONTEXT.attribute:
            # Private: as Keras's own method does, which refuses layers that have been called.
            layer._call_context_args = value
            layer._call_has_context_arg.update(
                {name: name in layer.call_signature_parameters for name in value}
            )
        elif attribute != "name" or not isinstance(layer, keras.layers.InputLayer):
            setattr(layer, attribute, value)


def is_automatic_name(layer: Any) -> bool:
    """Return whether `layer` has a name that Keras gives to a layer of its class."""
    words = str(layer.name).rstrip("0123456789").rstrip("_") or str(layer.name)
    return _letters(words) == _letters(type(layer).__name__)


def has_usual_context(attributes: Mapping[str, Any]) -> bool:
    """Return whether a layer with these attributes hands on to others what all layers hand on."""
    return _is_usual(attributes.get(CONTEXT.attribute, CONTEXT.default), CONTEXT.default)


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text)).lower()


_UNKNOWN = object()
_known: weakref.WeakKeyDictionary[type, list[tuple[Setting, Any]]] = weakref.WeakKeyDictionary()


def _usual(cls: type) -> list[tuple[Setting, Any]]:
    """Return each setting with what it is on every layer of a class, `_UNKNOWN` if that differs."""
    import keras

    if cls not in _known:
        bases = cls.__mro__[: cls.__mro__.index(keras.Layer)]
        set_by_code = [
            each for base in bases for each in assigned_attributes.assignments(base, _NAMES)
        ]
        _known[cls] = [(each, _usual_value(cls, each, set_by_code)) for each in SETTINGS]
    return _known[cls]


def _usual_value(
    cls: type, setting: Setting, set_by_code: list[assigned_attributes.Assignment]
) -> Any:
    import keras

    set_by_code = [each for each in set_by_code if each.name in (setting.name, setting.attribute)]
    if not all(assignment.is_constant for assignment in set_by_code):
        return _UNKNOWN
    default = setting.default
    if setting.name == "supports_masking":
        default = cls.compute_mask is not keras.Layer.compute_mask  # type: ignore[attr-defined]
    values = [assignment.value for assignment in set_by_code]
    if not any(assignment.is_certain for assignment in set_by_code):
        values.append(default)
    first, *others = values
    return first if all(_is_usual(other, first) for other in others) else _UNKNOWN


def _is_usual(value: Any, usual: Any) -> bool:
    if isinstance(usual, frozenset):
        return isinstance(value, (set, frozenset)) and value == usual
    return type(value) in PLAIN and type(value) is type(usual) and value == usual


def _encoded(value: Any, encode: Callable[[Any, str], Any], path: str) -> Any:
    """Return the value of a setting, encoded for `_decoded`."""
    if _is_plain_specification(value):
        # In an order that does not depend on how it was made: `joblib.hash` looks at the text.
        items = sorted(vars(value).items())
        given = {name: each for name, each in items if each not in (None, False, {})}
        if "axes" in given:
            given["axes"] = list(value.axes.items())  # JSON has texts for keys only.
        return {"specification": given}
    if hasattr(value, "_fields") and _is_rematerialization(value):
        return {"rematerialization": [value[0], value[1], list(value[2])]}
    if isinstance(value, (set, frozenset)) and all(type(item) is str for item in value):
        return {"names": sorted(value)}
    if isinstance(value, (list, tuple)) and all(map(_is_plain_specification, value)):
        kind = "tuple of settings" if isinstance(value, tuple) else "list of settings"
        return {kind: [_encoded(item, encode, path) for item in value]}
    return encode(value, path)


def _decoded(encoded: Any, decode: Callable[[Any], Any]) -> Any:
    import keras

    kind, content = next(iter(encoded.items())) if isinstance(encoded, dict) else ("", encoded)
    if kind == "specification":
        specification = keras.InputSpec()
        fields = dict(content)
        if "axes" in fields:
            fields["axes"] = dict(map(tuple, fields["axes"]))
        if "shape" in fields:
            fields["shape"] = tuple(fields["shape"])
        vars(specification).update(fields)
        return specification
    if kind == "rematerialization":
        # A layer takes its mode from the scope that it is made in.
        with keras.RematScope(*content):
            return keras.Layer(name="keras_reduce_specimen")._remat_mode
    if kind == "names":
        return set(content)
    if kind in ("tuple of settings", "list of settings"):
        items = [_decoded(item, decode) for item in content]
        return tuple(items) if kind.startswith("tuple") else items
    return decode(encoded)


def _is_rematerialization(value: Any) -> bool:
    """Return whether `value` is a mode of rematerialization that JSON can hold."""
    if type(value)._fields != ("mode", "output_size_threshold", "layer_names"):
        return False
    mode, threshold, names = value
    is_listed = isinstance(names, (list, tuple)) and all(type(name) is str for name in names)
    return type(mode) in PLAIN and type(threshold) in PLAIN and is_listed


def _is_plain_specification(value: Any) -> bool:
    import keras

    if type(value) is not keras.InputSpec:
        return False
    attributes = dict(vars(value))
    shape, axes = attributes.pop("shape", None), attributes.pop("axes", None)
    is_shape = shape is None or type(shape) is tuple
    items = [*attributes.values(), *(shape or ()), *(axes or {}).keys(), *(axes or {}).values()]
    return is_shape and type(axes) is dict and all(type(item) in PLAIN for item in items)
