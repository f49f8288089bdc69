"""Reducers and rebuilders: a pair of functions for each kind of Keras object.

The paths of the ``rebuild_*`` functions and the order of their arguments are wire format: every
pickle contains them. Never rename or reorder them; add arguments at the end, with defaults.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from . import closures, families, identities, weak_references
from . import custom_objects as _custom_objects
from ._version import __version__
from .core import (
    array_backends,
    c_picklers,
    context,
    keras_backend,
    payload,
    weights,
)
from .core.code_objects import root_module
from .core.placeholders import DeferredCall, Refused
from .dry_run import dry_pickler
from .errors import FrameworkError, KerasReduceError, PayloadError, ReduceError
from .families._shared import forked
from .families._shared.lookups import LOOKUPS
from .families._shared.lost_attributes import warn_of_loss, warn_of_missing_parts
from .families.keras3 import templates

State = dict[str, Any] | None
# Last: identity tokens of variables, of other objects, and of targets of weak references.
Reduced = tuple[
    Callable[..., Any], tuple[Any, ...], State, weights.Snapshot | None, tuple[Any, ...]
]


def reduce_model(model: Any) -> Reduced:
    """Reduce a model.

    Carried: architecture, layer variables, random seeds, how it was compiled, optimizer slots and
    iterations, metric state, vocabularies and other assets, `trainable` flags, custom classes and
    functions, `history`, `stop_training`, user-defined attributes.
    Not carried: compiled functions (traced again on first use), `losses` of the last call,
    callbacks of a running `fit`.
    """
    return (rebuild_model, *_take_apart(model))


def rebuild_model(
    json: str,
    arrays: tuple[Any, ...],
    compile_config: str | None = None,
    custom_objects: Any = None,
    objects: tuple[Any, ...] = (),
    installation: Any = None,
    of_variables: tuple[Any, ...] = (),
    of_others: tuple[Any, ...] = (),
    of_targets: tuple[tuple[str, Any], ...] = (),
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
    installation : Refused, optional
        Return value of `keras_reduce.registry.receive`, which sets up a worker when it is
        unpickled: None, or a placeholder if the worker can't be set up.
    of_variables : tuple of Identity or None, optional
        Identity tokens of the variables, in the order of the header's list of weights; shorter than
        that if the last ones have none.
    of_others : tuple of Identity, optional
        Identity tokens to which the JSON texts refer by number.
    of_targets : tuple of (str, Identity), optional
        Paths and identity tokens of parts to which something may refer weakly.

    Raises
    ------
    PayloadError
        If the parts are inconsistent, or don't fit the object that is rebuilt here.
    CustomObjectError
        If a custom class or function is not available here.
    FrameworkError
        If Keras can't be imported here, or lacks a private name that is needed.
    """
    if context.is_passing():
        arguments = json, arrays, compile_config, custom_objects, objects, installation
        return DeferredCall(rebuild_model, (*arguments, of_variables, of_others, of_targets))
    if isinstance(installation, Refused):
        return installation
    request = templates.Request.of(
        json, arrays, compile_config, custom_objects, objects, of_others, of_targets
    )
    if request is not None:
        clone = request.clone(of_variables)
        if clone is not None:
            forked.warn("A model, or a part of one, is unpickled")
            return clone
    document = payload.decode(json)
    try:
        header, architecture = document["header"], document["config"]
        header["weights"]
    except (KeyError, TypeError) as error:
        raise PayloadError(
            "The payload lacks its header",
            cause="it is damaged or was not written by keras_reduce",
            cure="write it again from the original object",
        ) from error
    payload.check_protocol(header)
    forked.warn("A model, or a part of one, is unpickled")
    identity = _identity(header, of_others)
    if identity is not None and identity.obj is not None:
        # An optimizer, metric or loss of a model that has been rebuilt already.
        families.by_name(header["family"]).await_state(identity.obj)
        return identity.obj
    for path, token in of_targets:
        # A part refers to its outer object, so that one is written twice; picklers discard the
        # second result.
        if path == "" and getattr(token, "obj", None) is not None:
            return token.obj
    written_on = header.get("versions", {}).get("backend", "")
    keras_backend.prefer(written_on)
    family = families.required(header["family"], written_on)
    compilation = None if compile_config is None else payload.decode(compile_config)
    resolved_objects = _custom_objects.resolve(custom_objects)
    values, assets = weights.pair(header, arrays)
    try:
        with (
            family.reading(resolved_objects, objects, of_others),
            weak_references.rebuilding(),
            request.recording() if request else contextlib.nullcontext(),
        ):
            obj = family.construct(architecture, header, compilation, objects)
            # Assets first: some create variables, and a user-defined loading method may write
            # rounded values into variables, which the exact ones must then overwrite.
            if assets:
                family.restore_assets(family.survey(obj), assets)
            tree = family.survey(obj, family.payloads_below(header))
            for place, number in (header.get("weak", {}) | header.get("weak_in_parts", {})).items():
                path, _, name = place.rpartition(":")
                if (
                    isinstance(objects[number], weak_references.WeakAttribute)
                    and path in tree.nodes
                ):
                    objects[number].attach(tree.nodes[path], name)
            unfilled = family.unfilled(tree, values)
            weights.assign(tree.own_variables, unfilled, family.backend(), written_on)
            family.finish(tree)
            own_variables = [tree.own_variables.get(path) for path in values]
        if request is not None:
            request.record(obj, document, own_variables)
    except KerasReduceError:
        raise
    except Exception as error:
        cure = (
            "compare the versions and the code of custom classes on both sides; a class whose "
            "constructor takes more than its get_config() returns can't be rebuilt"
        )
        if isinstance(error, RecursionError):
            # Keras (3.15) follows a chain of layers by recursion, and as deep as the chain is long.
            cure = (
                f"raise Python's limit in each process that reads the object, which is "
                f"{sys.getrecursionlimit()} here, for example by sys.setrecursionlimit(20_000)"
            )
        raise PayloadError(
            f"The {architecture.get('class_name', 'object')} can't be rebuilt from its config",
            where=str(architecture.get("config", {}).get("name", "")),
            cause=f"{type(error).__name__}: {error}. Written with {_spelled(header)}, read with "
            f"{_spelled({'versions': family.versions()})}" + _untested(family),
            cure=cure,
        ) from error
    identities.settle(of_variables, own_variables)
    if identity is not None:
        identity.settle(obj)
    for path, token in of_targets:
        if path in tree.nodes and isinstance(token, identities.Identity):
            token.settle(tree.nodes[path])
    return obj


