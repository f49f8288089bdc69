"""Check of the names in the configs of a payload, before Keras reads them.

Keras looks up classes by the names in a config, and calls them with its arguments. Meanwhile
`families` check each class with the policy. This check is made before: it finds all names in a
payload that are not trusted, and arguments that are dangerous for any class.
"""

from __future__ import annotations

from typing import Any

from ..audit.trust_policy import Policy
from ..core import payload
from .trusted_names import resolve


def check(policy: Policy, json: str, compile_config: Any, custom_objects: Any) -> None:
    """Refuse in `policy` the names of a payload that are not trusted.

    Parameters
    ----------
    policy : Policy
        The policy of trusted globals.
    json, compile_config : str
        The JSON texts of a payload.
    custom_objects : tuple, optional
        Its classes and functions.

    Raises
    ------
    PayloadError
        If a text is not valid JSON.
    """
    keys = set()
    for key, module, qualname, position, *_ in custom_objects[0] if custom_objects else ():
        keys.add(key)
        # Code that is pickled by value has been refused in the pickle.
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
        # A TensorFlow function, by its module and name.
        kind, plain, *_ = node["assembly"]
        if kind == "tf_function" and isinstance(plain, dict) and "module" in plain:
            resolve(policy, str(plain["module"]), str(plain.get("name")))
        return
    if not isinstance(name, str):
        return
    # Before all other keys, some of which let a reader ignore the name.
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
    # A private class of Keras 2, by a name relative to the package, which the family checks.
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
        return  # The family checks it.
    resolve(policy, str(module), str(name))


# Classes that can't be trusted by name, since their config determines their effect.
_HARMFUL = {
    "Lambda": "may hold code that is in the file itself",
    **dict.fromkeys(("TFSMLayer", "TorchModuleWrapper"), "loads another file, or a pickle"),
    **dict.fromkeys(
        ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty"),
        "calls any function of TensorFlow",
    ),
    "TensorFlowOpLayer": "holds a graph of TensorFlow",
}
