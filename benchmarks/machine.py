"""What a run ran on: the versions, and the machine."""

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
    """Return the versions of Python and of each package that counts and is there."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except ImportError:
            continue
    return {**found, "keras_reduce": keras_reduce.__version__}


def machine() -> dict[str, str]:
    """Return what the machine is, without saying whose."""
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
    """Return the kind of file system that temporary files are on: on tmpfs, fsync is free."""
    folder = Path(tempfile.gettempdir()).resolve()
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    # The longest mount point above the folder is the one it is on; the last of equals is on top.
    above = [(len(point), kind) for point, kind in mounts if folder.is_relative_to(point)]
    return max(reversed(above), key=lambda mount: mount[0])[1] if above else "unknown"
