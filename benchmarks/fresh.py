"""Fresh processes for contenders: what one has imported and cached is no help to another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["in_turn", "run"]


def run(script: str, *arguments: object, **environment: str) -> Any:
    """Run a script in a fresh process; return the JSON on the last line that it prints.

    Parameters
    ----------
    script : str
        Its path.
    *arguments : object
        Its command line.
    **environment : str
        Variables to set.

    Raises
    ------
    RuntimeError
        If it fails; with what it has printed as errors.
    """
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{Path(script).name} ended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def in_turn(
    script: str, contenders: Sequence[str], rounds: int, *arguments: object
) -> dict[str, list[Any]]:
    """Run a script for each contender in turn, round after round; return what `run` does.

    The name of the contender is the value of the option ``--contender``.
    """
    results: dict[str, list[Any]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name in contenders:
            results[name].append(run(script, "--contender", name, *arguments))
    return results
