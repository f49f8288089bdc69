"""Reducers: for each kind of Keras object a function that takes it apart and one that rebuilds it.

The paths of the ``rebuild_*`` functions and the order of their arguments are wire format: they
stand in every pickle ever written. Never rename or reorder; add at the end, with defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import custom_objects as _custom_objects
from . import families, payload, weights
from ._version import __version__
from .errors import KerasReduceError, PayloadError, ReduceError

Reduced = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any] | None]


def reduce_model(model: Any) -> Reduced:
    """Reduce a model: architecture, all variables, how it was compiled, history.

    Carried: layer variables, random seeds, optimizer slots and iterations, metric state,
    vocabularies and other assets, ``trainable`` flags, custom classes and functions, ``history``
    and ``stop_training``. Not carried: compiled functions (traced again on first use), ``losses``
    of the last call, callbacks of a running ``fit``.
    """
    return (rebuild_model, *_take_apart(model))


def rebuild_model(
    json: str,
    arrays: tuple[Any, ...],
    compile_config: str | None = None,
    custom_objects: Any = None,
    objects: tuple[Any, ...] = (),
    installation: Any = None,
) -> Any:
    """Rebuild what `reduce_model` took apart.

    Parameters
    ----------
    json : str
        Header and architecture.
    arrays : tuple of numpy.ndarray
        In the order of the header's list of weights.
    compile_config : str, optional
        How the model was compiled.
    custom_objects : tuple, optional
        What `keras_reduce.custom_objects.Table.pack` returned.
    objects : tuple, optional
        Values inside the object that no JSON can hold.
    installation : None
        Place for an object whose own unpickling prepares a worker; see `keras_reduce.registry`.

    Raises
    ------
    PayloadError
        If the parts disagree, or with what this process rebuilds from them.
    CustomObjectError
        If a custom class or function can't be had here.
    FrameworkError
        If Keras can't be imported here.
    """
    document = payload.decode(json)
    try:
        header, architecture = document["header"], document["config"]
        header["weights"]
    except (KeyError, TypeError) as error:
        raise PayloadError(
            "The payload lacks its header",
            cause="it is damaged or was not written by keras_reduce",
            cure="write it anew from the original object",
        ) from error
    payload.check_protocol(header)
    family = families.required(header["family"])
    compilation = None if compile_config is None else payload.decode(compile_config)
    own = _custom_objects.resolve(custom_objects)
    values, assets = weights.pair(header, arrays)
    try:
        with family.reading(own, objects):
            obj = family.construct(architecture, header, compilation, objects)
            # Assets first: some create variables, and a user's own loading method may write
            # rounded values into variables that the exact ones must then overwrite.
            family.restore_assets(family.survey(obj), assets)
            tree = family.survey(obj, header.get("children", ()))
            weights.assign(tree.own_variables, values)
            family.finish(tree)
    except KerasReduceError:
        raise
    except Exception as error:
        raise PayloadError(
            f"The {architecture.get('class_name', 'object')} can't be rebuilt from its config",
            where=str(architecture.get("config", {}).get("name", "")),
            cause=f"{type(error).__name__}: {error}. Written with {_spelled(header)}, read with "
            f"{_spelled({'versions': family.versions()})}",
            cure="compare the versions and the code of custom classes on both sides; a class whose "
            "constructor takes more than its get_config() returns can't be rebuilt",
        ) from error
    return obj


def reduce_layer(layer: Any) -> Reduced:
    """Reduce a lone layer: config, variables, random seeds, assets.

    Not carried: its connections to other layers (`keras.Layer.input`, `output`).
    """
    return (rebuild_layer, *_take_apart(layer))


def rebuild_layer(*payload: Any) -> Any:
    """Rebuild what `reduce_layer` took apart; parameters as for `rebuild_model`."""
    return rebuild_model(*payload)


def reduce_optimizer(optimizer: Any) -> Reduced:
    """Reduce a lone optimizer: config, iterations, learning rate, slots.

    The variables that it was built for are not part of it. The rebuilt optimizer takes the first
    variables of the same shapes that it is applied to, or compiled with, for them.
    """
    return (rebuild_optimizer, *_take_apart(optimizer))


def rebuild_optimizer(*payload: Any) -> Any:
    """Rebuild what `reduce_optimizer` took apart; parameters as for `rebuild_model`."""
    return rebuild_model(*payload)


def reduce_metric(metric: Any) -> Reduced:
    """Reduce a lone metric: config and state."""
    return (rebuild_metric, *_take_apart(metric))


def rebuild_metric(*payload: Any) -> Any:
    """Rebuild what `reduce_metric` took apart; parameters as for `rebuild_model`."""
    return rebuild_model(*payload)


def reduce_loss(loss: Any) -> Reduced:
    """Reduce a lone loss: config; losses have no variables."""
    return (rebuild_loss, *_take_apart(loss))


def rebuild_loss(*payload: Any) -> Any:
    """Rebuild what `reduce_loss` took apart; parameters as for `rebuild_model`."""
    return rebuild_model(*payload)


TABLE: dict[families.Kind, Callable[[Any], Reduced]] = {
    "model": reduce_model,
    "layer": reduce_layer,
    "optimizer": reduce_optimizer,
    "metric": reduce_metric,
    "loss": reduce_loss,
}


def reduce(obj: Any) -> Reduced | None:
    """Reduce `obj` by the row of `TABLE` for its kind; None if there is none."""
    family = families.of(obj)
    kind = family.kind(obj) if family else None
    return None if kind is None else TABLE[kind](obj)


def _take_apart(obj: Any) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
    family = families.of(obj)
    if family is None:
        raise ReduceError(
            f"{type(obj).__qualname__} is not a Keras object",
            cure="pickle it without keras_reduce",
        )
    _custom_objects.refuse_own_parts(obj)
    where = f"{type(obj).__qualname__} {getattr(obj, 'name', '')!r}"
    table = _custom_objects.Table(obj)
    try:
        with family.writing(table):
            architecture = family.architecture(obj)
            tree = family.survey(obj, table.children)
            compilation = family.compilation(tree)
            structure = family.structure(tree, table.objects)
        lists, arrays = weights.collect(tree.own_variables, family.assets(tree), family.backend())
        state = {**table.state, **family.state(obj)}
    except KerasReduceError:
        raise
    except Exception as error:
        raise ReduceError(
            f"This {type(obj).__qualname__} can't be taken apart",
            where=where,
            cause=f"{type(error).__name__}: {error}",
            cure="if the message speaks of a config, implement get_config() and from_config() on "
            "the class that it names; else please report it",
        ) from error
    header = {
        "protocol": payload.PROTOCOL,
        "family": family.NAME,
        "versions": {"keras_reduce": __version__, **family.versions()},
        **lists,
        **structure,
    }
    header, architecture, compilation = payload.canonical([header, architecture, compilation])
    json = payload.encode({"header": header, "config": architecture}, where=where)
    compile_config = None if compilation is None else payload.encode(compilation, where=where)
    arguments = (json, arrays, compile_config, table.pack(tree.parts), tuple(table.objects))
    return arguments, {name: _custom_objects.by_value(v) for name, v in state.items()} or None


def _spelled(header: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in header.get("versions", {}).items())
