"""Pools, queues and stores of other packages: ``pools_of_others.py``."""

import os
import sys
import textwrap
from pathlib import Path

import nbclient
import nbformat
import pytest

from processes import decorated


@pytest.mark.parametrize("name", decorated("pools_of_others.py", "check"))
def test_models_arrive_and_continue_bit_for_bit(run_checks, name):
    # The programs of MPI are installed beside Python.
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    run_checks("pools_of_others.py", timeout=400, fresh=True, PATH=search).demand(name)


CELLS = (
    """
    import concurrent.futures, multiprocessing, pickle
    import joblib, keras, keras_reduce, numpy as np
    keras_reduce.install()
    X = np.ones((8, 3), "float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X, X[:, :1], verbose=0)
    def answer(model):
        return model.predict(X, verbose=0).tolist()
    def count(content):
        return pickle.loads(content).count_params()
    """,
    # What is defined in a cell is in a forked child, and by value in workers of joblib.
    """
    fork = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=fork) as pool:
        print(pool.submit(count, pickle.dumps(model)).result(60))
    """,
    """
    answers = joblib.Parallel(2)(joblib.delayed(answer)(model) for _ in range(2))
    print(answers == [answer(model)] * 2)
    """,
)


def test_a_kernel_of_a_notebook_warns_in_a_fork_and_has_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    cells = [nbformat.v4.new_code_cell(textwrap.dedent(cell).strip()) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, resources=resources).execute()
    printed = ["".join(each.get("text", "") for each in cell.outputs) for cell in notebook.cells]
    assert "forked after TensorFlow had run" in printed[1]
    assert "4" in printed[1].splitlines()
    assert printed[2].strip() == "True"
