"""Who asks whom: `install` puts the reducers where picklers look, `uninstall` leaves no trace.

Keras classes inherit one ``__reduce__``, so replacing that one reaches every class of today and of
tomorrow, in ``__main__``, a notebook or a closure, through every pickler and `copy.deepcopy`, and
leaves a class with a ``__reduce__`` of its own alone. Tables of exact types (`copyreg`) would have
to hold each class that is ever defined, and would keep all of them alive.

Nothing here imports a framework. What concerns a module that is not loaded waits for its import.
"""

from __future__ import annotations

import contextlib
import copy
import copyreg
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .core import keras_backend, process_role, transport_detection
from .core.import_hooks import ImportHooks
from .core.placeholders import Parcel, Refused
from .core.replacements import MISSING, Replacements
from .errors import FrameworkError
from .integrations import joblib_patches, patch_table
from .integrations.private import MANIFESTS
from .integrations.worker_requirements import Sealed

__all__ = ["install", "installed", "is_installed", "uninstall"]


class Installation(NamedTuple):
    """The options of an installation, which also travel in payloads.

    Unpickling one installs the same in a worker that it was sent to, before anything is sent back
    from there. Along goes the name of the backend of Keras. The order of the options is wire
    format: add at the end.
    """

    functions_by_value: bool = True
    legacy_wrappers: bool = False
    reuse: bool = True
    backend: str | None = None  # What follows concerns the program only, and stays there.
    progress: bool = False

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return receive, self._received()

    def _received(self) -> tuple[Any, ...]:
        """Return the arguments of `receive`."""
        return self.functions_by_value, self.legacy_wrappers, self.reuse, keras_backend.chosen()


class Order:
    """What sets up a worker by being unpickled there, whoever does it: for batches and the like.

    Parameters
    ----------
    installation : Installation
        What the worker is to install.
    """

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Reduce to what `receive` does."""
        return receive, (*self._installation._received(), True)


_lock = threading.RLock()
_current: Installation | None = None  # what is in effect
_asked: Installation | None = None  # by `install`
_blocks: dict[_Block, Installation | None] = {}  # open ones, by the order of their beginning
_dumps = 0  # under way, which need an installation, whichever it is
_patches = Replacements()
_by_value = Replacements()
_default = Replacements()
_reuse = Replacements()
_hooks = ImportHooks()


def install(
    *,
    functions_by_value: bool | None = None,
    legacy_wrappers: bool | None = None,
    backend: str | None = "keras",
    prestart: bool = False,
    progress: bool | None = None,
    reuse: bool | None = None,
) -> None:
    """Make every pickler of this process ship Keras objects by way of this package.

    Costs milliseconds and imports no framework; what concerns one happens when the program imports
    it. May be called again, from any thread, to change an option.

    Parameters
    ----------
    functions_by_value : bool, optional
        Let `joblib.dump` carry functions and classes that a reader can't import (of ``__main__``,
        lambdas, closures) by value. True unless told otherwise.
    legacy_wrappers : bool, optional
        Make ``tensorflow.keras.wrappers.scikit_learn`` importable on a TensorFlow that has no such
        module any more. False unless told otherwise.
    backend : {"keras", "loky", None}, optional
        "keras" makes the backend of `keras_reduce.parallel` joblib's default; otherwise the default
        stays as it is. The backend is to be had as ``parallel_config("keras")`` anyway.
    prestart : bool, optional
        Start at once, in the background, the process from which that backend forks its workers, so
        that the first parallel call need not wait for its imports. It takes some seconds of a core
        and the memory of one Python with Keras. False unless told otherwise.
    progress : bool, optional
        Show a bar for each outermost parallel call on that backend. False unless told otherwise.
    reuse : bool, optional
        Let models that are alike share what TensorFlow traces of them, in this process and in its
        workers. Results are the same to the bit. True unless told otherwise.

    Raises
    ------
    ValueError
        If `backend` is something else.
    """
    global _asked
    if backend not in ("keras", "loky", None):
        raise ValueError(f"backend must be 'keras', 'loky' or None, not {backend!r}")
    with _lock:
        wanted = _changed(_current, functions_by_value, legacy_wrappers, progress, reuse)
        wanted = wanted._replace(backend="keras" if backend == "keras" else None)
        own = _own_blocks()
        if own:
            _blocks[own[-1]] = wanted  # until the end of that block
        else:
            _asked = wanted
        _settle()
    if prestart:
        from .parallel import warm

        warm.server().start()


def uninstall() -> None:
    """Put everything back as it was before `install`; without effect if nothing is installed.

    While another thread is in a block of `installed`, or dumps, it stays for that one.
    """
    global _asked
    with _lock:
        _asked = None
        _blocks.update(dict.fromkeys(_own_blocks()))
        _settle()


def is_installed() -> bool:
    """Tell whether `install` is in effect."""
    return _current is not None


def current() -> Installation:
    """Return the options that are in effect, or those that would be."""
    return _current or Installation()


def order() -> Order:
    """Return what sets up a worker as this program is, or as `install` would set it up."""
    return Order(current())


@contextlib.contextmanager
def installed(
    *,
    functions_by_value: bool | None = None,
    legacy_wrappers: bool | None = None,
    reuse: bool | None = None,
) -> Iterator[None]:
    """Install for a ``with`` block; what was in effect before is so again afterwards.

    Several threads may be in such blocks at once: the last one to leave uninstalls. Where their
    options differ, those of the block that was entered last are in effect.

    Parameters
    ----------
    functions_by_value, legacy_wrappers, reuse : bool, optional
        As for `install`.
    """
    block = _Block()
    with _lock:
        _blocks[block] = _changed(_current, functions_by_value, legacy_wrappers, reuse=reuse)
        _settle()
    try:
        yield
    finally:
        with _lock:
            del _blocks[block]
            _settle()


@contextlib.contextmanager
def in_use() -> Iterator[Installation]:
    """Keep an installation in effect while something is dumped; gives its options."""
    global _dumps
    with _lock:
        _dumps += 1
        _settle()
        options = current()
    try:
        yield options
    finally:
        with _lock:
            _dumps -= 1
            _settle()


class _Block:
    """A ``with`` block of `installed`, which belongs to the thread that entered it."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()


