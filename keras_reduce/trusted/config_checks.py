"""Check of the names in the configs of a payload, before Keras reads them.

Keras looks up classes by the names in a config, and calls them with its arguments. Meanwhile
`families` check each class with the policy. This check is made before: it finds all names in a
payload that are not trusted, and arguments that are dangerous for any class.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ..audit.trust_policy import Policy
from ..core import payload
from .names import resolve


class NamedGlobal(NamedTuple):
    """Global that a payload names.

    Attributes
    ----------
    module, name : str
        Where it is defined; the module is empty if `name` says all.
    reason : str
        Reason why no list can trust it; empty if one can.
    """

    module: str
    name: str
    reason: str = ""

    @property
    def path(self) -> str:
        """Module and name."""
        return f"{self.module}.{self.name}" if self.module else self.name


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
    for each in named_globals(json, compile_config, custom_objects):
        if each.reason:
            policy.refuse(each.path, each.reason)
        else:
            resolve(policy, each.module, each.name)


def named_globals(json: str, compile_config: Any, custom_objects: Any) -> Iterator[NamedGlobal]:
    """Yield the globals that a payload names, but for those of Keras; import none of them.

    Code that is pickled by value has no name here: it is refused where it is read.
    """
    keys = set()
    for key, module, qualname, position, *_ in custom_objects[0] if custom_objects else ():
        keys.add(key)
        if position < 0:
            yield NamedGlobal(str(module), str(qualname))
    for text in (json, compile_config):
        document = payload.decode(text) if isinstance(text, str) else None
        for node in payload.dictionaries([document]):
            yield from _of_node(node, keys)


def _of_node(node: dict[Any, Any], keys: set[str]) -> Iterator[NamedGlobal]:
    name, module = node.get("class_name"), node.get("module")
    registered, config = node.get("registered_name"), node.get("config")
    if "assembly" in node:
        # A TensorFlow function, by its module and name.
        kind, plain, *_ = node["assembly"]
        if kind == "tf_function" and isinstance(plain, dict) and "module" in plain:
            yield NamedGlobal(str(plain["module"]), str(plain.get("name")))
        return
    if not isinstance(name, str):
        return
    # Before all other keys, some of which let a reader ignore the name.
    if name in _HARMFUL:
        yield NamedGlobal("", name, _HARMFUL[name])
    if name == "__lambda__":
        yield NamedGlobal("", "a lambda in a config", "code that is in the file itself")
    if (
        "keras_reduce_child" in node
        or registered in keys
        or (isinstance(config, str) and config in keys)
    ):
        return
    # A private class of Keras 2, by a name relative to the package, which the family checks.
    is_private = "keras_reduce" in node and str(module).partition(".")[0] == "private"
    if name != "function" and not is_private:
        yield from _of_name(module, name)
    elif name == "function" and module != "builtins":
        yield from _of_name(module, config)
    if isinstance(registered, str) and ">" in registered:
        yield NamedGlobal("", registered, "a name under which anything may be registered")
    if isinstance(config, dict) and isinstance(config.get("vocabulary"), str):
        reason = "the path of a file, which would be read"
        yield NamedGlobal("", f"{name}.vocabulary", reason)


def _of_name(module: Any, name: Any) -> Iterator[NamedGlobal]:
    # The family checks those of Keras.
    if module is not None and str(module).partition(".")[0] not in ("keras", "tf_keras"):
        yield NamedGlobal(str(module), str(name))


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
