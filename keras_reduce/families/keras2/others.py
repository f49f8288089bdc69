"""Objects of other packages and of SavedModels, which the rules for user-defined classes don't fit.

TensorFlow Probability marshals functions into configs, without the names that they refer to.
TensorFlow Decision Forests keep trees in a resource of TensorFlow. ``load_model`` makes classes
of its own for what it finds in a SavedModel and can't import.
"""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle

from ...errors import ReduceError
from .bookkeeping import LEFT_BY_LOADING
from .framework import keras, private, root


def refuse(obj: Any) -> None:
    """Refuse an object whose class or state is in none of its attributes.

    Raises
    ------
    ReduceError
        If `obj` was loaded from a SavedModel without its class, or is a trained forest.
    """
    cls = type(obj)
    if _is_revived(cls):
        raise ReduceError(
            f"The class of this {cls.__name__} was not found when its SavedModel was loaded",
            where=f"({obj.name})",
            cause="it calls functions of TensorFlow, which are in the folder of the SavedModel "
            "only",
            cure=f"give the class to {root()}.models.load_model(path, custom_objects={{...}}), "
            "with a get_config(); or ship the folder, and load it on the other side",
        )
    if _is_of(cls, "tensorflow_decision_forests") and _is_trained(obj):
        raise ReduceError(
            f"The trees of a {cls.__name__} can't be carried",
            where=f"({obj.name})",
            cause="TensorFlow Decision Forests keep them in a resource of TensorFlow, and "
            "get_config() is empty",
            cure="ship the folder that model.save(folder) writes; or use the package ydf, whose "
            "models can be pickled",
        )

    if any(base.__name__ in _NOT_CARRIED for base in cls.__mro__ if _is_of(base, _PROBABILITY)):
        raise ReduceError(
            f"A {cls.__name__} can't be carried",
            where=f"({obj.name})",
            cause="TensorFlow Probability makes its variables in a way that no config describes",
            cure="ship what save_weights() writes, and build the model on the other side",
        )


_PROBABILITY = "tensorflow_probability"
_NOT_CARRIED = frozenset({"VariationalGaussianProcess"})


def refuse_distributions(rule: Any) -> None:
    """Refuse a regularizer or the like of TensorFlow Probability's that can't be unpickled.

    Raises
    ------
    ReduceError
        If it holds a distribution of a class that asks for arguments when it is unpickled, such as
        `Independent` (TensorFlow Probability 0.25).
    """
    if not _is_of(type(rule), _PROBABILITY):
        return
    try:
        pickle.loads(cloudpickle.dumps(dict(vars(rule))))
    except Exception as error:
        raise ReduceError(
            f"The distribution in a {type(rule).__name__} can't be unpickled",
            cause=f"TensorFlow Probability: {type(error).__name__}: {error}",
            cure="use one that can, such as Normal; or make the model on the other side, and ship "
            "its weights",
        ) from error


def _is_revived(cls: type) -> bool:
    # Private: the bases of the classes that load_model makes.
    if not cls.__module__.endswith(".saving.legacy.saved_model.load"):
        return False
    return issubclass(cls, private("saving.legacy.saved_model.load").RevivedLayer)


def _is_of(cls: type, package: str) -> bool:
    return any(base.__module__.partition(".")[0] == package for base in cls.__mro__)


def _is_trained(forest: Any) -> bool:
    # Private: a variable of TensorFlow. Without it, take a forest as trained.
    flag = getattr(forest, "_is_trained", None)
    return flag is None or bool(flag.numpy())


def left_by_loading(obj: Any) -> frozenset[str]:
    """Return the attributes that ``load_model`` has set on what it found in a SavedModel."""
    return LEFT_BY_LOADING if "_serialized_attributes" in vars(obj) else frozenset()


def with_functions(obj: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a layer with the functions themselves where it has their bytecode."""
    if not _is_of(type(obj), _PROBABILITY):
        return config
    names = [name for name in config if f"{name}_type" in config and hasattr(obj, name)]
    functions = {name: getattr(obj, name) for name in names}
    types = {f"{name}_type": None for name in names}
    return {**config, **functions, **types}


def made_with_functions(cls: Any, config: dict[str, Any]) -> Any:
    """Return a layer made from what `with_functions` returned; None if `cls` is of other kind."""
    names = {name for name in config if f"{name}_type" in config and not config[f"{name}_type"]}
    if not names or not _is_of(cls, _PROBABILITY):
        return None
    arguments = {
        name: value
        for name, value in config.items()
        if name.removesuffix("_type") not in names or name in names
    }
    # As its from_config() does, which asks for bytecode.
    if "activation" in arguments and not callable(arguments["activation"]):
        arguments["activation"] = keras().activations.get(arguments["activation"])
    return cls(**arguments)