def _own_blocks() -> list[_Block]:
    return [block for block in _blocks if block.thread == threading.get_ident()]


def _changed(
    before: Installation | None,
    functions_by_value: bool | None,
    legacy_wrappers: bool | None,
    progress: bool | None = None,
    reuse: bool | None = None,
) -> Installation:
    before = before or Installation(backend="keras")
    return before._replace(
        functions_by_value=(
            before.functions_by_value if functions_by_value is None else functions_by_value
        ),
        legacy_wrappers=before.legacy_wrappers if legacy_wrappers is None else legacy_wrappers,
        progress=before.progress if progress is None else progress,
        reuse=before.reuse if reuse is None else reuse,
    )


def _settle() -> None:
    """Bring into effect what is wanted now."""
    global _current
    wishes = [wish for wish in (_asked, *_blocks.values()) if wish is not None]
    wanted = wishes[-1] if wishes else Installation() if _dumps else None
    before, _current = _current, wanted
    if wanted == before:
        return
    # Only what differs is touched: other threads may be pickling.
    if before is None:
        from . import families

        for root in families.ROOTS:
            _hooks.when_imported(root, functools.partial(_install_keras, root))
        _hooks.when_imported("scikeras", _set_scikeras_aside)
        _hooks.when_imported("joblib.parallel", _install_batches)
        for change in patch_table.CHANGES:
            _hooks.when_imported(
                change.module, functools.partial(patch_table.apply, change, _patches, order)
            )
    if wanted is None:
        _hooks.clear()
        _patches.undo()
        _by_value.undo()
        _install_reuse()
        _forget_batches()
        _forget_backend()
    elif before is None or wanted.functions_by_value != before.functions_by_value:
        _hooks.when_imported("joblib.numpy_pickle", _settle_code)
    if wanted is not None:
        _hooks.when_imported("joblib.parallel", _settle_backend)
        if before is None or wanted.reuse != before.reuse:
            _hooks.when_imported("keras", _install_reuse)
    was_legacy, is_legacy = (bool(each and each.legacy_wrappers) for each in (before, wanted))
    if is_legacy != was_legacy:
        from .integrations import legacy_path

        legacy_path.enable() if is_legacy else legacy_path.disable()


# --- Keras -----------------------------------------------------------------------------------


def _install_keras(root: str) -> None:
    from . import families

    family = families.of_module(root)
    if family is None:
        return
    for base in family.base_classes():
        _patches.set(base, "__reduce__", _reducing(vars(base).get("__reduce__")))
    for owner, name in family.shortcuts():
        _patches.delete(owner, name)
    for owner, name, repair in family.repairs():
        _patches.set(owner, name, repair(vars(owner).get(name)))
    _set_scikeras_aside()


def _install_reuse() -> None:
    """Let models share traces, or no longer, as the options say by now."""
    from . import families

    is_wanted = _current is not None and _current.reuse
    if not is_wanted and not _reuse:
        return
    _reuse.undo()
    if "keras3" in (family.NAME for family in families.loaded()):
        from .trace_cache import cache

        cache.share_traces(is_wanted)
        for owner, name, hook in cache.trace_hooks() if is_wanted else ():
            _reuse.set(owner, name, hook(vars(owner)[name]))