def _identity(header: dict[str, Any], tokens: tuple[Any, ...]) -> identities.Identity | None:
    """Return the identity token of the object of a payload; None if it has none."""
    number = header.get("identity")
    return None if number is None else identities.by_number(tokens, number)


def _pair(kind: families.Kind, about: str) -> tuple[Callable[[Any], Reduced], Callable[..., Any]]:
    """Return two functions, which take an object of a `kind` apart and rebuild it.

    The latter has parameters as for `rebuild_model`. It is known by its name, which is wire format.
    """

    def reduce(obj: Any) -> Reduced:
        return (rebuild, *_take_apart(obj))

    def rebuild(*payload: Any) -> Any:
        return rebuild_model(*payload)

    reduce.__name__, rebuild.__name__ = f"reduce_{kind}", f"rebuild_{kind}"
    reduce.__qualname__, rebuild.__qualname__ = reduce.__name__, rebuild.__name__
    reduce.__doc__, rebuild.__doc__ = about, f"Rebuild what `reduce_{kind}` took apart."
    return reduce, rebuild


reduce_layer, rebuild_layer = _pair(
    "layer",
    "Reduce a layer, alone or as a part of a model. Carried: config, variables, random seeds, "
    "assets, `trainable` flags, attributes that were set on it. Not carried: its connections to "
    "other layers (`keras.Layer.input`, `output`).",
)
reduce_optimizer, rebuild_optimizer = _pair(
    "optimizer",
    "Reduce a lone optimizer. Carried: config, iterations, learning rate, slots, exclusions from "
    "weight decay, identity tokens of the variables that it was built for. Not carried: these "
    "variables. The rebuilt optimizer goes on with those of layers in the same pickle. If there "
    "are none, it takes the variables that it is applied to, or compiled with, for them, if "
    "their paths or shapes tell which is which.",
)
reduce_metric, rebuild_metric = _pair(
    "metric",
    "Reduce a lone metric. Carried: config and state. Not carried: nothing that there is.",
)
reduce_loss, rebuild_loss = _pair(
    "loss",
    "Reduce a lone loss. Carried: config, with what Keras leaves out of it. Not carried: nothing "
    "that there is.",
)
reduce_operation, rebuild_operation = _pair(
    "operation",
    "Reduce a lone operation. Carried: config. Not carried: its connections to other operations.",
)
reduce_function, rebuild_function = _pair(
    "function",
    "Reduce a `keras.Function`. Carried: its symbolic inputs and outputs, and so all that is "
    "between; attributes that were set on it. Not carried: nothing that there is.",
)
reduce_tensor, rebuild_tensor = _pair(
    "tensor",
    "Reduce a symbolic tensor. Carried: shape, dtype, name, and the call that made it, with all "
    "before. Not carried: calls that the tensor went into afterwards.",
)
reduce_node, rebuild_node = _pair(
    "node",
    "Reduce the call of an operation on symbolic tensors. Carried: the operation and its "
    "arguments. Not carried: nothing that there is.",
)
reduce_variable, rebuild_variable = _pair(
    "variable",
    "Reduce a lone variable. Carried: value, dtype, name, path, flags, regularizer, constraint. "
    "Not carried: the layer that holds it. A variable beside its layer comes back as a copy.",
)
reduce_seed_generator, rebuild_seed_generator = _pair(
    "seed_generator",
    "Reduce a seed generator. Carried: seed, name, state. Not carried: nothing that there is.",
)
reduce_initializer, rebuild_initializer = _pair(
    "initializer",
    "Reduce an initializer. Carried: config, and the seed that it has drawn if none was given; "
    "or, if its class has no `get_config` of its own, its attributes. Not carried: nothing that "
    "there is.",
)
reduce_regularizer, rebuild_regularizer = _pair(
    "regularizer",
    "Reduce a regularizer. Carried: config, or attributes where its class has no config of its "
    "own. Not carried: nothing that there is.",
)
reduce_constraint, rebuild_constraint = _pair(
    "constraint",
    "Reduce a constraint. Carried: config, or attributes where its class has no config of its "
    "own. Not carried: nothing that there is.",
)
reduce_schedule, rebuild_schedule = _pair(
    "schedule",
    "Reduce a learning rate schedule. Carried: config, or attributes where its class has no "
    "config of its own. Not carried: nothing that there is.",
)
reduce_policy, rebuild_policy = _pair(
    "policy",
    "Reduce a dtype policy. Carried: config. Not carried: nothing that there is.",
)
reduce_callback, rebuild_callback = _pair(
    "callback",
    "Reduce a callback, before, after or without training. Carried: its class and its "
    "attributes, the model that it belongs to among them. Not carried: open event files of "
    "`TensorBoard`, which opens others; threads of a `CallbackList`, which starts others. A "
    "`CSVLogger` in the middle of training is refused.",
)
reduce_tf_function, rebuild_tf_function = _pair(
    "tf_function",
    "Reduce a `tf.function`. Carried: its Python function, its signature, how it was decorated. "
    "One that an importable module holds travels by reference, one that decorates a method as "
    "that method of its object. Not carried: traces, which are made again on first use, and "
    "variables that nothing but the traces holds.",
)


