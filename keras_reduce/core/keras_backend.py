"""Which array library Keras computes with: found out, and passed on, without importing any.

Keras decides it once, at its import: by ``KERAS_BACKEND``, else by its file of settings, else it
takes TensorFlow. A worker has to decide as its program did. A program that loads a file decides for
itself, unless it has said nothing and what Keras would take is not there.
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
    """Return the name of the backend of the Keras that is imported here; None if none is."""
    keras: Any = sys.modules.get("keras")
    return str(keras.config.backend()) if hasattr(keras, "config") else None


def chosen() -> str | None:
    """Return the backend that this program has taken, or named in its environment; else None."""
    return current() or os.environ.get(_VARIABLE) or None


def expected() -> str:
    """Return the backend that Keras has here, or would have if it were imported now."""
    return chosen() or _in_settings()


def _in_settings() -> str:
    try:
        home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
        return str(json.loads((home / "keras.json").read_text())["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return _DEFAULT


def environment() -> dict[str, str]:
    """Return the environment variables of a process whose Keras shall have this one's backend."""
    name = chosen()
    return {_VARIABLE: name} if name else {}


def follow(name: str) -> None:
    """Let the Keras of this worker have the backend that the program's has.

    Raises
    ------
    FrameworkError
        If Keras is imported already, with another one, or this one is not here.
    """
    here = current()
    if here is None and not _is_installed(name):
        raise FrameworkError(
            f"This worker lacks {name!r}, with which the Keras of its program computes",
            where=process_role.here(),
            cause=f"it is not installed in {sys.prefix}",
            cure="install the same on workers as for the program",
        )
    if here is None:
        os.environ[_VARIABLE] = name
    elif here != name:
        raise FrameworkError(
            f"The Keras of this worker computes with {here!r}, that of its program with {name!r}",
            where=process_role.here(),
            cause="the worker had imported Keras before it got this task: in an initializer, "
            "through an import of your own, or in a task that came before the program chose",
            cure=f"set os.environ['{_VARIABLE}'] = {name!r} before the program starts its workers, "
            "and end those that there are",
        )


def prefer(name: str | None) -> None:
    """Let Keras, once it is imported, have the backend `name` of a payload, if nothing else goes.

    The program's own choice wins. If it has made none, Keras would take TensorFlow; only if that is
    not installed, but what the payload was written with is, that is taken.
    """
    if not name or name == _DEFAULT or chosen() or _in_settings() != _DEFAULT:
        return
    if not _is_installed(_DEFAULT) and _is_installed(name):
        os.environ[_VARIABLE] = name


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
