"""Environment of a run: versions of packages, and the machine."""

from __future__ import annotations

import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

import keras_reduce

PACKAGES = (
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "scikeras",
    "distributed",
    "joblib",
    "cloudpickle",
    "numpy",
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the relevant packages that are installed."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except ImportError:
            continue
    return {**installed, "keras_reduce": keras_reduce.__version__}


def machine() -> dict[str, str]:
    """Return a description of the machine, without names or paths."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory / 2**30:.0f} GiB",
        "platform": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "files on": _file_system(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _file_system() -> str:
    """Return the type of the file system of temporary files: on tmpfs, fsync is free."""
    folder = Path(tempfile.gettempdir()).resolve()
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    # The folder is on the longest mount point above it; of equal ones, on the last.
    above = [(len(point), kind) for point, kind in mounts if folder.is_relative_to(point)]
    return max(reversed(above), key=lambda mount: mount[0])[1] if above else "unknown"
