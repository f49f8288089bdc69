"""Shared traces: see the programs of checks in this folder."""

import signal
import time
from pathlib import Path

import pytest

from processes import Running, decorated


@pytest.mark.parametrize("name", decorated("sharing_traces.py", "check"))
def test_traces(run_checks, name):
    run_checks("sharing_traces.py", timeout=1500).demand(name)


@pytest.mark.parametrize("name", decorated("training_by_epochs.py", "check"))
def test_training(run_checks, name):
    run_checks("training_by_epochs.py", timeout=900).demand(name)


@pytest.mark.parametrize("name", decorated("stored_traces.py", "check"))
def test_stored_traces(run_checks, name):
    run_checks("stored_traces.py", timeout=900).demand(name)


WITH_A_FOLDER = """
    import os, sys
    import keras_reduce
    from joblib import Parallel, delayed
    from keras_reduce.core import trace_folders

    keras_reduce.install()
    Parallel(2)(delayed(abs)(1) for _ in range(2))
    print(trace_folders.current.program, flush=True)
    if sys.argv[1]:
        os.kill(os.getpid(), int(sys.argv[1]))
"""


@pytest.mark.parametrize("number", ["", signal.SIGKILL.value])
def test_the_folder_of_a_program_goes_with_it(number):
    running = Running(WITH_A_FOLDER, number)
    try:
        running.read_until(lambda: False)  # to its end
    finally:
        running.close()
    folder = Path(running.stdout.strip())
    assert folder.name.startswith("keras-reduce-traces-"), running.printed
    end = time.monotonic() + 30
    while folder.exists() and time.monotonic() < end:
        time.sleep(0.05)  # The tracker of resources removes it.
    assert not folder.exists()


@pytest.mark.parametrize("name", decorated("reuse.py", "check"))
def test_estimators_find_the_same_with_shared_traces(run_checks, name):
    run_checks("reuse.py", timeout=900).demand(name)
