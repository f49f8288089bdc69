"""Registration of the reducers: `install`, `uninstall` and their options.

Reducers of Keras's own classes are in `copyreg.dispatch_table`, which every pickler and
`copy.deepcopy` ask by the exact type of an object. Classes derived from them inherit one
``__reduce__``, which is replaced: that covers classes defined later, in ``__main__``, a notebook or
a closure, and keeps none of them alive, as an entry in the table would. Classes with a
``__reduce__`` of their own keep it. Both ways lead to the same function.

Nothing here imports a framework. Patches of a module that is not loaded wait for its import.
"""

from __future__ import annotations

import contextlib
import copy
import copyreg
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from .core import context, keras_backend, process_role, trace_folders
from .core.import_hooks import ImportHooks
from .core.placeholders import DeferredCall, Refused
from .core.replacements import Replacements
from .errors import FileError, FrameworkError
from .integrations import joblib_patches, patch_table
from .integrations.private import MANIFESTS
from .integrations.worker_requirements import GuardedPickle

__all__ = ["install", "installed", "is_installed", "uninstall"]


class Installation(NamedTuple):
    """Options of an installation, which are also pickled with payloads.

    Unpickled in a worker, they call `install` there before any result is sent back. The name of the
    Keras backend is pickled with them. The order of the options is wire format: add at the end.
    """

    functions_by_value: bool = True
    legacy_wrappers: bool = False
    reuse: bool = True
    backend: str | None = None  # From here on: options of the program, not sent to workers.
    progress: bool = False
    trace_cache: str | None = None

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return receive, self._received()

    def _received(self) -> tuple[Any, ...]:
        """Return the arguments of `receive`."""
        return self.functions_by_value, self.legacy_wrappers, self.reuse, keras_backend.chosen()