TABLE: dict[families.Kind, Callable[[Any], Reduced]] = {
    "model": reduce_model,
    "layer": reduce_layer,
    "function": reduce_function,
    "operation": reduce_operation,
    "optimizer": reduce_optimizer,
    "metric": reduce_metric,
    "loss": reduce_loss,
    "initializer": reduce_initializer,
    "regularizer": reduce_regularizer,
    "constraint": reduce_constraint,
    "schedule": reduce_schedule,
    "policy": reduce_policy,
    "callback": reduce_callback,
    "seed_generator": reduce_seed_generator,
    "variable": reduce_variable,
    "tensor": reduce_tensor,
    "node": reduce_node,
    "tf_function": reduce_tf_function,
}

# By name: what a reader may call to rebuild an object.
REBUILDERS: dict[str, Callable[..., Any]] = {
    f"rebuild_{kind}": globals()[f"rebuild_{kind}"] for kind in TABLE
}


class PartAttributes:
    """Reducer of an attribute value of an object, together with attributes of its inner layers.

    Inner layers have no pickle state of their own. Their attributes may refer to the outer layer,
    so they are pickled with one of its attributes, and set once it has been rebuilt.

    Parameters
    ----------
    owner : object
        The Keras object.
    attributes : mapping
        Attributes of its parts, by ``path:attribute``.
    value : object
        The value.
    """

    def __init__(self, owner: Any, attributes: Mapping[str, Any], value: Any) -> None:
        self.owner, self.attributes, self.value = owner, dict(attributes), value

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return a rebuilder with the owner, the attributes and the value."""
        return rebuild_part_attributes, (self.owner, self.attributes, self.value)


def _by_path(reducer: PartAttributes) -> dict[str, Any]:
    return {re.sub("[/:]", ".", place): value for place, value in reducer.attributes.items()}


dry_pickler.STAND_INS[PartAttributes] = _by_path


def rebuild_part_attributes(owner: Any, attributes: Mapping[str, Any], value: Any) -> Any:
    """Set the attributes that a `PartAttributes` carried; return its value.

    The path of this function is wire format. Attributes of parts that this version of a class does
    not have are lost, with a warning.
    """
    if context.is_passing():
        return DeferredCall(rebuild_part_attributes, (owner, attributes, value))
    family = families.of(owner)
    parts = family.survey(owner).nodes if family else {"": owner}
    missing = []
    for place, attribute in attributes.items():
        path, _, name = place.rpartition(":")
        if path in parts:
            setattr(parts[path], name, attribute)
        else:
            missing.append(place)
    warn_of_missing_parts(parts, missing)
    return value


def says_itself(obj: Any, *methods: str) -> bool:
    """Return whether a user-defined class of `obj` defines one of the `methods` of a pickler."""
    return not _is_of_a_framework(type(obj)) and any(
        method in vars(cls) and not _is_of_a_framework(cls)
        for cls in type(obj).__mro__[:-1]
        for method in methods
    )


def _is_of_a_framework(cls: type) -> bool:
    return root_module(cls) in _FRAMEWORKS


_FRAMEWORKS = {"keras", "tf_keras", "tensorflow", "torch", "flax", "builtins"}


def reduce(obj: Any) -> Reduced | None:
    """Reduce `obj` by the function for its kind in `TABLE`; return None if there is none."""
    family = families.of(obj)
    kind = family.kind(obj) if family else None
    if family is None or kind is None:
        return None
    family.check()
    try:
        return TABLE[kind](obj)
    except BaseException:
        weights.Snapshot.drop_all()
        raise


def reduce_for_a_copy(obj: Any) -> Reduced | None:
    """Reduce `obj` for `copy.copy`, sharing its code and its parts."""
    with _custom_objects.nested(), identities.detached():
        return reduce(obj)


def complete(
    arguments: tuple[Any, ...], installation: Any, tokens: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Append installation and tokens to the arguments, without trailing empty ones."""
    more = [installation, *tokens]
    while more and not more[-1]:
        more.pop()
    return (*arguments, *more)


