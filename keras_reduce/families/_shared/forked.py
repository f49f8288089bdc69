"""Warning about models in a process that was forked after TensorFlow had started.

A forked process has one thread. TensorFlow runs graphs in the threads of a pool; in a child, those
of its parent are gone, and `predict` and `fit` wait for them for ever. Forking a process that has
only imported TensorFlow does no harm.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ...core.private_names import Manifest
from ...core.replacements import Replacements

__all__ = ["FORKS", "unwatch", "warn", "watch"]

FORKS = Manifest(
    "The warning about models in forked processes",
    "a process that is forked after TensorFlow has run may wait for ever without a warning",
    {
        "tensorflow.python.eager.context:_context": "to find TensorFlow's context",
        "tensorflow.python.eager.context:Context()._initialized": "to tell whether it has started",
    },
)

_log = logging.getLogger(__package__.partition(".")[0])
# Methods that run graphs. Operations that a program calls itself run in its own thread.
_METHODS = (
    "evaluate",
    "fit",
    "predict",
    "predict_on_batch",
    "test_on_batch",
    "train_on_batch",
)
_CLASSES = (("keras", "Model"), ("tf_keras", "Model"))

# Whether the methods of models are to warn, which they do only in a child.
_is_watching = False
_is_in_doubt = False  # in a child of a process that computed with TensorFlow, which got no warning
_patches = Replacements()


def watch() -> None:
    """Let models warn when they are used in children that are forked from now on."""
    global _is_watching
    # Other backends don't import TensorFlow, and neither does this.
    _is_watching = "tensorflow" in sys.modules and FORKS.is_complete()


def unwatch() -> None:
    """Undo `watch`."""
    global _is_watching
    _is_watching = False
    _patches.undo()


def warn(what: str) -> None:
    """Log, once in a process, that `what` may wait for ever, if that is so."""
    global _is_in_doubt
    if not _is_in_doubt:
        return
    _is_in_doubt = False
    _patches.undo()
    _log.warning(
        "%s in process %d, which was forked after TensorFlow had run in process %d. TensorFlow's "
        "threads are not in a forked process, so predict() and fit() wait for ever. What to do: "
        "use joblib's backend 'keras', or multiprocessing.get_context('spawn'); or, in servers "
        "and pools that fork, load the model after the fork, in a program that has only imported "
        "Keras before",
        what,
        os.getpid(),
        os.getppid(),
    )


def _has_run() -> bool:
    # Importing TensorFlow does not start it; the first operation does.
    module: Any = sys.modules.get("tensorflow.python.eager.context")
    context = getattr(module, "_context", None)
    return bool(getattr(context, "_initialized", False))


def _after_fork() -> None:
    global _is_in_doubt
    if not _has_run():
        return
    _is_in_doubt = True
    for model in _models() if _is_watching else ():
        for name in _METHODS:
            _patches.set(model, name, _warning(name, getattr(model, name)))


def _models() -> Iterator[Any]:
    for root, name in _CLASSES:
        model = getattr(sys.modules.get(root), name, None)
        if isinstance(model, type):
            yield model


def _warning(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        warn(f"{type(self).__name__}.{name}() is called")
        return original(self, *args, **kwargs)

    return method


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