class WorkerSetup:
    """Object that sets up the worker in which it is unpickled, for batches and plugins.

    Parameters
    ----------
    installation : Installation
        The options that the worker installs.
    """

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return a call of `receive`."""
        folder = self._installation.trace_cache
        added = () if folder is None else (folder,)  # Earlier versions don't know it.
        return receive, (*self._installation._received(), True, *added)


_log = logging.getLogger(__package__)
_lock = threading.RLock()
_current: Installation | None = None  # the options in effect
_requested: Installation | None = None  # by `install`
_blocks: dict[_Block, Installation | None] = {}  # open ``with`` blocks, oldest first
_dumps = 0  # number of running dumps, which need an installation
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
    trace_cache: str | os.PathLike[str] | Literal[False] | None = None,
) -> None:
    """Make every pickler of this process use the reducers of this package for Keras objects.

    Takes milliseconds and imports no framework; patches of a framework are applied when the program
    imports it. Call it again, from any thread, to change an option.

    Parameters
    ----------
    functions_by_value : bool, optional
        Let `joblib.dump` pickle functions and classes that a reader can't import (those of
        ``__main__``, lambdas, closures) by value. Initially True; None keeps the current value.
    legacy_wrappers : bool, optional
        Make ``tensorflow.keras.wrappers.scikit_learn`` importable where TensorFlow no longer has
        this module. Initially False; None keeps the current value.
    backend : {"keras", "loky", None}, optional
        "keras" makes the backend of `keras_reduce.parallel` joblib's default in programs that have
        imported Keras or an estimator of this package, or started the fork server; otherwise the
        default is unchanged. ``parallel_config("keras")`` selects the backend in any case.
    prestart : bool, optional
        Start the fork server of that backend now, in the background, so that the first parallel
        call need not wait for its imports. This takes some seconds of one core, and the memory of a
        Python process with Keras.
    progress : bool, optional
        Show a progress bar for each outermost parallel call on that backend. Initially False; None
        keeps the current value.
    reuse : bool, optional
        Let equal models share the graphs that TensorFlow traces, in this process and in its
        workers, and clone models that were loaded before. Results are the same to the bit.
        Initially True; None keeps the current value.
    trace_cache : str or path-like or False, optional
        Folder in which these graphs are kept for later programs, optimized. It is created if it
        does not exist. False keeps none. Initially the variable ``KERAS_REDUCE_TRACE_CACHE`` of the
        environment, if there is one; None keeps the current value.

    Raises
    ------
    ValueError
        If `backend` has another value.
    FileError
        If `trace_cache` can't be used: others could write to it, for example.

    Examples
    --------
    >>> import pickle, keras, keras_reduce
    >>> keras_reduce.install()
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> pickle.loads(pickle.dumps(model)).count_params()
    3
    """
    global _requested
    folder = _cache_folder(trace_cache)
    if backend not in ("keras", "loky", None):
        raise ValueError(f"backend must be 'keras', 'loky' or None, not {backend!r}")
    with _lock:
        wanted = _changed(_current, functions_by_value, legacy_wrappers, progress, reuse, folder)
        wanted = wanted._replace(backend="keras" if backend == "keras" else None)
        thread_blocks = _own_blocks()
        if thread_blocks:
            _blocks[thread_blocks[-1]] = wanted  # until the end of that block
        else:
            _requested = wanted
        _settle()
    if prestart:
        from .parallel import warm

        warm.server().start()


def uninstall() -> None:
    """Undo `install`: restore everything that it replaced; do nothing if it is not in effect.

    While another thread is in a block of `installed`, or dumps, the patches stay until it is done.

    Examples
    --------
    >>> import keras_reduce
    >>> keras_reduce.install()
    >>> keras_reduce.uninstall()
    >>> keras_reduce.is_installed()
    False
    """
    global _requested
    with _lock:
        _requested = None
        _blocks.update(dict.fromkeys(_own_blocks()))
        _settle()


def is_installed() -> bool:
    """Return whether `install` is in effect.

    Returns
    -------
    bool
        Also True in a block of `installed`, and while something is dumped.

    Examples
    --------
    >>> import keras_reduce
    >>> keras_reduce.install()
    >>> keras_reduce.is_installed()
    True
    """
    return _current is not None


def current() -> Installation:
    """Return the options in effect, or the defaults if nothing is installed."""
    return _current or Installation()


def worker_setup() -> WorkerSetup:
    """Return the set-up that gives a worker the options of this program, or the defaults."""
    return WorkerSetup(current())


@contextlib.contextmanager
def installed(
    *,
    functions_by_value: bool | None = None,
    legacy_wrappers: bool | None = None,
    reuse: bool | None = None,
) -> Iterator[None]:
    """Install for a ``with`` block, and restore the previous options afterwards.

    Several threads may be in such blocks at once: the last one to leave uninstalls. If their
    options differ, those of the block that was entered last are in effect.

    Parameters
    ----------
    functions_by_value, legacy_wrappers, reuse : bool, optional
        As for `install`.

    Examples
    --------
    >>> import keras_reduce
    >>> with keras_reduce.installed(functions_by_value=False):
    ...     keras_reduce.is_installed()
    True
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
    """Keep an installation in effect during a dump; yield its options."""
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
    """One ``with`` block of `installed`, and the thread that entered it."""

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
    trace_cache: str | Literal[False] | None = None,
) -> Installation:
    before = before or Installation(backend="keras", trace_cache=_cache_of_environment())
    return before._replace(
        functions_by_value=(
            before.functions_by_value if functions_by_value is None else functions_by_value
        ),
        legacy_wrappers=before.legacy_wrappers if legacy_wrappers is None else legacy_wrappers,
        progress=before.progress if progress is None else progress,
        reuse=before.reuse if reuse is None else reuse,
        trace_cache=before.trace_cache if trace_cache is None else trace_cache or None,
    )


def _cache_folder(
    path: str | os.PathLike[str] | Literal[False] | None,
) -> str | Literal[False] | None:
    """Return the absolute path of a folder for traces, which is created; other values as is."""
    if path is None or path is False:
        return path
    from .trace_cache import store

    return store.create(path)


def _cache_of_environment() -> str | None:
    try:
        return _cache_folder(os.environ.get(_CACHE_VARIABLE) or None) or None
    except FileError as error:
        _log.warning("%s is not used: %s", _CACHE_VARIABLE, error)
        return None