def for_a_deep_copy(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments of a rebuilder with read-only arrays, which deepcopy need not copy."""
    json, arrays, *others = arguments
    return json, tuple(map(array_backends.unchanging, arrays)), *others


def fingerprint(obj: Any) -> tuple[tuple[Any, ...], State]:
    """Return data that identify `obj`, for hashing: its payload without process-dependent parts.

    Versions, and the way in which user-defined code is pickled, are left out; the code itself is
    included.
    """
    family = families.of(obj)
    if family is not None:
        family.check()
    cached = _cached_payload(obj, versioned=False)
    if cached is not None:
        _custom_objects.refuse_own_parts(obj)
        return (cached.json, cached.arrays, None, (), ()), cached.state
    dissection = _dissect(obj)
    code, objects = tuple(dissection.table.code), tuple(dissection.table.objects)
    return (*_written(dissection, versioned=False), code, objects), dissection.state()


class _Dissection(NamedTuple):
    """Intermediate result of reducing an object."""

    header: dict[str, Any]
    architecture: dict[str, Any]
    arrays: tuple[Any, ...]
    compilation: dict[str, Any] | None
    table: _custom_objects.Table
    tree: families.Tree
    snapshot: weights.Snapshot | None
    attributes: dict[str, Any]
    where: str
    search: _TargetSearch

    def state(self, transform: Callable[[Any], Any] = lambda value: value) -> State:
        """Return the state for a pickler, with each value transformed."""
        state = {name: transform(value) for name, value in self.attributes.items()}
        of_parts = {name: state.pop(name) for name in list(state) if ":" in name}
        if of_parts:
            owner = self.tree.nodes[""]
            # Each layer has this attribute, and setting it again does no harm.
            value = state.get("autocast", owner.autocast)
            state["autocast"] = PartAttributes(owner, of_parts, value)
        return state or None


def _take_apart(
    obj: Any,
) -> tuple[tuple[Any, ...], State, weights.Snapshot | None, tuple[Any, ...]]:
    around = weights.Snapshot.around(obj)
    cached = around.prepared.pop(id(obj), None) if around else None
    cached = cached or _cached_payload(obj, around)
    if cached is not None:
        _custom_objects.refuse_own_parts(obj)
        tokens = _trimmed([v if v is None else identities.Identity.of(v) for v in cached.trainable])
        return (cached.json, cached.arrays, None, None, ()), cached.state, None, (tokens,)
    dissection = _dissect(obj)
    if dissection.snapshot is not None:
        _prepare(dissection.tree.children.values(), dissection.snapshot)
    code, objects = None, ()
    if dissection.table.code or dissection.table.objects:
        bounds = _custom_objects.Bounds(dissection.tree.private, id(obj), dissection.tree.parts)
        places = None
        if dissection.table.has_late_code:
            places = closures.Places(obj, obj, dissection.tree).before_compiling()
        code = dissection.table.pack(bounds, places, carries_code=context.carries_code())
        objects = tuple(
            _custom_objects.by_value(value, LOOKUPS, bounds) for value in dissection.table.objects
        )
    family = families.of(obj)
    tokens = _trimmed(family.identities(dissection.tree)) if family else ()
    others, targets = tuple(dissection.table.identities), _targets(dissection.tree)
    json, arrays, compile_config = _written(dissection)
    dissection.search.expect(json)
    arguments = (json, arrays, compile_config, code, objects)
    return (
        arguments,
        dissection.state(_attribute_reducer(obj, dissection)),
        dissection.snapshot,
        (tokens, others, targets),
    )


def _trimmed(tokens: list[Any]) -> tuple[Any, ...]:
    """Return the tokens without those at the end that are None."""
    while tokens and tokens[-1] is None:
        tokens.pop()
    return tuple(tokens)


def _prepare(parts: Iterable[Any], snapshot: weights.Snapshot) -> None:
    """Reduce those `parts` ahead for which a cached form exists.

    Once a pickler has copied the arrays of one part, the processor's caches hold nothing of the
    Python objects of the next.
    """
    for part in parts:
        cached = _cached_payload(part, snapshot)
        if cached is not None:
            snapshot.prepared[id(part)] = cached


def _attribute_reducer(obj: Any, dissection: _Dissection) -> Callable[[Any], Any]:
    """Return a function that maps attribute values of `obj` to the values to pickle."""
    family = families.of(obj)
    if family is None or not any(map(closures.has_code, dissection.attributes.values())):
        return lambda value: value
    owner = family.owner(obj)
    tree = dissection.tree if owner is obj else family.survey(owner)
    places = closures.Places(obj, owner, tree)
    return lambda value: closures.carried(value, places)


def _written(
    dissection: _Dissection, *, versioned: bool = True
) -> tuple[str, tuple[Any, ...], str | None]:
    header = {k: v for k, v in dissection.header.items() if versioned or k != "versions"}
    document = {"header": header, "config": dissection.architecture}
    if dissection.compilation is None:
        (json,) = payload.encode(document, where=dissection.where)
        return json, dissection.arrays, None
    json, compile_config = payload.encode(document, dissection.compilation, where=dissection.where)
    return json, dissection.arrays, compile_config


class _CachedPayload(NamedTuple):
    """Payload of an object, made from a cached form without calling its ``get_config()``."""

    json: str
    arrays: tuple[Any, ...]
    state: State
    trainable: list[Any]


class _Form(NamedTuple):
    """Payload of all objects with one cache key: its JSON, split by `_split`, and their state."""

    versioned: list[str]
    unversioned: list[str]
    state: State


# By cache key; None where the payload does not follow from the key.
_forms: dict[tuple[Any, ...], _Form | None] = {}
_MOST_FORMS = 4096


def _cached_payload(
    obj: Any, snapshot: weights.Snapshot | None = None, *, versioned: bool = True
) -> _CachedPayload | None:
    """Return the payload of `obj` if one with the same cache key has been written before."""
    family = families.of(obj)
    cache_key = family.layer_cache_key(obj) if family else None
    form = _forms.get(cache_key.key) if cache_key else None
    if family is None or cache_key is None or form is None:
        return None
    json = _filled(form.versioned if versioned else form.unversioned, cache_key)
    arrays = weights.read(cache_key.variables, family.backend(), snapshot)
    return _CachedPayload(json, arrays, form.state and dict(form.state), cache_key.trainable)


def _filled(text: list[str], cache_key: families.LayerCacheKey) -> str:
    """Return the JSON `text` of a form with the names of an object inserted."""
    filled = text.copy()
    filled[1::2] = [payload.plain_text(cache_key.names[mark]) for mark in text[1::2]]
    return "".join(filled)


def _note_form(
    dissection: _Dissection, cache_key: families.LayerCacheKey, family: families.Family
) -> None:
    """Cache the form of objects with this cache key, if their payload is plain data."""
    if len(_forms) >= _MOST_FORMS:
        _forms.clear()
    _forms[cache_key.key] = None
    if len(dissection.arrays) != len(cache_key.variables):
        return
    if dissection.table.code or dissection.table.objects or dissection.compilation:
        return
    if any(type(value) not in (bool, int, float, str) for value in dissection.attributes.values()):
        return
    architecture, header = family.form(dissection.architecture, dissection.header)
    blank = dissection._replace(architecture=architecture, header=header)
    texts = [_written(blank, versioned=versioned)[0] for versioned in (True, False)]
    versioned, unversioned = (_split(text, cache_key.names) for text in texts)
    _forms[cache_key.key] = _Form(versioned, unversioned, dissection.state())


def _split(text: str, marks: Iterable[str]) -> list[str]:
    """Split the text of a payload at `marks`; return texts and marks, alternating."""
    written = {payload.plain_text(mark): mark for mark in marks}
    split = re.split(f"({'|'.join(map(re.escape, written))})", text)
    split[1::2] = [written[mark] for mark in split[1::2]]
    return split


def _dissect(obj: Any) -> _Dissection:
    family = families.of(obj)
    if family is None:
        raise ReduceError(
            f"{type(obj).__qualname__} is not a Keras object",
            cause="keras_reduce has reducers for Keras objects only",
            cure="pickle it without keras_reduce",
        )
    give_up = time.monotonic() + _PATIENCE
    while True:
        before = family.layer_cache_key(obj)
        dissection = _dissect_once(obj, family)
        if dissection is not None:
            after = family.layer_cache_key(obj) if before and before.key not in _forms else None
            if before and after and before.key == after.key:
                _note_form(dissection, after, family)
            return dissection
        if time.monotonic() > give_up:
            raise ReduceError(
                f"This {type(obj).__qualname__} is being built in another thread",
                where=dry_pickler.root_path(obj),
                cause=f"it was still changing after {_PATIENCE:g} s. The first training step "
                "creates the variables of an optimizer; or the other thread waits for this one",
                cure="pickle it when the first batch is done, and not from within build()",
            )
        time.sleep(0.01)


# Seconds: more than the first step of training takes.
_PATIENCE = 60.0


def _dissect_once(obj: Any, family: families.Family) -> _Dissection | None:
    """Dissect `obj`; return None if another thread changed it meanwhile."""
    try:
        dissection = _dissect_unchecked(obj, family)
        snapshot = dissection.snapshot
        if snapshot is None or not _is_changing(obj, snapshot, dissection.tree, family):
            return dissection
        snapshot.end()
    except (ReduceError, RuntimeError) as error:
        if threading.active_count() == 1 or not _was_disturbed(error, family):
            raise
    return None


def _was_disturbed(error: Exception, family: families.Family) -> bool:
    """Return whether `error` comes from another thread that changed the object meanwhile.

    That thread may have added to a container during its iteration or, on JAX, may have taken the
    values out of variables to train; the next attempt will tell.
    """
    sign = "TypeError: 'NoneType' object is not callable"
    is_emptied = family.backend() == "jax" and sign in str(error)
    return is_emptied or "changed size during iteration" in str(error)


def _is_changing(
    obj: Any, snapshot: weights.Snapshot, tree: families.Tree, family: families.Family
) -> bool:
    """Return whether another thread created variables while `obj` was dissected."""
    if threading.active_count() == 1:
        return False
    if _is_being_built(tree) or not snapshot.is_whole:
        return True
    return snapshot.variables != set(map(id, family.survey(obj).variables.values()))


def _is_being_built(tree: families.Tree) -> bool:
    """Return whether another thread is in the ``build`` of a part, which sets ``built`` first."""
    return context.runs_elsewhere({"build"}, lambda part: id(part) in tree.parts)


def _dissect_unchecked(obj: Any, family: families.Family) -> _Dissection:
    _custom_objects.refuse_own_parts(obj)
    where = f"{type(obj).__qualname__} {getattr(obj, 'name', '')!r}"
    table = _custom_objects.Table(obj, LOOKUPS)
    try:
        tree, snapshot, own_snapshot = family.survey(obj), weights.Snapshot.around(obj), None
        table.tree = tree
        if snapshot is None:
            # Before anything else: another thread may be training.
            variables, parts = tree.variables.values(), tree.nodes.values()
            snapshot = own_snapshot = weights.Snapshot(variables, parts, family.backend())
        with family.writing(table):
            architecture = family.architecture(obj)
            tree = tree.with_children(table.children)
            attributes, tracked = family.state(obj, tree)
            numbers = {}
            for name, value in tracked.items():
                is_weak = weak_references.holds(value)
                defer = table.defer_weak_to_pickler if is_weak else table.defer_to_pickler
                numbers[name] = defer(value, tree.expression(name))
            if identities.is_detached():  # By copy.copy, which takes attributes as they are.
                of_parts = {name: value for name, value in attributes.items() if ":" in name}
                numbers |= {name: table.defer_to_pickler(value) for name, value in of_parts.items()}
                attributes = {n: v for n, v in attributes.items() if n not in of_parts}
            if tracked:
                tree = tree.with_children([*table.children, *tracked.values()])
            if _custom_objects.is_nested():
                _custom_objects.refuse_own_parts(obj, tree.parts)
            with table.compiling():
                compilation = family.compilation(tree)
            structure = family.structure(tree, table)
        attributes = table.state | attributes
        weak = {name: v for name, v in attributes.items() if weak_references.holds(v)}
        unchecked = table.unchecked | {
            tree.expression(name): v for name, v in attributes.items() if name not in weak
        }
        apart, search = {}, _TargetSearch(obj, tree, snapshot, table.children)
        if not identities.is_detached():
            apart = {name: search.reducer_of(name, value) for name, value in weak.items()}
            for place, nest in table.weak.items():
                for reference in weak_references.within(nest):
                    search.check(reference, place)
            attributes = {name: v for name, v in attributes.items() if name not in weak}
            unchecked |= {tree.expression(n): value.plain() for n, value in apart.items()}
        dry_pickler.check(
            obj, unchecked, name="", skip=lambda value: families.of(value) is not None
        )
        lists, arrays = weights.collect(
            tree.own_variables, family.assets(tree), family.backend(), snapshot
        )
    except ReduceError as error:
        raise dry_pickler.located(_with_gaps(error, obj, family), obj) from error
    except FrameworkError:
        raise
    except Exception as error:
        raise ReduceError(
            f"This {type(obj).__qualname__} can't be pickled",
            where=dry_pickler.root_path(obj) or where,
            cause=f"{type(error).__name__}: {error}" + _untested(family),
            cure="if the message mentions a config, implement get_config() and from_config() on "
            "the class that it names; otherwise please report it",
        ) from error
    header = {
        "protocol": payload.PROTOCOL,
        "family": family.NAME,
        "versions": {"keras_reduce": __version__, **family.versions()},
        **lists,
        **structure,
        **({"tracked": numbers} if numbers else {}),
        **{
            kind: {name: table.defer_to_pickler(apart[name]) for name in names}
            for kind, names in _by_owner(apart).items()
        },
    }
    return _Dissection(
        header,
        architecture,
        arrays,
        compilation,
        table,
        tree,
        own_snapshot,
        attributes,
        where,
        search,
    )


def _by_owner(names: Iterable[str]) -> dict[str, list[str]]:
    """Return names of attributes, grouped into those of the object and those of its parts."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault("weak_in_parts" if ":" in name else "weak", []).append(name)
    return groups


def _targets(tree: families.Tree) -> tuple[tuple[str, identities.Identity], ...]:
    """Return paths and identity tokens of the parts that have weak references.

    They are not in the JSON, since weak references to an object are no part of it.
    """
    return tuple(
        (path, identities.Identity.of(node))
        for path, node in tree.own.items()
        if weakref.getweakrefcount(node)
    )


class _TargetSearch:
    """Search for the targets of the weak references of an object in the graph that is pickled.

    Parameters
    ----------
    obj : object
        The object that has the weak references.
    tree : Tree
        The object and all its parts.
    snapshot : Snapshot
        That of the outermost object that is being written.
    listed : sequence
        Objects that are pickled with `obj` since its config lists them.
    """

    def __init__(
        self, obj: Any, tree: families.Tree, snapshot: weights.Snapshot, listed: Sequence[Any]
    ) -> None:
        self._obj, self._tree, self._snapshot, self._listed = obj, tree, snapshot, listed
        self._witness: Any = None
        # `copy.deepcopy` keeps references to targets that it does not copy.
        self._is_on = context.is_asked() and not dry_pickler.is_copying()

    def reducer_of(self, name: str, value: Any) -> weak_references.WeakAttribute:
        """Return the reducer of an attribute with weak references.

        An attribute of an inner part, as ``path:attribute``, is left out with a warning if a target
        is not in the same pickle.

        Raises
        ------
        ReduceError
            If a target of an attribute of the object itself is not. Where that is not known yet,
            the reducer raises it when the pickler calls it.
        """
        weak_attribute = weak_references.WeakAttribute.of(value)
        path, _, attribute = name.rpartition(":")
        self.check(weak_attribute, self._tree.expression(name), (path, attribute) if path else None)
        return weak_attribute

    def check(
        self,
        weak_attribute: weak_references.WeakAttribute,
        where: str,
        part: tuple[str, str] | None = None,
    ) -> None:
        """Refuse a weak attribute, or leave it out, if a target is not in the same pickle.

        Parameters
        ----------
        weak_attribute : WeakAttribute
            The reducer that a pickler is about to call.
        where : str
            Expression for its place below the object.
        part : tuple of str, optional
            Path and name of an attribute of an inner part, which may be left out.

        Raises
        ------
        ReduceError
            As `reducer_of`.
        """
        with self._leaving_out(weak_attribute, part):
            missing = []
            for target in weak_attribute.targets() if self._is_on else ():
                if not _has_token(target):
                    raise _no_target(where, target, _NO_TOKEN)
                if not self._is_near(target):
                    missing.append(target)
            roots = dry_pickler.roots() if missing else ()
            if roots:
                self._require(where, missing, roots)
            elif missing:
                weak_attribute.before_writing = functools.partial(
                    self._require_later, weak_attribute, where, part, missing
                )

    @contextlib.contextmanager
    def _leaving_out(
        self, weak_attribute: weak_references.WeakAttribute, part: tuple[str, str] | None
    ) -> Iterator[None]:
        """Leave out an attribute of an inner part instead of raising an error."""
        try:
            yield
        except ReduceError:
            if part is None:
                raise
            path, attribute = part
            warn_of_loss(self._tree.nodes[path], attribute)
            weak_attribute.leave_out()

    def expect(self, witness: Any) -> None:
        """Note an object that only the memo of the pickler of the object will contain."""
        self._witness = witness

    def _is_near(self, target: Any) -> bool:
        if id(target) in self._tree.parts or self._snapshot.holds(target):
            return True
        return any(_is_below(part, target) for part in self._listed)

    def _require(self, where: str, targets: Sequence[Any], roots: Sequence[Any]) -> None:
        for target in targets:
            if not dry_pickler.reaches(roots, functools.partial(_is_below, target=target)):
                raise _no_target(where, target, "its target is not in the pickled object")

    def _require_later(
        self,
        weak_attribute: weak_references.WeakAttribute,
        where: str,
        part: tuple[str, str] | None,
        targets: Sequence[Any],
    ) -> None:
        if dry_pickler.is_searching():
            return
        memo = c_picklers.memo_with(self._witness)
        if memo is None:
            return  # An unknown pickler: following the reference will raise an error.
        try:
            with self._leaving_out(weak_attribute, part):
                try:
                    self._require(where, targets, memo)
                except ReduceError:
                    around = c_picklers.unfinished_tuples([self._obj, *memo])
                    self._require(where, targets, around)
        except ReduceError as error:
            weights.Snapshot.drop_all()
            raise dry_pickler.located(error, self._obj) from None


_NO_TOKEN = "its target is no layer, model, optimizer, metric or trainable variable of Keras"


def _no_target(where: str, target: Any, cause: str) -> ReduceError:
    return ReduceError(
        f"A weak reference to a {type(target).__name__} can't be carried",
        where=f".{where}",
        cause=cause,
        cure="pickle both in one object, such as a model that has both; keep the object itself "
        "instead of the reference; or drop it in __getstate__",
    )


def _has_token(target: Any) -> bool:
    """Return whether the payload of a Keras object contains its identity token."""
    family = families.of(target)
    kind = family.kind(target) if family else None
    if kind == "variable":
        return bool(target.trainable)
    return kind in ("model", "layer", "optimizer", "metric", "seed_generator")


def _is_below(visited: Any, target: Any) -> bool:
    """Return whether an object is `target`, or a layer or model that contains it."""
    family = families.of(visited)
    if family is None or family.kind(visited) not in ("model", "layer"):
        return visited is target
    return id(target) in family.survey(visited).parts


def _with_gaps(error: ReduceError, obj: Any, family: families.Family) -> ReduceError:
    """Return `error`, with the arguments that the config of `obj` leaves out, if there are any.

    They are the reason why the attributes of `obj` are pickled.
    """
    names = family.left_out(obj)
    if not names:
        return error
    told = ", ".join(map(repr, names))
    cause = (
        f"{error.cause}. The attributes are carried since get_config() of "
        f"{type(obj).__qualname__} doesn't match its constructor: {told}"
    )
    cure = (
        f"let get_config() return what the constructor takes, under the same names ({told}); "
        f"or {error.cure}"
    )
    return type(error)(error.what, error.where, cause, cure)


def _untested(family: families.Family) -> str:
    sentence = family.untested()
    return f". {sentence}" if sentence else ""


def _spelled(header: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in header.get("versions", {}).items())
