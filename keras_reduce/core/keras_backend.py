"""The Keras backend of this process: detection and selection, without an import.

Keras selects it once, at its import: by ``KERAS_BACKEND``, else by its configuration file, else
TensorFlow. A worker must use the backend of its program. A program that loads a file uses its own
selection, unless it has made none and the default is not installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import FrameworkError
from . import process_role

_VARIABLE = "KERAS_BACKEND"
_DEFAULT = "tensorflow"


def current() -> str | None:
    """Return the backend of the imported Keras; None if Keras is not imported."""
    keras: Any = sys.modules.get("keras")
    return str(keras.config.backend()) if hasattr(keras, "config") else None


def is_in_use() -> bool:
    """Return whether this program may have Keras objects: Keras, or an estimator, is imported."""
    return any(name in sys.modules for name in _USERS)


_USERS = ("keras", "tf_keras", f"{__package__.partition('.')[0]}.estimators.base")


def chosen() -> str | None:
    """Return the backend that this program uses or names in its environment; else None."""
    return current() or os.environ.get(_VARIABLE) or None


def expected() -> str:
    """Return the backend of Keras, or the one that an import would select now."""
    return chosen() or _in_settings()


# Keras's backends that answer only; see `keras_reduce.estimators`.
INFERENCE_ONLY = frozenset({"numpy", "openvino"})


def require_training(where: str) -> None:
    """Raise an error if Keras's backend can't train.

    Parameters
    ----------
    where : str
        The call that is to train.

    Raises
    ------
    FrameworkError
        If it is the NumPy or the OpenVINO backend.
    """
    backend = expected()
    if backend in INFERENCE_ONLY:
        raise FrameworkError(
            f"A model can't be trained with the {backend} backend of Keras",
            where=where,
            cause="this backend predicts only",
            cure="set KERAS_BACKEND to tensorflow, jax or torch in the program that trains; its "
            "files load on this backend",
        )


def _in_settings() -> str:
    try:
        home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
        return str(json.loads((home / "keras.json").read_text())["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return _DEFAULT


def environment() -> dict[str, str]:
    """Return environment variables that select this process's backend in another one."""
    name = chosen()
    return {_VARIABLE: name} if name else {}


def follow(name: str) -> None:
    """Select the backend of the program in this worker.

    Raises
    ------
    FrameworkError
        If Keras is already imported with another one, or this one is not installed.
    """
    here = current()
    if here is None and not _is_installed(name):
        raise FrameworkError(
            f"This worker lacks {name!r}, the Keras backend of its program",
            where=process_role.here(),
            cause=f"it is not installed in {sys.prefix}",
            cure="install the same packages on workers as for the program",
        )
    if here is None:
        os.environ[_VARIABLE] = name
    elif here != name:
        raise FrameworkError(
            f"The Keras of this worker computes with {here!r}, that of its program with {name!r}",
            where=process_role.here(),
            cause="the worker had imported Keras before it got this task: in an initializer, "
            "through another import, or in a task sent before the program selected its backend",
            cure=f"set os.environ['{_VARIABLE}'] = {name!r} before the program starts its workers, "
            "and restart running workers",
        )


def prefer(name: str | None) -> None:
    """Select the backend `name` of a payload for the import of Keras, if the default is missing.

    The selection of the program takes precedence. If there is none, Keras would use TensorFlow;
    only if that is not installed, but the backend of the payload is, the latter is selected.
    """
    if not name or name == _DEFAULT or chosen() or _in_settings() != _DEFAULT:
        return
    if not _is_installed(_DEFAULT) and _is_installed(name):
        os.environ[_VARIABLE] = name


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