_CACHE_VARIABLE = "KERAS_REDUCE_TRACE_CACHE"


def _settle() -> None:
    """Apply the options that are requested now."""
    global _current
    requests = [each for each in (_requested, *_blocks.values()) if each is not None]
    wanted = requests[-1] if requests else Installation() if _dumps else None
    before, _current = _current, wanted
    if wanted == before:
        return
    trace_folders.use(user=wanted and wanted.trace_cache)
    # Change only options that differ: other threads may be pickling.
    if before is None:
        from . import families

        for root in families.ROOTS:
            _hooks.when_imported(root, functools.partial(_install_keras, root))
        _hooks.when_imported("scikeras", _set_scikeras_aside)
        _hooks.when_imported("joblib.parallel", _install_batches)
        for change in patch_table.CHANGES:
            _hooks.when_imported(
                change.module, functools.partial(patch_table.apply, change, _patches, worker_setup)
            )
    if wanted is None:
        _hooks.clear()
        _patches.undo()
        _by_value.undo()
        _install_reuse()
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
    from .families._shared import forked

    family = families.of_module(root)
    if family is None:
        return
    for base in family.base_classes():
        reduce: Any = _reducing(vars(base).get("__reduce__"))
        _patches.set(base, "__reduce__", reduce)
        for cls in _with_subclasses(base):
            is_inherited = vars(object)["__reduce_ex__"] is getattr(cls, "__reduce_ex__", None)
            is_ours = cls.__reduce__ is reduce and is_inherited
            if is_ours and cls not in copyreg.dispatch_table:
                _patches.set_item(copyreg.dispatch_table, cls, reduce)
    for owner, name in family.shortcuts():
        _patches.delete(owner, name)
    for owner, name, repair in family.repairs():
        _patches.set(owner, name, repair(vars(owner).get(name)))
    forked.watch()
    _patches.when_undone(forked.unwatch)
    _set_scikeras_aside()


def _with_subclasses(base: type) -> Iterator[type]:
    """Yield a class of a library, and the classes of the same library that are derived from it."""
    root = base.__module__.partition(".")[0]
    classes, waiting = set(), [base]
    while waiting:
        cls = waiting.pop()
        if cls not in classes and cls.__module__.partition(".")[0] == root:
            yield cls
            classes.add(cls)
            waiting += type.__subclasses__(cls)


def _install_reuse() -> None:
    """Turn traces and templates on or off, according to the current options."""
    from . import families

    is_wanted = _current is not None and _current.reuse
    if not is_wanted and not _reuse:
        return
    _reuse.undo()
    if "keras3" in (family.NAME for family in families.loaded()):
        from .families.keras3 import templates
        from .trace_cache import cache, hooks

        templates.use(is_wanted)
        cache.share_traces(is_wanted)
        for owner, name, hook in hooks.patches() if is_wanted else ():
            _reuse.set(owner, name, hook(vars(owner)[name]))


