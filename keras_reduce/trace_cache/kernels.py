"""TensorFlow's cache of kernels: optimized graphs and streams of random numbers live there.

TensorFlow clears the cache whenever a program sets a seed, so that kernels that draw random numbers
start their streams again. Kernels that hold optimized graphs are lost as well, and the next call
optimizes each graph again, which takes longer than an epoch of a small model. So the cache is kept
if none of its kernels can have drawn a number.
"""

from __future__ import annotations

import functools
import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

# TensorFlow caches a kernel for each variable ever created, by its numbered name: some twenty
# kilobytes for each. Clearing the cache costs a tenth of a second for the other kernels.
_MANY_VARIABLES = 1000
# First words of names of functions: those of pipelines, which are instantiated for each iterator,
# with new kernels; and those of single operations, which are watched where they are run.
_PASSED_OVER = ("__inference_Dataset_", "__wrapped__")

_variables_since = 0
# Threads in which models have run. If there are several, the kernel cache is not cleared.
_threads: set[int] = set()
# Whether an operation that draws from a stream of its kernel may have run outside of a function
# since the cache was cleared. Nothing is known of the time before the patch.
_has_drawn = True
# Names of functions without such operations.
_harmless: set[str] = set()


def note_thread() -> None:
    """Remember that a model runs in this thread."""
    _threads.add(threading.get_ident())


def count_variables(number: int) -> None:
    """Count variables that graphs are called with, and clear the cache when there were many."""
    global _variables_since
    _variables_since += number
    if _variables_since < _MANY_VARIABLES:
        return
    living = {thread.ident for thread in threading.enumerate()}
    # Private; `keras.utils.clear_session` calls `clear_kernel_cache` as well.
    from tensorflow.python.eager import context

    if len(_threads & living) == 1 and not _may_have_drawn(context.context()):
        _variables_since = 0
        context.context().clear_kernel_cache()


def patches() -> Iterator[tuple[Any, str, Callable[[Any], Any]]]:
    """Yield the patches of TensorFlow: module or class, name, function from old to new value."""
    # Private: what `tf.random.set_seed` calls.
    from tensorflow.python.eager import context

    global _has_drawn
    _has_drawn = True
    yield context.Context, "_set_global_seed", _keeping_kernels
    for module in _modules_that_draw():
        yield module, "pywrap_tfe", _Watched


def _keeping_kernels(original: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    @functools.wraps(original)
    def _set_global_seed(self: Any, seed: Any) -> None:
        global _has_drawn
        if type(seed) is not int or _may_have_drawn(self):
            original(self, seed)
            _has_drawn = False  # The original has cleared the cache.
            return
        # Private: all that the original does, except for clearing.
        self._seed = seed
        self._rng = random.Random(seed)

    return _set_global_seed


def _may_have_drawn(context: Any) -> bool:
    """Return whether a kernel in the cache may be in the middle of a stream of random numbers."""
    if _has_drawn:
        return True
    names = {name for name in context.list_function_names() if not name.startswith(_PASSED_OVER)}
    _harmless.intersection_update(names)
    for name in names - _harmless:
        operations = {node.op for node in context.get_function_def(name).node_def}
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


class _Watched:
    """Stand-in for TensorFlow's C functions in one module: notes when an operation draws."""

    def __init__(self, functions: Any) -> None:
        self._functions = functions
        # Private: every operation that runs eagerly passes through one of these.
        self.TFE_Py_FastPathExecute = self._noting(functions.TFE_Py_FastPathExecute)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._functions, name)

    @staticmethod
    def _noting(execute: Callable[..., Any]) -> Callable[..., Any]:
        drawing = _drawing()

        def run(context: Any, operation: str, *arguments: Any) -> Any:
            global _has_drawn
            if operation in drawing:
                _has_drawn = True
            return execute(context, operation, *arguments)

        return run
