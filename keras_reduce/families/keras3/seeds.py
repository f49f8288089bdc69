"""The seed generator that belongs to no layer: ``keras.random.normal(shape)`` without a seed.

Keras keeps one for each thread. A layer whose code draws from it goes on bit for bit only with the
generator in the same state, so the payload of such a layer carries it. Pickling may happen in
another thread (loky has one for it), so the last one that was drawn from is remembered.
"""

from __future__ import annotations

import functools
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ...core import code_objects
from ...core.array_backends import converted, dtype_name
from .._shared.nests import reached
from .kinds import is_built_in

# Private: the public functions of keras.random use it without ever showing it.
_ATTRIBUTE = "global_seed_generator"


def _nothing() -> None: ...


_latest: Callable[[], Any] = _nothing


def remembering(original: Callable[[], Any]) -> Callable[[], Any]:
    """Return Keras's ``global_seed_generator`` with a memory of what it has returned."""
    _remember(_of_this_thread())

    @functools.wraps(original)
    def global_seed_generator() -> Any:
        return _remember(original())

    return global_seed_generator


def _remember(generator: Any) -> Any:
    global _latest
    if generator is not None:
        _latest = weakref.ref(generator)
    return generator


def _of_this_thread() -> Any:
    from keras.src.backend.common import global_state

    return global_state.get_global_attribute(_ATTRIBUTE)


def global_seed(code: Iterable[Any]) -> list[int] | None:
    """Return the state of the global seed generator if user-defined `code` may draw from it."""
    generator = _of_this_thread() or _latest()
    if generator is None or not any(map(_draws, code)):
        return None
    import keras

    return [int(n) for n in keras.ops.convert_to_numpy(generator.state).ravel()]


def restore_global_seed(state: list[int] | None) -> None:
    """Give the global seed generator what `global_seed` returned.

    Where the program has drawn from its own generator already, that goes on instead: loading a file
    must not turn back a program's random numbers. A worker has no program of its own; what it does
    must not depend on what it has done before.
    """
    import keras
    import numpy as np
    from keras.src.backend.common import global_state

    multiprocessing = sys.modules.get("multiprocessing")
    is_worker = multiprocessing is not None and multiprocessing.parent_process() is not None
    generator = _of_this_thread()
    if state is None or (generator is not None and not is_worker):
        return
    if generator is None:
        generator = keras.random.SeedGenerator(0)
        global_state.set_global_attribute(_ATTRIBUTE, generator)
        _remember(generator)
    # Another backend may have written it: what counts are the lower 32 bits.
    numbers = np.asarray(state, "int64")
    dtype = dtype_name(generator.state)
    narrow = None if dtype == "int64" else converted(numbers, dtype, wraps=True)
    generator.state.assign(numbers if narrow is None else narrow)


def _draws(obj: Any) -> bool:
    """Return whether the code of a function or class, or what it calls by name, names keras.random.

    Whether it names a seed of its own as well is not looked at: to carry the generator in vain does
    no harm.
    """
    named = functools.cache(lambda function: dict(_named(function)))

    def called(function: types.FunctionType) -> Iterator[types.FunctionType]:
        for value in named(function).values():
            if getattr(value, "__module__", None) == function.__module__:
                yield from _functions_of(value)

    mappings = map(named, reached(_functions_of(obj), called))
    return any(_is_random(value, names) for names in mappings for value in names.values())


def _functions_of(obj: Any) -> Iterator[types.FunctionType]:
    obj = getattr(obj, "python_function", obj)  # of a tf.function
    if isinstance(obj, types.FunctionType):
        yield obj
    elif isinstance(obj, type):
        for base in obj.__mro__[:-1]:
            if not is_built_in(base):
                for value in vars(base).values():
                    yield from _functions_of(value)


def _named(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the names in a function's code, inner functions included, with their values.

    A name that has no value here, an attribute, comes with None.
    """
    yield from code_objects.closure(function).items()
    for code in reached([function.__code__], code_objects.inner):
        for name in code.co_names:
            yield name, function.__globals__.get(name)


def _is_random(value: Any, named: Mapping[str, Any]) -> bool:
    if isinstance(value, types.ModuleType):
        name = value.__name__
        is_keras = name == "keras" or name.startswith("keras.")
        return name == "keras.random" or (is_keras and "random" in named)
    return str(getattr(value, "__module__", "")).startswith("keras.src.random")
