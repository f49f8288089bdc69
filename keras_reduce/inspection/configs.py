"""Contents of configs of Keras objects: globals, inbound layers, compilation."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..audit.descriptions import Global
from ..audit.trust_policy import classify
from .models import Model

__all__ = ["Reference", "describe_compilation", "dictionary", "inputs", "record_globals"]


class Reference(NamedTuple):
    """Reference to a user-defined class or function.

    Attributes
    ----------
    key : str
        Name under which the payload refers to it.
    origin : {"by reference", "by value"}
        The way in which it was pickled.
    name : Global
        Module and name of its definition.
    """

    key: str
    origin: str
    name: Global


def record_globals(
    model: Model,
    node: dict[Any, Any],
    custom: dict[str, Reference],
    extra_roots: tuple[str, ...] = (),
) -> None:
    """Record dangerous or foreign globals of a config in `model`."""
    name, module = node.get("class_name"), node.get("module")
    if name == "__lambda__" or (name == "Lambda" and "number" not in node):
        model.remark("it has a Lambda, which may hold code")
    elif name in ("TFSMLayer", "TorchModuleWrapper", "TFOpLambda"):
        model.remark(f"it has a {name}, which loads or calls something else")
    if isinstance(dictionary(node.get("config")).get("vocabulary"), str):
        model.remark("it names a file with a vocabulary")
    root = str(module).partition(".")[0] if isinstance(module, str) else "keras"
    title = str(node.get("config") if name == "function" else name)
    keys = [node.get(each) for each in ("registered_name", "config")]
    references = [custom[each] for each in keys if isinstance(each, str) and each in custom]
    # By its key, and by its own name.
    is_custom = any(each.name.name.rpartition(".")[2] == title for each in references)
    # Keras writes user-defined functions with the module "builtins", and looks up its own.
    # A key of the payload, such as "__main__:outer.<locals>.f", is the name of no builtin.
    is_key = name == "function" and ":" in title and title in custom
    is_builtin = root == "builtins" and (is_key or not classify("builtins", title)[1])
    is_known = (
        root in ("keras", "keras_reduce", "tf_keras", *extra_roots) or is_custom or is_builtin
    )
    if not is_known:
        model.imports.append(Global(str(module), title))
    registered = node.get("registered_name")
    if isinstance(registered, str) and ">" in registered and not references:
        model.remark(f"it names {registered!r}, which may be registered as anything")
    assembly = node.get("assembly")
    if isinstance(assembly, list) and len(assembly) > 1 and assembly[0] == "tf_function":
        plain = dictionary(assembly[1])
        if "module" in plain:
            model.imports.append(Global(str(plain["module"]), str(plain.get("name"))))


def inputs(nodes: Any) -> list[str]:
    """Return the names of layers in the inbound nodes of a layer."""
    names: dict[str, None] = {}
    waiting = [nodes]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            history = node.get("keras_history")
            if isinstance(history, list) and history and isinstance(history[0], str):
                names[history[0]] = None
            waiting.extend(node.values())
        elif isinstance(node, list):
            is_reference = len(node) > 2 and isinstance(node[0], str) and type(node[1]) is int
            if is_reference:
                names[node[0]] = None
            waiting.extend(node)
    return sorted(names)


def describe_compilation(model: Model, compilation: Any) -> None:
    """Record how a model was compiled in `model`."""
    root = dictionary(dictionary(compilation).get(""))
    config = dictionary(root.get("config"))
    model.optimizer = _title(config.get("optimizer"))
    model.loss = _title(config.get("loss"))
    metrics = config.get("metrics")
    model.metrics = [_title(each) for each in metrics] if isinstance(metrics, list) else []


def _title(value: Any) -> str:
    """Return a title for an object in a config."""
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
    """Return `value` if it is a dictionary, else an empty one."""
    return value if isinstance(value, dict) else {}
