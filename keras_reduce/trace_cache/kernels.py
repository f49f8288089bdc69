"""TensorFlow's cache of kernels: optimized graphs and streams of random numbers live there.

A kernel is kept until the cache is cleared. Two things are changed in how a program uses it.

TensorFlow clears the cache whenever a program sets a seed, so that kernels that draw random numbers
start their streams again. Kernels that hold optimized graphs are lost as well, and the next call
optimizes each graph again, which takes longer than an epoch of a small model. So the cache is kept
if none of its kernels can have drawn a number. And variables of one shape share a kernel,
so that no memory stays behind for each of them.
"""

from __future__ import annotations

import functools
import logging
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

_log = logging.getLogger(__package__)
# First words of names of functions: those of pipelines, which are instantiated for each iterator,
# with new kernels; and those of single operations, which are watched where they are run.
_PASSED_OVER = ("__inference_Dataset_", "__wrapped__")

# Whether an operation that draws from a stream of its kernel may have run outside of a function
# since the cache was cleared. Nothing is known of the time before the patch.
_has_drawn = True
_times_cleared = 0
# Names of functions without such operations.
_harmless: set[str] = set()


def patches() -> Iterator[tuple[Any, str, Callable[[Any], Any]]]:
    """Yield the patches of TensorFlow: module or class, name, function from old to new value."""
    # Private: what `tf.random.set_seed` calls.
    from tensorflow.python.eager import context

    global _has_drawn
    _has_drawn = True
    yield context.Context, "_set_global_seed", _keeping_kernels
    for module in _modules_that_draw():
        yield module, "pywrap_tfe", _watching
    # Private: what makes variables.
    from tensorflow.python.ops import gen_resource_variable_ops

    yield gen_resource_variable_ops, "pywrap_tfe", _without_names


def times_cleared() -> int:
    """Return how often a seed has cleared the cache."""
    return _times_cleared


def _keeping_kernels(original: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    @functools.wraps(original)
    def _set_global_seed(self: Any, seed: Any) -> None:
        global _has_drawn, _times_cleared
        try:
            is_kept = type(seed) is int and not _may_have_drawn(self)
        except Exception:  # Another thread may remove a function meanwhile.
            _log.debug("TensorFlow's kernels are not known", exc_info=True)
            is_kept = False
        if not is_kept:
            original(self, seed)
            _has_drawn = False  # The original has cleared the cache.
            _times_cleared += 1
            return
        # Private: all that the original does, except for clearing.
        self._seed = seed
        self._rng = random.Random(seed)

    return _set_global_seed


def _may_have_drawn(eager: Any) -> bool:
    """Return whether a kernel in the cache may be in the middle of a stream of random numbers."""
    if _has_drawn:
        return True
    names = {name for name in eager.list_function_names() if not name.startswith(_PASSED_OVER)}
    _harmless.intersection_update(names)
    for name in names - _harmless:
        operations = {node.op for node in eager.get_function_def(name).node_def}
        if not operations.isdisjoint(_drawing()):
            return True
        _harmless.add(name)
    return False


@functools.cache
def _drawing() -> frozenset[str]:
    """Return the names of the operations whose kernels keep a stream of random numbers."""
    import tensorflow as tf

    # Private: the list of TensorFlow's operations.
    from tensorflow.python.framework import op_def_registry

    definitions = filter(None, map(op_def_registry.get, dir(tf.raw_ops)))
    return frozenset(
        each.name for each in definitions if any(attr.name == "seed2" for attr in each.attr)
    )


def _modules_that_draw() -> set[Any]:
    """Return the modules whose functions run such operations."""
    import tensorflow as tf

    functions = (getattr(tf.raw_ops, name).__wrapped__ for name in _drawing())
    return {sys.modules[function.__globals__["__name__"]] for function in functions}


class _Patched:
    """Replacement of TensorFlow's C functions in one module, with another one for eager calls."""

    def __init__(self, functions: Any, execute: Callable[..., Any]) -> None:
        self._functions = functions
        # Private: every operation that runs eagerly passes through this.
        self.TFE_Py_FastPathExecute = execute

    def __getattr__(self, name: str) -> Any:
        return getattr(self._functions, name)


def _watching(functions: Any) -> _Patched:
    """Return the C functions of a module, which note when an operation draws."""
    drawing, execute = _drawing(), functions.TFE_Py_FastPathExecute

    def run(eager: Any, operation: str, *arguments: Any) -> Any:
        global _has_drawn
        if operation in drawing:
            _has_drawn = True
        return execute(eager, operation, *arguments)

    return _Patched(functions, run)


def _without_names(functions: Any) -> _Patched:
    """Return the C functions of a module, which make all variables of a shape by one kernel.

    TensorFlow keeps a kernel for each variable that a program ever makes, since its name
    is an attribute of the operation. Only messages of TensorFlow show that name; Python has it too.
    """
    execute = functions.TFE_Py_FastPathExecute

    def run(eager: Any, operation: str, *arguments: Any) -> Any:
        # A name of the operation, then names and values of attributes.
        names = arguments[1::2] if operation == "VarHandleOp" else ()
        if "debug_name" in names:
            place = 2 * names.index("debug_name") + 2
            arguments = (*arguments[:place], "", *arguments[place + 1 :])
        return execute(eager, operation, *arguments)

    return _Patched(functions, run)
