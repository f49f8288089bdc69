"""Digests of cache keys, by which other processes and later programs find a trace.

A key compares objects of this process. Its digest is made from what they are: classes and built-in
functions by their names, code by its instructions. A key with an object that only this process has
has no digest, so its trace stays in the process. Code of libraries is covered by versions only
(`surroundings`).
"""

from __future__ import annotations

import enum
import functools
import hashlib
import importlib.metadata
import os
import platform
import sys
import types
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from .._version import __version__
from .keys import MARKS, is_trusted

# Variables of the environment that change what TensorFlow and its compilers make of a graph.
_SETTINGS = ("TF_", "XLA_", "KERAS_", "CUDA_", "OMP_", "MKL_", "ONEDNN_", "DNNL_", "KMP_")
# Those that only change what is printed, or that this package sets itself.
_WITHOUT_EFFECT = frozenset({"TF_CPP_MIN_LOG_LEVEL", "TF_GRAPH_CACHING"})
# Packages whose code takes part in tracing, by the names under which they are installed.
_PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "tensorflow-intel", "numpy", "ml_dtypes")


class _ProcessLocalError(Exception):
    """An object in a key has no name outside of this process."""


def digest(key: Hashable) -> str | None:
    """Return the digest of the cache key of a trace; None if it holds only in this process.

    Equal keys have equal digests in all processes with the same surroundings, also in processes
    with other hash seeds and addresses.
    """
    try:
        spelled = b"".join(map(_spelled, (surroundings(), key)))
    except (_ProcessLocalError, RecursionError):
        return None
    return hashlib.blake2b(spelled, digest_size=20).hexdigest()


def surroundings() -> tuple[Any, ...]:
    """Return versions, processor, devices and settings: graphs depend on them, too."""
    import tensorflow as tf

    threads = tf.config.threading
    return (
        __version__,
        *_installed(),
        tuple(
            (name, value)
            for name, value in sorted(os.environ.items())
            if name.startswith(_SETTINGS) and name not in _WITHOUT_EFFECT
        ),
        tuple(map(str, tf.config.list_logical_devices())),
        threads.get_inter_op_parallelism_threads(),
        threads.get_intra_op_parallelism_threads(),
        tuple(sorted(map(str, tf.config.optimizer.get_experimental_options().items()))),
        str(tf.config.optimizer.get_jit()),
        str(tf.config.get_soft_device_placement()),
        tf.config.experimental.tensor_float_32_execution_enabled(),
    )


@functools.cache
def _installed() -> tuple[Any, ...]:
    """Return the versions of what is installed, and the processor."""
    import tensorflow as tf

    return (
        sys.version,
        platform.platform(),
        _processor(),
        tf.version.GIT_VERSION,
        tf.version.COMPILER_VERSION,
        *map(_package, _PACKAGES),
    )


def _package(name: str) -> tuple[Any, ...]:
    """Return the version of a package, and a digest of the list of its files."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return (name,)
    files = distribution.read_text("RECORD") or ""
    return name, distribution.version, hashlib.blake2b(files.encode()).hexdigest()


def _processor() -> str:
    """Return the name and the abilities of the processor, for which graphs are optimized."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    first = lines[: lines.index("")] if "" in lines else lines
    kept = ("model name", "flags", "Features", "CPU part", "CPU implementer")
    return "\n".join(line for line in first if line.startswith(kept))


# --- spelling ---------------------------------------------------------------------------------


def _spelled(value: Any) -> bytes:
    """Return bytes that are the same for equal values in all processes."""
    cls = type(value)
    if cls in _WRITTEN:
        return _framed(cls.__name__, repr(value).encode("utf-8", "surrogatepass"))
    if cls is bytes:
        return _framed("bytes", value)
    if cls is object:
        if value not in MARKS:
            raise _ProcessLocalError
        return _framed("mark", MARKS[value].encode())
    if isinstance(value, type):
        return _class(value)
    if cls is types.CodeType:
        return _code(value)
    if isinstance(value, (tuple, list)):
        return _framed("items", b"".join(map(_spelled, value)))
    if cls is frozenset:
        return _framed("set", b"".join(sorted(map(_spelled, value))))
    if cls is types.BuiltinFunctionType:
        owner = value.__module__ or type(value.__self__).__qualname__
        return _framed("builtin", f"{owner}.{value.__qualname__}".encode())
    if isinstance(value, enum.Enum):
        return _framed(cls.__qualname__, value.name.encode())
    # Types of arguments and the context of a trace, which TensorFlow describes in full.
    text = repr(value)
    if not cls.__module__.startswith("tensorflow.") or " at 0x" in text or " object" in text:
        raise _ProcessLocalError
    return _framed(cls.__qualname__, text.encode())


# Numbers and texts are what they show; complex numbers and floats in a key are texts already.
_WRITTEN = frozenset({str, int, bool, float, complex, type(None), type(Ellipsis)})


def _framed(kind: str, content: bytes) -> bytes:
    """Return a content with its kind and length, so that no two sequences look the same."""
    return b"%s %d:%s" % (kind.encode(), len(content), content)


@functools.lru_cache(maxsize=4096)
def _class(cls: type) -> bytes:
    """Return the name of a class of a library; what others mean by a name may change."""
    if cls.__module__ != "builtins" and not is_trusted(cls.__module__):
        raise _ProcessLocalError
    return _framed("class", f"{cls.__module__}.{cls.__qualname__}".encode())


@functools.lru_cache(maxsize=4096)
def _code(code: types.CodeType) -> bytes:
    """Return a code without its place in a file, on which no graph depends."""
    return _framed(
        "code",
        b"".join(
            map(
                _spelled,
                (
                    code.co_name,
                    code.co_argcount,
                    code.co_posonlyargcount,
                    code.co_kwonlyargcount,
                    code.co_flags,
                    code.co_code,
                    code.co_consts,
                    code.co_names,
                    code.co_varnames,
                    code.co_freevars,
                    code.co_cellvars,
                    code.co_exceptiontable,
                ),
            )
        ),
    )
