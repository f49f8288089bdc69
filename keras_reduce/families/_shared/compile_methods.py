"""User-defined ``compile()`` methods: what they take, what they set, and if a call can be repeated.

Keras records the arguments that its own ``compile()`` receives, and not those of a method that
overrides it. A rebuilt model is compiled by that method only if the recorded arguments are all that
it takes. Otherwise Keras's own ``compile()`` gets them, and what the method sets on the model is
carried as attributes.
"""

from __future__ import annotations

import inspect
import logging
import types
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from ...errors import KerasReduceError, PayloadError
from . import assigned_attributes, completeness
from .nests import reached

_log = logging.getLogger(__package__)

# Which Keras's own ``compile()`` takes and doesn't record, as what comes of it is in the optimizer.
_NOT_RECORDED = frozenset({"auto_scale_loss"})


def accepts(method: Callable[..., Any], arguments: Mapping[str, Any]) -> bool:
    """Return whether a call of `method` with the keyword `arguments` fits its signature."""
    try:
        inspect.signature(method).bind(**arguments)
    except TypeError:
        return False
    return True


def is_repeatable(
    model: Any, is_built_in: Callable[[type], bool], lost: Callable[[Any], list[str]]
) -> bool:
    """Return whether the ``compile()`` of `model` is to be called with the arguments that it had.

    Its class overrides the method; `lost` returns the names of attributes that the method sets and
    that can't be carried.
    """
    # Private: the arguments as Keras's own compile() received them.
    cls, recorded = type(model), model._compile_config.config
    if not accepts(model.compile, recorded) or _makes_some(cls, recorded, is_built_in):
        return False
    return not _takes_more(cls, recorded, is_built_in) or bool(lost(model))


def compiled_models(
    specs: Mapping[str, Any], parts: Callable[[], Mapping[str, Any]]
) -> Iterator[tuple[str, Any, Any]]:
    """Yield path, model and specification of the models that are to be compiled again.

    Raises
    ------
    PayloadError
        If a model that was compiled is not there.
    """
    for path, spec in specs.items():
        model = parts().get(path)  # Looked up each time: compiling makes parts.
        if model is None:
            raise PayloadError(
                "A model that was compiled has not been rebuilt",
                where=path,
                cause="the class that creates it has changed since",
                cure="load it with the code that wrote it",
            )
        yield path, model, spec


def call(method: Any, path: str, *arguments: Any, **named: Any) -> None:
    """Call a user-defined method that compiles a rebuilt model.

    Raises
    ------
    PayloadError
        If the method fails.
    """
    try:
        method(*arguments, **named)
    except KerasReduceError:
        raise
    except Exception as error:
        model = method.__self__
        raise PayloadError(
            f"{method.__name__}() of {type(model).__qualname__} fails on the rebuilt model",
            where=path or model.name,
            cause=f"{type(error).__name__}: {error}",
            cure="check the arguments of the method: it must take those that Keras's own "
            "compile() records",
        ) from error


def warn_of_loss(model: Any, names: list[str]) -> None:
    """Log, once for a model, what its ``compile()`` has set and a copy lacks."""
    if names and model not in _told:
        _told.add(model)
        _log.warning(
            "compile() of %s takes arguments that Keras does not record. The model %r comes back "
            "compiled, but without what compile() has set and no pickler takes: %s. Call "
            "compile() again where that is needed",
            type(model).__qualname__,
            model.name,
            ", ".join(map(repr, names)),
        )


# The models that a warning was given for: a model is reduced many times.
_told: weakref.WeakSet[Any] = weakref.WeakSet()


def attributes(cls: type, is_built_in: Callable[[type], bool]) -> frozenset[str]:
    """Return the names that ``compile()`` of `cls`, and methods that it calls, set on the model."""

    def helpers(method: types.FunctionType) -> Iterator[types.FunctionType]:
        for name in method.__code__.co_names:
            owner = next((base for base in cls.__mro__ if name in vars(base)), cls)
            helper = inspect.unwrap(vars(owner).get(name, len))
            is_followed = name not in _APART and not is_built_in(owner)
            if isinstance(helper, types.FunctionType) and is_followed:
                yield helper

    methods = reached(_methods(cls, is_built_in), helpers)
    return frozenset().union(*map(assigned_attributes.set_in, methods))


# What these set is the constructor's to make again.
_APART = frozenset({"__init__", "build", "call", "compile"})


def _takes_more(cls: type, recorded: Collection[str], is_built_in: Callable[[type], bool]) -> bool:
    """Return whether ``compile()`` of `cls` has parameters that are not in `recorded`."""
    return any(_named(method) - {*recorded} for method in _methods(cls, is_built_in))


def _makes_some(cls: type, recorded: Collection[str], is_built_in: Callable[[type], bool]) -> bool:
    """Return whether ``compile()`` of `cls` seems to make some of the `recorded` arguments itself.

    One that hands on ``loss=...`` together with ``**kwargs`` fails if it is given a loss.
    """
    return any(
        _texts(method.__code__) & {*recorded} - _named(method)
        for method in _methods(cls, is_built_in)
    )


def _methods(cls: type, is_built_in: Callable[[type], bool]) -> Iterator[types.FunctionType]:
    for base in cls.__mro__:
        method = inspect.unwrap(vars(base).get("compile", len))
        if isinstance(method, types.FunctionType) and not is_built_in(base):
            yield method


def _named(method: Callable[..., Any]) -> set[str]:
    return completeness.parameters_of(method)[0].keys() - _NOT_RECORDED


def _texts(code: types.CodeType) -> set[str]:
    """Return the texts among the constants of a function, which names of keywords are as well."""
    constants: list[Any] = []
    for constant in code.co_consts:
        constants += constant if isinstance(constant, tuple) else [constant]
    return {constant for constant in constants if isinstance(constant, str)}