def _reducing(original: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Return the ``__reduce__`` that takes the place of `original`."""

    def untouched(obj: Any) -> Any:
        return object.__reduce__(obj) if original is None else original(obj)

    def __reduce__(self: Any) -> Any:  # noqa: N807
        from . import reducers

        if reducers.says_itself(self, "__getstate__"):
            return untouched(self)
        # copy.copy takes what it gets for the copy's own; nothing is on its way anywhere.
        # Nobody's, where a thread has begun with a function in C.
        asked_by = getattr(sys._getframe().f_back, "f_code", None)
        if asked_by is copy.copy.__code__:
            reduced = reducers.reduce_for_a_copy(self)
        else:
            reduced = reducers.reduce(self)
        if reduced is None:
            return untouched(self)
        rebuild, arguments, state, snapshot, tokens = reduced
        if asked_by is copy.deepcopy.__code__:
            arguments = reducers.for_a_deep_copy(arguments)
        return rebuild, reducers.complete(arguments, _current, tokens), state, snapshot

    return functools.wraps(original)(__reduce__) if original else __reduce__


def _set_scikeras_aside() -> None:
    """Take SciKeras's own reducers off the Keras classes, on which it sets them when imported.

    They would win over ours: `copy.deepcopy` asks ``__deepcopy__`` first, and a class's own
    ``__reduce__`` comes before an inherited one.
    """
    from . import families

    if "scikeras" not in sys.modules:
        return
    for family in families.loaded():
        for cls in family.public_classes():
            for name in ("__reduce__", "__deepcopy__"):
                method = vars(cls).get(name)
                if getattr(method, "__module__", "").partition(".")[0] == "scikeras":
                    _patches.delete(cls, name)


# --- joblib ----------------------------------------------------------------------------------


def _settle_code() -> None:
    """Let joblib's pickler carry code by value, or no longer, as the option says by now."""
    _by_value.undo()
    if _current is not None and _current.functions_by_value:
        patch_table.apply(patch_table.CODE_BY_VALUE, _by_value, order)


def _settle_backend() -> None:
    """Make the backend known to joblib, and its default if that is wished."""
    _default.undo()
    if MANIFESTS["backend"].is_complete():
        is_default = _current is not None and _current.backend is not None
        joblib_patches.offer_backend(_default, _backend, is_default=is_default)


def _backend(**options: Any) -> Any:
    """Return a backend for a call of joblib's `Parallel`."""
    from . import parallel

    progress = _current is not None and _current.progress
    return parallel.make_backend(**{"progress": progress, **options})


def _forget_backend() -> None:
    _default.undo()
    joblib_patches.forget_backend(_backend)
    for name, end in (("backend", "shutdown"), ("warm", "stop")):
        module = sys.modules.get(f"{__package__}.parallel.{name}")
        if module is not None:
            getattr(module, end)()


def _install_batches() -> None:
    if not MANIFESTS["batches"].is_complete():
        return
    from joblib.parallel import BatchedCalls

    _forgotten[BatchedCalls] = copyreg.dispatch_table.get(BatchedCalls, MISSING)
    copyreg.pickle(BatchedCalls, reduce_batch)


_forgotten: dict[type, Any] = {}


def _forget_batches() -> None:
    for cls, before in _forgotten.items():
        if copyreg.dispatch_table.get(cls) is not reduce_batch:
            continue
        if before is MISSING:
            del copyreg.dispatch_table[cls]
        else:
            copyreg.dispatch_table[cls] = before
    _forgotten.clear()


def reduce_batch(batch: Any) -> tuple[Any, ...]:
    """Let a batch of joblib's tasks carry the installation to the worker that runs it."""
    rebuild, arguments = batch.__reduce__()[:2]
    parcel = Parcel(rebuild_batch, (_current and Order(_current), rebuild, arguments))
    # Their workers may be on machines that have something else, or nothing, installed.
    is_remote = any(name in sys.modules for name in ("ray.util.joblib", "joblibspark"))
    return (Sealed(parcel) if is_remote else parcel).__reduce__()


def rebuild_batch(installation: None, rebuild: Callable[..., Any], arguments: Any) -> Any:
    """Rebuild a batch; `installation` has done its work by being unpickled before the tasks."""
    return rebuild(*arguments)


def receive(
    functions_by_value: bool = True,
    legacy_wrappers: bool = False,
    reuse: bool = True,
    framework: str | None = None,
    is_order: bool = False,
) -> Parcel | Refused | None:
    """Install in a worker process what the sender had installed; elsewhere, do nothing.

    Loading a file in a program that never called `install` changes nothing in that program, nor
    does it in a worker.

    Parameters
    ----------
    functions_by_value, legacy_wrappers, reuse : bool
        As for `install`.
    framework : str, optional
        The backend of the sender's Keras, which a worker's is to have as well.
    is_order : bool
        Whether this comes by itself, and not in a model, which may stand in a file.

    Returns
    -------
    Refused or None
        What takes the place of the model, where an error would reach nobody.

    Raises
    ------
    FrameworkError
        If the Keras of this worker has another backend.
    """
    if transport_detection.is_passing():
        options = functions_by_value, legacy_wrappers, reuse, framework, is_order
        return Parcel(receive, options)
    if not process_role.is_worker() or not (is_order or transport_detection.is_sent()):
        return None
    if framework is not None:
        try:
            keras_backend.follow(framework)
        except FrameworkError as error:
            if is_order or not transport_detection.are_errors_lost():
                raise
            return Refused(error)
    install(
        functions_by_value=functions_by_value,
        legacy_wrappers=legacy_wrappers,
        reuse=reuse,
        backend=None,
    )
    return None