def _reducing(original: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Return the ``__reduce__`` that replaces `original`."""

    def untouched(obj: Any) -> Any:
        return object.__reduce__(obj) if original is None else original(obj)

    def __reduce__(self: Any) -> Any:  # noqa: N807
        from . import reducers

        if reducers.says_itself(self, "__getstate__"):
            return untouched(self)
        # copy.copy passes the reduce value to the copy as it is, without copying its contents.
        if context.is_called_by(copy.copy):
            reduced = reducers.reduce_for_a_copy(self)
        else:
            reduced = reducers.reduce(self)
        if reduced is None:
            return untouched(self)
        rebuild, arguments, state, snapshot, tokens = reduced
        if context.is_called_by(copy.deepcopy):
            arguments = reducers.for_a_deep_copy(arguments)
        return rebuild, reducers.complete(arguments, _current, tokens), state, snapshot

    return functools.wraps(original)(__reduce__) if original else __reduce__


def _set_scikeras_aside() -> None:
    """Remove the reducers that SciKeras sets on Keras classes when it is imported.

    They would take precedence over ours: `copy.deepcopy` calls ``__deepcopy__`` first, and a
    class's own ``__reduce__`` overrides an inherited one.
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
    """Turn code by value in joblib's pickler on or off, according to the current options."""
    _by_value.undo()
    if _current is not None and _current.functions_by_value:
        patch_table.apply(patch_table.CODE_BY_VALUE, _by_value, worker_setup)


def _settle_backend() -> None:
    """Register the backend with joblib, as the default if the options say so."""
    _default.undo()
    if MANIFESTS["backend"].is_complete():
        is_default = _current is not None and _current.backend is not None
        joblib_patches.offer_backend(_default, _backend, _default_backend if is_default else None)


def _backend(**options: Any) -> Any:
    """Return a backend for a call of `joblib.Parallel`."""
    from . import parallel

    progress = _current is not None and _current.progress
    return parallel.make_backend(**{"progress": progress, **options})


def _default_backend(**options: Any) -> Any:
    """Return a backend for a call of `joblib.Parallel` that names none.

    That is joblib's own for a program that has nothing to do with Keras: its tasks don't need what
    the fork server imports.
    """
    has_server = f"{__package__}.parallel.warm" in sys.modules
    if not (has_server or keras_backend.is_in_use()):
        from joblib.parallel import BACKENDS

        return BACKENDS["loky"](**options)
    backend = _backend(**options)
    backend.is_asked_for = False
    return backend


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

    _patches.set_item(copyreg.dispatch_table, BatchedCalls, reduce_batch)


def reduce_batch(batch: Any) -> tuple[Any, ...]:
    """Reduce a joblib batch to its contents and the set-up of the worker that runs it."""
    rebuild, arguments = batch.__reduce__()[:2]
    deferred = DeferredCall(rebuild_batch, (_current and WorkerSetup(_current), rebuild, arguments))
    # Their workers may run on machines where this package is missing or has another version.
    is_remote = any(name in sys.modules for name in ("ray.util.joblib", "joblibspark"))
    return (GuardedPickle(deferred) if is_remote else deferred).__reduce__()


def rebuild_batch(installation: None, rebuild: Callable[..., Any], arguments: Any) -> Any:
    """Rebuild a batch; unpickling `installation`, before the tasks, has set up the worker."""
    return rebuild(*arguments)


def receive(
    functions_by_value: bool = True,
    legacy_wrappers: bool = False,
    reuse: bool = True,
    framework: str | None = None,
    is_standalone: bool = False,
    trace_cache: str | None = None,
) -> DeferredCall | Refused | None:
    """Install the sender's options in a worker process; elsewhere, do nothing.

    Loading a file changes nothing, neither in a program that never called `install` nor in a
    worker. The path of this function is wire format.

    Parameters
    ----------
    functions_by_value, legacy_wrappers, reuse : bool
        As for `install`.
    framework : str, optional
        The backend of the sender's Keras, which a worker must use as well.
    is_standalone : bool
        Whether this comes from a `WorkerSetup` and not from a model, which may be in a file.
    trace_cache : str, optional
        Folder of traces of the sender, which a worker on another machine may lack.

    Returns
    -------
    Refused or None
        A placeholder for the model, where an error would be lost.

    Raises
    ------
    FrameworkError
        If the Keras of this worker has another backend.
    """
    if context.is_passing():
        options = (
            functions_by_value,
            legacy_wrappers,
            reuse,
            framework,
            is_standalone,
            trace_cache,
        )
        return DeferredCall(receive, options)
    if not process_role.is_worker() or not (is_standalone or context.is_sent()):
        return None
    if framework is not None:
        try:
            keras_backend.follow(framework)
        except FrameworkError as error:
            if is_standalone or not context.are_errors_lost():
                raise
            return Refused(error)
    install(
        functions_by_value=functions_by_value,
        legacy_wrappers=legacy_wrappers,
        reuse=reuse,
        backend=None,
        trace_cache=_if_usable(trace_cache),
    )
    return None


def _if_usable(folder: str | None) -> str | None:
    """Return a folder of traces if this worker has it, too, and may use it; else None."""
    if folder is None:
        return None
    from .trace_cache.store import Store

    return None if Store(folder).obstacle() else folder
