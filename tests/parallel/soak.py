"""Programs that search, write, read and are killed, for an hour: nothing is left, nothing differs.

    python tests/parallel/soak.py [MINUTES]

Each situation is a program in a process group of its own. After it, no process that it has started
may be there, no file in its temporary folder, and its result must be that of the same work in one
process. One program works for the whole time; its memory must not grow. The figures are printed,
and written to ``benchmarks/results/soak.json``. No part of the gate.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "soak.json"
MARK = "KERAS_REDUCE_SOAK"  # in the environment of each process that a situation starts
MEBIBYTE = 1 << 20


# --- programs, which run as ``__main__`` ---------------------------------------------------------

COMMON = """
import os, pickle, signal, sys, time
import keras, keras_reduce, numpy as np
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

keras_reduce.install(trace_cache=os.environ.get("TRACES") or None)
X, Y = load_diabetes(return_X_y=True)
X, Y = X[:120].astype("float32"), Y[:120].astype("float32")

def build(units=4, seed=0):
    keras.utils.set_random_seed(seed)
    hidden = [keras.layers.Dense(units, "relu"), keras.layers.Dropout(0.2)]
    model = keras.Sequential([keras.Input((10,)), *hidden, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model

def search(seed, n_jobs, **options):
    regressor = keras_reduce.KerasRegressor(build, seed=seed, epochs=2, random_state=seed)
    grid = {"kerasregressor__units": [3, 4]}
    with parallel_config("keras", n_jobs=n_jobs, **options):
        return GridSearchCV(make_pipeline(StandardScaler(), regressor), grid, cv=2).fit(X, Y)

def result(fitted):
    scores = fitted.cv_results_["mean_test_score"].tolist()
    return repr((scores, fitted.predict(X[:5]).tolist()))
"""

SEARCH = "print(result(search(int(sys.argv[1]), int(sys.argv[2]))))"

WRITE = """
fitted = search(int(sys.argv[1]), 2)
keras_reduce.dump(fitted, sys.argv[2], compress=int(sys.argv[3]))
print(result(fitted))
"""

READ = """
fitted = keras_reduce.load(sys.argv[1], mmap_mode=sys.argv[2] or None)
print(result(fitted))
"""

# A file system that is full: the file may grow to a size only.
FULL = """
import resource
keras_reduce.dump({"old": 1}, sys.argv[2])
model = build(units=2000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
try:
    keras_reduce.dump(model, sys.argv[2])
except OSError as error:
    names = os.listdir(os.path.dirname(sys.argv[2]))
    print(type(error).__name__, keras_reduce.load(sys.argv[2]), names)
"""

KILLED_WORKER = """
build_in_worker = build

def build(units=4, seed=0, path=sys.argv[2]):
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return build_in_worker(units, seed)
print(result(search(int(sys.argv[1]), 2, retries=2)))
"""

FORKING = """
first = result(search(int(sys.argv[1]), 2))
child = os.fork()
if not child:
    os._exit(0)
os.waitpid(child, 0)
again = result(search(int(sys.argv[1]), 2))
assert first == again, (first, again)
print(again)
"""

# It says when it begins, so that it can be interrupted in any phase.
LONG = """
print("begun", flush=True)
for number in range(200):
    search(int(sys.argv[1]) + number, 2)
"""

# It works until its standard input ends, and says how much memory it and its workers take.
LASTING = """
import threading
from pathlib import Path
done = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()

def memory(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) // 1024

def worker():
    time.sleep(0.2)
    return os.getpid()

count = 0
while not done.is_set():
    search(count % 3, 2)
    count += 1
    if count % 10 == 0:
        with parallel_config("keras", n_jobs=2):
            workers = set(Parallel()(delayed(worker)() for _ in range(4)))
        print(count * 5, memory(os.getpid()), sum(map(memory, workers)), flush=True)
"""


# --- situations ----------------------------------------------------------------------------------


class Soak:
    """Situations, with what is expected of them and what was left of them.

    Parameters
    ----------
    folder : Path
        For all files.
    seed : int
        Seed of the delays and of the order.
    """

    def __init__(self, folder, seed):
        self.folder, self.random = folder, random.Random(seed)
        self.failures: list[str] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.expected: dict[int, str] = {}
        self.number = 0

    def start(self, code, *arguments, **environment):
        """Start a program in a process group of its own."""
        self.number += 1
        temporary = self.folder / f"temporary-{self.number}"
        temporary.mkdir()
        file = self.folder / f"program-{self.number}.py"
        file.write_text(COMMON + code)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "JOBLIB_TEMP_FOLDER": str(temporary),
            MARK: str(temporary),
            **environment,
        }
        process = subprocess.Popen(
            [sys.executable, file, *map(str, arguments)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        process.temporary = temporary
        return process

    def end(self, process, timeout=300):
        """Wait for a program; return its output, its errors, and what is left of it."""
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            errors += "\nit did not end"
        return output, errors, self.remains(process)

    def remains(self, process):
        """Return processes and temporary files of a program, some seconds after its end."""
        end = time.monotonic() + 30
        while True:
            left = [*_started_by(process), *(path.name for path in process.temporary.iterdir())]
            if not left or time.monotonic() > end:
                shutil.rmtree(process.temporary, ignore_errors=True)
                return left
            time.sleep(0.2)

    def run(self, code, *arguments, **environment):
        """Run a program, which must succeed and leave nothing; return the last line it prints."""
        process = self.start(code, *arguments, **environment)
        output, errors, left = self.end(process)
        if process.returncode or left:
            self.failures.append(f"{self.situation}: {process.returncode}, {left}, {errors}")
        return output.splitlines()[-1] if output else ""

    def demand(self, seed, printed):
        """Require the result of a search in one process."""
        if seed not in self.expected:
            self.expected[seed] = self.run(SEARCH, seed, 1)
        if printed != self.expected[seed]:
            self.failures.append(
                f"{self.situation}, seed {seed}: {printed}, not {self.expected[seed]}"
            )

    def once(self, name):
        """Go through a situation."""
        self.situation = name
        self.counts[name] += 1
        getattr(self, name)(self.random.randrange(6))

    def a_search(self, seed):
        self.demand(seed, self.run(SEARCH, seed, 2))

    def a_file(self, seed):
        path = self.folder / "search.joblib"
        self.demand(seed, self.run(WRITE, seed, path, self.random.choice([0, 3])))
        self.demand(seed, self.run(READ, path, self.random.choice(["", "r", "c"])))

    def a_full_disk(self, seed):
        folder = self.folder / "full"
        folder.mkdir(exist_ok=True)
        printed = self.run(FULL, self.random.choice([0, 5000, 40_000]), folder / "file")
        if printed != "FileError {'old': 1} ['file']":
            self.failures.append(f"{self.situation}: {printed}")

    def a_killed_worker(self, seed):
        mark = self.folder / f"killed-{self.number}"
        self.demand(seed, self.run(KILLED_WORKER, seed, mark))
        if not mark.exists():
            self.failures.append(f"{self.situation}: no worker was killed")

    def a_killed_program(self, seed):
        # Only the program: joblib's tracker of resources, which removes its files, is not killed.
        process = self.begun(seed)
        process.kill()
        *_, left = self.end(process)
        if left or process.returncode != -signal.SIGKILL:
            self.failures.append(f"{self.situation}: {process.returncode}, {left}")

    def an_interrupt(self, seed):
        process = self.begun(seed)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors, left = self.end(process, timeout=60)
        tracebacks = errors.count("Traceback (most recent call last)")
        if left or tracebacks != 1 or "KeyboardInterrupt" not in errors:
            self.failures.append(f"{self.situation}: {process.returncode}, {left}, {errors}")

    def begun(self, seed):
        """Start a program that goes on for long, and wait until it is in some phase."""
        process = self.start(LONG, seed)
        process.stdout.readline()
        time.sleep(self.random.uniform(0, 12))
        return process

    def two_programs_at_once(self, seed):
        traces = str(self.folder / "traces")
        both = [self.start(SEARCH, seed, 2, TRACES=traces) for _ in range(2)]
        for process in both:
            output, errors, left = self.end(process)
            if process.returncode or left:
                self.failures.append(f"{self.situation}: {process.returncode}, {left}, {errors}")
            self.demand(seed, output.splitlines()[-1] if output else "")

    def a_parent_that_forks(self, seed):
        self.demand(seed, self.run(FORKING, seed))


SITUATIONS = (
    "a_search",
    "a_file",
    "a_full_disk",
    "a_killed_worker",
    "a_killed_program",
    "an_interrupt",
    "two_programs_at_once",
    "a_parent_that_forks",
)


def _started_by(process):
    """Return the commands of the processes with the environment of a program."""
    mark = f"{MARK}={process.temporary}\0".encode()
    commands = []
    for folder in Path("/proc").glob("[0-9]*"):
        # The process may end meanwhile.
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes():
                commands.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return commands


def main():
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as name:
        soak = Soak(Path(name), seed=0)
        lasting = soak.start(LASTING)
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            for situation in soak.random.sample(SITUATIONS, len(SITUATIONS)):
                soak.once(situation)
                print(situation, len(soak.failures), flush=True)
        soak.situation = "a_lasting_program"
        output, errors, left = soak.end(lasting)
        if lasting.returncode or left:
            soak.failures.append(f"{soak.situation}: {lasting.returncode}, {left}, {errors}")
    rows = [list(map(int, line.split())) for line in output.splitlines()]
    figures = {
        "minutes": minutes,
        "situations": dict(soak.counts),
        "failures": soak.failures,
        # Fits so far, and MB of memory of their own that the program and its two workers have.
        "memory": [rows[0], rows[len(rows) // 2], rows[-1]] if rows else [],
    }
    RESULT.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    sys.exit(bool(soak.failures))


if __name__ == "__main__":
    main()
