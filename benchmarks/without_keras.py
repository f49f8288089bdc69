"""Time of joblib in a program that has no Keras, with this package installed and without it.

    python benchmarks/without_keras.py [--rounds N]

Ten thousand small tasks on two workers, and dumps, loads and hashes of arrays and of a pipeline of
scikit-learn. Each contender runs in processes of its own, in turn with the other; a process repeats
each operation and takes the shortest time. The ratio is that of the medians of all processes: one
process differs from the next by more than the 2 % that are asked about. Files and hashes must be
equal, and no process may be started but joblib's own. No part of the gate: a run takes minutes.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fresh import in_turn

TASKS = 10_000
CONTENDERS = ("joblib", "keras_reduce")


def processes() -> list[str]:
    """Return the programs that the children of this process run."""
    command = ["ps", "-o", "args=", "--ppid", str(os.getpid())]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    of_joblib = ("resource_tracker", "popen_loky_posix")
    names = [next((name for name in of_joblib if name in line), line) for line in lines]
    return sorted(name for name in names if not name.startswith("ps "))


def measure(contender: str, repeats: int) -> dict[str, dict[str, Any]]:
    """Return the shortest seconds of each operation, and what must be equal."""
    import joblib
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if contender == "keras_reduce":
        import keras_reduce

        keras_reduce.install()
    rng = np.random.default_rng(0)
    data, labels = rng.random((400, 20)), rng.integers(0, 2, 400)
    forest = RandomForestClassifier(100, random_state=0)
    pipeline = make_pipeline(StandardScaler(), forest).fit(data, labels)
    objects = {
        "array of 80 MB": rng.random(10_000_000),
        "1000 small arrays": [rng.random(10) for _ in range(1000)],
        "pipeline": pipeline,
    }
    seconds: dict[str, float] = {}
    equal: dict[str, object] = {}

    def repeat(name: str, function: Callable[[], object]) -> object:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            result = function()
            times.append(time.perf_counter() - start)
        seconds[name] = min(times)
        return result

    def small_tasks() -> object:
        return sum(joblib.Parallel(2)(joblib.delayed(abs)(-1) for _ in range(TASKS)))

    equal["tasks"] = repeat(f"{TASKS} small tasks", small_tasks)
    equal["processes"] = processes()
    # In memory, since a disk takes longer at one time than at another.
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=in_memory) as folder:
        path = Path(folder, "file")
        for name, each in objects.items():
            repeat(f"joblib.dump, {name}", functools.partial(joblib.dump, each, path))
            equal[f"file, {name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
            repeat(f"joblib.load, {name}", functools.partial(joblib.load, path))
            equal[name] = repeat(f"joblib.hash, {name}", functools.partial(joblib.hash, each))
    return {"seconds": seconds, "equal": equal}


def main() -> None:
    """Measure both in turn; print the ratio of each operation, and fail if something differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--contender", choices=CONTENDERS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(measure(options.contender, options.repeats)))
        return
    figures = in_turn(__file__, CONTENDERS, options.rounds, "--repeats", options.repeats)
    alone, beside = (figures[name] for name in CONTENDERS)
    for operation in alone[0]["seconds"]:
        times = [
            statistics.median(each["seconds"][operation] for each in measured)
            for measured in (alone, beside)
        ]
        print(f"{operation}: {times[0]:.4f} s alone, ratio {times[1] / times[0]:.3f}")
    different = [each["equal"] for each in (*alone, *beside) if each["equal"] != alone[0]["equal"]]
    print("all is equal" if not different else f"different: {alone[0]['equal']}, {different[0]}")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
