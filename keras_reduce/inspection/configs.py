"""What the configs of Keras objects say: names in them, layers before a layer, compilation."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..audit.descriptions import Global
from ..audit.trust_policy import standing
from .models import Model

__all__ = ["Reference", "describe_compilation", "dictionary", "inputs", "look_at"]


class Reference(NamedTuple):
    """A class or function of the user's.

    Attributes
    ----------
    key : str
        As which Keras knows it.
    origin : {"by reference", "by value"}
        Where it comes from.
    name : Global
        Where it was defined.
    """

    key: str
    origin: str
    name: Global


def look_at(
    model: Model,
    node: dict[Any, Any],
    custom: dict[str, Reference],
    own: tuple[str, ...] = (),
) -> None:
    """Take note of what a config names that is dangerous, or not Keras's."""
    name, module = node.get("class_name"), node.get("module")
    if name == "__lambda__" or (name == "Lambda" and "number" not in node):
        model.remark("it has a Lambda, which may hold code")
    elif name in ("TFSMLayer", "TorchModuleWrapper", "TFOpLambda"):
        model.remark(f"it has a {name}, which loads or calls something else")
    if isinstance(dictionary(node.get("config")).get("vocabulary"), str):
        model.remark("it names a file with a vocabulary")
    root = str(module).partition(".")[0] if isinstance(module, str) else "keras"
    title = str(node.get("config") if name == "function" else name)
    named = [node.get(each) for each in ("registered_name", "config")]
    known = [custom[each] for each in named if isinstance(each, str) and each in custom]
    # As which Keras knows it, and under its own name.
    is_custom = any(each.name.name.rpartition(".")[2] == title for each in known)
    # Keras writes functions of anybody's as of that module, and looks for them among its own.
    is_builtin = root == "builtins" and not standing("builtins", title)[1]
    is_known = root in ("keras", "keras_reduce", "tf_keras", *own) or is_custom or is_builtin
    if not is_known:
        model.imports.append(Global(str(module), title))
    registered = node.get("registered_name")
    if isinstance(registered, str) and ">" in registered and not known:
        model.remark(f"it names {registered!r}, which may be registered as anything")
    assembly = node.get("assembly")
    if isinstance(assembly, list) and len(assembly) > 1 and assembly[0] == "tf_function":
        plain = dictionary(assembly[1])
        if "module" in plain:
            model.imports.append(Global(str(plain["module"]), str(plain.get("name"))))


def inputs(nodes: Any) -> list[str]:
    """Return the names of layers in what Keras says of the calls of a layer."""
    found: dict[str, None] = {}
    waiting = [nodes]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            history = node.get("keras_history")
            if isinstance(history, list) and history and isinstance(history[0], str):
                found[history[0]] = None
            waiting.extend(node.values())
        elif isinstance(node, list):
            is_reference = len(node) > 2 and isinstance(node[0], str) and type(node[1]) is int
            if is_reference:
                found[node[0]] = None
            waiting.extend(node)
    return sorted(found)


def describe_compilation(model: Model, compilation: Any) -> None:
    """Say how a model was compiled."""
    own = dictionary(dictionary(compilation).get(""))
    config = dictionary(own.get("config"))
    model.optimizer = _title(config.get("optimizer"))
    model.loss = _title(config.get("loss"))
    metrics = config.get("metrics")
    model.metrics = [_title(each) for each in metrics] if isinstance(metrics, list) else []


def _title(value: Any) -> str:
    """Return how a config calls something."""
    if isinstance(value, dict):
        inner = value.get("config")
        name = value.get("class_name") or value.get("key") or value.get("name")
        if name == "function" and isinstance(inner, str):
            return inner
        rate = dictionary(inner).get("learning_rate")
        number = f", learning rate {rate:.6g}" if isinstance(rate, float) else ""
        if name:
            return f"{name}{number}"
        return ", ".join(f"{key}: {_title(each)}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_title, value))
    return "" if value is None else str(value)


def dictionary(value: Any) -> dict[Any, Any]:
    """Return what should be a dictionary; an empty one if it is not."""
    return value if isinstance(value, dict) else {}
