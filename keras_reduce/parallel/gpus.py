"""GPUs of this machine and their assignment to workers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia/gpus")


def devices(wanted: str | Sequence[str | int] | None) -> tuple[str, ...]:
    """Return the names of the GPUs to distribute among the workers.

    Parameters
    ----------
    wanted : {"auto"}, sequence of str or int, or None
        Names as in ``CUDA_VISIBLE_DEVICES``; "auto" for all that this program may use; None for no
        assignment.

    Raises
    ------
    ValueError
        If `wanted` is something else.
    """
    if wanted is None:
        return ()
    if isinstance(wanted, str):
        if wanted != "auto":
            raise ValueError(f"gpus must be 'auto', a list of names, or None, not {wanted!r}")
        return _of_this_program()
    if not isinstance(wanted, Iterable):
        raise ValueError(f"gpus must be 'auto', a list of names, or None, not {wanted!r}")
    return tuple(str(name) for name in wanted)


def _of_this_program() -> tuple[str, ...]:
    # Without a framework, which would allocate memory on the GPUs.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",") if name.strip()]
        # CUDA ignores the names after the first invalid one.
        return tuple(names[: names.index("-1")] if "-1" in names else names)
    if _DRIVER.is_dir():
        return tuple(str(number) for number, _ in enumerate(sorted(_DRIVER.iterdir())))
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return tuple(str(number) for number, _ in enumerate(lines))


def next_device(names: Sequence[str], in_use: Iterable[str]) -> str:
    """Return the first of those `names` that the fewest workers use."""
    count = Counter(in_use)
    return min(names, key=lambda name: count[name])


def environment(device: str) -> dict[str, str]:
    """Return the environment variables of a worker that may use `device` only."""
    return {
        "CUDA_VISIBLE_DEVICES": device,
        # Allocate memory on demand, since other workers may use the same GPU.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
