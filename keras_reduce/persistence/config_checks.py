"""What the configs in a payload name, before Keras reads them.

Keras finds classes by what a config says of them, and calls them with what else it says. While it
does, `families` ask the policy again, object by object. Here is found at once what a payload needs
that is not trusted, and what is dangerous in any class.
"""

from __future__ import annotations

from typing import Any

from ..audit.trust_policy import Policy
from ..core import payload
from .trusted_names import resolve


def check(policy: Policy, json: str, compile_config: Any, custom_objects: Any) -> None:
    """Refuse in `policy` what a payload names and is not trusted.

    Parameters
    ----------
    policy : Policy
        What is trusted.
    json, compile_config : str
        The texts of a payload.
    custom_objects : tuple, optional
        Its classes and functions.

    Raises
    ------
    PayloadError
        If a text is no JSON.
    """
    keys = set()
    for key, module, qualname, position, *_ in custom_objects[0] if custom_objects else ():
        keys.add(key)
        # What travels by value has been refused where it stands.
        if position < 0:
            resolve(policy, str(module), str(qualname))
    for text in (json, compile_config):
        document = payload.decode(text) if isinstance(text, str) else None
        for node in payload.dictionaries([document]):
            _check_node(policy, node, keys)


def _check_node(policy: Policy, node: dict[Any, Any], keys: set[str]) -> None:
    name, module = node.get("class_name"), node.get("module")
    registered, config = node.get("registered_name"), node.get("config")
    if "assembly" in node:
        # A function of TensorFlow's, named by the module where it is.
        kind, plain, *_ = node["assembly"]
        if kind == "tf_function" and isinstance(plain, dict) and "module" in plain:
            resolve(policy, str(plain["module"]), str(plain.get("name")))
        return
    if not isinstance(name, str):
        return
    # Whatever else the node says, by which one reader or another would pass over the name.
    if name in _HARMFUL:
        policy.refuse(name, _HARMFUL[name])
    if name == "__lambda__":
        policy.refuse("a lambda in a config", "code that is in the file itself")
    if (
        "keras_reduce_child" in node
        or registered in keys
        or (isinstance(config, str) and config in keys)
    ):
        return
    # Of Keras 2, by a name that counts from the root of the package: the family looks at it.
    is_private = "keras_reduce" in node and str(module).partition(".")[0] == "private"
    if name != "function" and not is_private:
        _check_name(policy, module, name)
    elif name == "function" and module != "builtins":
        _check_name(policy, module, config)
    if isinstance(registered, str) and ">" in registered:
        policy.refuse(registered, "a name under which anything may be registered")
    if isinstance(config, dict) and isinstance(config.get("vocabulary"), str):
        policy.refuse(f"{name}.vocabulary", "the path of a file, which would be read")


def _check_name(policy: Policy, module: Any, name: Any) -> None:
    if module is None or str(module).partition(".")[0] in ("keras", "tf_keras"):
        return  # The family looks at what that is.
    resolve(policy, str(module), str(name))


# Not to be listed either: what they do is in their config, and not in their name.
_HARMFUL = {
    **dict.fromkeys(("Lambda",), "may hold code that is in the file itself"),
    **dict.fromkeys(("TFSMLayer", "TorchModuleWrapper"), "loads another file, or a pickle"),
    **dict.fromkeys(
        ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty"),
        "calls any function of TensorFlow's",
    ),
    "TensorFlowOpLayer": "holds a graph of TensorFlow's",
}
