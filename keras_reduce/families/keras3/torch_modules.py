"""Parametrized modules of Torch, such as those of ``weight_norm``, which Torch doesn't pickle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import FrameworkError
from .private import PARAMETRIZED


def pickle_parametrized(module: Any) -> None:
    """Let the pickler take parametrized modules in a `module`.

    Each has a class of its own, made by Torch, which differs from its base class in properties for
    the parametrized tensors and in a ``__getstate__`` that raises an error (Torch 2.13).
    """
    from torch.nn.utils import parametrize

    if not PARAMETRIZED.is_complete():
        return
    for each in module.modules():
        cls: Any = type(each)
        if parametrize.is_parametrized(each) and "__getstate__" in vars(cls):
            cls.__reduce_ex__ = reduce_parametrized


def reduce_parametrized(module: Any, _: int) -> tuple[Callable[..., Any], tuple[Any, ...], Any]:
    """Reduce a parametrized module: its class without parametrizations, their names, its state.

    Not carried: the hook by which ``weight_norm`` takes state dicts of its predecessor, which is a
    local function of Torch.
    """
    names, state = tuple(module.parametrizations), dict(vars(module))
    hooks = state["_load_state_dict_pre_hooks"]
    left = [(key, hook) for key, hook in hooks.items() if not _is_of_torch(hook)]
    state["_load_state_dict_pre_hooks"] = type(hooks)(left)
    return rebuild_parametrized, (type(module).__base__, names), state


def _is_of_torch(hook: Any) -> bool:
    function = getattr(hook, "hook", hook)
    return getattr(function, "__module__", "") == "torch.nn.utils.parametrizations"


def rebuild_parametrized(cls: Any, names: tuple[str, ...]) -> Any:
    """Return a module of the class that Torch makes for parametrized tensors, without a state.

    The path of this function is wire format.

    Raises
    ------
    FrameworkError
        If Torch has no longer what makes such a class.
    """
    from torch.nn.utils import parametrize

    if gone := PARAMETRIZED.missing():
        raise FrameworkError(
            "A parametrized module of Torch can't be rebuilt",
            cause=f"{gone[0].replace(':', '.')} can't be found in this version of Torch",
            cure="load it with the version of Torch with which it was written",
        )
    module = cls.__new__(cls)
    # What register_parametrization() does to the class.
    parametrize._inject_new_class(module)
    for name in names:
        parametrize._inject_property(module, name)
    return module
