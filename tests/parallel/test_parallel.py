"""The backend ``"keras"``: see ``parallel/warm_workers.py``; here, effects outside a program."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from processes import ROOT, UNIMPORTABLE, Running, decorated, python

CHECKS = decorated("warm_workers.py", "check")


@pytest.mark.parametrize("name", CHECKS)
def test_parallel(run_checks, name):
    run_checks("warm_workers.py", fresh_servers=True).demand(name)


# Without a guard: a worker that ran the main part again would start workers itself.
SCRIPT = """
import os
import keras_reduce
from joblib import Parallel, delayed

keras_reduce.install()
print("main part")
OFFSET = 10

class Pair:
    def __init__(self, value):
        self.value = value

def work(pair):
    return Pair(pair.value + OFFSET), os.getpid()

results = Parallel(2, backend="keras")(delayed(work)(Pair(i)) for i in range(4))
print([pair.value for pair, _ in results], os.getpid() in {worker for _, worker in results})
"""
PRINTED = ["main part", "[10, 11, 12, 13] False"]


def printed(result):
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()


def environment(*path):
    """Return the environment of a program that finds modules in `path` and in the checkout."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))}


def run(*arguments, path=(UNIMPORTABLE,), cwd=None, **options):
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment(*path),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def test_a_script_without_a_guard(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    result = run(str(path), path=())
    assert printed(result) == PRINTED
    # No start messages of TensorFlow, but the reason why a program without Keras waits.
    (line,) = result.stderr.splitlines()
    assert line.startswith("Waiting until Keras has been imported, once, in the process")


def test_code_of_the_command_line():
    assert printed(run("-c", SCRIPT)) == PRINTED


def test_code_from_standard_input():
    assert printed(run("-", input=SCRIPT)) == PRINTED


def test_a_module_run_as_a_program(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "__main__.py").write_text(SCRIPT)
    (tmp_path / "module.py").write_text(SCRIPT)
    assert printed(run("-m", "package", cwd=tmp_path)) == PRINTED
    assert printed(run("-m", "module", cwd=tmp_path)) == PRINTED


def test_a_session(tmp_path):
    blocks = SCRIPT.replace("\n\n", "\n").replace("\nresults", "\n\nresults")
    result = run("-i", "-q", input=blocks.replace("\ndef", "\n\ndef"))
    assert [line for line in printed(result) if line in PRINTED] == PRINTED


def test_within_pytest(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "def test_it(capsys):\n"
        f"    exec({SCRIPT!r}, {{'__name__': 'test_it'}})\n"
        f"    assert capsys.readouterr().out.splitlines() == {PRINTED!r}\n"
    )
    result = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", environment(UNIMPORTABLE)["PYTHONPATH"])
    nbclient = pytest.importorskip("nbclient")
    import nbformat

    cells = [nbformat.v4.new_code_cell(cell) for cell in SCRIPT.split("\n\n")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, resources=resources).execute()
    text = "".join(
        output.get("text", "")
        for cell in notebook.cells
        for output in cell.outputs
        if output.get("name") == "stdout"
    )
    assert text.splitlines() == PRINTED


def test_after_the_program_has_computed_with_tensorflow():
    code = """
    import keras_reduce, numpy as np, tensorflow as tf
    from joblib import Parallel, delayed
    keras_reduce.install()
    def product():
        import keras, tensorflow as tf
        keras.Sequential([keras.layers.Dense(2)]).predict(np.ones((3, 3)), verbose=0)
        return float(tf.reduce_sum(tf.linalg.matmul(tf.ones((400, 400)), tf.ones((400, 400)))))
    here = product()
    print(Parallel(2)(delayed(product)() for _ in range(2)) == [here] * 2)
    """
    assert python(code).strip() == "True"


LONG = """
import os, sys, threading, time
import keras_reduce
from joblib import Parallel, delayed
keras_reduce.install()
Parallel(2)(delayed(abs)(1) for _ in range(2))
from keras_reduce.parallel import warm
def pid():
    time.sleep(0.1)
    return os.getpid()
pids = set(Parallel(2, pre_dispatch="all")(delayed(pid)() for _ in range(6)))
import keras
model = keras.Sequential([keras.Input((300,)), keras.layers.Dense(300)])
print(warm.server().pid, *pids, flush=True)
def spin(seconds, model=None):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(10000))
for _ in range(2):
    try:
        Parallel(2)(delayed(spin)(60, model) for _ in range(4))
    except KeyboardInterrupt:
        print("interrupted", time.time(), flush=True)
        print(Parallel(2)(delayed(abs)(-i) for i in range(3)), flush=True)
"""


@contextlib.contextmanager
def started():
    """Start `LONG`; yield it and the process numbers of its server and of its busy workers."""
    program = Running(LONG, timeout=120)
    try:
        assert program.read_until(lambda: "\n" in program.stdout), program.printed
        helpers = [int(number) for number in program.stdout.split()]
        assert len(helpers) == 3, program.printed
        time.sleep(0.5)
        yield program, helpers
    finally:
        program.close()


def is_running(number):
    try:
        status = Path(f"/proc/{number}/status").read_text()
    except OSError:
        return False
    return "State:\tZ" not in status


def shared_memory(*processes):
    """Return the files of processes in shared memory; names tell them from files of others."""
    return [
        path
        for path in Path("/dev/shm").iterdir()
        if set(re.split("[-_.]", path.name)) & set(map(str, processes))
    ]


def weights(process):
    return [file for folder in shared_memory(process.pid) for file in folder.glob("weights-*")]


@pytest.fixture(scope="module")
def interrupted():
    """A program with two interrupted calls; for each, the time of the signal and the output.

    A terminal sends the signal to the whole process group, a notebook to one process.
    """
    times = {}
    with started() as (program, _):
        for everybody, send in {True: os.killpg, False: os.kill}.items():
            times[everybody] = time.time()
            send(program.pid, signal.SIGINT)
            count = 1 + 2 * len(times)
            program.read_until(lambda count=count: program.stdout.count("\n") >= count)
            time.sleep(0.5)
        _, *lines = program.finish().splitlines()
    return program, {True: (times[True], *lines[:2]), False: (times[False], *lines[2:])}


@pytest.mark.parametrize("everybody", [True, False])
def test_an_interrupted_call(interrupted, everybody):
    program, calls = interrupted
    at, said, afterwards = calls[everybody]
    word, when = said.split()
    assert word == "interrupted"
    assert float(when) - at < 1.0
    assert afterwards == "[0, 1, 2]"
    assert not re.search("Traceback|Error|resource_tracker", program.printed), program.printed


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_program_takes_all_with_it(number):
    with started() as (program, helpers):
        # Wait for the file with the weights.
        end = time.monotonic() + 10
        while time.monotonic() < end and not weights(program):
            time.sleep(0.05)
        assert weights(program)
        all_of_them = [program.pid, *helpers]
        os.kill(program.pid, number)
        end = time.monotonic() + 5
        while time.monotonic() < end and (
            any(map(is_running, all_of_them)) or shared_memory(*all_of_them)
        ):
            time.sleep(0.05)
        assert not [process for process in all_of_them if is_running(process)]
        assert not shared_memory(*all_of_them)


def test_a_server_may_start_ahead():
    code = """
    import sys, time
    import keras_reduce
    keras_reduce.install(prestart=True)
    assert not {"joblib", "numpy", "keras"} & set(sys.modules)
    from keras_reduce.parallel import warm
    ahead = warm.server().pid
    assert ahead
    from joblib import Parallel, delayed
    Parallel(2)(delayed(abs)(1) for _ in range(2))
    assert warm.server().pid == ahead
    print("ahead")
    """
    assert python(code, fresh=True, path=[UNIMPORTABLE]).strip() == "ahead"


def test_a_program_that_runs_nothing_in_parallel_pays_nothing():
    code = """
    import sys
    import joblib.parallel
    import keras_reduce
    keras_reduce.install()
    print([name for name in sys.modules if name.startswith("keras_reduce.parallel")])
    """
    assert python(code, fresh=True).strip() == "[]"


def test_a_bar_shows_what_is_done():
    """Run a program in a pseudo terminal, as bars are shown in terminals only."""
    import pty
    import termios

    code = dedent("""
    import keras_reduce
    from joblib import Parallel, delayed, parallel_config
    keras_reduce.install()
    def nested(i):
        return sum(Parallel(2)(delayed(abs)(-j) for j in range(3)))
    with parallel_config("keras", progress=True):
        Parallel(2)([delayed(nested)(i) for i in range(7)])
        Parallel(2)(delayed(abs)(i) for i in range(5))
    """)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(UNIMPORTABLE),
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        pass  # the writing end is closed
    assert process.wait() == 0
    # The last text of each line, after all carriage returns.
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in shown.decode().split("\n")]
    # On a slow machine, another line says why the program waits, and the bar begins again below it.
    first, second = (line for line in lines if "100%" in line)
    assert "7/7" in first, lines
    assert "5/5" in second, lines


def test_no_bar_without_a_terminal():
    code = """
    import sys, keras_reduce
    from joblib import Parallel, delayed
    keras_reduce.install(progress=True)
    Parallel(2)(delayed(abs)(i) for i in range(5))
    """
    result = run("-c", dedent(code))
    # On a slow machine, a line says what the program waits for.
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Waiting until")]
    assert (result.returncode, lines) == (0, [])
